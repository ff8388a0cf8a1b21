//! Own tables of nftables and traces of rules, in a namespace of the test's own.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use pointsman_linux::netlink::{
    CountingChain, CountingRule, Layer, OwnTable, Packets, RuleTraces, Step, handles,
};
use pointsman_linux::netns::NetNs;

const PORT: u16 = 4711;
const LOCAL_OUT: u32 = 3;

fn is_root() -> bool {
    // SAFETY: the call only asks.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn chain(priority: i32, trace: bool, ports: (u16, u16)) -> CountingChain {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    CountingChain {
        name: format!("at_{}", i64::from(priority) + (1 << 31)),
        hook: LOCAL_OUT,
        priority,
        rules: vec![CountingRule {
            packets: Packets::Flow {
                protocol: 17,
                source: local,
                source_ports: (1, u16::MAX),
                destination: local,
                destination_ports: ports,
            },
            trace,
        }],
    }
}

#[test]
fn own_rules_count_and_trace_and_go_with_their_socket() {
    if !is_root() {
        return;
    }
    let namespace = NetNs::anonymous().unwrap();
    let _inside = namespace.enter().unwrap();
    run(&["ip", "link", "set", "lo", "up"]);
    let rule = ["udp", "dport", "4711", "counter", "drop"];
    run(&["nft", "add table ip guilty"]);
    run(&[
        "nft",
        "add chain ip guilty out { type filter hook output priority 0; }",
    ]);
    run(&["nft", "add rule ip guilty out tcp dport 1 accept"]);
    run(&[&["nft", "add", "rule", "ip", "guilty", "out"], &rule[..]].concat());
    let mut traces = RuleTraces::new().unwrap();
    let chains = [
        chain(i32::MIN, true, (PORT, PORT)),
        chain(i32::MAX, false, (PORT, PORT)),
        chain(-5, false, (PORT + 1, PORT + 9)),
    ];
    let mut table = OwnTable::create(Layer::Ip, "own", &chains).unwrap();
    assert!(run(&["nft", "list", "tables"]).contains("own"));
    // The name is taken, and nobody but the owner changes the table. Others' tables are left alone.
    assert!(OwnTable::create(Layer::Ip, "guilty", &chains).is_err());
    assert!(run(&["nft", "list", "tables"]).contains("guilty"));
    assert!(OwnTable::create(Layer::Ip, "own", &chains).is_err());
    let flush = Command::new("nft")
        .args(["delete", "table", "ip", "own"])
        .output();
    assert!(!flush.unwrap().status.success());

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in [PORT, PORT, PORT + 3, PORT + 10] {
        // What a rule drops is refused at once.
        let _ = socket.send_to(b"x", ("127.0.0.1", port));
    }
    assert_eq!(table.packets().unwrap(), [vec![2], vec![0], vec![1]]);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut dropped = Vec::new();
    while dropped.len() < 2 && Instant::now() < deadline {
        let (steps, lost) = traces.read().unwrap();
        assert!(!lost);
        dropped.extend(steps.into_iter().filter(|step| step.dropped));
    }
    let known = handles(Layer::Ip, "guilty", "out").unwrap();
    assert_eq!((dropped.len(), known.len()), (2, 2));
    for step in &dropped {
        assert_eq!((&*step.table, &*step.chain), ("guilty", "out"));
        assert_eq!(step.step, Step::Rule(known[1]));
    }
    drop(table);
    assert!(!run(&["nft", "list", "tables"]).contains("own"));
}

#[test]
fn every_layer_takes_own_rules() {
    if !is_root() {
        return;
    }
    let namespace = NetNs::anonymous().unwrap();
    let _inside = namespace.enter().unwrap();
    let addresses: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    for (layer, address) in [
        (Layer::Bridge, addresses[0]),
        (Layer::Bridge, addresses[1]),
        (Layer::Ip6, addresses[1]),
        (Layer::Inet, addresses[0]),
    ] {
        let mut one = chain(7, true, (80, 80));
        one.rules[0].packets = Packets::Flow {
            protocol: 6,
            source: address,
            source_ports: (1, 9),
            destination: address,
            destination_ports: (80, 80),
        };
        let mut table = OwnTable::create(layer, "own", &[one]).unwrap();
        assert_eq!(table.packets().unwrap(), [vec![0]]);
    }
    for told in [false, true] {
        let mut one = chain(7, false, (80, 80));
        one.hook = 1;
        one.rules[0].packets = Packets::Arp {
            address: Ipv4Addr::new(192, 0, 2, 1),
            told,
        };
        let mut table = OwnTable::create(Layer::Arp, "own", &[one]).unwrap();
        assert_eq!(table.packets().unwrap(), [vec![0]]);
    }
    assert!(OwnTable::create(Layer::Ip, &"x".repeat(4000), &[]).is_err());
}
