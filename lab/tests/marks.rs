//! A service known by a firewall mark, with rules of the director's own.

#[path = "support/balance.rs"]
#[allow(dead_code)]
mod balance;

use std::collections::BTreeSet;

use balance::{Hook, PATIENCE, build, direct, method, service};
use pointsman_lab::address::{Family, vip};
use pointsman_lab::topology::{Kind, Options};

/// Ports 80 and 443 of the virtual address are one service: a round goes over both.
fn exercise(kind: Kind, hook: Hook) {
    let options = Options {
        fabric_mtu: 1500,
        ..hook.options()
    };
    let Some(lab) = build(kind, &options, &[80, 443]) else {
        return;
    };
    let mut director = direct(&lab, hook, &[]);
    for family in Family::BOTH {
        let six = if family == Family::V6 { " -6" } else { "" };
        director.ipvsadm(&format!("-A -f 1{six} -s rr")).unwrap();
        for address in lab.topology().real_servers(family) {
            let to = match family {
                Family::V4 => format!("{address}:0"),
                Family::V6 => format!("[{address}]:0"),
            };
            let method = method(kind);
            let line = format!("-a -f 1{six} -r {to} {method}");
            director.ipvsadm(&line).unwrap();
        }
        let prefix = vip(family).to_string();
        let words = ["mark", "add", "--destination", &prefix, "--protocol", "tcp"];
        let rest = ["--ports", "80,443", "--set", "1"];
        director.call(&[&words[..], &rest[..]].concat()).unwrap();
    }
    director.wait_resolved().unwrap();
    let round = || {
        for family in Family::BOTH {
            let client = lab.client().limit(PATIENCE);
            let mut names = BTreeSet::new();
            for port in [80, 443, 80] {
                names.insert(client.name(service(family, port)).unwrap());
            }
            assert_eq!(names.len(), 3, "{kind} {family:?}: {names:?}");
        }
    };
    round();
    // Another port of the address is not the service's: nobody answers, or the host refuses.
    let other = lab.client().limit(PATIENCE).name(service(Family::V4, 81));
    assert!(other.is_err());
    let listed = director.call(&["mark", "list"]).unwrap();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    // Rules outlive the daemon with the maps.
    director.kill();
    round();
    director.restart().unwrap();
    assert_eq!(director.call(&["mark", "list"]).unwrap(), listed);
    round();
    director.stop().unwrap();
}

#[test]
fn a_mark_joins_two_ports_by_direct_routing() {
    exercise(Kind::TwoBridge, Hook::Tcx);
}

#[test]
fn a_mark_joins_two_ports_by_masquerade() {
    exercise(Kind::Nat, Hook::Xdp);
}
