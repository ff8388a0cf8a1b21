//! Upper and lower thresholds: when a server is overloaded, and until when.

mod bench;

use bench::{Bench, CLIENT, real, rs, segment, syn_of, web};
use pointsman_director::{Reason, model::ForwardingMethod};
use pointsman_wire::tcp::{ACK, RST};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;

/// Whether SYNs from these ports are accepted, `+` or `-`.
fn accepted(bench: &mut Bench, ports: std::ops::Range<u16>) -> String {
    ports
        .map(|port| match bench.reason(&syn_of(CLIENT.into(), port)) {
            Reason::Direct => '+',
            Reason::NoDestination => '-',
            other => panic!("{other:?}"),
        })
        .collect()
}

fn limited(upper: u32, lower: u32) -> Bench {
    let mut bench = Bench::balanced("wlc", &[]);
    let mut server = real(rs(1), 80, DIRECT, 1);
    (server.upper, server.lower) = (upper, lower);
    bench.server(web(), server);
    bench
}

#[test]
fn an_upper_threshold_counts_every_connection() {
    let mut bench = limited(3, 0);
    assert_eq!(accepted(&mut bench, 1..5), "+++-");
    // RST in SYN_RECV changes nothing.
    bench.send(&segment(1, RST).build());
    assert_eq!(accepted(&mut bench, 4..5), "-");
    // Established and reset: closed, but it counts for its ten seconds.
    bench.send(&segment(1, ACK).build());
    bench.send(&segment(1, RST).build());
    assert_eq!(
        (bench.counts(rs(1)), accepted(&mut bench, 4..5)),
        ((2, 1), "-".to_owned())
    );
    bench.wait(10);
    bench.sweep();
    assert_eq!(bench.counts(rs(1)), (2, 0));
    // 2 * 4 < 3 * 3: exactly one more.
    assert_eq!(accepted(&mut bench, 4..6), "+-");
}

#[test]
fn a_lower_threshold_says_when_to_resume() {
    let mut bench = limited(4, 2);
    assert_eq!(accepted(&mut bench, 1..6), "++++-");
    for port in 1..=3 {
        bench.send(&segment(port, ACK).build());
        bench.send(&segment(port, RST).build());
        bench.wait(10);
        bench.sweep();
        let total = bench.counts(rs(1));
        let expected = if port == 3 { "+" } else { "-" };
        assert_eq!(accepted(&mut bench, 100..101), expected, "{total:?} left");
    }
}

#[test]
fn an_edit_lifts_the_overload() {
    for (upper, lifted) in [(0, true), (3, true), (2, false), (1, false)] {
        let mut bench = limited(2, 0);
        assert_eq!(accepted(&mut bench, 1..4), "++-");
        let mut server = real(rs(1), 80, DIRECT, 1);
        server.upper = upper;
        bench.edit(web(), server);
        let expected = if lifted { "+" } else { "-" };
        assert_eq!(accepted(&mut bench, 4..5), expected, "upper {upper}");
    }
}

#[test]
fn thresholds_do_not_touch_what_goes_on() {
    let mut bench = limited(1, 0);
    assert_eq!(accepted(&mut bench, 1..3), "+-");
    assert_eq!(bench.reason(&segment(1, ACK).build()), Reason::Direct);
}
