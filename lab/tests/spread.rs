//! Connections go to the real servers that the scheduler names, neither one more nor one fewer.

#[path = "support/balance.rs"]
#[allow(dead_code)]
mod balance;

use std::collections::{BTreeMap, BTreeSet};

use balance::{Hook, PATIENCE, add, build, direct, method, service};
use pointsman_lab::address::Family;
use pointsman_lab::lab::Lab;
use pointsman_lab::topology::{Kind, Options, Role};

const SERVERS: u8 = 4;
const CONNECTIONS: usize = 200;
const SOURCES: u8 = 12;

/// Scheduler, its port, weights of the servers, and what each gets of the connections of one client
/// that come one after the other.
const EXACT: &[(&str, u16, [u32; 4], [usize; 4])] = &[
    ("rr", 8001, [1, 1, 1, 1], [50, 50, 50, 50]),
    // Round robin minds weights only where they are 0.
    ("rr", 8002, [5, 0, 1, 1], [67, 0, 67, 66]),
    ("wrr", 8003, [4, 3, 2, 1], [80, 60, 40, 20]),
    ("wrr", 8004, [30, 10, 0, 10], [120, 40, 0, 40]),
    // Closed connections count as inactive, so that the least loaded takes turns.
    ("lc", 8005, [1, 1, 1, 1], [50, 50, 50, 50]),
    ("wlc", 8006, [4, 3, 2, 1], [80, 60, 40, 20]),
];

/// Schedulers that hash the client's address.
const HASHES: &[(&str, u16)] = &[("sh", 8011), ("mh", 8012)];

#[test]
fn schedulers_spread_ipv4_by_tcx() {
    spread(Hook::Tcx, Family::V4);
}

#[test]
fn schedulers_spread_ipv6_by_xdp() {
    spread(Hook::Xdp, Family::V6);
}

fn spread(hook: Hook, family: Family) {
    let options = Options {
        real_servers: SERVERS,
        client_addresses: SOURCES,
        ..hook.options()
    };
    let kind = Kind::TwoBridge;
    let ports: Vec<u16> = EXACT
        .iter()
        .map(|(_, port, ..)| *port)
        .chain(HASHES.iter().map(|(_, port)| *port))
        .collect();
    let Some(lab) = build(kind, &options, &ports) else {
        return;
    };
    let director = direct(&lab, hook, &[]);
    for (scheduler, port, weights, _) in EXACT {
        let at = service(family, *port);
        add(&director, &lab, ("-t", at, scheduler), family, |index| {
            format!("{} -w {}", method(kind), weights[index])
        });
    }
    for (scheduler, port) in HASHES {
        for letter in ["-t", "-u"] {
            let at = service(family, *port);
            add(&director, &lab, (letter, at, scheduler), family, |_| {
                method(kind).to_owned()
            });
        }
    }
    director.wait_resolved().unwrap();

    for (scheduler, port, weights, expected) in EXACT {
        let spread = lab
            .client()
            .limit(PATIENCE)
            .spread(service(family, *port), CONNECTIONS)
            .unwrap();
        assert_eq!(spread.failures, [""; 0], "{scheduler}");
        let mut found: Vec<usize> = names()
            .map(|name| spread.answers.get(&name).copied().unwrap_or(0))
            .collect();
        let mut wanted = expected.to_vec();
        if *port == 8002 {
            // Who is first in the list is not the point.
            assert_eq!(found[1], 0, "{found:?}");
            found.sort_unstable();
            wanted.sort_unstable();
        }
        assert_eq!(found, wanted, "{scheduler} with weights {weights:?}");
    }
    for (scheduler, port) in HASHES {
        let homes = homes(&lab, family, *port, 20);
        let distinct: BTreeSet<&String> = homes.values().collect();
        assert!(distinct.len() > 1, "{scheduler}: {homes:?}");
        // The same client has the same server by another protocol too: ports do not count.
        for (source, name) in &homes {
            let client = lab.client().source(source.parse().unwrap());
            let answer = client.udp(service(family, *port), b"who").unwrap();
            assert_eq!(&answer.name, name, "{scheduler} {source}");
        }
    }
    director.stop().unwrap();
}

#[test]
fn connections_at_the_same_time_are_spread_as_exactly_by_tcx() {
    at_once(Kind::TwoBridge, Hook::Tcx);
}

#[test]
fn connections_at_the_same_time_are_spread_as_exactly_by_xdp() {
    at_once(Kind::TwoBridge, Hook::Xdp);
}

#[test]
fn connections_at_the_same_time_are_masqueraded() {
    at_once(Kind::Nat, Hook::Tcx);
}

/// Fifty connections are open at any time, from all processors.
fn at_once(kind: Kind, hook: Hook) {
    let options = Options {
        real_servers: SERVERS,
        ..hook.options()
    };
    let Some(lab) = build(kind, &options, &[80]) else {
        return;
    };
    let director = direct(&lab, hook, &[]);
    for family in Family::BOTH {
        let at = service(family, 80);
        add(&director, &lab, ("-t", at, "rr"), family, |_| {
            method(kind).to_owned()
        });
    }
    director.wait_resolved().unwrap();
    for family in Family::BOTH {
        let url = format!("http://{}/", service(family, 80));
        let mut curl = lab.client().limit(PATIENCE).curl();
        curl.args(["--parallel", "--parallel-immediate", "--parallel-max", "50"])
            .args(["--header", "Connection: close", "--fail"])
            .args(std::iter::repeat_n(&url, CONNECTIONS));
        let text = lab.check(Role::Client, &mut curl).unwrap();
        for name in names() {
            let answers = text.lines().filter(|line| **line == name).count();
            assert_eq!(
                answers,
                CONNECTIONS / usize::from(SERVERS),
                "{name}: {text}"
            );
        }
    }
    let connections = director.ipvsadm("-Lnc").unwrap();
    let lines = connections.lines().filter(|line| line.starts_with("TCP"));
    assert_eq!(lines.count(), 2 * CONNECTIONS, "{connections}");
    director.stop().unwrap();
}

fn names() -> impl Iterator<Item = String> {
    (1..=SERVERS).map(|number| format!("rs{number}"))
}

/// The one server of each address of the client, over several connections of each.
fn homes(lab: &Lab, family: Family, port: u16, count: usize) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for source in lab.topology().client_addresses(family) {
        let client = lab.client().source(source).limit(PATIENCE);
        let spread = client.spread(service(family, port), count).unwrap();
        assert_eq!(spread.answers.len(), 1, "{source}: {spread:?}");
        assert_eq!(spread.answered(), count, "{source}: {spread:?}");
        let name = spread.answers.into_keys().next().unwrap();
        homes.insert(source.to_string(), name);
    }
    homes
}
