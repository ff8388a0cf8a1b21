//! `pointsman doctor vip` where a service of IPv6 is broken: the right code at the right node, a fix that
//! helps as it is printed, and an undo that takes it back.

#[path = "../../daemon/tests/vrrp/segment.rs"]
#[allow(dead_code)]
mod segment;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_linux::netns::NetNs;
use pointsman_path::finding::Confidence;
use pointsman_path::report::{Report, Status};
use segment::{Segment, ip, run, sysctl, wait};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const VIP: &str = "fd77::100";
/// Cases at once.
const AT_ONCE: usize = 4;
/// How long a command's effect may take.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Bridge,
    Client,
    Director,
    Server,
}

const ALL: [Place; 4] = [Place::Bridge, Place::Client, Place::Director, Place::Server];

/// What is broken, and what is to be said.
struct Case {
    code: &'static str,
    /// Where, which program, which words.
    breaks: &'static [(Place, &'static str, &'static str)],
    at: Place,
    /// Whether two witnesses see it.
    proved: bool,
    /// Whether the undo, as printed, brings it back: not where it is to be done by hand, and not where
    /// whoever was in the way has gone.
    undone: bool,
}

const GUARD: [(Place, &str, &str); 2] = [
    (Place::Bridge, "nft", "add table bridge guard"),
    (
        Place::Bridge,
        "nft",
        "add chain bridge guard way { type filter hook forward priority 0 ; }",
    ),
];

const CASES: &[Case] = &[
    Case {
        code: "RS_VIP_MISSING",
        breaks: &[(Place::Server, "ip", "address del fd77::100/128 dev lo")],
        at: Place::Server,
        proved: true,
        undone: true,
    },
    Case {
        code: "RS_LOCAL_FW",
        breaks: &[(
            Place::Server,
            "ip6tables",
            "-A INPUT -p tcp --dport 80 -j DROP",
        )],
        at: Place::Server,
        proved: true,
        undone: true,
    },
    Case {
        code: "HOST_IP_SPOOF_RS",
        breaks: &[
            GUARD[0],
            GUARD[1],
            (
                Place::Bridge,
                "nft",
                "add rule bridge guard way iifname port3 ip6 saddr != fd77::3 ip6 nexthdr tcp drop",
            ),
        ],
        at: Place::Bridge,
        proved: true,
        undone: false,
    },
    Case {
        code: "HOST_IP_SPOOF_DIR",
        breaks: &[
            GUARD[0],
            GUARD[1],
            (
                Place::Bridge,
                "nft",
                "add rule bridge guard way iifname port2 ip6 saddr fd77::1 drop",
            ),
        ],
        at: Place::Bridge,
        proved: true,
        undone: false,
    },
    Case {
        code: "IGMP_SNOOP",
        breaks: &[(
            Place::Bridge,
            "bridge",
            "link set dev port2 mcast_flood off",
        )],
        at: Place::Bridge,
        proved: true,
        undone: true,
    },
    Case {
        code: "IPV6_DAD",
        // The real server has the address for a while, when the director takes it.
        breaks: &[
            (Place::Director, "ip", "address del fd77::100/128 dev eth0"),
            (
                Place::Server,
                "ip",
                "address add fd77::100/128 dev eth0 nodad",
            ),
            (
                Place::Director,
                "sysctl",
                "-q -w net.ipv6.conf.eth0.dad_transmits=1",
            ),
            (Place::Director, "ip", "address add fd77::100/128 dev eth0"),
        ],
        at: Place::Director,
        proved: false,
        undone: false,
    },
];

/// A client, a director and a real server on a bridge, at work.
struct Scene {
    segment: Segment,
    // Stopped before their namespaces go.
    processes: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(number: usize) -> Option<Self> {
        let segment = Segment::new(3)?;
        let folder = tempfile::tempdir().expect("a folder");
        let mut scene = Self {
            segment,
            processes: Vec::new(),
            folder,
        };
        let (director, server) = (scene.at(Place::Director), scene.at(Place::Server));
        ip(director, &format!("address add {VIP}/128 dev eth0 nodad"));
        ip(server, &format!("address add {VIP}/128 dev lo nodad"));
        let serving = "lab serve --name rs1 --port 80".split(' ');
        let mut command = server.command(PROGRAM);
        let serves = command.args(serving).stdout(Stdio::null()).spawn();
        let socket = scene.socket();
        let pins = format!("/sys/fs/bpf/pmv6-{}-{number}", std::process::id());
        let mut command = director.command(PROGRAM);
        command.args(["--socket", &socket, "run", "--interface", "eth0"]);
        command.args(["--pin-dir", &pins, "--connections", "1024"]);
        let directs = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        scene.processes.push(serves.expect("a server"));
        scene.processes.push(directs.expect("a director"));
        let said = scene.processes[1].stdout.take().expect("its output");
        let mut said = BufReader::new(said).lines();
        let is_ready = |line: &str| line.starts_with("ready:");
        assert!(said.any(|line| is_ready(&line.expect("a line"))));
        for words in [
            format!("-A -t [{VIP}]:80 -s rr"),
            format!("-a -t [{VIP}]:80 -r [fd77::3]:80 -g"),
        ] {
            let mut command = scene.at(Place::Director).command(PROGRAM);
            command.args(["--socket", &socket, "ipvsadm"]);
            let output = command.args(words.split(' ')).output().expect("run it");
            assert!(output.status.success(), "{output:?}");
        }
        wait("a request to be answered", || scene.is_answered());
        Some(scene)
    }

    fn socket(&self) -> String {
        self.folder.path().join("api.sock").display().to_string()
    }

    fn at(&self, place: Place) -> &NetNs {
        match place {
            Place::Bridge => &self.segment.bridge,
            Place::Client => &self.segment.hosts[0],
            Place::Director => &self.segment.hosts[1],
            Place::Server => &self.segment.hosts[2],
        }
    }

    fn name(&self, place: Place) -> &str {
        self.at(place).name().expect("a name")
    }

    /// Nobody remembers where anybody was.
    fn forget(&self) {
        for host in &self.segment.hosts {
            // An entry that goes by itself meanwhile is none the less gone.
            let words = ["-6", "neighbour", "flush", "all"];
            let _ = host.command("ip").args(words).output();
        }
    }

    fn is_answered(&self) -> bool {
        let mut command = self.at(Place::Client).command("curl");
        command.args(["-s", "-g", "-m", "1", "-o", "/dev/null"]);
        let url = format!("http://[{VIP}]:80/");
        command.arg(url).status().expect("curl").success()
    }

    /// Waits until requests are answered, or no longer are.
    fn wait_for(&self, answered: bool, what: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.forget();
            if self.is_answered() == answered {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: answered: {}", !answered);
        }
    }

    fn ask(&self) -> (Report, String) {
        let mut command = Command::new(PROGRAM);
        let service = format!("[{VIP}]:80");
        command.args(["doctor", "vip", &service, "--from", "fd77::1", "--json"]);
        for place in ALL {
            command.args(["--netns", self.name(place)]);
        }
        let output = command.output().expect("ask the doctor");
        let report: Report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
        });
        let text = report.text();
        assert_eq!(
            output.status.code(),
            Some(report.exit_code().into()),
            "{text}"
        );
        (report, text)
    }

    fn type_at(&self, node: &str, commands: &[String]) {
        let mut places = ALL.into_iter();
        let place = places.find(|place| self.name(*place) == node);
        let place = self.at(place.expect("a node of the scene"));
        for line in commands {
            let status = place.command("sh").args(["-c", line]).status();
            assert!(status.expect("a shell").success(), "{line}");
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if let Ok(id) = i32::try_from(process.id()) {
                let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
            }
            let _ = process.wait();
        }
    }
}

fn examine(number: usize, case: &Case) {
    let code = case.code;
    let Some(scene) = Scene::new(number) else {
        return;
    };
    if number == 0 {
        let (report, text) = scene.ask();
        assert_eq!(report.verdict.status, Status::Healthy, "{text}");
    }
    for (place, program, words) in case.breaks {
        run(scene.at(*place), program, words);
    }
    if code == "IPV6_DAD" {
        let failed = || ip(scene.at(Place::Director), "-6 address show").contains("dadfailed");
        wait("duplicate detection", failed);
        let server = scene.at(Place::Server);
        ip(server, &format!("address del {VIP}/128 dev eth0"));
        sysctl(
            scene.at(Place::Director),
            "net.ipv6.conf.eth0.dad_transmits=0",
        );
    }
    scene.wait_for(false, code);
    scene.forget();
    let (report, text) = scene.ask();
    let cause = report
        .cause
        .as_ref()
        .unwrap_or_else(|| panic!("{code}: {text}"));
    assert_eq!(cause.code.name(), code, "{text}");
    assert_eq!(cause.node, scene.name(case.at), "{text}");
    let proved = cause.confidence == Confidence::Proved;
    assert!(proved || !case.proved, "{code}: {text}");
    let mut fixes = cause.fixes.iter();
    let fix = fixes.find(|fix| !fix.commands.is_empty()).expect("a fix");
    let node = fix.node.as_ref().unwrap_or(&cause.node);
    scene.type_at(node, &fix.commands);
    scene.wait_for(true, code);
    if case.undone {
        scene.type_at(node, &fix.undo);
        scene.wait_for(false, code);
    }
}

#[test]
fn what_breaks_a_service_of_ipv6_is_named_and_mended_as_printed() {
    let left = Mutex::new(CASES.iter().enumerate().rev().collect::<Vec<_>>());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((number, case)) = left.lock().expect("no panic").pop() else {
                        return;
                    };
                    let work = std::panic::AssertUnwindSafe(|| examine(number, case));
                    if std::panic::catch_unwind(work).is_err() {
                        wrong.lock().expect("no panic").push(case.code);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no panic");
    assert!(wrong.is_empty(), "{wrong:?}");
}
