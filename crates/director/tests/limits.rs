//! Where forwarding ends: hop limits, sizes, missing ways, this host itself.

mod bench;

use bench::{BACK, CLIENT, answer, datagram, every, hop, rs, segment, v6};
use pointsman_director::{
    Action, Reason,
    control::address_words,
    model::ForwardingMethod,
    record::{NextHop, hop_flag},
};
use pointsman_wire::{
    Summary,
    tcp::{ACK, SYN},
};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;
const TUNNEL: ForwardingMethod = ForwardingMethod::Tunnel;
const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;

fn summary(frame: &[u8]) -> Summary {
    Summary::parse(frame).expect("an IP packet")
}

#[test]
fn a_reply_too_big_for_its_way_is_not_sent() {
    for (dont_fragment, reason) in [(true, Reason::TooBig), (false, Reason::NeedsFragmenting)] {
        let mut bench = every(MASQUERADE);
        bench.send(&segment(4000, SYN).build());
        let way = NextHop {
            mtu: 1000,
            ..hop(9)
        };
        bench.env.routes.insert(address_words(CLIENT.into()), way);
        let mut reply = answer(1, 8080, 4000, ACK).payload(&[0; 961]);
        if dont_fragment {
            reply = reply.dont_fragment();
        }
        assert_eq!(bench.send_by(BACK, &reply.build()).0.reason, reason);
        assert_eq!(bench.scratch.mtu, 1000);
        let fits = answer(1, 8080, 4000, ACK).payload(&[0; 960]).build();
        assert_eq!(bench.send_by(BACK, &fits).0.reason, Reason::Reply);
    }
}

#[test]
fn the_last_hop_ends_here() {
    for method in [DIRECT, TUNNEL, MASQUERADE] {
        for ttl in [0, 1] {
            let mut bench = every(method);
            let frame = segment(4000, SYN).ttl(ttl).build();
            assert_eq!(
                bench.reason(&frame),
                Reason::TtlExceeded,
                "{method:?} {ttl}"
            );
            let frame = v6().tcp(4000, 80).flags(SYN).ttl(ttl).build();
            assert_eq!(
                bench.reason(&frame),
                Reason::TtlExceeded,
                "{method:?} {ttl}"
            );
        }
        let mut bench = every(method);
        let (verdict, out) = bench.send(&segment(4000, SYN).ttl(2).build());
        assert_eq!(
            (verdict.action(), summary(&out).innermost().ttl),
            (Action::Forward, 1)
        );
    }
    let mut bench = every(MASQUERADE);
    bench.send(&segment(4000, SYN).build());
    let reply = answer(1, 8080, 4000, ACK).ttl(1).build();
    assert_eq!(bench.send_by(BACK, &reply).0.reason, Reason::TtlExceeded);
}

#[test]
fn too_big_is_told_and_fragmentable_is_handed_over() {
    for (method, room) in [(DIRECT, 1500), (MASQUERADE, 1500), (TUNNEL, 1480)] {
        let of = |length: usize| datagram(4000).payload(&vec![0; length - 28]);
        let mut bench = every(method);
        let fits = |reason| reason == bench_reason(method);
        assert!(fits(bench.reason(&of(room).build())), "{method:?}");
        assert!(
            fits(bench.reason(&of(room).dont_fragment().build())),
            "{method:?}"
        );
        assert_eq!(
            bench.reason(&of(room + 1).build()),
            Reason::NeedsFragmenting
        );
        assert_eq!(
            bench.reason(&of(room + 1).dont_fragment().build()),
            Reason::TooBig
        );
        assert_eq!(bench.scratch.mtu as usize, room, "{method:?}");
        // IPv6 outer headers take twenty bytes more.
        let room6 = if method == TUNNEL { 1460 } else { 1500 };
        let of6 = |length: usize| v6().udp(4000, 53).payload(&vec![0; length - 48]).build();
        assert!(fits(bench.reason(&of6(room6))), "{method:?}");
        assert_eq!(bench.reason(&of6(room6 + 1)), Reason::TooBig);
        assert_eq!(bench.scratch.mtu as usize, room6, "{method:?}");
    }
}

fn bench_reason(method: ForwardingMethod) -> Reason {
    match method {
        ForwardingMethod::Direct => Reason::Direct,
        ForwardingMethod::Tunnel => Reason::Tunnel,
        ForwardingMethod::Masquerade => Reason::Masquerade,
    }
}

#[test]
fn a_missing_next_hop_is_said() {
    for method in [DIRECT, TUNNEL, MASQUERADE] {
        let mut bench = every(method);
        bench.set_hop(rs(1), NextHop::default());
        assert_eq!(bench.reason(&segment(4000, SYN).build()), Reason::NoNextHop);
        bench.set_hop(rs(1), NextHop { flags: 0, ..hop(1) });
        assert_eq!(bench.reason(&segment(4000, SYN).build()), Reason::NoNextHop);
        bench.set_hop(rs(1), hop(1));
        assert_eq!(
            bench.reason(&segment(4000, SYN).build()),
            bench_reason(method)
        );
    }
}

#[test]
fn a_local_server_gets_the_packet_as_it_is() {
    let local = NextHop {
        flags: hop_flag::LOCAL,
        ..NextHop::default()
    };
    for method in [DIRECT, TUNNEL] {
        let mut bench = every(method);
        bench.set_hop(rs(1), local);
        // The hop limit does not matter here.
        let frame = segment(4000, SYN).ttl(1).build();
        let (verdict, out) = bench.send(&frame);
        assert_eq!((verdict.reason, out == frame), (Reason::LocalServer, true));
        assert_eq!(bench.counts(rs(1)), (1, 0));
    }
    let mut bench = every(MASQUERADE);
    bench.set_hop(rs(1), local);
    assert_eq!(
        bench.reason(&segment(4000, SYN).build()),
        Reason::LocalMasquerade
    );
}
