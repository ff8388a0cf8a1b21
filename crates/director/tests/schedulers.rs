//! Which server takes a new connection: the sequences and tables that kernels were seen to give.

mod bench;

use bench::{Bench, CLIENT6, VIP6, id, real, rs, rs6, service, syn_of, web};
use pointsman_director::{
    Reason,
    control::address_words,
    model::{Change, ForwardingMethod, Protocol},
    schedule::{Scheduler, maglev_table, source_table},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;

/// Picks of SYNs, one connection each, all kept.
fn assert_picks(scheduler: &str, weights: &[i32], expected: &str) {
    let expected: String = expected.split_whitespace().collect();
    let mut bench = Bench::balanced(scheduler, weights);
    let got = bench.picks(1024, expected.len());
    assert_eq!(got, expected, "{scheduler} {weights:?}");
}

#[test]
fn golden_sequences() {
    for (scheduler, weights, expected) in [
        ("rr", [1, 1, 1], "321 321 321"),
        ("rr", [1, 2, 3], "321 321"),
        ("rr", [3, 2, 1], "321 321"),
        ("rr", [5, 1, 1], "321 321"),
        ("rr", [2, 0, 1], "31 31 31"),
        ("wrr", [1, 1, 1], "321 321"),
        ("wrr", [1, 2, 3], "3 2 1 3 3 2 3 2 1 3 3 2 3 2"),
        ("wrr", [3, 2, 1], "3 2 1 1 2 1 3 2 1 1 2 1 3 2"),
        ("wrr", [5, 1, 1], "3 2 1 1 1 1 1 3 2 1 1 1 1 1"),
        ("wrr", [2, 0, 1], "3 1 1 3 1 1 3 1 1"),
        ("lc", [1, 1, 1], "321 321"),
        ("lc", [1, 2, 3], "321 321"),
        ("lc", [3, 2, 1], "321 321"),
        ("lc", [5, 1, 1], "321 321"),
        ("lc", [2, 0, 1], "31 31 31"),
        ("wlc", [1, 1, 1], "321 321"),
        ("wlc", [1, 2, 3], "3 2 1 3 2 3 3 2 1 3 2 3 3 2"),
        ("wlc", [3, 2, 1], "3 2 1 1 2 1 3 2 1 1 2 1 3 2"),
        ("wlc", [5, 1, 1], "3 2 1 1 1 1 1 3 2 1 1 1 1 1"),
        ("wlc", [2, 0, 1], "3 1 1 3 1 1 3 1 1"),
        ("sed", [1, 1, 1], "321 321"),
        ("sed", [1, 2, 3], "3 2 3 3 2 1 3 2 3 3 2 1 3 2"),
        ("sed", [3, 2, 1], "1 2 1 3 2 1 1 2 1 3 2 1 1 2"),
        ("sed", [5, 1, 1], "1 1 1 1 3 2 1 1 1 1 1 3 2 1"),
        ("sed", [2, 0, 1], "1 3 1 1 3 1 1 3 1"),
        ("nq", [1, 1, 1], "321 321"),
        ("nq", [1, 2, 3], "3 2 1 3 3 2 3 2 3 3 2 1 3 2"),
        ("nq", [3, 2, 1], "3 2 1 1 2 1 1 2 1 3 2 1 1 2"),
        ("nq", [5, 1, 1], "3 2 1 1 1 1 1 1 1 1 1 3 2 1"),
        ("nq", [2, 0, 1], "3 1 1 1 3 1 1 3 1"),
        ("fo", [1, 1, 1], "3333"),
        ("fo", [1, 2, 3], "3333"),
        ("fo", [3, 2, 1], "1111"),
        ("fo", [5, 1, 1], "1111"),
        ("fo", [2, 0, 1], "1111"),
        ("ovf", [1, 1, 1], "3 3 2 2 1 1 - -"),
        ("ovf", [1, 2, 3], "3 3 3 3 2 2 2 1 1 -"),
        ("ovf", [3, 2, 1], "1 1 1 1 2 2 2 3 3 -"),
        ("ovf", [5, 1, 1], "1 1 1 1 1 1 3 3 2 2 -"),
        ("ovf", [2, 0, 1], "1 1 1 3 3 -"),
        ("lblc", [1, 1, 1], "3 3 2 2 1 1 1 1 1"),
        ("lblc", [1, 2, 3], "3 3 3 3 2 2 2 1 1 1 1"),
        ("lblc", [3, 2, 1], "3 3 2 2 2 1 1 1 1"),
        ("lblcr", [1, 1, 1], "3 3 2 2 1 1 1 2 3 1 2 3 1 2 3 1"),
        ("lblcr", [1, 2, 3], "3 3 3 3 2 2 2 1 1 3 2 3 1 2 3 3"),
        ("lblcr", [3, 2, 1], "3 3 2 2 2 1 1 1 1 1 2 1 1 2 3 1"),
        ("rr", [0, 1, 1], "3 2 3 2"),
        ("rr", [1, 1, 0], "2 1 2 1"),
        ("wrr", [0, 1, 1], "3 2 3 2"),
        ("wrr", [1, 1, 0], "2 1 2 1"),
        ("lc", [0, 1, 1], "3 2 3 2"),
        ("lc", [1, 1, 0], "2 1 2 1"),
        ("wlc", [0, 1, 1], "3 2 3 2"),
        ("wlc", [1, 1, 0], "2 1 2 1"),
        ("wrr", [4, 3, 2], "3 2 1 1 2 1 3 2 1  3 2 1 1 2 1 3 2 1"),
    ] {
        assert_picks(scheduler, &weights, expected);
    }
}

#[test]
fn wrr_after_edits() {
    let mut bench = Bench::balanced("wrr", &[4, 2, 2]);
    assert_eq!(bench.picks(1024, 8), "32113211");
    bench.edit(web(), real(rs(1), 80, DIRECT, 1));
    assert_eq!(bench.picks(2048, 10), "3232132321");
}

#[test]
fn rr_after_delete_and_return() {
    let mut bench = Bench::balanced("rr", &[1, 1, 1]);
    assert_eq!(bench.picks(1024, 4), "3213");
    bench.delete(web(), rs(3), 80);
    assert_eq!(bench.picks(2048, 4), "2121");
    bench.server(web(), real(rs(3), 80, DIRECT, 1));
    assert_eq!(bench.picks(3072, 4), "3213");
}

#[test]
fn closed_connections_still_weigh_a_little() {
    for (scheduler, expected) in [
        ("lc", "321321"),
        ("wlc", "321321"),
        ("sed", "333333"),
        ("nq", "333333"),
    ] {
        let mut bench = Bench::balanced(scheduler, &[1, 1, 1]);
        let mut got = String::new();
        for port in 1024..1030 {
            got += &bench.picks(port, 1);
            for flags in [0x10, 0x14] {
                bench.send(&bench::segment(port, flags).build());
            }
        }
        assert_eq!(got, expected, "{scheduler}");
    }
}

#[test]
fn thresholds_stop_every_scheduler() {
    for (scheduler, expected) in [
        ("rr", "321321--"),
        ("wrr", "321321--"),
        ("lc", "321321--"),
        ("wlc", "321321--"),
        ("sed", "321321--"),
        ("nq", "321321--"),
        ("fo", "332211--"),
        ("ovf", "332211--"),
        // The server that is remembered is not asked for its threshold.
        ("lblc", "33221111"),
        ("lblcr", "332211--"),
    ] {
        let mut bench = Bench::balanced(scheduler, &[]);
        for number in 1..=3 {
            let mut server = real(rs(number), 80, DIRECT, 1);
            server.upper = 2;
            bench.server(web(), server);
        }
        assert_eq!(bench.picks(1024, 8), expected, "{scheduler}");
    }
    // One client: the same server each time, then none, as there is no fallback.
    let mut bench = Bench::balanced("sh", &[]);
    for number in 1..=3 {
        let mut server = real(rs(number), 80, DIRECT, 1);
        server.upper = 2;
        bench.server(web(), server);
    }
    let picks: Vec<_> = (0..4)
        .map(|port| bench.pick(&syn_of(Ipv4Addr::new(192, 168, 2, 21).into(), 1024 + port)))
        .collect();
    let none = Err(Reason::NoDestination);
    assert_eq!(picks, [Ok(1), Ok(1), none, none]);
}

#[test]
fn nothing_to_choose_is_no_destination() {
    for scheduler in Scheduler::ALL {
        for weights in [&[][..], &[0], &[0, 0, 0]] {
            assert_picks(scheduler.name(), weights, "--");
        }
        for flags in [" fallback", " port fallback"] {
            assert_picks(&format!("{}{flags}", scheduler.name()), &[0, 0], "--");
        }
    }
}

#[test]
fn a_new_scheduler_begins_anew() {
    let mut bench = Bench::balanced("rr", &[1, 2, 3]);
    assert_eq!(bench.picks(1024, 2), "32");
    let service = bench::service(web(), "wrr");
    bench
        .apply(&Change::EditService { service })
        .expect("valid");
    // As when the kernel initialises wrr over a full list: the level starts at the top.
    assert_eq!(bench.picks(2048, 8), "33232133");
    let service = bench::service(web(), "rr");
    bench
        .apply(&Change::EditService { service })
        .expect("valid");
    assert_eq!(bench.picks(3072, 3), "321");
    assert_eq!(bench.picks(3272, 1), "3");
    // The same scheduler again: its state stays.
    let service = bench::service(web(), "rr");
    bench
        .apply(&Change::EditService { service })
        .expect("valid");
    assert_eq!(bench.picks(3372, 3), "213");
}

/// 192.168.{1.20, 2.21, 3.22, 1.23, ...}
fn clients() -> impl Iterator<Item = IpAddr> {
    (0..12).map(|i| Ipv4Addr::new(192, 168, 1 + i % 3, 20 + i).into())
}

fn assert_hash(
    mut bench: Bench,
    clients: impl Iterator<Item = IpAddr>,
    (port, step): (u16, u16),
    expected: &str,
) {
    let got: String = clients
        .zip((port..).step_by(step.into()))
        .take(expected.split_whitespace().count())
        .map(|(client, port)| match bench.pick(&syn_of(client, port)) {
            Ok(number) => format!("r{number} "),
            Err(Reason::NoDestination) => "- ".to_owned(),
            Err(reason) => panic!("{reason:?}"),
        })
        .collect();
    assert_eq!(got.trim(), expected);
}

#[test]
fn source_hash_vectors() {
    assert_hash(
        Bench::balanced("sh", &[1, 1, 1]),
        clients(),
        (1024, 1),
        "r2 r1 r2 r3 r1 r1 r3 r3 r2 r2 r1 r1",
    );
    assert_hash(
        Bench::balanced("sh port", &[1, 2, 5]),
        clients(),
        (30_000, 7),
        "r2 r3 r3 r3 r1 r2 r3 r3 r3 r2 r3 r3",
    );
    let neighbours = || (20..=27).map(|last| IpAddr::from([192, 168, 1, last]));
    assert_hash(
        Bench::balanced("sh", &[1, 0, 1]),
        neighbours(),
        (1024, 1),
        "- r1 - r3 r3 r1 r3 r1",
    );
    assert_hash(
        Bench::balanced("sh fallback", &[1, 0, 1]),
        neighbours(),
        (1024, 1),
        "r1 r1 r1 r3 r3 r1 r3 r1",
    );
}

#[test]
fn source_hash_vectors_of_ipv6() {
    let web = id(Protocol::Tcp, VIP6, 80);
    let mut bench = Bench::new();
    bench.add(web, "sh");
    for number in 1..=3 {
        bench.server(web, real(rs6(number), 80, DIRECT, 1));
    }
    let clients = (0..10).map(|i| {
        let mut words = CLIENT6.segments();
        words[7] = 0x1000 + i;
        IpAddr::from(Ipv6Addr::from(words))
    });
    assert_hash(bench, clients, (1024, 1), "r1 r3 r2 r3 r2 r3 r1 r1 r2 r1");
}

#[test]
fn maglev_vectors() {
    for (weights, expected) in [
        ([1, 1, 1], "r3 r1 r2 r1 r1 r1 r3 r3 r1 r3"),
        ([1, 2, 5], "r3 r3 r2 r3 r1 r3 r3 r3 r3 r3"),
        ([100, 200, 1], "r2 r2 r2 r1 r1 r1 r2 r2 r1 r2"),
        ([1000, 7, 3], "r1 r1 r1 r1 r1 r1 r1 r1 r1 r1"),
    ] {
        assert_hash(Bench::balanced("mh", &weights), clients(), (1, 1), expected);
    }
    let mut bench = Bench::balanced("mh port fallback", &[1, 1, 1]);
    bench.edit(web(), real(rs(2), 80, DIRECT, 0));
    assert_hash(
        bench,
        clients(),
        (31_000, 3),
        "r1 r1 r3 r3 r3 r1 r1 r1 r3 r1",
    );
}

/// The table of r1, r2, r3 with these weights, as server numbers.
fn maglev(weights: [i32; 3]) -> Vec<u8> {
    let servers: Vec<_> = (1..=3)
        .rev()
        .map(|n| {
            (
                address_words(rs(n)),
                80u16.to_be(),
                weights[usize::from(n) - 1],
            )
        })
        .collect();
    let table = maglev_table(&servers);
    table.iter().map(|position| 3 - *position as u8).collect()
}

#[test]
fn maglev_tables_are_the_kernels() {
    let start = &maglev([1, 1, 1])[..16];
    assert_eq!(start, [3, 1, 1, 2, 1, 1, 3, 1, 1, 2, 2, 1, 2, 2, 1, 3]);
    for (weights, slots) in [
        ([1, 1, 1], [1364, 1364, 1365]),
        ([1, 2, 5], [511, 1022, 2560]),
        ([100, 200, 1], [1339, 2700, 54]),
        ([1000, 7, 3], [3965, 64, 64]),
    ] {
        let table = maglev(weights);
        let count = |n| table.iter().filter(|entry| **entry == n).count();
        assert_eq!([1, 2, 3].map(count), slots, "{weights:?}");
    }
}

#[test]
fn weight_0_does_not_reshuffle_maglev() {
    let mut bench = Bench::balanced("mh", &[1, 1, 1]);
    bench.edit(web(), real(rs(2), 80, DIRECT, 0));
    // Row 1 of the vectors; r2's clients find nobody.
    assert_hash(bench, clients(), (1, 1), "r3 r1 - r1 r1 r1 r3 r3 r1 r3");
}

#[test]
fn source_tables_give_each_its_weight() {
    // r3 (5), r2 (2), r1 (1), newest first.
    let table = source_table(&[5, 2, 1]);
    assert_eq!(table.len(), 256);
    assert_eq!(table[..9], [0, 0, 0, 0, 0, 1, 1, 2, 0]);
    assert_eq!(source_table(&[0, 3])[..5], [0, 1, 1, 1, 0]);
    assert!(source_table(&[]).is_empty());
}

#[test]
fn none_takes_no_connection() {
    let mut bench = Bench::balanced("none", &[1, 1]);
    assert_eq!(bench.picks(1, 2), "--");
    let service = service(web(), "rr");
    bench
        .apply(&Change::EditService { service })
        .expect("the edit is valid");
    assert_eq!(bench.picks(1, 2), "21");
}
