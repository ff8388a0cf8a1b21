//! `pointsman doctor vrrp` among real keepalived routers: the right code at the right node, and nothing
//! where nothing is wrong.

#[path = "../../daemon/tests/vrrp/keepalived.rs"]
#[allow(dead_code)]
mod keepalived;
#[path = "../../daemon/tests/vrrp/segment.rs"]
#[allow(dead_code)]
mod segment;

use std::process::{Command, Output};
use std::sync::Mutex;

use keepalived::Keepalived;
use pointsman_path::finding::{Confidence, Finding};
use segment::{Segment, ip, run, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const VIP: &str = "10.77.0.100";
const VIP6: &str = "fd77::100";
/// Cases at once: they mostly wait.
const AT_ONCE: usize = 6;

/// A fault among two routers, and what is said of it.
struct Case {
    name: &'static str,
    /// Lines of each router's instance.
    routers: [&'static str; 2],
    /// Where, and which program with which words, before the routers begin.
    before: &'static [(Place, &'static str, &'static str)],
    /// How many masters there are when the doctor comes.
    masters: usize,
    /// The code, at whom, and words of it; nothing where nothing is wrong.
    wanted: Option<(&'static str, Place, &'static str)>,
    /// Whether a command mends it, and another one takes that back.
    typed: bool,
    seconds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Bridge,
    Host(usize),
}

const QUICK: [&str; 2] = [
    "version 3\nadvert_int 0.1\npriority 150",
    "version 3\nadvert_int 0.1\npriority 100",
];

const CASES: &[Case] = &[
    Case {
        name: "nothing",
        routers: QUICK,
        before: &[],
        masters: 1,
        wanted: None,
        typed: false,
        seconds: 2,
    },
    Case {
        name: "a filter at the master's port",
        routers: QUICK,
        before: &[(
            Place::Bridge,
            "ebtables",
            "-A FORWARD -i port1 -p IPv4 --ip-proto 112 -j DROP",
        )],
        masters: 2,
        wanted: Some(("VRRP_SPLIT", Place::Bridge, "port1")),
        typed: true,
        seconds: 2,
    },
    Case {
        name: "a filter on the backup itself",
        routers: QUICK,
        before: &[
            (Place::Host(1), "nft", "add table inet guard"),
            (
                Place::Host(1),
                "nft",
                "add chain inet guard in { type filter hook input priority 0 ; }",
            ),
            (
                Place::Host(1),
                "nft",
                "add rule inet guard in ip protocol 112 drop",
            ),
        ],
        masters: 2,
        wanted: Some(("VRRP_SPLIT", Place::Host(1), "drops them itself")),
        typed: true,
        seconds: 2,
    },
    Case {
        name: "passwords",
        routers: [
            "version 2\npriority 150\nauthentication {\nauth_type PASS\nauth_pass one\n}",
            "version 2\npriority 100\nauthentication {\nauth_type PASS\nauth_pass two\n}",
        ],
        before: &[],
        masters: 2,
        wanted: Some(("VRRP_MISMATCH", Place::Host(0), "passwords differ")),
        typed: false,
        seconds: 6,
    },
    Case {
        name: "authentication",
        routers: [
            "version 2\npriority 150\nauthentication {\nauth_type PASS\nauth_pass one\n}",
            "version 2\npriority 100",
        ],
        before: &[],
        masters: 2,
        wanted: Some(("VRRP_MISMATCH", Place::Host(0), "PASS and none")),
        typed: false,
        seconds: 6,
    },
    Case {
        name: "intervals",
        routers: [
            "version 2\npriority 150\nadvert_int 1",
            "version 2\npriority 100\nadvert_int 2",
        ],
        before: &[],
        masters: 2,
        wanted: Some((
            "VRRP_MISMATCH",
            Place::Host(0),
            "intervals of seconds 1 and 2",
        )),
        typed: false,
        seconds: 7,
    },
    Case {
        name: "versions",
        routers: [
            "version 3\nadvert_int 1\npriority 150",
            "version 2\npriority 100",
        ],
        before: &[],
        masters: 2,
        wanted: Some(("VRRP_MISMATCH", Place::Host(0), "VRRP versions 3 and 2")),
        typed: false,
        seconds: 6,
    },
    Case {
        name: "ids",
        routers: [
            "version 3\nadvert_int 0.1\npriority 150\nvirtual_router_id 51",
            "version 3\nadvert_int 0.1\npriority 100\nvirtual_router_id 52",
        ],
        before: &[],
        masters: 2,
        wanted: Some((
            "VRRP_MISMATCH",
            Place::Host(0),
            "virtual router ids 51 and 52",
        )),
        typed: false,
        seconds: 2,
    },
    Case {
        name: "a peer that is not there",
        routers: [
            "version 3\nadvert_int 0.1\npriority 150\nunicast_src_ip 10.77.0.1\nunicast_peer {\n10.77.0.9\n}",
            "version 3\nadvert_int 0.1\npriority 100\nunicast_src_ip 10.77.0.2\nunicast_peer {\n10.77.0.1\n}",
        ],
        before: &[],
        masters: 2,
        wanted: Some(("VRRP_MISMATCH", Place::Host(0), "a peer 10.77.0.9")),
        typed: false,
        seconds: 4,
    },
    Case {
        name: "an address that is not believed",
        routers: QUICK,
        before: &[(
            Place::Bridge,
            "ebtables",
            "-A FORWARD -i port1 -p ARP --arp-ip-src 10.77.0.100 -j DROP",
        )],
        masters: 1,
        wanted: Some(("VIP_NOT_BELIEVED", Place::Bridge, "drops it at port1")),
        typed: true,
        seconds: 2,
    },
    Case {
        name: "a virtual link-layer address behind a filter",
        routers: [
            "version 3\nadvert_int 0.1\npriority 150\nuse_vmac",
            "version 3\nadvert_int 0.1\npriority 100\nuse_vmac",
        ],
        before: &[(
            Place::Bridge,
            "ebtables",
            "-A FORWARD -i port1 -s 00:00:5e:00:01:33 -j DROP",
        )],
        masters: 2,
        wanted: Some((
            "HOST_MAC_SPOOF",
            Place::Bridge,
            "virtual link-layer address",
        )),
        typed: true,
        seconds: 2,
    },
    Case {
        name: "an old neighbour entry",
        routers: QUICK,
        before: &[(
            Place::Host(2),
            "ip",
            "neighbour add 10.77.0.100 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
        )],
        masters: 1,
        wanted: Some(("STALE_NEIGH", Place::Host(2), "02:00:00:00:00:99")),
        typed: true,
        seconds: 2,
    },
    Case {
        name: "a tie of priority behind a filter",
        routers: [
            "version 3\nadvert_int 0.1\npriority 100",
            "version 3\nadvert_int 0.1\npriority 100",
        ],
        before: &[
            (Place::Bridge, "nft", "add table bridge guard"),
            (
                Place::Bridge,
                "nft",
                "add chain bridge guard way { type filter hook forward priority 0 ; policy drop ; }",
            ),
            (
                Place::Bridge,
                "nft",
                "add rule bridge guard way ip protocol != 112 accept",
            ),
            (
                Place::Bridge,
                "nft",
                "add rule bridge guard way ether type != ip accept",
            ),
        ],
        masters: 2,
        wanted: Some(("VRRP_SPLIT", Place::Bridge, "drops them at port")),
        typed: true,
        seconds: 2,
    },
    Case {
        name: "intervals of version 3",
        routers: [
            "version 3\nadvert_int 0.1\npriority 150",
            "version 3\nadvert_int 0.3\npriority 100",
        ],
        before: &[],
        masters: 1,
        wanted: None,
        typed: false,
        seconds: 2,
    },
    Case {
        name: "a tie of priority and address",
        routers: [
            "version 3\nadvert_int 0.1\npriority 100\nmcast_src_ip 10.77.0.9",
            "version 3\nadvert_int 0.1\npriority 100\nmcast_src_ip 10.77.0.9",
        ],
        before: &[
            (Place::Host(0), "ip", "address add 10.77.0.9/24 dev eth0"),
            (Place::Host(1), "ip", "address add 10.77.0.9/24 dev eth0"),
        ],
        masters: 2,
        wanted: Some((
            "VRRP_MISMATCH",
            Place::Host(0),
            "from the same address 10.77.0.9",
        )),
        typed: false,
        seconds: 2,
    },
    Case {
        name: "addresses",
        routers: [
            "version 3\nadvert_int 0.1\npriority 150\nvirtual_ipaddress {\n10.77.0.100\n10.77.0.101\n}",
            "version 3\nadvert_int 0.1\npriority 100",
        ],
        before: &[],
        masters: 2,
        wanted: Some(("VRRP_MISMATCH", Place::Host(0), "virtual addresses")),
        typed: false,
        seconds: 3,
    },
    Case {
        name: "an id of another group",
        routers: [
            "version 3\nadvert_int 0.1\npriority 150\nuse_vmac",
            "version 3\nadvert_int 0.1\npriority 100\nuse_vmac\nvirtual_ipaddress {\n10.77.0.200\n}",
        ],
        before: &[],
        masters: 1,
        wanted: Some((
            "VRRP_ID_TAKEN",
            Place::Host(0),
            "virtual router id 51 for different addresses",
        )),
        typed: false,
        seconds: 3,
    },
    Case {
        name: "a port that gets no groups",
        routers: QUICK,
        before: &[(
            Place::Bridge,
            "bridge",
            "link set dev port2 mcast_flood off",
        )],
        masters: 2,
        wanted: Some(("IGMP_SNOOP", Place::Bridge, "mcast_flood off")),
        typed: true,
        seconds: 2,
    },
    Case {
        name: "a group that nobody is known to have joined",
        routers: [
            "version 3\nadvert_int 0.1\npriority 150\nmcast_dst_ip 224.0.1.18",
            "version 3\nadvert_int 0.1\npriority 100\nmcast_dst_ip 224.0.1.18",
        ],
        before: &[
            (Place::Host(1), "iptables", "-A OUTPUT -p igmp -j DROP"),
            (Place::Bridge, "ip", QUERIER),
        ],
        masters: 2,
        wanted: Some(("IGMP_SNOOP", Place::Bridge, "port2")),
        typed: true,
        seconds: 2,
    },
    Case {
        name: "a group of IPv6 that nobody is known to have joined",
        routers: [
            "version 3\nadvert_int 0.1\npriority 150\nvirtual_ipaddress {\nfe80::100\nfd77::100\n}",
            "version 3\nadvert_int 0.1\npriority 100\nvirtual_ipaddress {\nfe80::100\nfd77::100\n}",
        ],
        before: &[
            (
                Place::Host(1),
                "ip6tables",
                "-A OUTPUT -p icmpv6 --icmpv6-type 131 -j DROP",
            ),
            (
                Place::Host(1),
                "ip6tables",
                "-A OUTPUT -p icmpv6 --icmpv6-type 143 -j DROP",
            ),
            (Place::Bridge, "ip", QUERIER),
        ],
        masters: 2,
        wanted: Some(("IGMP_SNOOP", Place::Bridge, "ff02::12")),
        typed: true,
        seconds: 2,
    },
    Case {
        name: "a filter of IPv6",
        routers: [
            "version 3\nadvert_int 0.1\npriority 150\nvirtual_ipaddress {\nfe80::100\nfd77::100\n}",
            "version 3\nadvert_int 0.1\npriority 100\nvirtual_ipaddress {\nfe80::100\nfd77::100\n}",
        ],
        before: &[(Place::Host(1), "ip6tables", "-A INPUT -p 112 -j DROP")],
        masters: 2,
        wanted: Some(("VRRP_SPLIT", Place::Host(1), "drops them itself")),
        typed: true,
        seconds: 2,
    },
];

/// Makes the bridge ask who has joined what, in IPv6 as soon as it has an address of it, and believe
/// soon that it has heard everybody.
const QUERIER: &str = "link set br0 type bridge mcast_querier 1 mcast_query_response_interval 10 \
                       mcast_startup_query_interval 50 mcast_query_interval 100";

fn configuration(lines: &str) -> String {
    let id = match lines.contains("virtual_router_id") {
        true => "",
        false => "virtual_router_id 51",
    };
    let addresses = match lines.contains("virtual_ipaddress") {
        true => String::new(),
        false => format!("virtual_ipaddress {{\n{VIP}\n}}"),
    };
    format!("vrrp_instance VI_1 {{\ninterface eth0\n{id}\n{lines}\n{addresses}\n}}\n")
}

impl Case {
    /// Builds it, waits until it is as it will be, and has something done.
    fn with(&self, work: impl FnOnce(&Segment)) {
        let Some(segment) = Segment::new(3) else {
            return;
        };
        for (place, program, words) in self.before {
            run(namespace(&segment, *place), program, words);
        }
        let routers = self.routers.iter().zip(&segment.hosts);
        let _routers: Vec<_> = routers
            .map(|(lines, host)| Keepalived::start(host, &configuration(lines)))
            .collect();
        self.wait_for(&segment, self.masters);
        work(&segment);
    }

    /// Waits until so many have the address, among them who is to have it.
    fn wait_for(&self, segment: &Segment, masters: usize) {
        let v6 = self.routers[0].contains(VIP6);
        let vip = if v6 { VIP6 } else { VIP };
        let is_tie = self.routers[0] == self.routers[1];
        // A tie goes to the higher address.
        let first = usize::from(is_tie && masters == 1);
        wait(&format!("{}: {masters} masters", self.name), || {
            (0..2).filter(|host| segment.has(*host, vip)).count() == masters
                && segment.has(first, vip)
        });
    }
}

/// Types commands at a node.
fn type_at(segment: &Segment, node: &str, commands: &[String]) {
    let mut places = ALL.into_iter();
    let place = places.find(|place| name(segment, *place) == node);
    let place = namespace(segment, place.expect("a node of the segment"));
    for command in commands {
        let status = place.command("sh").args(["-c", command]).status();
        assert!(status.expect("a shell").success(), "{command}");
    }
}

/// Types what is to mend it, sees that it does, and that it is as before when that is taken back.
fn mend(case: &Case, segment: &Segment, finding: &Finding, said: &str) {
    let mut fixes = finding.fixes.iter();
    let fix = fixes.find(|fix| !fix.commands.is_empty());
    assert_eq!(fix.is_some(), case.typed, "{}: {said}", case.name);
    let Some(fix) = fix else { return };
    let node = fix.node.as_ref().unwrap_or(&finding.node);
    type_at(segment, node, &fix.commands);
    case.wait_for(segment, 1);
    if case.masters == 1 {
        let (found, code, said) = findings(&everywhere(segment, case.seconds));
        assert!(found.is_empty() && code == Some(0), "{}: {said}", case.name);
    }
    type_at(segment, node, &fix.undo);
    case.wait_for(segment, case.masters);
    if case.masters == 1 {
        let (found, _, said) = findings(&everywhere(segment, case.seconds));
        let codes: Vec<_> = found.iter().map(|one| one.code).collect();
        assert!(codes.contains(&finding.code), "{}: {said}", case.name);
    }
}

fn namespace(segment: &Segment, place: Place) -> &pointsman_linux::netns::NetNs {
    match place {
        Place::Bridge => &segment.bridge,
        Place::Host(host) => &segment.hosts[host],
    }
}

fn name(segment: &Segment, place: Place) -> String {
    let name = namespace(segment, place).name();
    name.expect("a name").to_owned()
}

const ALL: [Place; 4] = [
    Place::Bridge,
    Place::Host(0),
    Place::Host(1),
    Place::Host(2),
];

fn doctor(words: &[String]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(["doctor", "vrrp"]).args(words);
    command.output().expect("ask the doctor")
}

/// What the doctor finds, and its exit code.
fn findings(words: &[String]) -> (Vec<Finding>, Option<i32>, String) {
    let output = doctor(&[words, &["--json".to_owned()]].concat());
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let found = document["findings"].clone();
    let found = serde_json::from_value(found).expect("findings");
    (found, output.status.code(), said)
}

fn everywhere(segment: &Segment, seconds: u32) -> Vec<String> {
    let mut words = vec!["--seconds".to_owned(), seconds.to_string()];
    for place in ALL {
        words.extend(["--netns".to_owned(), name(segment, place)]);
    }
    words
}

fn examine(case: &Case) {
    case.with(|segment| {
        let (found, code, said) = findings(&everywhere(segment, case.seconds));
        let Some((wanted, place, words)) = case.wanted else {
            assert!(found.is_empty() && code == Some(0), "{}: {said}", case.name);
            return;
        };
        assert_eq!(code, Some(1), "{}: {said}", case.name);
        let first = found.first().expect("a finding");
        assert_eq!(first.code.name(), wanted, "{}: {said}", case.name);
        // Of two keepalived that reject each other one may never come to advertise, and what they do not
        // agree about is not seen.
        let mute = wanted == "VRRP_MISMATCH" && first.words.contains("rejects what it hears");
        // Rules of bridges are tried in a twin.
        let is_port = first.rule.is_some() && place == Place::Bridge;
        let proved = first.confidence == Confidence::Proved;
        assert_eq!(is_port, proved, "{}: {said}", case.name);
        let told = first.node == name(segment, place) && first.words.contains(words);
        assert!(mute || told, "{}: {said}", case.name);
        mend(case, segment, first, &said);
    });
}

#[test]
fn what_is_wrong_among_virtual_routers_is_told_and_nothing_else() {
    let left = Mutex::new(CASES.iter().rev().collect::<Vec<_>>());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(case) = left.lock().expect("no panic").pop() else {
                        return;
                    };
                    let work = std::panic::AssertUnwindSafe(|| examine(case));
                    if std::panic::catch_unwind(work).is_err() {
                        wrong.lock().expect("no panic").push(case.name);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn captures_and_bundles_tell_the_same_elsewhere() {
    let case = CASES.iter().find(|case| case.name == "ids");
    case.expect("a case").with(|segment| {
        let folder = tempfile::tempdir().expect("a folder");
        let pcap = folder.path().join("client.pcap").display().to_string();
        let bundle = folder.path().join("bundle.json").display().to_string();
        let status = segment.hosts[2]
            .command("timeout")
            .args(["3", "tcpdump", "-q", "-i", "eth0", "-U", "-w", &pcap])
            .stderr(std::process::Stdio::null())
            .status()
            .expect("capture");
        assert_eq!(status.code(), Some(124), "until the end");
        let mut collect = Command::new(PROGRAM);
        collect.args(["collect", "--out", &bundle]);
        for place in ALL {
            collect.args(["--netns", &name(segment, place)]);
        }
        assert!(collect.output().expect("collect").status.success());
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            findings(&words)
        };
        // The capture alone knows addresses, with the bundle it knows who they are.
        let (found, code, said) = read(&["--read", &pcap]);
        assert_eq!((found.len(), code), (1, Some(1)), "{said}");
        assert!(
            found[0].words.starts_with("10.77.0.1 and 10.77.0.2 "),
            "{said}"
        );
        let (found, _, said) = read(&["--read", &pcap, "--bundle", &bundle]);
        assert_eq!(found[0].code.name(), "VRRP_MISMATCH", "{said}");
        assert_eq!(found[0].node, name(segment, Place::Host(0)), "{said}");
        // What is set up alone says that two have it.
        let (found, _, said) = read(&["--bundle", &bundle]);
        assert_eq!(found[0].code.name(), "DUP_VIP", "{said}");
    });
}

#[test]
fn where_nobody_advertises_nobody_can_tell() {
    let Some(segment) = Segment::new(1) else {
        return;
    };
    let words = ["--seconds", "1", "--netns", &name(&segment, Place::Host(0))];
    let output = doctor(&words.map(str::to_owned));
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nobody advertises"), "{said}");
    let _ = ip(&segment.hosts[0], "link");
}
