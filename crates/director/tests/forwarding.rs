//! What leaves the director: direct routing, masquerade both ways, tags, limits, checksums.

mod bench;

use bench::{
    BACK, CLIENT, CLIENT_MAC, DIRECTOR_MAC, FRONT, VIP, VIP6, answer, datagram, every, hop, rs,
    rs_mac, rs6, segment, v6, web,
};
use pointsman_director::{
    Action, Reason,
    control::address_words,
    model::ForwardingMethod,
    record::{NextHop, hop_flag},
};
use pointsman_wire::{
    Frame, Summary, icmp,
    tcp::{ACK, SYN},
    verify_checksums,
};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;
const TUNNEL: ForwardingMethod = ForwardingMethod::Tunnel;
const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;

/// First packets of connections, of every shape that has a way of its own.
fn fixtures() -> Vec<(&'static str, Vec<u8>)> {
    let syn = || segment(4000, SYN).mss(1460).timestamps(7, 0);
    let options = [7, 7, 4, 0, 0, 0, 0];
    vec![
        ("tcp", syn().build()),
        ("tcp, no options", segment(4001, SYN).build()),
        ("tcp, IP options", syn().ip_options(&options).build()),
        ("tcp, odd payload", syn().payload(b"fast open").build()),
        ("tcp, padded", segment(4002, SYN).padded(60).build()),
        ("tcp, DF", syn().dont_fragment().build()),
        ("udp", datagram(4003).build()),
        (
            "udp, no checksum",
            datagram(4004).without_checksum().build(),
        ),
        ("udp, empty", datagram(4005).payload(&[]).build()),
        (
            "udp, odd",
            datagram(4006).payload(b"123").padded(60).build(),
        ),
        ("tcp6", v6().tcp(4007, 80).flags(SYN).mss(1440).build()),
        (
            "tcp6, extensions",
            v6().hop_by_hop()
                .destination_options()
                .tcp(4008, 80)
                .flags(SYN)
                .build(),
        ),
        ("udp6", v6().udp(4009, 53).payload(b"question").build()),
        (
            "udp6, atomic fragment",
            v6().udp(4010, 53).fragment(0, false).payload(b"q").build(),
        ),
    ]
}

fn summary(frame: &[u8]) -> Summary {
    Summary::parse(frame).expect("an IP packet")
}

/// Changes of the packet, link layer left out.
fn changes(before: &[u8], after: &[u8]) -> Vec<String> {
    let changes = summary(before).changes(&summary(after));
    let link = ["source MAC", "destination MAC", "VLAN"];
    changes
        .iter()
        .filter(|change| !link.contains(&change.what))
        .map(ToString::to_string)
        .collect()
}

fn macs(frame: &[u8]) -> (&[u8], &[u8]) {
    (&frame[..6], &frame[6..12])
}

#[test]
fn direct_routing_changes_macs_and_hop_limit_only() {
    for (name, frame) in fixtures() {
        let mut bench = every(DIRECT);
        let (verdict, out) = bench.send(&frame);
        assert_eq!(
            (verdict.reason, verdict.ifindex),
            (Reason::Direct, BACK),
            "{name}"
        );
        assert_eq!(
            macs(&out),
            (&rs_mac(1).0[..], &DIRECTOR_MAC.0[..]),
            "{name}"
        );
        assert_eq!(changes(&frame, &out), ["TTL 64 -> 63"], "{name}");
        assert_eq!(verify_checksums(&out), Ok(()), "{name}");
        // Byte for byte: only MACs, and hop limit with its checksum, are others.
        let ipv6 = frame[12] == 0x86;
        let different: Vec<usize> = (12..frame.len())
            .filter(|at| frame[*at] != out[*at])
            .collect();
        let expected: &[usize] = if ipv6 { &[21] } else { &[22, 24] };
        assert_eq!(different, expected, "{name}");
        assert_eq!(frame.len(), out.len());
    }
}

#[test]
fn masquerade_changes_the_destination() {
    for (name, frame) in fixtures() {
        let mut bench = every(MASQUERADE);
        let (verdict, out) = bench.send(&frame);
        assert_eq!(
            (verdict.reason, verdict.ifindex),
            (Reason::Masquerade, BACK),
            "{name}"
        );
        assert_eq!(
            macs(&out),
            (&rs_mac(1).0[..], &DIRECTOR_MAC.0[..]),
            "{name}"
        );
        let (vip, server) = if summary(&frame).version == 6 {
            (VIP6.to_string(), rs6(1).to_string())
        } else {
            (VIP.to_string(), rs(1).to_string())
        };
        let (port, to) = if summary(&frame).tcp.is_some() {
            (80, 8080)
        } else {
            (53, 5353)
        };
        assert_eq!(
            changes(&frame, &out),
            [
                format!("destination {vip} -> {server}"),
                "TTL 64 -> 63".to_owned(),
                format!("destination port {port} -> {to}"),
            ],
            "{name}",
        );
        assert_eq!(verify_checksums(&out), Ok(()), "{name}");
        if name == "udp, no checksum" {
            assert_eq!(out[40..42], [0, 0], "stays without");
        }
    }
}

/// The reply to a fixture, from r1 to the client.
fn reply_to(frame: &[u8]) -> Vec<u8> {
    let asked = summary(frame);
    let (client_port, _) = asked.ports.expect("ports");
    let server = if asked.version == 6 { rs6(1) } else { rs(1) };
    let ip = Frame::ip(server, asked.source).macs(rs_mac(1), DIRECTOR_MAC);
    if asked.tcp.is_some() {
        ip.tcp(8080, client_port).flags(SYN | ACK).mss(1460).build()
    } else {
        ip.udp(5353, client_port).payload(b"answers").build()
    }
}

#[test]
fn replies_of_masqueraded_servers_are_translated_back() {
    for (name, frame) in fixtures() {
        let mut bench = every(MASQUERADE);
        bench.send(&frame);
        let reply = reply_to(&frame);
        let (verdict, out) = bench.send_by(BACK, &reply);
        // Back by the way it came: nothing else is known.
        assert_eq!(
            (verdict.reason, verdict.ifindex),
            (Reason::Reply, FRONT),
            "{name}"
        );
        assert_eq!(
            macs(&out),
            (&CLIENT_MAC.0[..], &DIRECTOR_MAC.0[..]),
            "{name}"
        );
        let asked = summary(&frame);
        let flow = asked.flow().expect("a flow");
        assert_eq!(summary(&out).flow(), Some(flow.reversed()), "{name}");
        assert_eq!(summary(&out).ttl, 63, "{name}");
        assert_eq!(verify_checksums(&out), Ok(()), "{name}");
        // The next question of the same flow goes the same way.
        assert_eq!(bench.reason(&frame), Reason::Masquerade, "{name}");
        assert_eq!(bench.connections(), 1);
    }
}

#[test]
fn a_reply_without_checksum_stays_without() {
    let mut bench = every(MASQUERADE);
    bench.send(&datagram(4000).build());
    let reply = Frame::ip(rs(1), std::net::IpAddr::from(CLIENT))
        .macs(rs_mac(1), DIRECTOR_MAC)
        .udp(5353, 4000)
        .without_checksum()
        .build();
    let (verdict, out) = bench.send_by(BACK, &reply);
    assert_eq!(verdict.reason, Reason::Reply);
    assert_eq!(out[40..42], [0, 0]);
}

/// The checksum of a UDP datagram is never 0, whatever translation makes of it.
#[test]
fn no_checksum_becomes_none() {
    let mut seen = 0;
    let mut bench = every(MASQUERADE);
    for number in 0..=u16::MAX {
        // Of all payloads one makes the translated checksum 0 or 0xffff.
        let (_, out) = bench.send(&datagram(4000).payload(&number.to_be_bytes()).build());
        assert_ne!(out[40..42], [0, 0], "payload {number}");
        if out[40..42] == [0xff, 0xff] {
            assert_eq!(verify_checksums(&out), Ok(()));
            seen += 1;
        }
        if number % 4096 == 0 {
            assert_eq!(verify_checksums(&out), Ok(()));
        }
    }
    assert_eq!(seen, 1);
}

#[test]
fn replies_follow_routes_as_they_change() {
    let mut bench = every(MASQUERADE);
    bench.send(&segment(4000, SYN).build());
    let reply = answer(1, 8080, 4000, SYN | ACK).build();
    let way = |last: u8, ifindex| NextHop {
        ifindex,
        mtu: 1500,
        destination: pointsman_wire::Mac([2, 0, 0, 0, 9, last]),
        source: pointsman_wire::Mac([2, 0, 0, 0, 8, last]),
        vlan: 0,
        flags: hop_flag::RESOLVED,
    };
    let client = address_words(CLIENT.into());
    bench.env.routes.insert(client, way(1, 5));
    let (verdict, out) = bench.send_by(BACK, &reply);
    assert_eq!((verdict.ifindex, out[5], out[11]), (5, 1, 1));
    // Remembered: another route counts from the next epoch on.
    bench.env.routes.insert(client, way(2, 6));
    assert_eq!(bench.send_by(BACK, &reply).0.ifindex, 5);
    bench.settings(|settings| settings.epoch += 1);
    let (verdict, out) = bench.send_by(BACK, &reply);
    assert_eq!((verdict.ifindex, out[5], out[11]), (6, 2, 2));
    // No route any more: as it went last.
    bench.env.routes.clear();
    bench.settings(|settings| settings.epoch += 1);
    assert_eq!(bench.send_by(BACK, &reply).0.ifindex, 6);
}

#[test]
fn a_tagged_client_is_answered_by_route_only() {
    let mut bench = every(MASQUERADE);
    bench.send(&segment(4000, SYN).vlan(5).build());
    let reply = answer(1, 8080, 4000, SYN | ACK).build();
    assert_eq!(bench.send_by(BACK, &reply).0.reason, Reason::NoReturnRoute);
    let way = NextHop {
        vlan: 5,
        ifindex: FRONT,
        ..hop(9)
    };
    bench.env.routes.insert(address_words(CLIENT.into()), way);
    let (verdict, out) = bench.send_by(BACK, &reply);
    assert_eq!((verdict.reason, verdict.ifindex), (Reason::Reply, FRONT));
    assert_eq!(summary(&out).link.expect("a link layer").vlans, [5]);
    assert_eq!(verify_checksums(&out), Ok(()));
}

#[test]
fn tags_become_those_of_the_next_hop() {
    for method in [DIRECT, TUNNEL, MASQUERADE] {
        for tags in 0..=2 {
            for vlan in [0, 7, 4095] {
                for (name, frame) in fixtures()
                    .into_iter()
                    .filter(|(name, _)| !name.contains("padded") && !name.contains("odd"))
                {
                    let mut bench = every(method);
                    for address in [rs(1), rs6(1)] {
                        bench.set_hop(address, NextHop { vlan, ..hop(1) });
                    }
                    let untagged = bench_out(method, &frame);
                    let mut tagged = frame[..12].to_vec();
                    for tag in 0..tags {
                        tagged.extend([
                            if tags == 2 && tag == 0 { 0x88 } else { 0x81 },
                            if tags == 2 && tag == 0 { 0xa8 } else { 0 },
                            0xe0,
                            3 + tag,
                        ]);
                    }
                    tagged.extend(&frame[12..]);
                    let (verdict, out) = bench.send(&tagged);
                    assert_eq!(verdict.action(), Action::Forward, "{name}");
                    assert_eq!(out[..12], untagged[..12], "{name}");
                    let rest = if vlan == 0 {
                        &out[12..]
                    } else {
                        assert_eq!(out[12..16], [0x81, 0, (vlan >> 8) as u8, vlan as u8]);
                        &out[16..]
                    };
                    assert_eq!(rest, &untagged[12..], "{method:?} {name} {tags} -> {vlan}");
                }
            }
        }
    }
}

/// What an untagged frame becomes when its next hop has no tag.
fn bench_out(method: ForwardingMethod, frame: &[u8]) -> Vec<u8> {
    every(method).send(frame).1
}

#[test]
fn fragments_pass() {
    let mut bench = every(DIRECT);
    let whole = datagram(4000).payload(&[0; 600]);
    let whole6 = v6().udp(4000, 53).payload(&[0; 600]);
    let fragments = [whole.fragments(300), whole6.fragments(300)].concat();
    assert!(fragments.len() >= 6);
    for fragment in fragments {
        let (verdict, out) = bench.send(&fragment);
        assert_eq!((verdict.reason, out == fragment), (Reason::Fragment, true));
    }
    assert_eq!(bench.connections(), 0);
}

#[test]
fn echo_to_the_virtual_address_passes() {
    let mut bench = every(MASQUERADE);
    for ip in [
        Frame::ipv4(CLIENT, VIP).macs(CLIENT_MAC, DIRECTOR_MAC),
        v6(),
    ] {
        let frame = ip.echo_request(1, 2).payload(&[1; 56]).build();
        let (verdict, out) = bench.send(&frame);
        assert_eq!(
            (verdict.reason, out == frame),
            (Reason::IcmpUnrelated, true)
        );
    }
    let reply = Frame::ipv4(CLIENT, VIP).macs(CLIENT_MAC, DIRECTOR_MAC);
    let redirect = reply
        .icmp(icmp::V4_REDIRECT, 0, 0)
        .payload(&[0; 28])
        .build();
    assert_eq!(bench.reason(&redirect), Reason::IcmpUnrelated);
}

#[test]
fn traffic_is_accounted_from_the_ip_header_on() {
    let mut bench = every(MASQUERADE);
    bench.send(&segment(4000, SYN).padded(60).build());
    bench.send(&segment(4000, ACK).payload(b"12345").build());
    bench.send_by(BACK, &answer(1, 8080, 4000, ACK).payload(b"123").build());
    let service = bench.director.service(&web()).expect("configured");
    let index = service.servers().next().expect("one").index();
    let stats = pointsman_director::control::Mirror::stats(&mut bench.tables, index);
    let stats = stats.expect("in range");
    assert_eq!(
        (stats.connections, stats.in_packets, stats.in_bytes),
        (1, 2, 40 + 45)
    );
    assert_eq!((stats.out_packets, stats.out_bytes), (1, 43));
}
