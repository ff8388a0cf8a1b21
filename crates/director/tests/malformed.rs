//! What is broken, cut or not ours: no panic, nothing changed that is passed, nothing remembered
//! of what can't be read.

mod bench;

use bench::{
    BACK, Bench, CLIENT, CLIENT_MAC, CLIENT6, DIRECTOR_MAC, FRONT, VIP, VIP6, answer, datagram,
    dns, id, real, rs, rs6, segment, web,
};
use pointsman_director::{
    Action, Reason,
    control::Mirror,
    model::{ForwardingMethod, Protocol, ServiceId},
    tables::Tables,
};
use pointsman_wire::{
    Frame, Mac,
    build::{arp_reply, arp_request},
    tcp::{ACK, SYN},
};
use proptest::prelude::*;

const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;

fn web6() -> ServiceId {
    id(Protocol::Tcp, VIP6, 80)
}

/// Services of both families; connections from port 40000 on the IPv4 ones.
fn bench() -> Bench {
    let mut bench = Bench::new();
    let methods = [
        MASQUERADE,
        ForwardingMethod::Direct,
        ForwardingMethod::Tunnel,
    ];
    for (number, method) in (1..).zip(methods) {
        let port = if method == MASQUERADE { 8080 } else { 80 };
        for (service, address) in [
            (id(Protocol::Tcp, VIP, 80), rs(number)),
            (dns(), rs(number)),
            (web6(), rs6(number)),
            (id(Protocol::Udp, VIP6, 53), rs6(number)),
        ] {
            if number == 1 {
                bench.add(service, "rr");
            }
            bench.server(service, real(address, port, method, 1));
        }
    }
    for port in 40_000..40_003 {
        bench.send(&segment(port, SYN).build());
        bench.send(&datagram(port).build());
        bench.send(&v6().tcp(port, 80).flags(SYN).build());
    }
    bench
}

fn v6() -> Frame {
    Frame::ipv6(CLIENT6, VIP6).macs(CLIENT_MAC, DIRECTOR_MAC)
}

/// Frames of every kind the director reads.
fn fixtures() -> Vec<Vec<u8>> {
    let error = |quoted: &[u8]| {
        let ip = Frame::ipv4([192, 168, 1, 254], VIP).macs(CLIENT_MAC, DIRECTOR_MAC);
        ip.icmp_error(3, 4, 1400, quoted).build()
    };
    let reply = |port| {
        Frame::ipv4(VIP, CLIENT)
            .tcp(80, port)
            .flags(ACK)
            .build_packet()
    };
    let reply6 = Frame::ipv6(VIP6, CLIENT6)
        .tcp(80, 40_000)
        .flags(ACK)
        .build_packet();
    let request = Frame::ip(std::net::IpAddr::from(CLIENT), rs(1))
        .tcp(40_002, 8080)
        .build_packet();
    vec![
        segment(50_000, SYN).mss(1460).timestamps(1, 2).build(),
        segment(50_001, SYN)
            .ip_options(&[7, 7, 4, 0, 0, 0, 0])
            .build(),
        segment(40_000, ACK).payload(b"data").build(),
        segment(40_001, ACK).service_vlan(3).vlan(5).build(),
        datagram(50_000).build(),
        datagram(40_002).vlan(5).build(),
        v6().tcp(50_000, 80).flags(SYN).build(),
        v6().hop_by_hop()
            .destination_options()
            .udp(50_000, 53)
            .build(),
        v6().routing(0, VIP6)
            .fragment(0, false)
            .tcp(40_001, 80)
            .flags(ACK)
            .build(),
        answer(1, 8080, 40_002, SYN | ACK).build(),
        error(&reply(40_000)),
        error(&reply(40_001)),
        error(&reply(40_002)),
        v6().icmp_error(2, 0, 1280, &reply6).build(),
        Frame::ip(rs(1), std::net::IpAddr::from(CLIENT))
            .macs(bench::rs_mac(1), DIRECTOR_MAC)
            .icmp_error(3, 3, 0, &request)
            .build(),
    ]
}

/// A sum over everything that packets change.
fn memory(bench: &Bench) -> u64 {
    let mut sum = 0u64;
    let mut add = |value: u64| {
        sum = sum
            .wrapping_mul(0x100_0000_01b3)
            .wrapping_add(value ^ (value >> 29));
    };
    let connections = bench.tables.connections.borrow();
    add(connections.len() as u64);
    let words = connections.values().map(|connection| {
        let word = u64::from(connection.word.load()) << 32 | u64::from(connection.packets.load());
        connection.expires.load().wrapping_mul(3) ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    add(words.fold(0, u64::wrapping_add));
    add(bench.tables.replies.borrow().len() as u64);
    for index in 0..12 {
        let counts = bench.tables.counts(index).expect("in range");
        for word in [&counts.active, &counts.inactive, &counts.flags] {
            add(word.load().into());
        }
    }
    for index in 0..4 {
        let state = Tables::scheduler_state(&bench.tables, index);
        add(state.expect("in range").0.load());
    }
    sum
}

/// Sends a frame that may be anything: what passes is unchanged, what can't be read is not
/// remembered.
fn throw(bench: &mut Bench, ifindex: u32, frame: &[u8]) -> Reason {
    let (before, connections) = (memory(bench), bench.connections());
    let (verdict, out) = bench.send_by(ifindex, frame);
    if verdict.action() == Action::Pass {
        assert_eq!(out, frame, "{:?} changed the frame", verdict.reason);
    }
    let forgets = [
        Reason::NotIp,
        Reason::NotForUs,
        Reason::Malformed,
        Reason::Fragment,
        Reason::NotBalanced,
        Reason::NoService,
        Reason::SourcePort20,
        Reason::IcmpUnrelated,
    ];
    if forgets.contains(&verdict.reason) {
        assert_eq!(memory(bench), before, "{:?} left traces", verdict.reason);
    }
    if verdict.reason == Reason::NoConnection {
        // A SYN with RST may still end one that is closing, as in the kernel.
        assert!(bench.connections() <= connections);
    }
    if verdict.action() == Action::Forward {
        assert_ne!(verdict.ifindex, 0);
        assert!(out.len() + 8 >= frame.len(), "only tags are taken away");
    } else {
        assert_eq!(verdict.ifindex, 0);
    }
    verdict.reason
}

#[test]
fn fixtures_are_forwarded() {
    for (at, frame) in fixtures().iter().enumerate() {
        let reason = throw(&mut bench(), FRONT, frame);
        let verdict = pointsman_director::Verdict::of(reason);
        assert_eq!(
            verdict.action(),
            Action::Forward,
            "fixture {at}: {reason:?}"
        );
    }
}

#[test]
fn every_truncation_passes() {
    for (at, frame) in fixtures().iter().enumerate() {
        for length in 0..frame.len() {
            let mut bench = bench();
            let reason = throw(&mut bench, FRONT, &frame[..length]);
            let verdict = pointsman_director::Verdict::of(reason);
            assert_eq!(
                verdict.action(),
                Action::Pass,
                "fixture {at} cut to {length}: {reason:?}"
            );
        }
    }
}

#[test]
fn every_single_byte_may_be_wrong() {
    for (number, frame) in fixtures().into_iter().enumerate() {
        // Every value for some of them, every bit for all.
        let all = [0, 4, 8, 9, 12].contains(&number);
        for at in 0..frame.len().min(100) {
            // What was begun on the way would make every comparison slow.
            let mut bench = bench();
            let bits = (0..8).map(|bit| frame[at] ^ (1 << bit));
            let values: Vec<u8> = if all {
                (0..=255).collect()
            } else {
                bits.collect()
            };
            for value in values {
                let mut wrong = frame.clone();
                wrong[at] = value;
                throw(&mut bench, FRONT, &wrong);
            }
        }
    }
}

#[test]
fn lengths_that_lie_are_malformed() {
    // Total length beyond the frame, below the header, header length below five words.
    let tcp = segment(50_000, SYN).build();
    for (at, bytes) in [
        (16, &[0, 41][..]),
        (16, &[0xff, 0xff]),
        (16, &[0, 19]),
        (16, &[0, 39]),
        (14, &[0x44]),
        (14, &[0x65]),
        // TCP's data offset: below five words, beyond the packet.
        (46, &[0x40]),
        (46, &[0x60]),
    ] {
        let mut frame = tcp.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(
            throw(&mut bench(), FRONT, &frame),
            Reason::Malformed,
            "{at} {bytes:?}"
        );
    }
    let udp = datagram(50_000).build();
    for length in [[0, 0], [0, 7], [0, 17], [0xff, 0xff]] {
        let mut frame = udp.clone();
        frame[38..40].copy_from_slice(&length);
        assert_eq!(
            throw(&mut bench(), FRONT, &frame),
            Reason::Malformed,
            "UDP of {length:?}"
        );
    }
    // An extension header that reaches beyond the packet, and more of them than are walked.
    let mut frame = v6().hop_by_hop().udp(50_000, 53).build();
    frame[55] = 9;
    assert_eq!(throw(&mut bench(), FRONT, &frame), Reason::Malformed);
    let mut many = v6();
    for _ in 0..6 {
        many = many.destination_options();
    }
    let frame = many.clone().udp(50_000, 53).build();
    assert_eq!(throw(&mut bench(), FRONT, &frame), Reason::Tunnel);
    let frame = many.destination_options().udp(50_000, 53).build();
    assert_eq!(throw(&mut bench(), FRONT, &frame), Reason::NotBalanced);
}

#[test]
fn headers_far_from_the_start_are_left_alone() {
    // Extension headers push the transport header to where programs can't see all of it.
    for method in [MASQUERADE, ForwardingMethod::Direct] {
        for body in (862..=1006).step_by(8) {
            let mut bench = Bench::single(web6(), rs6(1), 8080, method);
            let frame = v6()
                .extension(60, &vec![0; body])
                .tcp(50_000, 80)
                .flags(SYN)
                .build();
            let reason = throw(&mut bench, FRONT, &frame);
            if reason == Reason::Malformed {
                assert_eq!(bench.connections(), 0);
                continue;
            }
            // Where one is forwarded, all its packets are, and errors about them.
            let frame = v6()
                .extension(60, &vec![0; body])
                .tcp(50_000, 80)
                .flags(ACK)
                .build();
            assert_eq!(throw(&mut bench, FRONT, &frame), reason);
        }
    }
    for body in (800..=960).step_by(8) {
        let mut bench = Bench::single(web6(), rs6(1), 8080, MASQUERADE);
        bench.send(&v6().tcp(40_000, 80).flags(SYN).build());
        let far = vec![0; body];
        let reply = Frame::ipv6(VIP6, CLIENT6)
            .extension(60, &far)
            .tcp(80, 40_000);
        let error = v6().icmp_error(2, 0, 1280, &reply.build_packet()).build();
        let reason = throw(&mut bench, FRONT, &error);
        assert!(
            [Reason::RelatedIn, Reason::IcmpUnrelated].contains(&reason),
            "{reason:?}"
        );
        let client = std::net::IpAddr::from(CLIENT6);
        let request = Frame::ip(client, rs6(1))
            .extension(60, &far)
            .tcp(40_000, 8080);
        let error = Frame::ip(rs6(1), client).macs(CLIENT_MAC, DIRECTOR_MAC);
        let error = error
            .icmp_error(2, 0, 1280, &request.build_packet())
            .build();
        let reason = throw(&mut bench, BACK, &error);
        assert!(
            [Reason::RelatedOut, Reason::IcmpUnrelated].contains(&reason),
            "{reason:?}"
        );
    }
}

#[test]
fn foreign_traffic_passes_untouched() {
    let mut bench = bench();
    let other = [192, 168, 1, 101];
    let to_other = || Frame::ipv4(CLIENT, other).macs(CLIENT_MAC, DIRECTOR_MAC);
    let to_vip = || Frame::ipv4(CLIENT, VIP).macs(CLIENT_MAC, DIRECTOR_MAC);
    let group = Mac([0x33, 0x33, 0, 0, 0, 1]);
    for (frame, reason) in [
        (arp_request(CLIENT_MAC, CLIENT, VIP), Reason::NotIp),
        (
            arp_reply(CLIENT_MAC, CLIENT, DIRECTOR_MAC, VIP),
            Reason::NotIp,
        ),
        (to_other().tcp(1, 80).flags(SYN).build(), Reason::NoService),
        (to_other().udp(1, 53).build(), Reason::NoService),
        (to_vip().tcp(1, 81).flags(SYN).build(), Reason::NoService),
        (to_vip().udp(1, 80).build(), Reason::NoService),
        (to_vip().tcp(1, 53).flags(SYN).build(), Reason::NoService),
        (to_vip().sctp(1, 80, 0).build(), Reason::Malformed),
        (
            to_vip().sctp(1, 80, 0).payload(&[1, 0, 0, 4]).build(),
            Reason::NoService,
        ),
        (
            to_vip().protocol(112).payload(&[0; 20]).build(),
            Reason::NotBalanced,
        ),
        (
            to_vip().protocol(58).payload(&[0; 20]).build(),
            Reason::NotBalanced,
        ),
        (
            v6().protocol(1).payload(&[0; 20]).build(),
            Reason::NotBalanced,
        ),
        (
            to_vip()
                .macs(CLIENT_MAC, CLIENT_MAC)
                .tcp(1, 80)
                .flags(SYN)
                .build(),
            Reason::NotForUs,
        ),
        (
            to_vip().macs(CLIENT_MAC, Mac::BROADCAST).udp(1, 53).build(),
            Reason::NotForUs,
        ),
        (
            v6().macs(CLIENT_MAC, group).udp(1, 53).build(),
            Reason::NotForUs,
        ),
        (
            answer(1, 8080, 39_999, SYN | ACK).build(),
            Reason::NoService,
        ),
        (segment(41_000, ACK).build(), Reason::NoConnection),
    ] {
        assert_eq!(throw(&mut bench, FRONT, &frame), reason);
    }
    // By a device that the director is not attached to.
    assert_eq!(
        throw(&mut bench, 99, &segment(1, SYN).build()),
        Reason::NotForUs
    );
    // Three tags are no longer read.
    let tagged = segment(1, SYN).vlan(1).vlan(2).vlan(3).build();
    assert_eq!(throw(&mut bench, FRONT, &tagged), Reason::NotIp);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn noise_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        throw(&mut bench(), FRONT, &bytes);
    }

    #[test]
    fn noise_behind_a_good_start_does_no_harm(
        fixture in 0..15usize,
        keep in 14..80usize,
        noise in prop::collection::vec(any::<u8>(), 0..120),
    ) {
        let mut frame = fixtures()[fixture].clone();
        frame.truncate(keep);
        frame.extend(noise);
        throw(&mut bench(), FRONT, &frame);
    }

    #[test]
    fn several_wrong_bytes_do_no_harm(
        fixture in 0..15usize,
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        back in any::<bool>(),
    ) {
        let mut frame = fixtures()[fixture].clone();
        for (at, value) in wrong {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        throw(&mut bench(), if back { BACK } else { FRONT }, &frame);
    }
}

#[test]
fn a_full_table_stops_new_connections_only() {
    for (scheduler, method, reason) in [
        ("rr", ForwardingMethod::Direct, Reason::TableFull),
        ("sh", MASQUERADE, Reason::TableFull),
        ("sh", ForwardingMethod::Direct, Reason::Stateless),
        ("mh", ForwardingMethod::Tunnel, Reason::Stateless),
    ] {
        let mut bench = Bench::new();
        bench.add(web(), scheduler);
        bench.server(web(), real(rs(1), 80, method, 1));
        bench.tables.connection_limit = 2;
        for port in 1..=2 {
            let verdict = bench.send(&segment(port, SYN).build()).0;
            assert_eq!(verdict.action(), Action::Forward);
            assert_ne!(verdict.reason, Reason::Stateless);
        }
        assert_eq!(
            throw(&mut bench, FRONT, &segment(3, SYN).build()),
            reason,
            "{scheduler}"
        );
        assert_eq!((bench.connections(), bench.counts(rs(1))), (2, (2, 0)));
        // Later packets of a flow without a connection follow it once the daemon says so.
        assert_eq!(bench.reason(&segment(3, ACK).build()), Reason::NoConnection);
        let full = pointsman_director::record::settings_flag::TABLE_FULL;
        bench.settings(|settings| settings.flags |= full);
        let expected = match reason {
            Reason::Stateless => Reason::Stateless,
            _ => Reason::NoConnection,
        };
        assert_eq!(
            bench.reason(&segment(3, ACK).build()),
            expected,
            "{scheduler} {method:?}"
        );
        let stats = Mirror::stats(&mut bench.tables, 0).expect("in range");
        assert_eq!(stats.connections, 2, "those remembered");
        // The established go on.
        let verdict = bench.send(&segment(1, ACK).build()).0;
        assert_eq!(verdict.action(), Action::Forward);
        assert_ne!(verdict.reason, Reason::Stateless);
    }
}

#[test]
fn without_room_for_its_replies_a_connection_does_not_begin() {
    let mut bench = Bench::single(web(), rs(1), 8080, MASQUERADE);
    bench.tables.reply_limit = 1;
    assert_eq!(bench.reason(&segment(1, SYN).build()), Reason::Masquerade);
    assert_eq!(
        throw(&mut bench, FRONT, &segment(2, SYN).build()),
        Reason::TableFull
    );
    assert_eq!((bench.connections(), bench.counts(rs(1))), (1, (1, 0)));
    // A retransmission is no better off while there is no room, and then it is.
    assert_eq!(bench.reason(&segment(2, SYN).build()), Reason::TableFull);
    bench.tables.reply_limit = 2;
    assert_eq!(bench.reason(&segment(2, SYN).build()), Reason::Masquerade);
    let reply = answer(1, 8080, 2, SYN | ACK).build();
    assert_eq!(bench.send_by(BACK, &reply).0.reason, Reason::Reply);
}
