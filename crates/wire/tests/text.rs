//! Lines as people read them.

use std::net::{Ipv4Addr, Ipv6Addr};

use pointsman_wire::build::{self, TcpPart, arp_reply, arp_request, ethernet_frame};
use pointsman_wire::text::PacketLine;
use pointsman_wire::{Frame, Line, Mac, Summary, ethernet, icmp, tcp, verify_checksums};
use proptest::prelude::*;

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 2);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 33);
const MACS: &str = "02:00:00:00:00:01 > 02:00:00:00:00:02, ";

fn syn() -> Frame<TcpPart> {
    Frame::ipv4(CLIENT, VIP)
        .tcp(40000, 80)
        .flags(tcp::SYN)
        .sequence(1)
}

fn v6() -> Frame {
    let [client, vip] = [2, 0x33].map(|last| Ipv6Addr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last]));
    Frame::ipv6(client, vip)
}

#[track_caller]
fn prints(frame: &[u8], expected: &str) {
    let line = Line(frame).to_string();
    assert_eq!(line.strip_prefix(MACS).unwrap_or(&line), expected);
}

#[test]
fn tcp_lines() {
    assert_eq!(
        Line(&syn().build()).to_string(),
        "02:00:00:00:00:01 > 02:00:00:00:00:02, IPv4 192.168.7.2.40000 > 192.168.7.33.80: \
         Flags [S], seq 1, win 64240, length 0"
    );
    let options = syn()
        .mss(1460)
        .tcp_options(&[4, 2])
        .timestamps(7, 0)
        .tcp_options(&[1, 3, 3, 7]);
    prints(
        &options.build(),
        "IPv4 192.168.7.2.40000 > 192.168.7.33.80: Flags [S], seq 1, win 64240, \
         options [mss 1460,sackOK,TS val 7 ecr 0,wscale 7], length 0",
    );
    let data = Frame::ipv4(VIP, CLIENT)
        .tcp(80, 40000)
        .flags(tcp::PSH | tcp::ACK);
    prints(
        &data
            .sequence(u32::MAX)
            .acknowledgement(2)
            .window(502)
            .payload(b"hello")
            .build(),
        "IPv4 192.168.7.33.80 > 192.168.7.2.40000: Flags [P.], seq 4294967295:4, ack 2, \
         win 502, length 5",
    );
    prints(
        &v6().tcp(40000, 80).flags(tcp::RST).build(),
        "IPv6 2001:db8::2.40000 > 2001:db8::33.80: Flags [R], seq 0, win 64240, length 0",
    );
    prints(
        &syn().flags(0).build(),
        "IPv4 192.168.7.2.40000 > 192.168.7.33.80: Flags [none], seq 1, win 64240, length 0",
    );
}

#[test]
fn vlan_tags_come_before_ip() {
    let udp = Frame::ipv4(CLIENT, VIP).udp(5353, 53).payload(b"hello");
    prints(
        &udp.clone().vlan(178).build(),
        "vlan 178, IPv4 192.168.7.2.5353 > 192.168.7.33.53: UDP, length 5",
    );
    prints(
        &udp.service_vlan(10)
            .tag(ethernet::VLAN, 5 << 13 | 178)
            .build(),
        "svlan 10, vlan 178 p 5, IPv4 192.168.7.2.5353 > 192.168.7.33.53: UDP, length 5",
    );
}

#[test]
fn details_on_request() {
    let frame = syn().ttl(63).id(4321).dont_fragment().tos(0x2e).build();
    assert_eq!(
        format!("{:#}", Line(&frame)),
        format!(
            "{MACS}IPv4 (tos 0x2e, ttl 63, id 4321, DF) 192.168.7.2.40000 > 192.168.7.33.80: \
             Flags [S], seq 1, win 64240, length 0"
        )
    );
    let frame = v6().ttl(3).udp(1, 2).build_packet();
    assert_eq!(
        format!("{:#}", PacketLine(&frame)),
        "IPv6 (ttl 3) 2001:db8::2.1 > 2001:db8::33.2: UDP, length 0"
    );
}

#[test]
fn arp_lines() {
    let mac = Mac([2, 0, 0, 0, 0, 0x21]);
    assert_eq!(
        Line(&arp_request(build::SOURCE_MAC, CLIENT, VIP)).to_string(),
        "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, ARP who-has 192.168.7.33 tell 192.168.7.2"
    );
    assert_eq!(
        Line(&arp_reply(mac, VIP, build::SOURCE_MAC, CLIENT)).to_string(),
        "02:00:00:00:00:21 > 02:00:00:00:00:01, ARP 192.168.7.33 is-at 02:00:00:00:00:21"
    );
    // Somebody else's frame around the question: worth a look.
    let mut proxied = arp_request(mac, CLIENT, VIP);
    proxied[6..12].copy_from_slice(&build::SOURCE_MAC.0);
    assert_eq!(
        Line(&proxied).to_string(),
        "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, \
         ARP who-has 192.168.7.33 tell 192.168.7.2 at 02:00:00:00:00:21"
    );
}

#[test]
fn icmp_lines() {
    prints(
        &Frame::ipv4(CLIENT, VIP)
            .echo_request(7, 9)
            .payload(&[0; 56])
            .build(),
        "IPv4 192.168.7.2 > 192.168.7.33: ICMP echo request, id 7, seq 9, length 64",
    );
    prints(
        &v6().echo_reply(7, 9).build(),
        "IPv6 2001:db8::2 > 2001:db8::33: ICMPv6 echo reply, id 7, seq 9, length 8",
    );
    let quote = syn().build_packet();
    let error = |kind, code, rest| {
        Frame::ipv4(VIP, CLIENT)
            .icmp_error(kind, code, rest, &quote)
            .build()
    };
    prints(
        &error(
            icmp::V4_UNREACHABLE,
            icmp::V4_CODE_FRAGMENTATION_NEEDED,
            1480,
        ),
        "IPv4 192.168.7.33 > 192.168.7.2: ICMP fragmentation needed (mtu 1480), quoting \
         IPv4 192.168.7.2.40000 > 192.168.7.33.80: Flags [S], seq 1, win 64240, length 0",
    );
    let short = Frame::ipv4(VIP, CLIENT).icmp_error(icmp::V4_TIME_EXCEEDED, 0, 0, &quote[..28]);
    prints(
        &short.build(),
        "IPv4 192.168.7.33 > 192.168.7.2: ICMP time exceeded in transit, quoting \
         IPv4 192.168.7.2.40000 > 192.168.7.33.80: TCP [|tcp]",
    );
    let quote = v6().udp(1, 2).payload(b"12345").build_packet();
    prints(
        &v6().icmp_error(icmp::V6_TOO_BIG, 0, 1280, &quote).build(),
        "IPv6 2001:db8::2 > 2001:db8::33: ICMPv6 packet too big (mtu 1280), quoting \
         IPv6 2001:db8::2.1 > 2001:db8::33.2: UDP, length 5",
    );
    let target = Ipv6Addr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]).octets();
    prints(
        &v6()
            .icmp(icmp::V6_NEIGHBOR_SOLICITATION, 0, 0)
            .payload(&target)
            .build(),
        "IPv6 2001:db8::2 > 2001:db8::33: ICMPv6 neighbor solicitation, who has fe80::1, length 24",
    );
}

#[test]
fn tunnel_lines() {
    let inner = syn().build_packet();
    let inner_line =
        "IPv4 192.168.7.2.40000 > 192.168.7.33.80: Flags [S], seq 1, win 64240, length 0";
    let outer = || Frame::ipv4([10, 0, 0, 1], [10, 0, 0, 2]);
    let head = "IPv4 10.0.0.1 > 10.0.0.2:";
    prints(
        &outer().ip_in_ip(&inner).build(),
        &format!("{head} IPIP, {inner_line}"),
    );
    prints(
        &outer().gre(&inner, true).build(),
        &format!("{head} GRE, {inner_line}"),
    );
    prints(
        &outer().udp(49689, 6080).gue(&inner).build(),
        &format!("IPv4 10.0.0.1.49689 > 10.0.0.2.6080: UDP, length 44, GUE, {inner_line}"),
    );
    prints(
        &v6().ip_in_ip(&inner).build(),
        &format!("IPv6 2001:db8::2 > 2001:db8::33: IPIP, {inner_line}"),
    );
    // Another service on GUE's port stays what it is.
    prints(
        &outer().udp(1, 6080).payload(b"\x3fhello").build(),
        "IPv4 10.0.0.1.1 > 10.0.0.2.6080: UDP, length 6",
    );
}

#[test]
fn packets_nested_without_end_are_cut() {
    let mut packet = syn().build_packet();
    for _ in 0..1000 {
        packet = Frame::ipv4(CLIENT, VIP).ip_in_ip(&packet).build_packet();
    }
    let line = PacketLine(&packet).to_string();
    assert!(line.ends_with("IPIP, ..."), "{line}");
    assert_eq!(line.matches("IPIP").count(), 8);
    assert!(Summary::parse_packet(&packet).is_some());
}

#[test]
fn fragment_lines() {
    let frame = Frame::ipv4(CLIENT, VIP)
        .id(7)
        .udp(1000, 2000)
        .payload(&[0; 2000]);
    let lines: Vec<String> = frame
        .fragments(1500)
        .iter()
        .map(|piece| Line(piece).to_string())
        .collect();
    assert_eq!(
        lines,
        [
            format!(
                "{MACS}IPv4 192.168.7.2.1000 > 192.168.7.33.2000: frag id 7 offset 0+, \
                 UDP, length 2000"
            ),
            format!(
                "{MACS}IPv4 192.168.7.2 > 192.168.7.33: frag id 7 offset 1480, UDP, length 528"
            ),
        ]
    );
    let frame = v6().id(70000).udp(1000, 2000).payload(&[0; 2000]);
    let lines: Vec<String> = frame
        .fragments(1500)
        .iter()
        .map(|piece| Line(piece).to_string())
        .collect();
    assert_eq!(
        lines[1],
        format!(
            "{MACS}IPv6 2001:db8::2 > 2001:db8::33: frag id 70000 offset 1448, UDP, length 560"
        )
    );
}

#[test]
fn sctp_and_unknown_protocols() {
    let chunks = [[1, 0, 0, 4], [3, 0, 0, 4]].concat();
    prints(
        &Frame::ipv4(CLIENT, VIP)
            .sctp(1, 2, 3)
            .payload(&chunks)
            .build(),
        "IPv4 192.168.7.2.1 > 192.168.7.33.2: SCTP [INIT] [SACK]",
    );
    prints(
        &Frame::ipv4(CLIENT, VIP)
            .protocol(89)
            .payload(&[0; 20])
            .build(),
        "IPv4 192.168.7.2 > 192.168.7.33: protocol 89, length 20",
    );
    prints(
        &Frame::ipv4(CLIENT, VIP).protocol(200).build(),
        "IPv4 192.168.7.2 > 192.168.7.33: protocol 200, length 0",
    );
    let frame = ethernet_frame(
        build::SOURCE_MAC,
        build::DESTINATION_MAC,
        &[],
        0x88cc,
        &[0; 4],
    );
    prints(&frame, "ethertype 0x88cc, length 4");
}

#[test]
fn what_is_cut_short_is_marked() {
    let frame = syn().vlan(5).build();
    let cut = |length: usize| Line(&frame[..length]).to_string().replace(MACS, "");
    assert_eq!(cut(0), "[|ether]");
    assert_eq!(cut(13), "[|ether]");
    assert_eq!(cut(14), "[|vlan]");
    assert_eq!(cut(18), "vlan 5, IPv4 [|ip]");
    assert_eq!(cut(37), "vlan 5, IPv4 [|ip]");
    assert_eq!(
        cut(38),
        "vlan 5, IPv4 192.168.7.2 > 192.168.7.33: TCP [|tcp]"
    );
    assert_eq!(
        cut(57),
        "vlan 5, IPv4 192.168.7.2.40000 > 192.168.7.33.80: TCP [|tcp]"
    );
    let arp = arp_request(build::SOURCE_MAC, CLIENT, VIP);
    assert!(Line(&arp[..41]).to_string().ends_with("ARP [|arp]"));
    let frame = v6().hop_by_hop().udp(1, 2).build();
    prints(&frame[..53], "IPv6 [|ip6]");
    prints(
        &frame[..54],
        "IPv6 2001:db8::2 > 2001:db8::33: protocol 0 [|ip6-ext]",
    );
    prints(&frame[..62], "IPv6 2001:db8::2 > 2001:db8::33: UDP [|udp]");
}

#[test]
fn contradictions_are_marked() {
    let mut frame = syn().build();
    frame[14] = 0x44;
    prints(&frame, "IPv4 [bad ip header length]");
    let mut frame = syn().build();
    frame[17] = 19;
    prints(&frame, "IPv4 [bad ip length]");
    let mut frame = syn().build();
    frame[46] = 0x40;
    prints(
        &frame,
        "IPv4 192.168.7.2 > 192.168.7.33: TCP [bad tcp header length]",
    );
    let mut frame = syn().build();
    frame[46] = 0x60;
    prints(
        &frame,
        "IPv4 192.168.7.2 > 192.168.7.33: TCP [bad tcp length]",
    );
    let mut frame = Frame::ipv4(CLIENT, VIP).udp(1, 2).build();
    frame[39] = 9;
    prints(
        &frame,
        "IPv4 192.168.7.2 > 192.168.7.33: UDP [bad udp length]",
    );
}

/// A frame of some kind, to be spoilt.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let inner = syn().mss(1460).payload(b"payload").build_packet();
    let inner_v6 = v6().udp(1, 2).payload(b"payload").build_packet();
    let outer = || Frame::ipv4(CLIENT, VIP);
    prop::sample::select(vec![
        syn()
            .mss(1460)
            .timestamps(1, 2)
            .vlan(1)
            .service_vlan(2)
            .build(),
        outer().ip_in_ip(&inner).build(),
        outer().gre(&inner_v6, true).build(),
        outer().udp(1, 6080).gue(&inner).build(),
        outer().icmp_error(3, 4, 1400, &inner).build(),
        v6().hop_by_hop()
            .destination_options()
            .id(5)
            .fragment(0, true)
            .udp(1, 2)
            .build(),
        v6().routing(1, Ipv6Addr::LOCALHOST)
            .ip_in_ip(&inner_v6)
            .build(),
        v6().icmp_error(icmp::V6_TOO_BIG, 0, 1280, &inner_v6)
            .build(),
        outer()
            .sctp(1, 2, 3)
            .payload(&[1, 0, 0, 4, 0, 0, 0, 4])
            .build(),
        arp_request(build::SOURCE_MAC, CLIENT, VIP),
    ])
}

fn read_everything(bytes: &[u8]) {
    let line = format!("{} {:#}", Line(bytes), PacketLine(bytes));
    assert!(
        line.is_ascii() && !line.contains(char::is_control),
        "{line:?}"
    );
    let _ = verify_checksums(bytes);
    if let Some(summary) = Summary::parse(bytes) {
        assert!(summary.changes(&summary).is_empty());
    }
    let _ = Summary::parse_packet(bytes);
}

proptest! {
    #[test]
    fn any_bytes_print(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read_everything(&bytes);
    }

    #[test]
    fn spoilt_and_cut_frames_print(
        mut frame in any_frame(),
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
    ) {
        for (at, value) in hits {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        read_everything(&frame);
        read_everything(&frame[..end.index(frame.len())]);
    }
}
