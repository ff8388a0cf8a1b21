//! Firewall marks made by rules, and the services that ask for them.

mod bench;

use std::collections::HashMap;

use bench::{
    BACK, Bench, CAPACITY, CLIENT, CLIENT_MAC, CLIENT6, DIRECTOR_MAC, FRONT, VIP, VIP6, real, rs,
    rs6, web,
};
use pointsman_director::{
    Reason,
    control::Director,
    headers, mark,
    model::{
        Change, ControlError, Family, ForwardingMethod, MarkAction, MarkMatch, MarkRule, PortRange,
        Protocol, ServiceId,
    },
    native::{NativeFrame, generate::Chance},
    record::{MARK_RULES, Settings},
};
use pointsman_wire::{Frame, Summary, tcp::SYN};
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;
const DIRECT: ForwardingMethod = ForwardingMethod::Direct;

fn marked(mark: u32) -> ServiceId {
    ServiceId::Mark { mark, ipv6: false }
}

fn set(value: u32) -> MarkRule {
    MarkRule::every(MarkAction::set(value))
}

fn ports(text: &str) -> Vec<PortRange> {
    text.split(',').map(|word| word.parse().unwrap()).collect()
}

/// `-d PREFIX -p tcp -m multiport --dports PORTS -j MARK --set-mark MARK`
fn web_rule(prefix: &str, dports: &str, mark: u32) -> MarkRule {
    MarkRule {
        destination: Some(prefix.parse().unwrap()),
        protocol: Some(Protocol::Tcp),
        ports: ports(dports),
        ..set(mark)
    }
}

fn set_rules(bench: &mut Bench, rules: Vec<MarkRule>) {
    let change = Change::SetMarkRules { rules };
    bench.director.apply(&change, &mut bench.tables).unwrap();
}

fn syn(port: u16, vport: u16) -> Vec<u8> {
    let ip = Frame::ipv4(CLIENT, VIP).macs(CLIENT_MAC, DIRECTOR_MAC);
    ip.tcp(port, vport).flags(SYN).build()
}

/// The mark of a frame.
fn mark_of(bench: &Bench, frame: &[u8], ifindex: u32) -> u32 {
    let frame = NativeFrame::new(frame.to_vec(), ifindex);
    let mut h = headers::Headers::default();
    headers::parse(&frame, &mut h).unwrap();
    mark::of(&bench.tables, &bench.env, &h, ifindex)
}

#[test]
fn a_mark_joins_ports_to_one_service() {
    let mut bench = Bench::new();
    bench.add(marked(1), "rr");
    bench.server(marked(1), real(rs(1), 0, DIRECT, 1));
    bench.server(marked(1), real(rs(2), 0, DIRECT, 1));
    assert_eq!(bench.reason(&syn(1, 80)), Reason::NoService, "no rule yet");
    set_rules(&mut bench, vec![web_rule("192.168.1.0/24", "80,443", 1)]);
    let picks: Vec<_> = [80, 443, 80, 443]
        .into_iter()
        .zip(1000..)
        .map(|(vport, port)| bench.pick(&syn(port, vport)).unwrap())
        .collect();
    assert_eq!(picks, [2, 1, 2, 1], "one round for both ports");
    assert_eq!(bench.reason(&syn(1, 81)), Reason::NoService);
}

#[test]
fn a_service_of_the_mark_comes_first_and_one_without_service_does_nothing() {
    let mut bench = Bench::new();
    bench.add(web(), "rr");
    bench.server(web(), real(rs(1), 80, DIRECT, 1));
    bench.add(marked(7), "rr");
    bench.server(marked(7), real(rs(2), 80, DIRECT, 1));
    set_rules(&mut bench, vec![web_rule("192.168.1.100", "80", 7)]);
    assert_eq!(bench.pick(&syn(1, 80)), Ok(2));
    set_rules(&mut bench, vec![web_rule("192.168.1.100", "80", 8)]);
    assert_eq!(bench.pick(&syn(2, 80)), Ok(1));
    let mut marks: Vec<u32> = bench
        .tables
        .connections
        .borrow()
        .values()
        .map(|connection| connection.mark)
        .collect();
    marks.sort();
    assert_eq!(marks, [0, 7], "0: the mark is not its service's");
    // The connection of the mark goes on without its rule.
    assert_eq!(bench.pick(&syn(1, 80)), Ok(2));
}

#[test]
fn the_servers_port_is_used_or_else_the_clients() {
    for (given, expected) in [(0, 443), (8080, 8080)] {
        let mut bench = Bench::new();
        bench.add(marked(1), "rr");
        bench.server(marked(1), real(rs(1), given, MASQUERADE, 1));
        set_rules(&mut bench, vec![web_rule("192.168.1.100", "80,443", 1)]);
        let (verdict, out) = bench.send(&syn(1, 443));
        assert_eq!(verdict.reason, Reason::Masquerade);
        let ports = Summary::parse(&out).and_then(|summary| summary.ports);
        assert_eq!(ports, Some((1, expected)));
        let reply = bench::answer(1, expected, 1, SYN | pointsman_wire::tcp::ACK).build();
        let (verdict, out) = bench.send_by(BACK, &reply);
        assert_eq!(verdict.reason, Reason::Reply);
        let ports = Summary::parse(&out).and_then(|summary| summary.ports);
        assert_eq!(ports, Some((443, 1)));
    }
}

#[test]
fn families_have_services_of_their_own() {
    let mut bench = Bench::new();
    let six = ServiceId::Mark {
        mark: 1,
        ipv6: true,
    };
    bench.add(six, "rr");
    bench.server(six, real(rs6(1), 0, DIRECT, 1));
    set_rules(&mut bench, vec![set(1)]);
    assert_eq!(bench.reason(&syn(1, 80)), Reason::NoService);
    let ip = Frame::ipv6(CLIENT6, VIP6).macs(CLIENT_MAC, DIRECTOR_MAC);
    assert_eq!(bench.pick(&ip.tcp(1, 80).flags(SYN).build()), Ok(1));
    let change = Change::AddServer {
        id: six,
        server: real(rs(1), 0, DIRECT, 1),
    };
    let refused = bench.director.apply(&change, &mut bench.tables);
    assert_eq!(refused, Err(ControlError::Invalid));
}

#[test]
fn rules_follow_their_interface() {
    let mut bench = Bench::new();
    bench.add(marked(1), "rr");
    bench.server(marked(1), real(rs(1), 0, DIRECT, 1));
    let rule = MarkRule {
        interface: Some("eth0".to_owned()),
        ..set(1)
    };
    set_rules(&mut bench, vec![rule]);
    assert_eq!(mark_of(&bench, &syn(1, 80), FRONT), 0, "no such interface");
    assert!(!bench.director.mark_rule_views()[0].interface_exists);
    let mut interfaces = |names: &[(&str, u32)]| {
        let names = names.iter().map(|(name, index)| (name.to_string(), *index));
        let names: HashMap<_, _> = names.collect();
        bench
            .director
            .set_interfaces(names, &mut bench.tables)
            .unwrap();
        [FRONT, BACK].map(|ifindex| mark_of(&bench, &syn(1, 80), ifindex))
    };
    assert_eq!(interfaces(&[("eth0", FRONT)]), [1, 0]);
    assert_eq!(interfaces(&[("eth0", BACK), ("eth1", FRONT)]), [0, 1]);
    assert_eq!(interfaces(&[]), [0, 0]);
}

#[test]
fn marks_are_made_bit_by_bit_and_rules_passed_over() {
    let mut bench = Bench::new();
    bench.add(marked(1), "rr");
    let action = |action| MarkRule::every(action);
    let rules = vec![
        set(0xf0),
        action(MarkAction::Set {
            value: 0x5,
            mask: 0xff,
        }),
        MarkRule {
            mark: Some(MarkMatch {
                value: 4,
                mask: 0xc,
            }),
            ..action(MarkAction::Skip { rules: 1 })
        },
        set(9),
        action(MarkAction::Set {
            value: 0x12,
            mask: 0,
        }),
        action(MarkAction::STOP),
        set(1),
    ];
    set_rules(&mut bench, rules);
    assert_eq!(mark_of(&bench, &syn(1, 80), FRONT), 0x17);
}

#[test]
fn many_ports_are_parts_of_one_rule() {
    let mut bench = Bench::new();
    bench.add(marked(1), "rr");
    let skip = MarkRule {
        ports: ports("1,3,5,7,9,11"),
        ..MarkRule::every(MarkAction::Skip { rules: 1 })
    };
    let flip = MarkRule {
        ports: ports("2,4,6,8,10,12,13,14,20-30"),
        source_ports: ports("40,50-60"),
        ..MarkRule::every(MarkAction::Set { value: 1, mask: 0 })
    };
    set_rules(&mut bench, vec![skip, flip, web_rule("0.0.0.0/0", "1", 6)]);
    let mark = |port, vport| mark_of(&bench, &syn(port, vport), FRONT);
    for (vport, expected) in [(2, 1), (3, 0), (14, 1), (15, 0), (25, 1), (1, 6), (11, 0)] {
        assert_eq!(mark(40, vport), expected, "{vport}");
        assert_eq!(mark(55, vport), expected, "{vport}");
        assert_eq!(mark(41, vport), if vport == 1 { 6 } else { 0 }, "{vport}");
    }
}

#[test]
fn bad_rules_are_refused_and_change_nothing() {
    let mut bench = Bench::new();
    set_rules(&mut bench, vec![set(3)]);
    let six = Some("fd00::/64".parse().unwrap());
    let bad = [
        MarkRule {
            source: six,
            ..web_rule("10.0.0.0/8", "80", 1)
        },
        MarkRule {
            family: Family::Ipv4,
            destination: six,
            ..set(1)
        },
        MarkRule {
            interface: Some("a/b".to_owned()),
            ..set(1)
        },
        MarkRule {
            interface: Some("sixteen-letters-".to_owned()),
            ..set(1)
        },
        MarkRule {
            mark: Some(MarkMatch { value: 2, mask: 1 }),
            ..set(1)
        },
    ];
    for rule in bad {
        let rules = vec![set(1), rule];
        let answer = bench
            .director
            .apply(&Change::SetMarkRules { rules }, &mut bench.tables);
        let Err(ControlError::MarkRule(text)) = answer else {
            panic!("{answer:?}");
        };
        assert!(text.starts_with("mark rule 2: "), "{text}");
    }
    let rules = vec![set(1); MARK_RULES as usize + 1];
    let answer = bench
        .director
        .apply(&Change::SetMarkRules { rules }, &mut bench.tables);
    assert!(matches!(answer, Err(ControlError::MarkRule(_))));
    for number in [0, 2] {
        let answer = bench
            .director
            .apply(&Change::DeleteMarkRule { number }, &mut bench.tables);
        assert!(matches!(answer, Err(ControlError::MarkRule(_))));
    }
    assert_eq!(bench.director.mark_rules(), [set(3)]);
}

#[test]
fn rules_are_added_and_deleted_by_number() {
    let mut bench = Bench::new();
    for (mark, number) in [(1, None), (2, Some(1)), (3, Some(3)), (4, None)] {
        let rule = set(mark);
        let change = Change::AddMarkRule { rule, number };
        bench.director.apply(&change, &mut bench.tables).unwrap();
    }
    let change = Change::DeleteMarkRule { number: 2 };
    bench.director.apply(&change, &mut bench.tables).unwrap();
    assert_eq!(bench.director.mark_rules(), [set(2), set(3), set(4)]);
    bench
        .director
        .apply(&Change::Clear, &mut bench.tables)
        .unwrap();
    assert_eq!(bench.director.mark_rules().len(), 3, "-C is for services");
}

/// What a mark rule means, said plainly.
fn model(rules: &[MarkRule], packet: &Packet) -> u32 {
    let mut mark = 0u32;
    let mut at = 0;
    while let Some(rule) = rules.get(at) {
        at += 1;
        let within = |ranges: &[PortRange], port: u16| {
            ranges.is_empty() || ranges.iter().any(|r| (r.low..=r.high).contains(&port))
        };
        let family = match rule.family {
            Family::Any => true,
            Family::Ipv4 => packet.destination.is_ipv4(),
            Family::Ipv6 => packet.destination.is_ipv6(),
        };
        let matches = family
            && rule
                .destination
                .is_none_or(|p| p.contains(packet.destination))
            && rule.source.is_none_or(|p| p.contains(packet.source))
            && rule.protocol.is_none_or(|p| p == packet.protocol)
            && within(&rule.ports, packet.port)
            && within(&rule.source_ports, packet.source_port)
            && rule
                .interface
                .as_ref()
                .is_none_or(|name| *name == format!("if{}", packet.ifindex))
            && rule.mark.is_none_or(|m| mark & m.mask == m.value);
        if !matches {
            continue;
        }
        match rule.action {
            MarkAction::Set { value, mask } => mark = (mark & !mask) ^ value,
            MarkAction::Skip { rules } => at = at.saturating_add(rules as usize),
        }
    }
    mark
}

#[derive(Debug)]
struct Packet {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    source_port: u16,
    port: u16,
    ifindex: u32,
}

fn address(chance: &mut Chance, ipv6: bool) -> IpAddr {
    let low = chance.below(16) as u16;
    if ipv6 {
        let words = [0xfd00, 0, 0, low / 8, 0, 0, 0, low];
        Ipv6Addr::from(words).into()
    } else {
        Ipv4Addr::new(10, 0, low as u8 / 8, low as u8).into()
    }
}

fn a_packet(chance: &mut Chance) -> Packet {
    let ipv6 = chance.percent(50);
    Packet {
        source: address(chance, ipv6),
        destination: address(chance, ipv6),
        protocol: *chance.one(&[Protocol::Tcp, Protocol::Udp]),
        source_port: chance.below(24) as u16,
        port: chance.below(24) as u16,
        ifindex: chance.one(&[FRONT, BACK]).to_owned(),
    }
}

fn a_rule(chance: &mut Chance) -> MarkRule {
    let ipv6 = chance.percent(50);
    let prefix = |chance: &mut Chance| {
        let lengths: [u8; 4] = if ipv6 {
            [0, 64, 125, 128]
        } else {
            [0, 24, 29, 32]
        };
        let text = format!("{}/{}", address(chance, ipv6), chance.one(&lengths));
        text.parse().unwrap()
    };
    let ranges = |chance: &mut Chance| {
        let count = *chance.one(&[0, 0, 1, 3, 9]);
        let range = |_| {
            let low = chance.below(20) as u16;
            let high = low + chance.below(3) as u16;
            PortRange { low, high }
        };
        (0..count).map(range).collect()
    };
    MarkRule {
        family: if chance.percent(20) {
            match ipv6 {
                true => Family::Ipv6,
                false => Family::Ipv4,
            }
        } else {
            Family::Any
        },
        destination: chance.percent(60).then(|| prefix(chance)),
        source: chance.percent(20).then(|| prefix(chance)),
        protocol: chance
            .percent(50)
            .then(|| *chance.one(&[Protocol::Tcp, Protocol::Udp])),
        ports: ranges(chance),
        source_ports: ranges(chance),
        interface: chance
            .percent(20)
            .then(|| chance.one(&["if2", "if3", "if9"]).to_string()),
        mark: chance.percent(20).then(|| MarkMatch {
            value: chance.below(2) as u32,
            mask: 1,
        }),
        action: match chance.below(6) {
            0 => MarkAction::Skip {
                rules: chance.below(3) as u32,
            },
            1 => MarkAction::Set {
                value: chance.below(8) as u32,
                mask: chance.below(8) as u32,
            },
            2 if chance.percent(20) => MarkAction::STOP,
            _ => MarkAction::set(chance.below(8) as u32),
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn records_mean_what_rules_mean_and_are_taken_over(seed: u64) {
        let mut chance = Chance::new(seed);
        let rules: Vec<MarkRule> = (0..chance.below(12)).map(|_| a_rule(&mut chance)).collect();
        let mut bench = Bench::new();
        bench.add(marked(1), "rr");
        let names = [FRONT, BACK].map(|index| (format!("if{index}"), index));
        let director = &mut bench.director;
        director.set_interfaces(names.clone().into(), &mut bench.tables).unwrap();
        set_rules(&mut bench, rules.clone());
        for _ in 0..40 {
            let packet = a_packet(&mut chance);
            let ip = Frame::ip(packet.source, packet.destination).macs(CLIENT_MAC, DIRECTOR_MAC);
            let frame = match packet.protocol {
                Protocol::Tcp => ip.tcp(packet.source_port, packet.port).flags(SYN).build(),
                _ => ip.udp(packet.source_port, packet.port).build(),
            };
            let mark = mark_of(&bench, &frame, packet.ifindex);
            prop_assert_eq!(mark, model(&rules, &packet), "{:?}\n{:#?}", packet, rules);
        }
        let records = bench.tables.records();
        let mut restored = Director::restore(CAPACITY, &records, &mut bench.tables).unwrap();
        prop_assert_eq!(restored.mark_rules(), bench.director.mark_rules());
        // Taken over, they are the same records.
        let before: Settings = bench.tables.settings;
        restored.set_interfaces(names.into(), &mut bench.tables).unwrap();
        prop_assert_eq!(before, bench.tables.settings);
    }
}
