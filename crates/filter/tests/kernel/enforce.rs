//! What we enforce: the kernel lets through what the judge says, frame by frame.

use pointsman_filter::connection::Connections;
use pointsman_filter::frame::Frame;
use pointsman_filter::judge::{Verdict, judge};
use pointsman_filter::model::Ruleset;
use pointsman_filter::nft;
use pointsman_filter::nwfilter::{Enforced, Library, Tracking, enforce};
use pointsman_filter::route::{Direction, Host, Port};

use super::{Bridge, FILTERS, Maker, binding, hex, library};

/// Frames for each filter and direction.
const FRAMES: u64 = 160;

/// Filters of our own: every element, both signs, what libvirt's backends get wrong.
const OWN: &[(&str, &str)] = &[
    (
        "signs",
        "<rule action='drop' direction='inout'><mac match='no' srcmacaddr='02:00:73:b6:53:c8' \
         srcmacmask='ff:ff:00:00:00:00'/></rule>\
         <rule action='drop' direction='out'><ip match='no' srcipaddr='10.0.0.1' srcipmask='8'/></rule>\
         <rule action='drop' direction='in'><ip protocol='tcp' dstportstart='22' dstportend='80'/></rule>\
         <rule action='drop' direction='inout'><ip match='no' protocol='udp' srcportstart='67'/></rule>\
         <rule action='accept' direction='inout'><all/></rule>",
    ),
    (
        "stp",
        "<rule action='drop' direction='in'><stp root-priority='128' root-priority-hi='33000'/></rule>\
         <rule action='drop' direction='in'><stp root-cost='4' root-cost-hi='70000'/></rule>\
         <rule action='drop' direction='out'><stp match='no' type='0'/></rule>\
         <rule action='drop' direction='out'><stp sender-address='01:00:00:00:00:00' \
         sender-address-mask='ff:00:00:00:00:00'/></rule>",
    ),
    (
        "gratuitous",
        "<rule action='drop' direction='out'><arp gratuitous='true' opcode='1'/></rule>\
         <rule action='accept' direction='in'><arp gratuitous='true'/></rule>\
         <rule action='drop' direction='in'><arp hwtype='1'/></rule>",
    ),
    (
        "not-gratuitous",
        "<rule action='drop' direction='inout'><arp match='no' gratuitous='true'/></rule>",
    ),
    (
        "arp",
        "<rule action='return' direction='inout'><arp arpsrcipaddr='10.9.0.0' arpsrcipmask='24' \
         arpdstipaddr='10.1.1.1'/></rule>\
         <rule action='drop' direction='out' priority='900'><arp match='no' arpsrcmacaddr='$MAC'/></rule>\
         <rule action='drop' direction='in'><arp protocoltype='0x0800' opcode='Reply'/></rule>",
    ),
    (
        "rarp",
        "<rule action='drop' direction='inout'><rarp arpsrcipaddr='10.0.0.0' arpsrcipmask='9' \
         protocoltype='0x800'/></rule>\
         <rule action='drop' direction='out'><rarp match='no' arpsrcmacaddr='$MAC'/></rule>",
    ),
    (
        "vlan",
        "<rule action='drop' direction='out'><vlan vlanid='100' encap-protocol='ipv4'/></rule>\
         <rule action='drop' direction='in'><vlan match='no' vlanid='200'/></rule>\
         <rule action='drop' direction='out'><ip srcipaddr='10.9.0.1'/></rule>",
    ),
    (
        "six",
        "<rule action='drop' direction='out'><ipv6 srcipaddr='fe80::' srcipmask='10'/></rule>\
         <rule action='drop' direction='in'><ipv6 protocol='icmpv6' type='134' typeend='135'/></rule>\
         <rule action='drop' direction='in'><ipv6 match='no' dstipaddr='fd00::1'/></rule>\
         <rule action='accept' direction='inout'><ipv6 protocol='tcp' dstportstart='80'/></rule>",
    ),
    (
        "packets",
        "<rule action='drop' direction='out' priority='1'><tcp dstportstart='80'/></rule>\
         <rule action='drop' direction='inout' priority='2'><udp srcipfrom='10.1.1.1' \
         srcipto='10.1.1.3'/></rule>\
         <rule action='accept' direction='in' priority='3' statematch='false'><icmp type='8'/></rule>\
         <rule action='accept' direction='out' priority='3' statematch='false'><tcp \
         srcmacaddr='$MAC' dstportstart='22'/></rule>\
         <rule action='drop' direction='inout' priority='4'><icmp/></rule>\
         <rule action='drop' direction='in' priority='5'><tcp-ipv6 srcipaddr='2001::1'/></rule>\
         <rule action='return' direction='out' priority='6'><esp dscp='10'/></rule>\
         <rule action='drop' direction='out' priority='7'><esp/></rule>\
         <rule action='drop' direction='out' priority='8'><icmpv6 type='128'/></rule>\
         <rule action='drop' direction='out' priority='9'><tcp flags='SYN,ACK/SYN' \
         option='34'/></rule>",
    ),
    (
        "reject",
        "<rule action='reject' direction='out'><ip dstipaddr='10.1.1.1'/></rule>\
         <rule action='continue' direction='out' priority='1'/>\
         <rule action='drop' direction='in'><mac protocolid='0x88cc'/></rule>",
    ),
    (
        "states",
        "<rule action='accept' direction='in'><tcp dstportstart='80'/></rule>\
         <rule action='accept' direction='out'><udp/></rule>\
         <rule action='accept' direction='out'><icmp type='8'/></rule>\
         <rule action='accept' direction='in'><icmp state='ESTABLISHED'/></rule>\
         <rule action='accept' direction='in'><tcp-ipv6 dstportstart='80'/></rule>\
         <rule action='drop' direction='inout' priority='1000'><all/></rule>\
         <rule action='drop' direction='inout' priority='1000'><all-ipv6/></rule>",
    ),
];

/// With chains of their own, so that ends of chains matter.
const CHAINS: &[(&str, &str)] = &[
    ("signs", "root"),
    ("stp", "stp"),
    ("gratuitous", "arp"),
    ("not-gratuitous", "arp-x"),
    ("arp", "arp"),
    ("rarp", "rarp"),
    ("vlan", "root"),
    ("six", "ipv6"),
    ("packets", "root"),
    ("reject", "root"),
    ("states", "root"),
];

fn own_library() -> Library {
    let mut library = library();
    for ((name, rules), (_, chain)) in OWN.iter().zip(CHAINS) {
        let text = format!("<filter name='own-{name}' chain='{chain}'>{rules}</filter>");
        library.add(name, &text).unwrap();
    }
    library
}

fn compiled(library: &Library, filter: &str, parameters: &[(&str, &str)]) -> Enforced {
    enforce(library, &binding(filter, parameters), "p0", Tracking::Marks).unwrap()
}

impl Bridge {
    fn load(&self, enforced: &Enforced) {
        self.feed("nft", &["-f", "-"], "flush ruleset\n");
        self.feed("nft", &["-f", "-"], &enforced.script);
    }

    /// What the kernel says is in force.
    fn listed(&self) -> Ruleset {
        let mut nft = self.namespace.command("nft");
        let answer = nft.args(["-j", "list", "ruleset"]).output().unwrap();
        nft::read("nft", &String::from_utf8(answer.stdout).unwrap()).unwrap()
    }

    fn call_inet(&self, value: &str) {
        let set = || {
            for version in ["ip", "ip6"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{version}tables");
                std::fs::write(path, value).unwrap();
            }
        };
        self.namespace.run_in(set).unwrap();
    }
}

const PORT: Port<'static> = Port {
    name: "p0",
    bridge: Some("br0"),
    peer: None,
};

#[test]
fn what_is_enforced_is_what_the_judge_says() {
    if !super::can_run() {
        return;
    }
    let library = own_library();
    let bridge = Bridge::new();
    let mut sets: Vec<(String, &[(&str, &str)])> = FILTERS
        .iter()
        .map(|(filter, parameters)| ((*filter).to_owned(), *parameters))
        .collect();
    sets.extend(
        OWN.iter()
            .filter(|(name, _)| *name != "states")
            .map(|(name, _)| (format!("own-{name}"), &[][..])),
    );
    let (mut judged, mut dropped) = (0, 0);
    for (at, (filter, parameters)) in sets.iter().enumerate() {
        let enforced = compiled(&library, filter, parameters);
        assert_eq!(enforced.tracked, [None, None], "{filter}");
        bridge.load(&enforced);
        let listed = bridge.listed();
        let mut dropped_here = 0;
        for direction in [Direction::Out, Direction::In] {
            let frames: Vec<Vec<u8>> = (0..FRAMES)
                .map(|number| Maker::new(0xe0_0000_0000 | (at as u64) << 24 | number).frame())
                .collect();
            let passed = bridge.pass(direction, &frames);
            for (frame, passed) in frames.iter().zip(passed) {
                let expected = if passed { Verdict::Pass } else { Verdict::Drop };
                for (rules, whose) in [(&enforced.ruleset, "ours"), (&listed, "listed")] {
                    let judgement = judge(frame, PORT, direction, rules, &Host::default()).unwrap();
                    assert_eq!(
                        judgement.verdict,
                        expected,
                        "{filter} {direction:?} {whose} {}: {:?}\n{}",
                        hex(frame),
                        judgement.deciding(),
                        enforced.script
                    );
                }
                judged += 1;
                dropped_here += u64::from(!passed);
            }
        }
        let may_drop = enforced.script.contains(" drop ");
        assert_eq!(dropped_here > 0, may_drop, "{filter}");
        dropped += dropped_here;
    }
    assert!(judged >= 5000, "{judged}");
    assert!(
        dropped > judged / 20 && dropped < judged / 2,
        "{dropped} of {judged}"
    );
}

/// One side of a conversation.
struct Side {
    mac: [u8; 6],
    address: [u8; 4],
}

const GUEST: Side = Side {
    mac: [2, 0, 0x73, 0xb6, 0x53, 0xc8],
    address: [10, 9, 0, 1],
};
const OTHER: Side = Side {
    mac: [6, 0xaa, 0xbb, 0xcc, 0xdd, 0xee],
    address: [10, 1, 1, 1],
};

fn ip4(from: &Side, to: &Side, protocol: u8, payload: &[u8], number: u16) -> Vec<u8> {
    let mut frame = [&to.mac[..], &from.mac[..], &[8, 0]].concat();
    let mut header = vec![0x45, 0];
    header.extend((20 + payload.len() as u16).to_be_bytes());
    header.extend(number.to_be_bytes());
    header.extend([0x40, 0, 64, protocol, 0, 0]);
    header.extend(from.address);
    header.extend(to.address);
    let sum = checksum(0, &header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(header);
    frame.extend(payload);
    frame
}

/// The internet checksum, from a sum so far.
fn checksum(start: u32, bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low)));
    let sum = start + words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A transport header with its checksum; `pseudo` is what it counts besides.
fn transport(protocol: u8, ports: [u16; 2], flags: u8, pseudo: &[u8]) -> Vec<u8> {
    let mut bytes = ports.map(u16::to_be_bytes).concat();
    let at = if protocol == 6 {
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        16
    } else {
        bytes.extend([0, 30, 0, 0]);
        6
    };
    bytes.resize(30, 0);
    let pseudo = [pseudo, &[0, protocol, 0, 30]].concat();
    let start = u32::from(!checksum(0, &pseudo));
    let sum = checksum(start, &bytes);
    bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn ports(from: &Side, to: &Side, protocol: u8, ports: [u16; 2], flags: u8, number: u16) -> Vec<u8> {
    let pseudo = [from.address, to.address].concat();
    let bytes = transport(protocol, ports, flags, &pseudo);
    ip4(from, to, protocol, &bytes, number)
}

/// TCP over IPv6.
fn tcp6(from: &Side, to: &Side, ports: [u16; 2], flags: u8, number: u16) -> Vec<u8> {
    let address = |side: &Side| [&[0xfd; 12][..], &side.address].concat();
    let addresses = [address(from), address(to)].concat();
    let bytes = transport(6, ports, flags, &addresses);
    let mut frame = [&to.mac[..], &from.mac[..], &[0x86, 0xdd, 0x60, 0]].concat();
    // The number is the flow label.
    frame.extend(number.to_be_bytes());
    frame.extend([0, bytes.len() as u8, 6, 64]);
    frame.extend(addresses);
    frame.extend(bytes);
    frame
}

fn echo(from: &Side, to: &Side, kind: u8, id: u16, number: u16) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend([id, number].map(u16::to_be_bytes).concat());
    bytes.resize(30, 7);
    let sum = checksum(0, &bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    ip4(from, to, 1, &bytes, number)
}

#[test]
fn states_of_connections_are_enforced_where_the_bridge_tracks_none() {
    if super::can_run() {
        converse(Tracking::Marks, true);
    }
}

#[test]
fn states_of_connections_are_enforced_where_the_bridge_tracks_them() {
    if !super::can_run() {
        return;
    }
    let probe = "add table bridge p; add chain bridge p c; add rule bridge p c ct state new";
    let bridge = Bridge::new();
    let output = bridge.namespace.command("nft").arg(probe).output().unwrap();
    if !output.status.success() {
        println!("skipped: this kernel tracks no connections on bridges");
        return;
    }
    converse(Tracking::Bridge, false);
    // Where the bridge calls IP's hooks as well, connections are tracked once.
    let there = || std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists();
    if bridge.namespace.run_in(there).unwrap() {
        converse(Tracking::Bridge, true);
    }
}

/// Stands for TCP over IPv6.
const TCP6: u8 = 106;

/// Compares frames of conversations with the judge, who is told of the connections before.
fn converse(tracking: Tracking, by_ip: bool) {
    let library = own_library();
    let bridge = Bridge::new();
    if by_ip {
        bridge.call_inet("1");
    }
    let enforced = enforce(&library, &binding("own-states", &[]), "p0", tracking).unwrap();
    assert!(enforced.tracked.iter().all(Option::is_some));
    bridge.load(&enforced);
    let listed = bridge.listed();
    let (syn, syn_ack, ack) = (2, 0x12, 0x10);
    let (into, out) = (Direction::In, Direction::Out);
    let mut number = 0;
    let mut frames = Vec::new();
    let mut say = |direction: Direction, protocol: u8, own: u16, other: u16, flags: u8| {
        number += 1;
        let (from, to, pair) = match direction {
            Direction::Out => (&GUEST, &OTHER, [own, other]),
            _ => (&OTHER, &GUEST, [other, own]),
        };
        let frame = match protocol {
            1 => echo(from, to, flags, own, number),
            TCP6 => tcp6(from, to, pair, flags, number),
            _ => ports(from, to, protocol, pair, flags, number),
        };
        frames.push((direction, frame));
    };
    // Step by step for all clients: what goes the same way is sent together.
    type Step = (Direction, u8, fn(u16) -> (u16, u16), u8);
    let steps: [Step; 19] = [
        // A connection to a port that is open, and one to another.
        (into, 6, |client| (80, 2000 + client), syn),
        (out, 6, |client| (80, 2000 + client), syn_ack),
        (into, 6, |client| (80, 2000 + client), ack),
        (into, 6, |client| (81, 2000 + client), syn),
        (out, 6, |client| (80, 2000 + client), ack),
        // The guest asks by UDP and is answered; nobody else asks it.
        (out, 17, |client| (3000 + client, 53), 0),
        (into, 17, |client| (3000 + client, 53), 0),
        (into, 17, |client| (4000 + client, 53), 0),
        // The guest may not begin what is open for others, nor send what nobody asked for.
        (out, 6, |client| (5000 + client, 80), syn),
        (out, 6, |client| (80, 6000 + client), syn_ack),
        // Echo requests of the guest, their answers, and requests to it.
        (out, 1, |client| (100 + client, 0), 8),
        (into, 1, |client| (100 + client, 0), 0),
        (into, 1, |client| (200 + client, 0), 8),
        (into, 1, |client| (300 + client, 0), 0),
        // The same by IPv6.
        (into, TCP6, |client| (80, 2000 + client), syn),
        (out, TCP6, |client| (80, 2000 + client), syn_ack),
        (out, TCP6, |client| (80, 6000 + client), syn_ack),
        (into, TCP6, |client| (80, 2000 + client), ack),
        (into, TCP6, |client| (81, 2000 + client), syn),
    ];
    for (direction, protocol, ports, flags) in steps {
        for client in 0..40 {
            let (own, other) = ports(client);
            say(direction, protocol, own, other, flags);
        }
    }
    let mut connections = Connections::new();
    let (mut passes, mut drops) = (0, 0);
    let together = frames.chunk_by(|one, other| one.0 == other.0);
    let passed = together.flat_map(|some| {
        let bytes: Vec<Vec<u8>> = some.iter().map(|(_, frame)| frame.clone()).collect();
        bridge.pass(some[0].0, &bytes)
    });
    for ((direction, frame), passed) in frames.iter().zip(passed.collect::<Vec<_>>()) {
        let host = Host {
            call_iptables: by_ip,
            call_ip6tables: by_ip,
            connections: Some(&connections),
            ..Host::default()
        };
        let expected = if passed { Verdict::Pass } else { Verdict::Drop };
        for rules in [&enforced.ruleset, &listed] {
            let judgement = judge(frame, PORT, *direction, rules, &host).unwrap();
            assert_eq!(
                judgement.verdict,
                expected,
                "{direction:?} {}: {:?}\n{}",
                hex(frame),
                judgement.deciding(),
                enforced.script
            );
        }
        // What is dropped leaves no connection behind.
        if passed {
            connections.confirm(&Frame::parse(frame).unwrap());
            passes += 1;
        } else {
            drops += 1;
        }
    }
    assert_eq!((passes, drops), (40 * 11, 40 * 8));
}
