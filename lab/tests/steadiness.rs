//! What must go on, and what must be said, when something changes or is missing.

#[path = "support/balance.rs"]
#[allow(dead_code)]
mod balance;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use balance::{Hook, PATIENCE, PROGRAM, add, build, direct, method, service};
use pointsman_lab::address::{Family, Net, vip};
use pointsman_lab::director::Director;
use pointsman_lab::error::LabError;
use pointsman_lab::lab::Lab;
use pointsman_lab::pattern;
use pointsman_lab::process::wait_until;
use pointsman_lab::topology::{Kind, Options, Role};

/// Adds round robin by TCP in both families, and waits for next hops.
fn serve_both(director: &Director<'_>, lab: &Lab) {
    for family in Family::BOTH {
        let at = service(family, 80);
        add(director, lab, ("-t", at, "rr"), family, |_| {
            method(lab.topology().kind).to_owned()
        });
    }
    director.wait_resolved().unwrap();
}

/// A transfer that goes on as far as it is read, so that a test decides when.
struct Transfer {
    stream: TcpStream,
    length: usize,
    at: usize,
    left: Vec<u8>,
}

impl Transfer {
    /// More than all buffers on the way can hold.
    const LENGTH: usize = 30_000_000;

    fn begin(lab: &Lab, at: SocketAddr) -> Self {
        let stream = lab.run_in(Role::Client, || TcpStream::connect(at));
        let mut stream = stream.unwrap().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET /bytes/{} HTTP/1.1\r\nHost: vip\r\n\r\n", Self::LENGTH);
        stream.write_all(request.as_bytes()).unwrap();
        let mut left = Vec::new();
        let end = loop {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).unwrap();
            assert_ne!(length, 0, "the transfer ended at once");
            left.extend_from_slice(&buffer[..length]);
            if let Some(end) = left.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = String::from_utf8(left.drain(..end).collect()).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Self {
            stream,
            length: Self::LENGTH,
            at: 0,
            left,
        }
    }

    /// Reads on, comparing each byte.
    fn read(&mut self, length: usize) {
        let end = (self.at + length).min(self.length);
        let mut buffer = std::mem::take(&mut self.left);
        while self.at < end {
            if buffer.is_empty() {
                buffer.resize(65_536, 0);
                let length = self.stream.read(&mut buffer).unwrap();
                assert_ne!(length, 0, "the transfer ended at {}", self.at);
                buffer.truncate(length);
            }
            let good = pattern::bytes(self.at as u64, buffer.len());
            assert_eq!(buffer, good, "other bytes behind {}", self.at);
            self.at += buffer.len();
            buffer.clear();
        }
    }

    fn finish(mut self) {
        self.read(self.length);
        assert_eq!(self.at, self.length);
    }

    /// The client's end as `ipvsadm -Lnc` writes it.
    fn client(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }
}

#[test]
fn forwarding_outlives_the_daemon_by_tcx() {
    outlive(Kind::TwoBridge, Hook::Tcx);
}

#[test]
fn forwarding_outlives_the_daemon_by_xdp() {
    outlive(Kind::TwoBridge, Hook::Xdp);
}

#[test]
fn masquerading_outlives_the_daemon() {
    outlive(Kind::Nat, Hook::Tcx);
}

fn outlive(kind: Kind, hook: Hook) {
    let Some(lab) = build(kind, &hook.options(), &[80]) else {
        return;
    };
    let mut director = direct(&lab, hook, &[]);
    serve_both(&director, &lab);
    let mut transfers = Family::BOTH.map(|family| Transfer::begin(&lab, service(family, 80)));
    let saved = director.ipvsadm("-Sn").unwrap();
    assert_eq!(saved.lines().count(), 8, "{saved}");
    let before = total_packets(&director);
    director.kill();

    for transfer in &mut transfers {
        transfer.read(10_000_000);
    }
    for family in Family::BOTH {
        let spread = lab.client().spread(service(family, 80), 30).unwrap();
        assert_eq!(spread.answered(), 30, "without the daemon: {spread:?}");
        assert_eq!(spread.answers.len(), 3, "{spread:?}");
    }

    director.restart().unwrap();
    let ready = director.said().last().unwrap();
    assert!(ready.contains("taken over"), "{ready}");
    assert_eq!(director.ipvsadm("-Sn").unwrap(), saved);
    assert!(
        total_packets(&director) > before + 60 * 4,
        "packets counted meanwhile are lost"
    );
    let connections = director.ipvsadm("-Lnc").unwrap();
    for transfer in &mut transfers {
        let line = connections
            .lines()
            .find(|line| line.contains(&transfer.client()))
            .unwrap_or_else(|| panic!("no {} in\n{connections}", transfer.client()));
        assert!(line.contains("ESTABLISHED"), "{line}");
        transfer.read(1_000_000);
    }
    director.wait_resolved().unwrap();
    for family in Family::BOTH {
        let spread = lab.client().spread(service(family, 80), 30).unwrap();
        assert_eq!(spread.answered(), 30, "with another daemon: {spread:?}");
    }
    transfers.into_iter().for_each(Transfer::finish);
    director.stop().unwrap();
}

fn total_packets(director: &Director<'_>) -> u64 {
    let services = director.services().unwrap();
    services
        .iter()
        .map(|view| view["stats"]["in_packets"].as_u64().unwrap())
        .sum()
}

#[test]
fn the_directors_own_addresses_answer_by_tcx() {
    own_addresses(Hook::Tcx);
}

#[test]
fn the_directors_own_addresses_answer_by_xdp() {
    own_addresses(Hook::Xdp);
}

fn own_addresses(hook: Hook) {
    let Some(lab) = build(Kind::TwoBridge, &hook.options(), &[80]) else {
        return;
    };
    let director = direct(&lab, hook, &[]);
    serve_both(&director, &lab);
    // As ssh would be, and the VIP's ports without a service are the director's too.
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--name", "director", "--port", "22"]);
    lab.start(Role::Director, &mut command, "ready ").unwrap();
    for family in Family::BOTH {
        let client = lab.client().limit(PATIENCE);
        for address in [Net::External.host(32, family), vip(family)] {
            client.ping(address).unwrap();
            let at = SocketAddr::new(address, 22);
            assert_eq!(client.name(at).unwrap(), "director");
            client.echo(at, 1_000_000).unwrap();
            assert_eq!(client.udp(at, b"q").unwrap().name, "director");
        }
        assert_ne!(client.name(service(family, 80)).unwrap(), "director");
        // And the director reaches out itself.
        let server = SocketAddr::new(lab.topology().real_server(1, family), 80);
        let own = lab.asking_from(Role::Director).limit(PATIENCE);
        assert_eq!(own.name(server).unwrap(), "rs1");
        own.echo(server, 1_000_000).unwrap();
    }
    director.stop().unwrap();
}

#[test]
fn a_service_without_real_servers_refuses_at_once() {
    for (kind, hook) in [(Kind::TwoBridge, Hook::Tcx), (Kind::TwoBridge, Hook::Xdp)] {
        let Some(lab) = build(kind, &hook.options(), &[80]) else {
            return;
        };
        let director = direct(&lab, hook, &[]);
        for family in Family::BOTH {
            director
                .ipvsadm(&format!("-A -t {} -s rr", service(family, 80)))
                .unwrap();
            let start = Instant::now();
            let error = lab.client().limit(PATIENCE).name(service(family, 80));
            let LabError::Command { status, stderr, .. } = error.unwrap_err() else {
                panic!("no end of curl");
            };
            assert_eq!(status.code(), Some(7), "{stderr}");
            // IPv4: the first answer ends it. IPv6 would wait for another SYN's.
            assert!(start.elapsed() < Duration::from_secs(3), "{stderr}");
        }
        assert!(director.verdicts().unwrap()["no-destination"] >= 2);
        assert!(
            director.status().unwrap()["answers"]["sent"]
                .as_u64()
                .unwrap()
                >= 2
        );
        director.stop().unwrap();
    }
}

#[test]
fn servers_that_are_removed_or_unreachable_are_told_and_others_go_on() {
    let Some(lab) = build(Kind::TwoBridge, &Options::default(), &[80]) else {
        return;
    };
    let director = direct(&lab, Hook::Tcx, &[]);
    serve_both(&director, &lab);
    for family in Family::BOTH {
        let at = service(family, 80);
        let client = lab.client().limit(PATIENCE);
        let mut stays = loop {
            let transfer = Transfer::begin(&lab, at);
            if server_of(&director, &transfer) != lab.topology().real_server(2, family) {
                break transfer;
            }
        };
        let second = SocketAddr::new(lab.topology().real_server(2, family), 80);
        director
            .ipvsadm(&format!("-d -t {at} -r {second}"))
            .unwrap();
        let spread = client.spread(at, 20).unwrap();
        assert_eq!(spread.answers.len(), 2, "{spread:?}");
        assert!(!spread.answers.contains_key("rs2") && spread.failures.is_empty());
        stays.read(5_000_000);

        // Nobody has this address: rr still sends it its share, as IPVS does, and all is told.
        let nobody = SocketAddr::new(Net::Lvs.host(99, family), 80);
        director
            .ipvsadm(&format!("-a -t {at} -r {nobody} -g"))
            .unwrap();
        let address = nobody.ip().to_string();
        wait_until("nobody was not told missing", PATIENCE, || {
            Ok(director.next_hops()?[&address].contains("does not answer on eth1"))
        })
        .unwrap();
        let spread = lab.client().limit(Duration::from_millis(500)).spread(at, 6);
        let spread = spread.unwrap();
        assert_eq!(spread.failures.len(), 2, "{spread:?}");
        assert_eq!(spread.answered(), 4, "{spread:?}");
        // Weight 0 takes it out of service; what it has stays.
        director
            .ipvsadm(&format!("-e -t {at} -r {nobody} -g -w 0"))
            .unwrap();
        assert_eq!(client.spread(at, 20).unwrap().answered(), 20);
        stays.finish();
    }
    director.stop().unwrap();
}

/// The real server of a transfer, by the list of connections.
fn server_of(director: &Director<'_>, transfer: &Transfer) -> std::net::IpAddr {
    let connections = director.ipvsadm("-Lnc").unwrap();
    let line = connections
        .lines()
        .find(|line| line.contains(&transfer.client()))
        .unwrap_or_else(|| panic!("no {} in\n{connections}", transfer.client()));
    let last: SocketAddr = line.split_whitespace().last().unwrap().parse().unwrap();
    last.ip()
}

#[test]
fn clients_are_told_of_a_tunnels_mtu_by_tcx() {
    narrow_path(Hook::Tcx);
}

#[test]
fn clients_are_told_of_a_tunnels_mtu_by_xdp() {
    narrow_path(Hook::Xdp);
}

fn narrow_path(hook: Hook) {
    // No room for outer headers anywhere: the client's segments of 1500 bytes can't pass.
    let Some(lab) = build(Kind::Tunnel, &hook.options(), &[80, 8080]) else {
        return;
    };
    let director = direct(&lab, hook, &[]);
    // The narrower way comes second, for the client remembers the first.
    let ways = [
        (Family::V4, 80, Family::V4, 1480),
        (Family::V4, 8080, Family::V6, 1460),
        (Family::V6, 80, Family::V4, 1480),
        (Family::V6, 8080, Family::V6, 1460),
    ];
    for (family, port, outer, _) in ways {
        let at = service(family, port);
        add(&director, &lab, ("-t", at, "rr"), outer, |_| {
            "-i".to_owned()
        });
    }
    director.wait_resolved().unwrap();
    for (family, port, outer, mtu) in ways {
        let at = service(family, port);
        let client = lab.client().limit(PATIENCE);
        client.echo(at, 10_000_000).unwrap();
        client.download(at, 10_000_000).unwrap();
        let address = vip(family).to_string();
        let mut route = Command::new("ip");
        let route = lab.check(Role::Client, route.args(["route", "get", &address]));
        let route = route.unwrap();
        let wanted = format!("mtu {mtu}");
        assert!(route.contains(&wanted), "{family:?} in {outer:?}: {route}");
    }
    assert!(director.verdicts().unwrap()["too-big"] >= 4);
    assert!(
        director.status().unwrap()["answers"]["sent"]
            .as_u64()
            .unwrap()
            >= 4
    );
    director.stop().unwrap();
}

#[test]
fn translated_connections_keep_to_a_clamped_segment_size() {
    for hook in [Hook::Tcx, Hook::Xdp] {
        let Some(lab) = build(Kind::Nat, &hook.options(), &[80]) else {
            return;
        };
        let director = direct(&lab, hook, &["--mss-clamp", "1000"]);
        serve_both(&director, &lab);
        for family in Family::BOTH {
            let mut transfer = Transfer::begin(&lab, service(family, 80));
            transfer.read(1_000_000);
            let server = server_of(&director, &transfer);
            let server = lab.topology().real_server_named(server).unwrap();
            for role in [Role::Client, server] {
                let mut sockets = Command::new("ss");
                let text = lab.check(role, sockets.args(["-Htin", "state", "established"]));
                let text = text.unwrap();
                let sizes: Vec<u32> = text
                    .split_whitespace()
                    .filter_map(|word| word.strip_prefix("mss:"))
                    .map(|size| size.parse().unwrap())
                    .collect();
                // Less what the timestamps take.
                assert_eq!(sizes, [988], "{family:?} {role}: {text}");
            }
        }
        director.stop().unwrap();
    }
}

#[test]
fn a_server_that_moves_to_another_mac_is_followed() {
    for hook in [Hook::Tcx, Hook::Xdp] {
        let Some(lab) = build(Kind::TwoBridge, &hook.options(), &[80]) else {
            return;
        };
        let director = direct(&lab, hook, &[]);
        serve_both(&director, &lab);
        let first = Role::RealServer(1);
        let mut transfers = Family::BOTH.map(|family| {
            loop {
                let transfer = Transfer::begin(&lab, service(family, 80));
                if server_of(&director, &transfer) == lab.topology().real_server(1, family) {
                    break transfer;
                }
            }
        });
        // As a virtual machine does after it has moved.
        for setting in [
            "ipv4.conf.eth0.arp_notify=1",
            "ipv6.conf.eth0.ndisc_notify=1",
        ] {
            let mut sysctl = Command::new("sysctl");
            lab.check(first, sysctl.args(["-qw", &format!("net.{setting}")]))
                .unwrap();
        }
        let fresh = "02:00:00:00:77:00";
        let mut link = Command::new("ip");
        lab.check(
            first,
            link.args(["link", "set", "dev", "eth0", "address", fresh]),
        )
        .unwrap();
        let soon = Duration::from_secs(3);
        for family in Family::BOTH {
            let address = lab.topology().real_server(1, family).to_string();
            let what = format!("{address} was not followed");
            wait_until(&what, soon, || {
                Ok(director.next_hops()?[&address] == format!("eth1 {fresh}"))
            })
            .unwrap();
            let spread = lab.client().spread(service(family, 80), 30).unwrap();
            assert_eq!(spread.answers.get("rs1"), Some(&10), "{spread:?}");
        }
        for transfer in &mut transfers {
            transfer.read(5_000_000);
        }
        transfers.into_iter().for_each(Transfer::finish);
        director.stop().unwrap();
    }
}

#[test]
fn sigterm_leaves_the_host_as_found() {
    for (kind, hook) in [
        (Kind::TwoBridge, Hook::Tcx),
        (Kind::TwoBridge, Hook::Xdp),
        (Kind::Nat, Hook::Tcx),
        (Kind::Tunnel, Hook::Tcx),
    ] {
        let Some(lab) = build(kind, &hook.options(), &[80]) else {
            return;
        };
        for family in Family::BOTH {
            // What the kernel learns by itself from traffic is learned before.
            for server in lab.topology().real_servers(family) {
                lab.asking_from(Role::Director).ping(server).unwrap();
            }
            lab.client().ping(vip(family)).unwrap();
        }
        let before = state(&lab);
        let director = direct(&lab, hook, &[]);
        serve_both(&director, &lab);
        for family in Family::BOTH {
            let spread = lab.client().spread(service(family, 80), 9).unwrap();
            assert_eq!(spread.answered(), 9, "{spread:?}");
        }
        assert_ne!(state(&lab), before, "nothing was attached");
        director.stop().unwrap();
        let after = state(&lab);
        let only = |these: &str, those: &str| -> Vec<String> {
            let missing = these
                .lines()
                .filter(|line| !those.lines().any(|l| l == *line));
            missing.map(str::to_owned).collect()
        };
        assert!(
            before == after,
            "{kind} {hook:?}: was {:#?}, is {:#?}",
            only(&before, &after),
            only(&after, &before)
        );
    }
}

/// All that a director may change of its host, in words.
fn state(lab: &Lab) -> String {
    let mut state = String::new();
    for command in [
        "ip -d -o link",
        "ip -o address",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip rule",
        "tc qdisc show",
        "bpftool net",
        "sysctl -a --pattern ^net",
    ] {
        let mut words = command.split(' ');
        let mut command = Command::new(words.next().unwrap());
        let output = lab.output(Role::Director, command.args(words)).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text
            .lines()
            .filter(|line| !line.contains("nf_conntrack_count"));
        lines.for_each(|line| state += &format!("{line}\n"));
    }
    // States of neighbours change with time; that there is one, and how it is kept, does not.
    let mut neighbours = Command::new("ip");
    let text = lab
        .check(Role::Director, neighbours.args(["-o", "neigh"]))
        .unwrap();
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| {
            let words = line.split_whitespace();
            let lasting = words.filter(|word| !word.chars().all(|c| c.is_ascii_uppercase()));
            lasting.collect::<Vec<_>>().join(" ") + "\n"
        })
        .collect();
    lines.sort();
    state + &lines.concat()
}
