//! Rules imported from iptables and nft give the marks that netfilter gives.
//!
//! Each program loads rules by chance into a namespace and writes them out again; what it wrote is
//! imported. Then packets come in by a veth, netfilter notes the mark that each has when IPVS would
//! see it, and the director's mark has to be the same. `POINTSMAN_SEED` repeats a run.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pointsman_config::marks::{Source, import};
use pointsman_director::{
    control::{Capacity, Director},
    headers, mark,
    model::{Change, Family},
    native::{NativeEnv, NativeFrame, NativeTables, generate::Chance},
    record::Settings,
};
use pointsman_linux::{netns::NetNs, packet::Capture};
use pointsman_wire::{Frame, Mac, tcp};

const MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
const SENDER: Mac = Mac([2, 0, 0, 0, 1, 2]);
/// The source port of the first packet; each has its own, by which netfilter notes its mark.
const FIRST: u16 = 20_000;
const PACKETS: u16 = 300;
const PATIENCE: Duration = Duration::from_secs(20);

/// Notes what each packet's mark is just before IPVS sees it.
const PROBE: &str = "table inet probe {
    set seen { type inet_service . mark; size 65535; flags dynamic; }
    chain probe {
        type filter hook input priority 98; policy accept;
        add @seen { th sport . meta mark }
    }
}
";

fn seed() -> u64 {
    let given = std::env::var("POINTSMAN_SEED").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or_else(|| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
        now.map_or(1, |now| now.as_micros() as u64 % 1_000_000_007)
    })
}

/// Whether the test can do its work with these programs; says so when not.
fn can_run(programs: &[&str]) -> bool {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return false;
    }
    for program in programs {
        let found = Command::new(program).arg("--version").output();
        if found.is_err() {
            println!("skipped: needs {program}");
            return false;
        }
    }
    true
}

/// Runs a program with an input in the current namespace; what it writes.
#[track_caller]
fn run(command: &str, input: &str) -> String {
    let mut words = command.split(' ');
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

fn set_up() {
    run(
        "ip -batch -",
        &format!(
            "link set lo up\n\
             link add v0 address {MAC} type veth peer name v1 address {SENDER}\n\
             link set v0 up\n\
             link set v1 up\n\
             route add local 10.99.0.0/16 dev lo\n\
             route add default dev v0\n\
             route add local fd99::/16 dev lo\n\
             route add ::/0 dev v0\n"
        ),
    );
    for name in ["all", "default", "v0"] {
        let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        std::fs::write(path, "0").unwrap();
    }
    run("nft -f -", PROBE);
}

struct Packet {
    frame: Vec<u8>,
    text: String,
}

fn packet(chance: &mut Chance, port: u16, ipv6: bool) -> Packet {
    let (net, host) = (chance.below(3) as u16, chance.below(8) as u16);
    let (from, last) = (97 + chance.below(2) as u16, chance.below(4) as u16);
    let (source, destination): (IpAddr, IpAddr) = match ipv6 {
        true => (
            Ipv6Addr::new(0xfd00 + from - 0x20, 0, 0, 0, 0, 0, 0, last).into(),
            Ipv6Addr::new(0xfd99, 0, 0, net, 0, 0, 0, host).into(),
        ),
        false => (
            Ipv4Addr::new(10, from as u8, 0, 1 + last as u8).into(),
            Ipv4Addr::new(10, 99, net as u8, host as u8).into(),
        ),
    };
    let to = *chance.one(&[53, 80, 80, 443, 443, 8000, 8050, 8101]);
    let ip = Frame::ip(source, destination).macs(SENDER, MAC);
    let is_tcp = chance.percent(60);
    let frame = match is_tcp {
        true => ip.tcp(port, to).flags(tcp::SYN).build(),
        false => ip.udp(port, to).payload(b"mark").build(),
    };
    let protocol = if is_tcp { "tcp" } else { "udp" };
    Packet {
        frame,
        text: format!("{source} {port} > {destination} {to} {protocol}"),
    }
}

/// Sends packets, and returns the marks they had by source port.
fn marks(packets: &[Packet]) -> BTreeMap<u16, u32> {
    run("nft flush set inet probe seen", "");
    let sender = Capture::open("v1").unwrap();
    for packet in packets {
        sender.send(&packet.frame).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = run("nft -j list set inet probe seen", "");
        let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
        let objects = seen["nftables"].as_array().unwrap();
        let set = objects.iter().find_map(|object| object.get("set")).unwrap();
        let elements = set["elem"].as_array().cloned().unwrap_or_default();
        let marks: BTreeMap<u16, u32> = elements
            .iter()
            .map(|element| {
                let pair = &element["concat"];
                let number = |at: usize| pair[at].as_u64().unwrap();
                (number(0) as u16, number(1) as u32)
            })
            .collect();
        if marks.len() == packets.len() {
            return marks;
        }
        let late = Instant::now() > deadline;
        assert!(!late, "{} of {} came", marks.len(), packets.len());
    }
}

/// Compares netfilter's marks with those of the rules imported from `text`; how many packets had one.
fn compare(
    name: &str,
    seed: u64,
    text: &str,
    default: Family,
    family: Family,
    chance: &mut Chance,
) -> usize {
    let imported = import(&[Source { name, text }], default).unwrap();
    assert_eq!(imported.obstacles, [], "seed {seed}\n{text}");
    let capacity = Capacity {
        services: 1,
        servers: 1,
        slot_lines: 1,
        table_lines: 1,
    };
    let mut tables = NativeTables::new(capacity);
    let mut director = Director::new(capacity, Settings::DEFAULT);
    let index = nix::net::if_::if_nametoindex("v0").unwrap();
    let interfaces = HashMap::from([("v0".to_owned(), index)]);
    director.set_interfaces(interfaces, &mut tables).unwrap();
    let rules = imported.rules;
    let shown: String = rules.iter().map(|rule| format!("{rule}\n")).collect();
    let change = Change::SetMarkRules { rules };
    director.apply(&change, &mut tables).unwrap();
    let ports = FIRST..FIRST + PACKETS;
    let packets: Vec<Packet> = ports
        .map(|port| {
            let ipv6 = match family {
                Family::Any => port % 2 == 0,
                family => family == Family::Ipv6,
            };
            packet(chance, port, ipv6)
        })
        .collect();
    let env = NativeEnv::default();
    let mut marked = 0;
    for ((port, theirs), packet) in marks(&packets).into_iter().zip(&packets) {
        let frame = NativeFrame::new(packet.frame.clone(), index);
        let mut headers = headers::Headers::default();
        headers::parse(&frame, &mut headers).unwrap();
        let ours = mark::of(&tables, &env, &headers, index);
        assert_eq!(
            ours, theirs,
            "seed {seed}, {name}, port {port}: {}\n{text}\n{shown}",
            packet.text
        );
        marked += usize::from(theirs != 0);
    }
    marked
}

/// A rule of iptables behind its `-A CHAIN`; `chains` are those it may lead to.
fn iptables_rule(chance: &mut Chance, ipv6: bool, chains: &[&str]) -> String {
    let mut text = String::new();
    let not = |chance: &mut Chance| if chance.percent(25) { " !" } else { "" };
    let (sources, destinations) = match ipv6 {
        true => (
            ["fd41::/16", "fd41::1", "fd40::/9", "::/0"],
            ["fd99::/64", "fd99::2", "fd99:0:0:1::/64", "fd99::/126"],
        ),
        false => (
            ["10.97.0.0/16", "10.97.0.2", "10.96.0.0/13", "0.0.0.0/0"],
            ["10.99.0.0/24", "10.99.0.2", "10.99.1.0/24", "10.99.0.0/30"],
        ),
    };
    if chance.percent(50) {
        let _ = write!(text, "{} -d {}", not(chance), chance.one(&destinations));
    }
    if chance.percent(20) {
        let _ = write!(text, "{} -s {}", not(chance), chance.one(&sources[..3]));
    }
    if chance.percent(20) {
        let _ = write!(text, "{} -i {}", not(chance), chance.one(&["v0", "eth7"]));
    }
    if chance.percent(55) {
        let protocol = chance.one(&["tcp", "udp"]);
        let _ = write!(text, " -p {protocol}");
        match chance.below(6) {
            0 => {
                let _ = write!(text, " -m {protocol}{} --dport 80", not(chance));
            }
            1 => {
                let _ = write!(text, " -m {protocol} --dport 443: --sport :20200");
            }
            2 => {
                let list = "80,443,8000:8100";
                let _ = write!(text, " -m multiport{} --dports {list}", not(chance));
            }
            3 => {
                let list = "53,80,20000:20100";
                let _ = write!(text, " -m multiport{} --ports {list}", not(chance));
            }
            4 => {
                let _ = write!(text, " -m {protocol}{} --sport 20050:20150", not(chance));
            }
            _ => {}
        }
    }
    if chance.percent(20) {
        let mark = chance.one(&["0x1", "0x0/0x1", "0x2/0x6"]);
        let _ = write!(text, " -m mark{} --mark {mark}", not(chance));
    }
    let verdict = match chance.below(12) {
        0 => "ACCEPT".to_owned(),
        1 => "RETURN".to_owned(),
        2 => "MARK --and-mark 0xfd".to_owned(),
        3 => "MARK --or-mark 0x12".to_owned(),
        4 => "MARK --xor-mark 0x3".to_owned(),
        5 => "MARK --set-mark 0x5/0x3".to_owned(),
        6..9 if !chains.is_empty() => (*chance.one(chains)).to_owned(),
        9 if !chains.is_empty() => {
            let _ = write!(text, " -g {}", chance.one(chains));
            return text;
        }
        _ => format!("MARK --set-mark {}", 1 + chance.below(7)),
    };
    let _ = write!(text, " -j {verdict}");
    text
}

/// What `iptables-restore` reads.
fn iptables_rules(chance: &mut Chance, ipv6: bool) -> String {
    let mut text = "*raw\n:PREROUTING ACCEPT [0:0]\n".to_owned();
    for _ in 0..2 {
        let rule = iptables_rule(chance, ipv6, &[]);
        let _ = writeln!(text, "-A PREROUTING{rule}");
    }
    text +=
        "COMMIT\n*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n";
    let both: &[&str] = &["A", "B"];
    for (chain, count, chains) in [
        ("B", 3, &[][..]),
        ("A", 4, &both[1..]),
        ("PREROUTING", 6, both),
        ("INPUT", 3, both),
    ] {
        for _ in 0..count {
            let rule = iptables_rule(chance, ipv6, chains);
            let _ = writeln!(text, "-A {chain}{rule}");
        }
    }
    text + "COMMIT\n"
}

/// Rules by `program` (`iptables-nft`, say), some rounds of them.
fn iptables(program: &str, ipv6: bool) {
    let restore = format!("{program}-restore");
    if !can_run(&[&restore, "nft", "ip"]) {
        return;
    }
    let host = NetNs::create(&format!("pmm-{}-{program}", std::process::id()))
        .unwrap()
        .delete_on_drop();
    let seed = seed();
    let family = if ipv6 { Family::Ipv6 } else { Family::Ipv4 };
    let marked = host.run_in(|| {
        set_up();
        let mut chance = Chance::new(seed);
        let mut marked = 0;
        for _ in 0..6 {
            let rules = iptables_rules(&mut chance, ipv6);
            run(&restore, &rules);
            let saved = run(&format!("{program}-save"), "");
            marked += compare(program, seed, &saved, Family::Ipv4, family, &mut chance);
        }
        marked
    });
    assert!(marked.unwrap() > 100, "seed {seed}");
}

#[test]
fn rules_of_iptables_nft_give_the_same_marks() {
    iptables("iptables-nft", false);
}

#[test]
fn rules_of_iptables_legacy_give_the_same_marks() {
    iptables("iptables-legacy", false);
}

#[test]
fn rules_of_ip6tables_give_the_same_marks() {
    iptables("ip6tables-nft", true);
}

/// A rule of nft; `chains` are those it may lead to.
fn nft_rule(chance: &mut Chance, chains: &[&str]) -> String {
    let mut text = String::new();
    let is = |chance: &mut Chance| if chance.percent(25) { "!= " } else { "" };
    // No two of one kind: nft refuses what contradicts itself.
    let conditions: [&[&str]; 3] = [
        &[
            "ip daddr 10.99.0.0/24",
            "ip daddr { 10.99.0.1, 10.99.1.0/29, 10.99.2.1-10.99.2.6 }",
            "ip daddr @vips",
            "ip6 daddr fd99::/64",
            "ip6 daddr { fd99::1, fd99:0:0:1::/64, fd99::3-fd99::6 }",
            "meta nfproto ipv6",
            "ip saddr 10.97.0.0/16",
            "ip6 saddr fd41::/16",
        ],
        &[
            "tcp dport { 80, 443, 8000-8100 }",
            "tcp dport > 80",
            "tcp dport 443",
            "udp dport <= 80",
            "th dport 80",
            "th sport 20000-20100",
            "meta l4proto tcp",
            "meta l4proto { tcp, udp }",
        ],
        &[
            "iifname v0",
            "iifname { v0, eth7 }",
            "meta mark 1",
            "meta mark & 0x6 == 2",
        ],
    ];
    for (kind, often) in conditions.into_iter().zip([60, 50, 30]) {
        if !chance.percent(often) {
            continue;
        }
        let condition = chance.one(kind);
        let (subject, value) = condition.rsplit_once(' ').unwrap();
        let plain = condition.contains(['{', '<', '>', '=']);
        match plain {
            true => {
                let _ = write!(text, "{condition} ");
            }
            false => {
                let _ = write!(text, "{subject} {}{value} ", is(chance));
            }
        }
    }
    let sets = [
        "meta mark set 1",
        "meta mark set 2",
        "meta mark set mark or 0x10",
        "meta mark set mark and 0xfffffffd",
        "meta mark set mark xor 3",
        "meta mark set mark and 0xff0f or 0x20",
    ];
    match chance.below(10) {
        0 => text += "accept",
        1 => text += "return",
        2 | 3 if !chains.is_empty() => {
            let _ = write!(text, "jump {}", chance.one(chains));
        }
        4 if !chains.is_empty() => {
            let _ = write!(text, "goto {}", chance.one(chains));
        }
        5 => {
            let _ = write!(text, "counter {} accept", chance.one(&sets));
        }
        6 => {
            let _ = write!(text, "{} return", chance.one(&sets));
        }
        _ => text += *chance.one(&sets),
    }
    text
}

#[test]
fn rules_of_nft_give_the_same_marks() {
    if !can_run(&["nft", "ip"]) {
        return;
    }
    let host = NetNs::create(&format!("pmm-{}-nft", std::process::id()))
        .unwrap()
        .delete_on_drop();
    let seed = seed();
    let marked = host.run_in(|| {
        set_up();
        let mut chance = Chance::new(seed);
        let mut marked = 0;
        for _ in 0..8 {
            let mut text =
                "table inet m {\nset vips { type ipv4_addr; flags interval; elements = { \
                            10.99.0.4/30, 10.99.2.1 }; }\n"
                    .to_owned();
            let both: &[&str] = &["a", "b"];
            for (name, hook, count, chains) in [
                ("b", "", 3, &[][..]),
                ("a", "", 3, &both[1..]),
                ("raw", "prerouting priority -300", 2, &[]),
                ("pre", "prerouting priority mangle", 6, both),
                ("in", "input priority 0", 3, both),
            ] {
                let _ = writeln!(text, "chain {name} {{");
                if !hook.is_empty() {
                    let _ = writeln!(text, "type filter hook {hook}; policy accept;");
                }
                for _ in 0..count {
                    let _ = writeln!(text, "{}", nft_rule(&mut chance, chains));
                }
                text += "}\n";
            }
            text += "}\n";
            run("nft -f -", &text);
            let listed = run("nft -j list table inet m", "");
            marked += compare("nft", seed, &listed, Family::Any, Family::Any, &mut chance);
            run("nft delete table inet m", "");
        }
        marked
    });
    assert!(marked.unwrap() > 100, "seed {seed}");
}
