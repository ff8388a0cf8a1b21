//! Facts by which captures are joined.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::build::{DESTINATION_MAC, SOURCE_MAC, TcpPart, arp_request};
use pointsman_wire::summary::{Fragment, LinkSummary, TcpSummary, Tunnel};
use pointsman_wire::{Frame, Mac, Summary, icmp, protocol, tcp};

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 2);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 33);
const REAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

fn syn_to(destination: Ipv4Addr, port: u16) -> Frame<TcpPart> {
    Frame::ipv4(CLIENT, destination)
        .id(99)
        .tcp(40000, port)
        .flags(tcp::SYN)
        .sequence(7)
        .mss(1460)
}

fn parse(frame: &[u8]) -> Summary {
    Summary::parse(frame).expect("an IP frame")
}

#[test]
fn all_facts_of_a_segment() {
    let frame = syn_to(VIP, 80)
        .service_vlan(10)
        .vlan(178)
        .dont_fragment()
        .tos(8)
        .payload(b"abc");
    let expected = Summary {
        link: Some(LinkSummary {
            source: SOURCE_MAC,
            destination: DESTINATION_MAC,
            vlans: vec![10, 178],
        }),
        version: 4,
        source: IpAddr::V4(CLIENT),
        destination: IpAddr::V4(VIP),
        tos: 8,
        ttl: 64,
        id: Some(99),
        dont_fragment: true,
        fragment: None,
        protocol: protocol::TCP,
        ports: Some((40000, 80)),
        tcp: Some(TcpSummary {
            flags: tcp::SYN,
            sequence: 7,
            acknowledgement: 0,
            window: 64240,
            mss: Some(1460),
            timestamps: None,
        }),
        icmp: None,
        payload_length: 3,
        tunnel: None,
        inner: None,
        quoted: None,
    };
    // Padding and a short capture change nothing.
    let built = frame.clone().padded(100).build();
    assert_eq!(parse(&built), expected);
    assert_eq!(parse(&frame.build()[..14 + 8 + 20 + 24]), expected);
}

#[test]
fn flows_join_both_directions() {
    let request = parse(&syn_to(VIP, 80).build()).flow().expect("ports");
    let reply = Frame::ipv4(VIP, CLIENT)
        .tcp(80, 40000)
        .flags(tcp::SYN | tcp::ACK)
        .build();
    assert_eq!(parse(&reply).flow(), Some(request.reversed()));
    assert_eq!(
        request.to_string(),
        "TCP 192.168.7.2:40000 > 192.168.7.33:80"
    );
    assert_eq!(
        parse(&Frame::ipv4(CLIENT, VIP).echo_request(1, 2).build()).flow(),
        None
    );
}

#[test]
fn tunnels_nest() {
    let inner = syn_to(VIP, 80).build_packet();
    let outer = || Frame::ipv4([10, 0, 0, 1], REAL);
    let frames = [
        (Tunnel::IpIp, outer().ip_in_ip(&inner).build()),
        (Tunnel::Gre, outer().gre(&inner, true).build()),
        (Tunnel::Gue, outer().udp(1, 6080).gue(&inner).build()),
    ];
    for (tunnel, frame) in frames {
        let summary = parse(&frame);
        assert_eq!(summary.tunnel, Some(tunnel));
        assert_eq!(summary.destination, IpAddr::V4(REAL));
        assert_eq!(
            Some(summary.innermost()),
            Summary::parse_packet(&inner).as_ref()
        );
    }
}

#[test]
fn gue_without_header_and_with_private_options() {
    let inner = syn_to(VIP, 80).build_packet();
    let outer = || Frame::ipv4([10, 0, 0, 1], REAL).udp(1, 6080);
    let direct = outer().payload(&inner).build();
    assert_eq!(parse(&direct).tunnel, Some(Tunnel::Gue));
    // Eight bytes of options: private flags, remote checksum offload's start and offset.
    let head = [2, 4, 0, 1, 0x80, 0, 0, 0, 0, 20, 0, 36];
    let remote = outer().payload(&[&head, inner.as_slice()].concat()).build();
    assert_eq!(parse(&remote).innermost().ports, Some((40000, 80)));
}

#[test]
fn errors_quote() {
    let quote = syn_to(VIP, 80).build_packet();
    let error = Frame::ipv4(VIP, CLIENT).icmp_error(icmp::V4_UNREACHABLE, 3, 0, &quote[..28]);
    let summary = parse(&error.build());
    let header = summary.icmp.expect("an ICMP header");
    assert_eq!((header.kind, header.code), (3, 3));
    let quoted = summary.quoted.expect("a quote");
    assert_eq!(
        (quoted.source, quoted.ports),
        (IpAddr::V4(CLIENT), Some((40000, 80)))
    );
    assert_eq!(quoted.tcp, None);
}

#[test]
fn fragments_say_where_they_belong() {
    let [a, b] = [1, 2].map(|last| Ipv6Addr::from([0xfd01, 0, 0, 0, 0, 0, 0, last]));
    let pieces = Frame::ipv6(a, b)
        .id(70000)
        .udp(1, 2)
        .payload(&[0; 2000])
        .fragments(1500);
    let [first, last] = [parse(&pieces[0]), parse(&pieces[1])];
    assert_eq!(
        first.fragment,
        Some(Fragment {
            offset: 0,
            more: true
        })
    );
    assert_eq!((first.ports, first.id), (Some((1, 2)), Some(70000)));
    assert_eq!(
        last.fragment,
        Some(Fragment {
            offset: 1448,
            more: false
        })
    );
    assert_eq!((last.ports, last.payload_length), (None, 560));
}

#[test]
fn what_is_not_ip_has_no_summary() {
    assert_eq!(Summary::parse(&arp_request(SOURCE_MAC, CLIENT, VIP)), None);
    assert_eq!(Summary::parse(&syn_to(VIP, 80).build()[..33]), None);
    assert_eq!(Summary::parse(&[]), None);
}

#[track_caller]
fn changed(before: &[u8], after: &[u8], expected: &[&str]) {
    let changes = parse(before).changes(&parse(after));
    let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(changes, expected);
}

#[test]
fn forwarding_methods_leave_their_marks() {
    let sent = syn_to(VIP, 80).build();
    let director = Mac([2, 0, 0, 0, 0, 3]);
    let real = Mac([2, 0, 0, 0, 0, 4]);
    let macs = [
        "source MAC 02:00:00:00:00:01 -> 02:00:00:00:00:03",
        "destination MAC 02:00:00:00:00:02 -> 02:00:00:00:00:04",
    ];
    changed(&sent, &sent, &[]);
    changed(&sent, &syn_to(VIP, 80).macs(director, real).build(), &macs);
    let masqueraded = syn_to(REAL, 8080).macs(director, real).ttl(63).build();
    changed(
        &sent,
        &masqueraded,
        &[
            macs[0],
            macs[1],
            "destination 192.168.7.33 -> 10.0.0.2",
            "TTL 64 -> 63",
            "destination port 80 -> 8080",
        ],
    );
    let tunnel = Frame::ipv4([10, 0, 0, 1], REAL).macs(director, real);
    changed(
        &sent,
        &tunnel
            .ip_in_ip(&syn_to(VIP, 80).vlan(5).mss(1440).build_packet())
            .build(),
        &[macs[0], macs[1], "tunnel none -> IPIP 10.0.0.1 > 10.0.0.2"],
    );
    changed(
        &sent,
        &Frame::ipv4(CLIENT, VIP)
            .id(99)
            .tcp(40000, 80)
            .sequence(8)
            .mss(1440)
            .vlan(5)
            .build(),
        &[
            "VLAN none -> 5",
            "flags S -> none",
            "seq 7 -> 8",
            "MSS 1460 -> 1440",
        ],
    );
}
