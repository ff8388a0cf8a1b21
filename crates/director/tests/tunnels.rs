//! IP in IP as the kernel makes it, both families in both.

mod bench;

use std::net::IpAddr;

use bench::{
    BACK, Bench, CLIENT, CLIENT_MAC, CLIENT6, DIRECTOR_MAC, SOURCE, SOURCE6, VIP, VIP6, hop, id,
    real, rs, rs_mac, rs6, segment, web,
};
use pointsman_director::{
    Reason, Scratch,
    model::{ForwardingMethod, Protocol, ServiceId},
    native::NativeFrame,
    process,
    record::{NextHop, settings_flag::PMTU_DISC},
};
use pointsman_wire::{
    Frame, Summary,
    build::TcpPart,
    summary::Tunnel,
    tcp::{ACK, SYN},
    verify_checksums,
};

const TUNNEL: ForwardingMethod = ForwardingMethod::Tunnel;

fn web6() -> ServiceId {
    id(Protocol::Tcp, VIP6, 80)
}

/// A service of one family with a tunnel to a server of one.
fn tunnel(inner6: bool, outer6: bool) -> Bench {
    let service = if inner6 { web6() } else { web() };
    let server = if outer6 { rs6(1) } else { rs(1) };
    let mut bench = Bench::single(service, server, 80, TUNNEL);
    bench.env.random.set(0xbfac_u16.to_be().into());
    // Learns the hop with the tunnel's source address.
    bench.set_hop(server, hop(1));
    bench
}

/// The segment of the goldens: TOS 0x2e, ten hops left.
fn golden(inner6: bool) -> Frame<TcpPart> {
    let ip = if inner6 {
        Frame::ipv6(CLIENT6, VIP6)
    } else {
        Frame::ipv4(CLIENT, VIP).id(0x1234).dont_fragment()
    };
    let segment = ip.macs(CLIENT_MAC, DIRECTOR_MAC).tcp(40_020, 80);
    segment.flags(SYN).tos(0x2e).ttl(10)
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The packet that leaves, from its outer IP header on.
fn sent(bench: &mut Bench, frame: &[u8]) -> Vec<u8> {
    let (verdict, out) = bench.send(frame);
    assert_eq!((verdict.reason, verdict.ifindex), (Reason::Tunnel, BACK));
    assert_eq!(out[..6], rs_mac(1).0);
    assert_eq!(out[6..12], DIRECTOR_MAC.0);
    assert_eq!(verify_checksums(&out), Ok(()));
    out[14..].to_vec()
}

#[test]
fn ipv4_in_ipv4_as_the_kernel_sends_it() {
    let packet = sent(&mut tunnel(false, false), &golden(false).build());
    let expected = hex(
        "452e003c0000400009045d830a0100010a01000b 452e0028123440000906dbaf c0a8010ac0a80164 9c540050",
    );
    assert_eq!(packet[..expected.len()], expected);
    assert_eq!(packet.len(), 60);
}

#[test]
fn ipv6_in_ipv6_as_the_kernel_sends_it() {
    let packet = sent(&mut tunnel(true, true), &golden(true).build());
    let expected = hex(
        "62e00000003c2909 fd010000000000000000000000000001 fd010000000000000000000000000011 \
         62e0000000140609",
    );
    assert_eq!(packet[..expected.len()], expected);
    assert_eq!(packet.len(), 100);
}

#[test]
fn ipv6_in_ipv4_has_an_id_and_no_df() {
    let mut bench = tunnel(true, false);
    let (_, out) = bench.send(&golden(true).build());
    assert_eq!(out[12..14], [8, 0], "EtherType of the outer header");
    let packet = sent(&mut tunnel(true, false), &golden(true).build());
    assert_eq!(packet[..10], hex("452e0050bfac00000929"));
    assert_eq!(packet[12..28], hex("0a0100010a01000b62e0000000140609"));
}

#[test]
fn ipv4_in_ipv6_copies_the_class() {
    let mut bench = tunnel(false, true);
    let (_, out) = bench.send(&golden(false).build());
    assert_eq!(out[12..14], [0x86, 0xdd], "EtherType of the outer header");
    let packet = sent(&mut tunnel(false, true), &golden(false).build());
    assert_eq!(packet[..8], hex("62e0000000280409"));
    assert_eq!(packet[40..50], hex("452e0028123440000906"));
}

#[test]
fn congestion_experienced_does_not_show_outside() {
    for (inner, outer) in [(3, 2), (2, 2), (1, 1), (0, 0), (0xb9, 0xb9), (0xbb, 0xba)] {
        let frame = segment(40_000, SYN).tos(inner).ttl(10).build();
        let packet = sent(&mut tunnel(false, false), &frame);
        assert_eq!((packet[1], packet[21]), (outer, inner));
        assert_eq!(packet[4..6], [0xbf, 0xac], "an id, without DF");
        assert_eq!((packet[6], packet[8], packet[9]), (0, 9, 4));
    }
    // The golden of the kernel.
    let frame = segment(40_000, SYN).tos(3).ttl(10).build();
    let packet = sent(&mut tunnel(false, false), &frame);
    assert_eq!(packet[..4], hex("4502003c"));
}

#[test]
fn df_is_copied_when_path_mtu_discovery_is_on() {
    for (pmtu_disc, inner_df, outer_df) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
        (false, false, false),
    ] {
        let mut bench = tunnel(false, false);
        bench.settings(|s| s.flags = if pmtu_disc { PMTU_DISC } else { 0 });
        let mut frame = segment(40_000, SYN);
        if inner_df {
            frame = frame.dont_fragment();
        }
        let packet = sent(&mut bench, &frame.build());
        let summary = Summary::parse_packet(&packet).expect("IPv4");
        assert_eq!(summary.dont_fragment, outer_df);
        let id = if outer_df { 0 } else { 0xbfac };
        assert_eq!(summary.id, Some(id));
        assert_eq!(summary.inner.expect("IPv4").dont_fragment, inner_df);
    }
}

#[test]
fn without_path_mtu_discovery_nothing_is_too_big_for_ipv4() {
    let mut bench = tunnel(false, false);
    bench.settings(|s| s.flags = 0);
    let frame = segment(40_000, SYN).payload(&[0; 1441]).dont_fragment();
    assert_eq!(bench.reason(&frame.build()), Reason::NeedsFragmenting);
    bench.settings(|s| s.flags = PMTU_DISC);
    assert_eq!(bench.reason(&frame.build()), Reason::TooBig);
}

#[test]
fn every_pair_of_families_holds_the_whole_packet() {
    for inner6 in [false, true] {
        for outer6 in [false, true] {
            for options in [false, true] {
                let mut frame = golden(inner6);
                if options {
                    frame = match inner6 {
                        false => frame.ip_options(&[7, 7, 4, 0, 0, 0, 0]),
                        true => frame.hop_by_hop().destination_options(),
                    };
                }
                let frame = frame.mss(1460).payload(b"early data").build();
                let packet = sent(&mut tunnel(inner6, outer6), &frame);
                let outer = Summary::parse_packet(&packet).expect("IP");
                let (source, server): (IpAddr, _) = if outer6 {
                    (SOURCE6.into(), rs6(1))
                } else {
                    (SOURCE.into(), rs(1))
                };
                assert_eq!((outer.source, outer.destination), (source, server));
                assert_eq!(outer.ttl, 9);
                assert_eq!(outer.tunnel, Some(Tunnel::IpIp));
                let length = if outer6 { 40 } else { 20 };
                assert_eq!(packet.len(), length + frame.len() - 14);
                let asked = Summary::parse(&frame).expect("IP");
                let inner = outer.inner.expect("IP in IP");
                let changes = asked.changes(&inner);
                let changes: Vec<_> = changes.iter().map(ToString::to_string).collect();
                assert_eq!(changes, ["TTL 10 -> 9"]);
            }
        }
    }
}

#[test]
fn padding_stays_behind_the_inner_packet() {
    let mut bench = tunnel(false, false);
    let frame = segment(40_000, SYN).padded(60).build();
    let packet = sent(&mut bench, &frame);
    assert_eq!(packet.len(), 66, "six bytes of padding came along");
    assert_eq!(packet[2..4], [0, 60], "and do not count");
}

#[test]
fn limits_are_those_inside_the_tunnel() {
    for (outer6, room) in [(false, 980), (true, 960)] {
        let mut bench = tunnel(false, outer6);
        let server = if outer6 { rs6(1) } else { rs(1) };
        let slim = NextHop {
            mtu: 1000,
            ..hop(1)
        };
        bench.set_hop(server, slim);
        let of = |length: usize| segment(40_000, SYN).payload(&vec![0; length - 40]);
        assert_eq!(bench.reason(&of(room).build()), Reason::Tunnel);
        assert_eq!(
            bench.reason(&of(room + 1).dont_fragment().build()),
            Reason::TooBig
        );
        assert_eq!(bench.scratch.mtu as usize, room);
        assert_eq!(
            bench.reason(&of(room + 1).build()),
            Reason::NeedsFragmenting
        );
        // Smaller than its own header: nothing fits, nothing breaks.
        bench.set_hop(server, NextHop { mtu: 10, ..hop(1) });
        assert_eq!(bench.reason(&of(40).build()), Reason::NeedsFragmenting);
    }
}

#[test]
fn without_headroom_the_packet_is_dropped() {
    let bench = tunnel(false, false);
    let mut scratch = Scratch::default();
    for (headroom, reason) in [(19, Reason::NoHeadroom), (20, Reason::Tunnel)] {
        let mut frame = NativeFrame::new(golden(false).build(), bench::FRONT);
        frame.headroom = headroom;
        let verdict = process(&mut frame, &bench.tables, &bench.env, &mut scratch);
        assert_eq!(verdict.reason, reason, "{headroom} bytes");
    }
}

#[test]
fn mixed_families_share_a_service() {
    let mut bench = Bench::new();
    bench.add(web(), "rr");
    bench.server(web(), real(rs(1), 80, TUNNEL, 1));
    bench.server(web(), real(rs6(2), 80, TUNNEL, 1));
    for address in [rs(1), rs6(2)] {
        bench.set_hop(address, hop(bench::number(address)));
    }
    let versions: Vec<u8> = (1..=4)
        .map(|port| {
            let (verdict, out) = bench.send(&segment(port, SYN).build());
            assert_eq!(verdict.reason, Reason::Tunnel);
            assert_eq!(verify_checksums(&out), Ok(()));
            // And the next packet of it goes the same way.
            let (_, again) = bench.send(&segment(port, ACK).build());
            assert_eq!(again[14] >> 4, out[14] >> 4);
            out[14] >> 4
        })
        .collect();
    assert_eq!(versions, [6, 4, 6, 4]);
}
