//! ICMP errors reach whom they concern, through every forwarding method.

#[path = "support/balance.rs"]
#[allow(dead_code)]
mod balance;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use balance::{Hook, PATIENCE, add, build, direct, method, service};
use pointsman_lab::address::{Family, client};
use pointsman_lab::director::Director;
use pointsman_lab::error::LabError;
use pointsman_lab::lab::Lab;
use pointsman_lab::process::wait_until;
use pointsman_lab::topology::{Kind, Options, Role};

/// A port that is balanced but that no real server listens on.
const CLOSED: u16 = 9;

fn each(kinds: &[Kind], hooks: &[Hook], test: impl Fn(&Lab, &Director<'_>, Kind, Family)) {
    for kind in kinds {
        for hook in hooks {
            let options = Options {
                fabric_mtu: if *kind == Kind::Tunnel { 1560 } else { 1500 },
                ..hook.options()
            };
            let Some(lab) = build(*kind, &options, &[80]) else {
                return;
            };
            let director = direct(&lab, *hook, &[]);
            for family in Family::BOTH {
                for (letter, port) in [("-t", CLOSED), ("-u", CLOSED), ("-u", 80)] {
                    let at = service(family, port);
                    add(&director, &lab, (letter, at, "rr"), family, |_| {
                        method(*kind).to_owned()
                    });
                }
            }
            director.wait_resolved().unwrap();
            for family in Family::BOTH {
                test(&lab, &director, *kind, family);
            }
            director.stop().unwrap();
        }
    }
}

const ALL: [Kind; 3] = [Kind::TwoBridge, Kind::Tunnel, Kind::Nat];
const BOTH: [Hook; 2] = [Hook::Tcx, Hook::Xdp];

fn udp_socket(lab: &Lab, family: Family) -> UdpSocket {
    let own = client(family);
    let socket = lab.run_in(Role::Client, || UdpSocket::bind((own, 0)));
    socket.unwrap().unwrap()
}

#[test]
fn closed_ports_of_real_servers_refuse() {
    each(&ALL, &BOTH, |lab, director, kind, family| {
        let at = service(family, CLOSED);
        let error = lab.client().limit(PATIENCE).name(at).unwrap_err();
        let LabError::Command { status, stderr, .. } = error else {
            panic!("no end of curl");
        };
        assert_eq!(status.code(), Some(7), "{kind} {family:?}: {stderr}");

        let socket = udp_socket(lab, family);
        socket.connect(at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"anybody?").unwrap();
        let error = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{kind} {error}");
        if kind == Kind::Nat {
            assert!(director.verdicts().unwrap()["related-out"] > 0);
        }
    });
}

#[test]
fn errors_of_clients_reach_the_real_server() {
    each(&ALL, &BOTH, |lab, director, kind, family| {
        let at = service(family, 80);
        let received = |family| -> u64 {
            let servers = 1..=3;
            servers
                .map(|number| unreachables(lab, number, family))
                .sum()
        };
        let known = received(family);
        let what = format!("{kind} {family:?}: no real server got an error of the client");
        wait_until(&what, PATIENCE, || {
            // Gone before the answer comes, mostly.
            let socket = udp_socket(lab, family);
            socket.send_to(b"bye", at).unwrap();
            drop(socket);
            Ok(received(family) > known)
        })
        .unwrap();
        // And every one that was sent on was accepted there.
        let mut seen = (0, 0);
        let all = wait_until("", Duration::from_secs(5), || {
            let received: u64 = Family::BOTH.into_iter().map(received).sum();
            seen = (director.verdicts()?["related-in"], received);
            Ok(seen.0 == seen.1)
        });
        if all.is_err() {
            let heard: Vec<String> = (1..=3).map(|number| heard(lab, number)).collect();
            panic!("{kind} {family:?}: {seen:?} {heard:#?}");
        }
    });
}

#[test]
fn what_is_too_big_for_a_tunnel_and_may_be_cut_is_cut() {
    for hook in BOTH {
        // No room for the outer header.
        let Some(lab) = build(Kind::Tunnel, &hook.options(), &[80]) else {
            return;
        };
        let director = direct(&lab, hook, &[]);
        let at = service(Family::V4, 80);
        add(&director, &lab, ("-u", at, "rr"), Family::V4, |_| {
            "-i".to_owned()
        });
        director.wait_resolved().unwrap();
        // Without "don't fragment".
        let mut sysctl = Command::new("sysctl");
        sysctl.args(["-qw", "net.ipv4.ip_no_pmtu_disc=1"]);
        lab.check(Role::Client, &mut sysctl).unwrap();
        let question = vec![b'l'; 1472];
        let answer = lab.client().udp(at, &question).unwrap_or_else(|error| {
            let of = |number| heard(&lab, number);
            let verdicts = director.call(&["verdicts"]).unwrap();
            let status = director.call(&["status"]).unwrap();
            let servers: Vec<String> = (1..=3).map(of).collect();
            panic!(
                "{hook:?}: {error}\n{verdicts}{status}{}",
                servers.join("\n")
            )
        });
        assert_eq!((answer.from, answer.echo), (at, question));
        assert_eq!(director.verdicts().unwrap()["needs-fragmenting"], 1);
        director.stop().unwrap();
    }
}

/// What a real server's kernel says of ICMP, UDP and fragments.
fn heard(lab: &Lab, number: u8) -> String {
    let mut command = Command::new("nstat");
    let text = lab.check(Role::RealServer(number), command.args(["-as"]));
    let text = text.unwrap();
    let lines = text.lines().filter(|line| {
        ["Icmp", "Udp", "IpReasm", "IpFrag"]
            .iter()
            .any(|start| line.starts_with(start))
            && !line.contains(" 0 ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// ICMP errors that a real server's kernel accepted.
fn unreachables(lab: &Lab, number: u8, family: Family) -> u64 {
    let (file, name) = match family {
        Family::V4 => ("/proc/thread-self/net/snmp", "InDestUnreachs"),
        Family::V6 => ("/proc/thread-self/net/snmp6", "Icmp6InDestUnreachs"),
    };
    let text = lab.run_in(Role::RealServer(number), || std::fs::read_to_string(file));
    let text = text.unwrap().unwrap();
    match family {
        Family::V4 => {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
            let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
            let at = names.split(' ').position(|found| found == name).unwrap();
            values.split(' ').nth(at).unwrap().parse().unwrap()
        }
        Family::V6 => {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        }
    }
}

#[test]
fn a_hop_limit_that_runs_out_is_told() {
    each(&[Kind::TwoBridge], &BOTH, |lab, director, _, family| {
        if family == Family::V6 {
            // The standard library sets no IPv6 hop limit; the answer is built by the same code.
            return;
        }
        let socket = udp_socket(lab, family);
        socket.set_ttl(1).unwrap();
        let before = director.status().unwrap()["answers"]["sent"].as_u64();
        socket.send_to(b"near", service(family, 80)).unwrap();
        wait_until("no time exceeded was sent", PATIENCE, || {
            Ok(director.status()?["answers"]["sent"].as_u64() > before)
        })
        .unwrap();
        assert_eq!(director.verdicts().unwrap()["ttl-exceeded"], 1);
    });
}

/// The kernel puts them together and finds nobody who listens; the director has counted each.
#[test]
fn fragments_are_left_to_the_kernel_and_counted() {
    each(&[Kind::OneLeg], &BOTH, |lab, director, kind, family| {
        let before = director.verdicts().unwrap()["fragment"];
        let at = service(family, 80);
        let question = vec![b'l'; 4000];
        let answer = lab
            .client()
            .limit(Duration::from_millis(300))
            .udp(at, &question);
        assert!(answer.is_err(), "{kind} {family:?}: {answer:?}");
        let seen = director.verdicts().unwrap()["fragment"] - before;
        assert!(seen >= 3, "{kind} {family:?}: {seen} fragments");
    });
}
