//! Traffic through `pointsman run`: every forwarding method by every hook, in both families, by TCP
//! and UDP, compared byte for byte and count for count.
//!
//! | lab | method | tcx | XDP |
//! |---|---|---|---|
//! | two-bridge, one-leg | direct routing | yes | with the switch's ports as wires |
//! | tunnel | IP in IP, also of the other family | yes | with the switch's ports as wires |
//! | nat | masquerade | yes | with the switch's ports as wires |
//!
//! Native XDP on a plain veth is no pair: what local senders hand over has its checksums pending, and
//! XDP loses the mark when it sends such a frame on. `--hook auto` declines it, which
//! `auto_declines_xdp_on_veth_and_says_why` checks; the labs for XDP have ports that complete frames
//! where they would meet the wire. Offloads of clients and real servers stay on everywhere.

#[path = "support/balance.rs"]
#[allow(dead_code)]
mod balance;

use std::collections::BTreeMap;

use balance::{Hook, PATIENCE, add, build, direct, method, service};
use pointsman_lab::address::{Family, vip};
use pointsman_lab::director::Director;
use pointsman_lab::lab::Lab;
use pointsman_lab::topology::{Kind, Options};
use serde_json::Value;

const MEGABYTES: usize = 10_000_000;

#[test]
fn direct_routing_by_tcx_over_two_networks() {
    exercise(Kind::TwoBridge, Hook::Tcx);
}

#[test]
fn direct_routing_by_tcx_on_one_network() {
    exercise(Kind::OneLeg, Hook::Tcx);
}

#[test]
fn tunnels_by_tcx() {
    exercise(Kind::Tunnel, Hook::Tcx);
}

#[test]
fn masquerade_by_tcx() {
    exercise(Kind::Nat, Hook::Tcx);
}

#[test]
fn direct_routing_by_xdp_over_two_networks() {
    exercise(Kind::TwoBridge, Hook::Xdp);
}

#[test]
fn direct_routing_by_xdp_on_one_network() {
    exercise(Kind::OneLeg, Hook::Xdp);
}

#[test]
fn tunnels_by_xdp() {
    exercise(Kind::Tunnel, Hook::Xdp);
}

#[test]
fn masquerade_by_xdp() {
    exercise(Kind::Nat, Hook::Xdp);
}

/// Both families by both protocols through one lab, then the counters.
fn exercise(kind: Kind, hook: Hook) {
    let options = Options {
        // Room for an outer IPv6 header; what happens without is a test of its own.
        fabric_mtu: if kind == Kind::Tunnel { 1560 } else { 1500 },
        ..hook.options()
    };
    let Some(lab) = build(kind, &options, &[80]) else {
        return;
    };
    let director = direct(&lab, hook, &[]);
    for family in Family::BOTH {
        for letter in ["-t", "-u"] {
            let at = service(family, 80);
            add(&director, &lab, (letter, at, "rr"), family, |_| {
                method(kind).to_owned()
            });
        }
    }
    director.wait_resolved().unwrap();
    for family in Family::BOTH {
        carry(&lab, kind, family);
    }
    count(&director, kind);
    director.stop().unwrap();
}

/// Questions by UDP, by length.
const QUESTIONS: [usize; 6] = [0, 1, 5, 100, 1000, 1400];
/// Connections of TCP: one of 1 byte and one of 10 MB each way, then the spread.
const TRANSFERS: u64 = 4;
const SPREAD: usize = 30;

fn carry(lab: &Lab, kind: Kind, family: Family) {
    let at = service(family, 80);
    let client = lab.client().limit(PATIENCE);
    client.download(at, 1).unwrap();
    client.echo(at, 1).unwrap();
    client.download(at, MEGABYTES).unwrap();
    client.echo(at, MEGABYTES).unwrap();

    let spread = client.spread(at, SPREAD).unwrap();
    let even: BTreeMap<String, usize> = (1..=3).map(|n| (format!("rs{n}"), SPREAD / 3)).collect();
    assert_eq!(spread.answers, even, "{kind} {family:?}: {spread:?}");

    let mut names = BTreeMap::<String, usize>::new();
    for length in QUESTIONS {
        let question = vec![b'q'; length];
        let answer = client.udp(at, &question).unwrap();
        assert_eq!((answer.from, &answer.echo), (at, &question));
        *names.entry(answer.name).or_default() += 1;
    }
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.values().all(|count| *count == 2), "{names:?}");
}

/// What services, real servers and verdicts say must fit what was sent, and each other.
fn count(director: &Director<'_>, kind: Kind) {
    let (mut forward, mut back) = (0, 0);
    let services = director.services().unwrap();
    assert_eq!(services.len(), 4);
    for view in &services {
        let header = match view["service"]["id"].to_string().contains("fd00:7::33") {
            true => 48,
            false => 28,
        };
        let stats = |view: &Value, name: &str| view["stats"][name].as_u64().unwrap();
        let of_servers = |name: &str| -> u64 {
            let servers = view["servers"].as_array().unwrap();
            servers.iter().map(|server| stats(server, name)).sum()
        };
        for name in [
            "connections",
            "in_packets",
            "in_bytes",
            "out_packets",
            "out_bytes",
        ] {
            assert_eq!(stats(view, name), of_servers(name), "{name} of {view}");
        }
        let udp = view["service"]["id"]
            .to_string()
            .to_lowercase()
            .contains("udp");
        let asked: usize = QUESTIONS.iter().map(|length| length + header).sum();
        let named: usize = QUESTIONS.iter().map(|length| length + header + 4).sum();
        if udp {
            assert_eq!(stats(view, "connections"), QUESTIONS.len() as u64);
            assert_eq!(stats(view, "in_packets"), QUESTIONS.len() as u64);
            assert_eq!(stats(view, "in_bytes"), asked as u64, "{view}");
        } else {
            assert_eq!(stats(view, "connections"), TRANSFERS + SPREAD as u64);
            assert!(stats(view, "in_bytes") > MEGABYTES as u64);
        }
        if kind == Kind::Nat {
            if udp {
                assert_eq!(stats(view, "out_packets"), QUESTIONS.len() as u64);
                assert_eq!(stats(view, "out_bytes"), named as u64);
            } else {
                assert!(stats(view, "out_bytes") > MEGABYTES as u64);
            }
        } else {
            assert_eq!(stats(view, "out_packets"), 0, "answers do not pass here");
        }
        forward += stats(view, "in_packets");
        back += stats(view, "out_packets");
    }
    let verdicts = director.verdicts().unwrap();
    let (name, others) = match kind {
        Kind::TwoBridge | Kind::OneLeg => ("direct", ["tunnel", "masquerade"]),
        Kind::Tunnel => ("tunnel", ["direct", "masquerade"]),
        Kind::Nat => ("masquerade", ["direct", "tunnel"]),
    };
    assert_eq!(verdicts[name], forward, "{verdicts:?}");
    assert_eq!(verdicts["reply"], back, "{verdicts:?}");
    for other in others {
        assert_eq!(verdicts[other], 0, "{verdicts:?}");
    }
    list(director, kind);
}

/// The same as an operator sees it.
fn list(director: &Director<'_>, kind: Kind) {
    let stats = director.ipvsadm("-Ln --stats --exact").unwrap();
    let lines: Vec<Vec<&str>> = stats
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    for (protocol, connections) in [
        ("TCP", TRANSFERS + SPREAD as u64),
        ("UDP", QUESTIONS.len() as u64),
    ] {
        for family in Family::BOTH {
            let at = service(family, 80).to_string();
            let line = lines
                .iter()
                .find(|words| words.starts_with(&[protocol, &at]))
                .unwrap_or_else(|| panic!("no {protocol} {at} in\n{stats}"));
            assert_eq!(line[2], connections.to_string(), "{stats}");
        }
    }
    let shown = director.ipvsadm("-Lnc").unwrap();
    for (protocol, connections) in [
        ("TCP", 2 * (TRANSFERS as usize + SPREAD)),
        ("UDP", 2 * QUESTIONS.len()),
    ] {
        let found = shown.lines().filter(|line| line.starts_with(protocol));
        assert_eq!(found.count(), connections, "{kind}:\n{shown}");
    }
    let vip = format!("{}:80", vip(Family::V4));
    assert!(shown.contains(&vip) && !shown.contains("NONE"), "{shown}");
}

#[test]
fn tunnels_of_the_other_family_by_tcx() {
    cross_families(Hook::Tcx);
}

#[test]
fn tunnels_of_the_other_family_by_xdp() {
    cross_families(Hook::Xdp);
}

/// A VIP of one family whose real servers are reached by the other.
fn cross_families(hook: Hook) {
    let options = Options {
        fabric_mtu: 1560,
        ..hook.options()
    };
    let Some(lab) = build(Kind::Tunnel, &options, &[80]) else {
        return;
    };
    let director = direct(&lab, hook, &[]);
    for (family, outer) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        for letter in ["-t", "-u"] {
            let at = service(family, 80);
            add(&director, &lab, (letter, at, "rr"), outer, |_| {
                "-i".to_owned()
            });
        }
    }
    director.wait_resolved().unwrap();
    for family in Family::BOTH {
        carry(&lab, Kind::Tunnel, family);
    }
    count(&director, Kind::Tunnel);
    director.stop().unwrap();
}

#[test]
fn auto_declines_xdp_on_veth_and_says_why() {
    let Some(lab) = build(Kind::TwoBridge, &Options::default(), &[80]) else {
        return;
    };
    let director = Director::start(&lab, &[]).unwrap();
    let [eth0, eth1, ready] = director.said() else {
        panic!("{:?}", director.said());
    };
    for (line, name) in [(eth0, "eth0"), (eth1, "eth1")] {
        assert!(line.starts_with(&format!("{name}: tcx (veth ")), "{line}");
        assert!(line.contains("checksums pending"), "{line}");
    }
    assert!(ready.contains("2 interfaces"), "{ready}");
    let status = director.status().unwrap();
    assert_eq!(status["interfaces"][1]["hook"], "tcx", "{status}");
    director.stop().unwrap();
}

#[test]
fn xdp_forced_on_plain_veth_breaks_what_auto_avoids() {
    // If this ever works, `--hook auto` may choose otherwise.
    let Some(lab) = build(Kind::TwoBridge, &Options::default(), &[80]) else {
        return;
    };
    let director = direct(&lab, Hook::Xdp, &[]);
    let at = service(Family::V4, 80);
    add(&director, &lab, ("-t", at, "rr"), Family::V4, |_| {
        "-g".to_owned()
    });
    director.wait_resolved().unwrap();
    let client = lab.client().limit(std::time::Duration::from_secs(1));
    client.name(at).unwrap_err();
    assert!(director.verdicts().unwrap()["direct"] > 0);
    director.stop().unwrap();
}
