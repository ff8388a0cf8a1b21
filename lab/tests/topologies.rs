//! Labs come up, work as their plans say, and leave nothing behind however they end.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_lab::address::{Family, Net, vip};
use pointsman_lab::lab::{self, Lab, Program};
use pointsman_lab::tag;
use pointsman_lab::topology::{Kind, Options, Role, Topology, WirePort};
use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::Capture;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman-lab");

fn skipped() -> bool {
    let reason = lab::why_not();
    if let Some(reason) = &reason {
        eprintln!("skipped: {reason}");
    }
    reason.is_some()
}

/// Links and sysctls of the namespace that the calling thread is in.
fn host_state() -> String {
    let links = Command::new("ip")
        .args(["-o", "link"])
        .output()
        .unwrap()
        .stdout;
    let sysctls = Command::new("sysctl")
        .args(["-a", "--pattern", "^net"])
        .output()
        .unwrap()
        .stdout;
    // Counters and times tick on their own.
    let text = String::from_utf8_lossy(&links).into_owned() + &String::from_utf8_lossy(&sysctls);
    text.lines()
        .filter(|line| !line.contains("nf_conntrack_count") && !line.contains("hwaddress"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Runs the test in a "host" namespace of its own, and checks that it is left as found.
fn on_private_host(name: &str, test: impl FnOnce() + Send) {
    let name = format!("host{}{name}", std::process::id());
    let host = NetNs::create(&name).unwrap().delete_on_drop();
    let (before, after) = host
        .run_in(|| {
            let before = host_state();
            test();
            (before, host_state())
        })
        .unwrap();
    assert!(
        before.contains("lo") && before.contains("ip_forward"),
        "nothing compared: {before}"
    );
    assert_eq!(before, after, "the host changed");
}

fn is_gone(tag: &str) -> bool {
    tag::namespaces_of(tag).unwrap().is_empty()
}

#[test]
fn every_kind_comes_up_works_and_leaves_nothing() {
    if skipped() {
        return;
    }
    for kind in Kind::ALL {
        on_private_host(kind.name(), || {
            let lab = Topology::build(kind, &Options::default()).unwrap();
            let tag = lab.tag().to_owned();
            assert_eq!(lab.namespaces(), {
                let mut names = tag::namespaces_of(&tag).unwrap();
                names.sort_by_key(|name| lab.namespaces().iter().position(|own| own == name));
                names
            });
            lab.start_servers(&Program::new(PROGRAM), &[80, 8080])
                .unwrap();
            for family in Family::BOTH {
                check_reachability(&lab, kind, family);
                check_answers(&lab, kind, family);
            }
            drop(lab);
            assert!(is_gone(&tag), "{kind}: namespaces are left");
        });
    }
}

fn check_reachability(lab: &Lab, kind: Kind, family: Family) {
    let client = lab.client();
    client.ping(vip(family)).unwrap();
    client.ping(Net::External.host(32, family)).unwrap();
    for address in lab.topology().real_servers(family) {
        lab.asking_from(Role::Director).ping(address).unwrap();
    }
    if kind == Kind::Tunnel {
        // Routed, not on the director's network: direct routing could not work.
        let mut route = Command::new("ip");
        let server = lab.topology().real_server(1, family).to_string();
        let text = lab
            .check(Role::Director, route.args(["route", "get", &server]))
            .unwrap();
        assert!(text.contains(" via "), "{text}");
    }
    if kind == Kind::Nat {
        // A private network: the client has no way there, and the servers' way back is the director.
        let hidden = lab.topology().real_server(1, family);
        let mut route = Command::new("ip");
        let found = lab.output(
            Role::Client,
            route.args(["route", "get", &hidden.to_string()]),
        );
        assert!(
            !found.unwrap().status.success(),
            "the client has a route to {hidden}"
        );
        let mut route = Command::new("ip");
        let client = pointsman_lab::address::client(family).to_string();
        let text = lab
            .check(Role::RealServer(1), route.args(["route", "get", &client]))
            .unwrap();
        let gateway = Net::Lvs.host(10, family).to_string();
        assert!(text.contains(&format!("via {gateway} ")), "{text}");
    } else {
        // They have the VIP, and nobody but the director says so.
        let mut addresses = Command::new("ip");
        let text = lab.check(
            Role::RealServer(2),
            addresses.args(["address", "show", "dev", "lo"]),
        );
        assert!(text.unwrap().contains(&vip(family).to_string()));
        let mut neighbour = Command::new("ip");
        let client = neighbour.args(["neighbour", "show", &vip(family).to_string()]);
        let text = lab.check(Role::Client, client).unwrap();
        assert!(text.contains("02:00:00:00:02:00"), "the VIP is at {text}");
    }
}

/// The servers as they answer by their own addresses.
fn check_answers(lab: &Lab, kind: Kind, family: Family) {
    let asker = match kind {
        Kind::Nat => lab.asking_from(Role::Director),
        Kind::TwoBridge | Kind::OneLeg | Kind::Tunnel => lab.client(),
    };
    for number in 1..=3 {
        let address: IpAddr = match kind {
            Kind::TwoBridge => Net::External.host(40 + number, family),
            _ => lab.topology().real_server(number, family),
        };
        let server = SocketAddr::new(address, 80);
        let name = format!("rs{number}");
        assert_eq!(asker.name(server).unwrap(), name);
        assert_eq!(asker.name(SocketAddr::new(address, 8080)).unwrap(), name);
        let spread = asker.spread(server, 5).unwrap();
        assert_eq!(spread.answers.get(&name), Some(&5), "{spread:?}");
        for length in [0, 5, 4000] {
            let question = vec![b'q'; length];
            let answer = asker.udp(server, &question).unwrap();
            assert_eq!(answer.name, name);
            assert_eq!(answer.from, server);
            assert_eq!(answer.echo, question);
        }
    }
    let server = match kind {
        Kind::TwoBridge => Net::External.host(41, family),
        _ => lab.topology().real_server(1, family),
    };
    let asker = asker.limit(Duration::from_secs(60));
    let server = SocketAddr::new(server, 80);
    asker.echo(server, 10_000_000).unwrap();
    asker.download(server, 10_000_000).unwrap();
    let ends = String::from_utf8(asker.get(server, "/peer").unwrap()).unwrap();
    assert!(ends.trim_end().ends_with(&server.to_string()), "{ends}");
}

#[test]
fn servers_answer_from_the_address_that_they_were_asked_at() {
    if skipped() {
        return;
    }
    // The client is told that the VIP is at rs2, which has it on `lo` besides its own.
    let options = Options {
        vip_on_director: false,
        ..Options::default()
    };
    let lab = Topology::build(Kind::OneLeg, &options).unwrap();
    lab.start_servers(&Program::new(PROGRAM), &[80]).unwrap();
    for family in Family::BOTH {
        let address = vip(family).to_string();
        let mut neighbour = Command::new("ip");
        let words = [
            "neighbour",
            "replace",
            &address,
            "lladdr",
            "02:00:00:00:12:00",
            "dev",
            "eth0",
        ];
        lab.check(Role::Client, neighbour.args(words)).unwrap();
        let service = SocketAddr::new(vip(family), 80);
        let answer = lab.client().udp(service, b"hello").unwrap();
        assert_eq!((answer.name.as_str(), answer.from), ("rs2", service));
        assert_eq!(lab.client().name(service).unwrap(), "rs2");
    }
}

#[test]
fn a_client_with_several_addresses_asks_from_each() {
    if skipped() {
        return;
    }
    let options = Options {
        client_addresses: 4,
        real_servers: 1,
        ..Options::default()
    };
    let lab = Topology::build(Kind::OneLeg, &options).unwrap();
    lab.start_servers(&Program::new(PROGRAM), &[80]).unwrap();
    for family in Family::BOTH {
        let server = SocketAddr::new(lab.topology().real_server(1, family), 80);
        for source in lab.topology().client_addresses(family) {
            let ends = lab.client().source(source).get(server, "/peer").unwrap();
            let peer = String::from_utf8(ends).unwrap();
            let peer: SocketAddr = peer.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(peer.ip(), source);
        }
    }
}

#[test]
fn a_backup_director_reaches_what_the_director_does() {
    if skipped() {
        return;
    }
    for kind in Kind::ALL {
        let options = Options {
            backup: true,
            real_servers: 1,
            ..Options::default()
        };
        let lab = Topology::build(kind, &options).unwrap();
        for family in Family::BOTH {
            let backup = lab.asking_from(Role::Backup);
            backup.ping(lab.topology().real_server(1, family)).unwrap();
            backup.ping(Net::External.host(32, family)).unwrap();
            lab.client().ping(Net::External.host(34, family)).unwrap();
        }
        assert_eq!(Lab::open(lab.tag()).unwrap().roles(), lab.roles());
    }
}

#[test]
fn a_failed_connection_is_counted_and_named() {
    if skipped() {
        return;
    }
    let lab = Topology::build(Kind::OneLeg, &Options::default()).unwrap();
    // Nobody listens.
    let server = SocketAddr::new(lab.topology().real_server(1, Family::V4), 80);
    let spread = lab.client().spread(server, 3).unwrap();
    assert_eq!(
        (spread.answered(), spread.failures.len()),
        (0, 3),
        "{spread:?}"
    );
    assert!(spread.failures[0].contains("exit code 7"), "{spread:?}");
    assert!(lab.client().name(server).is_err());
}

#[test]
fn wire_ports_complete_what_senders_leave_undone() {
    if skipped() {
        return;
    }
    for complete_checksums in [false, true] {
        let wire_port = WirePort { complete_checksums };
        let options = Options {
            wire_port,
            ..Options::default()
        };
        let lab = Topology::build(Kind::OneLeg, &options).unwrap();
        let mut capture = lab
            .run_in(Role::Director, || Capture::open("eth0"))
            .unwrap()
            .unwrap();
        // The director does not listen: the SYN is enough.
        let director = SocketAddr::new(Net::External.host(32, Family::V4), 80);
        assert!(lab.client().name(director).is_err());
        let deadline = Instant::now() + Duration::from_secs(5);
        let syn = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let frame = capture.next(left).unwrap().expect("no SYN came");
            let summary = pointsman_wire::Summary::parse(&frame.bytes);
            if summary.is_some_and(|summary| summary.tcp.is_some_and(|tcp| tcp.flags & 2 != 0)) {
                break frame;
            }
        };
        assert_eq!(syn.checksum_pending, !complete_checksums);
        let verified = pointsman_wire::verify_checksums(&syn.bytes).is_ok();
        assert_eq!(verified, complete_checksums);
        // The client's own offloads are as they were.
        let mut ethtool = Command::new("ethtool");
        let text = lab
            .check(Role::Client, ethtool.args(["-k", "eth0"]))
            .unwrap();
        assert!(text.contains("tx-checksumming: on"), "{text}");
        assert!(text.contains("generic-segmentation-offload: on"), "{text}");
    }
}

#[test]
fn a_panic_leaves_nothing() {
    if skipped() {
        return;
    }
    on_private_host("panic", || {
        let options = Options {
            tag: Some(format!("p{}", std::process::id())),
            ..Options::default()
        };
        let tag = options.tag.clone().unwrap();
        let result = std::panic::catch_unwind(|| {
            let lab = Topology::build(Kind::Tunnel, &options).unwrap();
            lab.start_decapsulators(&Program::new(PROGRAM)).unwrap();
            assert!(!is_gone(lab.tag()));
            panic!("on purpose");
        });
        assert_eq!(result.unwrap_err().downcast_ref(), Some(&"on purpose"));
        assert!(is_gone(&tag));
    });
}

#[test]
fn a_lab_that_is_up_is_refused_and_left_alone() {
    if skipped() {
        return;
    }
    let tag = format!("d{}", std::process::id());
    let options = Options {
        tag: Some(tag.clone()),
        ..Options::default()
    };
    let first = Topology::build(Kind::OneLeg, &options).unwrap();
    let error = Topology::build(Kind::Nat, &options)
        .unwrap_err()
        .to_string();
    assert!(error.contains("is up already"), "{error}");
    first.client().ping(vip(Family::V4)).unwrap();
    let opened = Lab::open(&tag).unwrap();
    assert_eq!(opened.topology(), first.topology());
    drop(opened);
    assert!(!is_gone(&tag), "an opened lab was deleted");
}

/// Starts `up --foreground` and waits until it is.
fn foreground(extra: &[&str]) -> std::process::Child {
    let mut child = Command::new(PROGRAM)
        .args(["up", "one-leg", "--servers", "2", "--foreground"])
        .args(extra)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.any(|line| line.unwrap().contains("Ctrl-C")),
        "it did not come up"
    );
    child
}

#[test]
fn signals_take_the_lab_down() {
    if skipped() {
        return;
    }
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let tag = format!("s{}x{code}", std::process::id());
        let mut child = foreground(&["--tag", &tag]);
        assert_eq!(tag::namespaces_of(&tag).unwrap().len(), 5);
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert!(is_gone(&tag));
    }
}

#[test]
fn a_kept_lab_outlives_its_builder_and_holds_none_of_its_pipes() {
    if skipped() {
        return;
    }
    let tag = format!("k{}", std::process::id());
    // Reading to the end of both pipes would hang if a server had one.
    let up = Command::new(PROGRAM)
        .args(["up", "tunnel", "--servers", "1", "--tag", &tag])
        .output()
        .unwrap();
    assert!(up.status.success(), "{up:?}");
    let lab = Lab::open(&tag).unwrap();
    let server = SocketAddr::new(lab.topology().real_server(1, Family::V6), 80);
    let name = lab.client().name(server);
    let ladder = Command::new(PROGRAM)
        .args(["ladder", &tag, "curl", "-s", &format!("http://{server}/")])
        .output()
        .unwrap();
    let list = Command::new(PROGRAM).arg("list").output().unwrap();
    tag::take_down(&tag).unwrap();
    assert_eq!(name.unwrap(), "rs1");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(
        list.contains(&tag) && list.contains("tunnel with 1 real servers"),
        "{list}"
    );
    let ladder = String::from_utf8_lossy(&ladder.stdout).into_owned();
    assert!(ladder.contains("real server rs1"), "{ladder}");
    assert!(is_gone(&tag));
}

#[test]
fn leftovers_of_a_killed_process_are_known_and_can_be_taken_down() {
    if skipped() {
        return;
    }
    let mut child = foreground(&[]);
    let tag = format!("t{}x0", child.id());
    assert!(!tag::stale_tags().unwrap().contains(&tag));
    let servers = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).ok();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(tag::stale_tags().unwrap().contains(&tag));
    let down = Command::new(PROGRAM).args(["down", &tag]).status().unwrap();
    assert!(down.success());
    assert!(is_gone(&tag));
    for server in servers.iter().flat_map(|text| text.split_whitespace()) {
        let command = fs::read_to_string(format!("/proc/{server}/cmdline")).unwrap_or_default();
        assert!(!command.contains("serve"), "process {server} is left");
    }
    let again = Command::new(PROGRAM).args(["down", &tag]).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("no lab"));
}
