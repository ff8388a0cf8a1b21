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
use pointsman_path::finding::Finding;
use segment::{Segment, ip, run, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const VIP: &str = "10.77.0.100";
/// Cases at once: they mostly wait.
const AT_ONCE: usize = 4;

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
        seconds: 2,
    },
];

fn configuration(lines: &str) -> String {
    let id = match lines.contains("virtual_router_id") {
        true => "",
        false => "virtual_router_id 51",
    };
    format!(
        "vrrp_instance VI_1 {{\ninterface eth0\n{id}\n{lines}\nvirtual_ipaddress {{\n{VIP}\n}}\n}}\n"
    )
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
        wait(&format!("{}: {} masters", self.name, self.masters), || {
            (0..2).filter(|host| segment.has(*host, VIP)).count() == self.masters
                && segment.has(0, VIP)
        });
        work(&segment);
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
        let told = first.node == name(segment, place) && first.words.contains(words);
        assert!(mute || told, "{}: {said}", case.name);
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
