//! The kernel and the judge agree, frame by frame, about the rules that filters are compiled to.

use std::io::Write;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use pointsman_filter::diagnostic::Place;
use pointsman_filter::judge::{Verdict, judge};
use pointsman_filter::model::{End, Engine, Ruleset, Table};
use pointsman_filter::nwfilter::{Backend, Binding, Library, Parameters, Reference, compile};
use pointsman_filter::route::{Direction, Host, Port};
use pointsman_linux::netns::{NetNs, Temporary};
use pointsman_linux::packet::{Capture, Direction as Way, Options};

#[path = "kernel/enforce.rs"]
mod enforce;
#[path = "support/frames.rs"]
mod frames;
#[path = "kernel/mend.rs"]
mod mend;

use frames::Maker;

/// Frames for each filter, backend and direction.
const FRAMES: u64 = 200;
/// For frames that are surely under way.
const PATIENCE: Duration = Duration::from_secs(20);
/// Frames between two markers.
const BATCH: usize = 50;

/// Filters of the recordings, with parameters.
const FILTERS: &[(&str, &[(&str, &str)])] = &[
    ("nwf-l2-all", &[]),
    ("nwf-chains-prio", &[]),
    ("nwf-dscp", &[]),
    ("nwf-arp-mask", &[]),
    ("nova-no-nd-reflection", &[]),
    (
        "nwf-iter-cross",
        &[
            ("A", "10.9.0.1"),
            ("A", "10.9.0.200"),
            ("B", "22"),
            ("B", "80"),
        ],
    ),
    ("lvs-dr-out", &[("VIP", "10.9.0.200"), ("VPORT", "80")]),
];

const MAC: &str = "02:00:73:b6:53:c8";

#[test]
fn compiled_filters_do_in_the_kernel_what_the_judge_says() {
    if !can_run() {
        return;
    }
    let library = library();
    let bridge = Bridge::new();
    let (mut judged, mut dropped) = (0, 0);
    for (at, (filter, parameters)) in FILTERS.iter().enumerate() {
        for backend in [Backend::Ebiptables, Backend::Nftables] {
            let binding = binding(filter, parameters);
            let rules = compile(&library, &binding, "p0", backend).unwrap().ruleset;
            bridge.install(&rules);
            for direction in [Direction::Out, Direction::In] {
                let frames: Vec<Vec<u8>> = (0..FRAMES)
                    .map(|number| Maker::new((at as u64) << 32 | number).frame())
                    .collect();
                let passed = bridge.pass(direction, &frames);
                for (frame, passed) in frames.iter().zip(passed) {
                    let port = Port {
                        name: "p0",
                        bridge: Some("br0"),
                        peer: None,
                    };
                    let host = Host::default();
                    let judgement = judge(frame, port, direction, &rules, &host).unwrap();
                    let expected = if passed { Verdict::Pass } else { Verdict::Drop };
                    assert_eq!(
                        judgement.verdict,
                        expected,
                        "{filter} {backend:?} {direction:?} {}: {:?}",
                        hex(frame),
                        judgement.deciding()
                    );
                    judged += 1;
                    dropped += u64::from(!passed);
                }
            }
        }
    }
    assert!(judged >= 5000, "{judged}");
    // Neither all nor none, or the rules were not there.
    assert!(
        dropped > judged / 20 && dropped < judged / 2,
        "{dropped} of {judged}"
    );
}

fn can_run() -> bool {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return false;
    }
    for tool in ["ebtables-restore", "nft"] {
        if std::process::Command::new(tool)
            .arg("--version")
            .output()
            .is_err()
        {
            println!("skipped: {tool} is not installed");
            return false;
        }
    }
    true
}

fn library() -> Library {
    let path = format!("{}/tests/golden/verdicts.json", env!("CARGO_MANIFEST_DIR"));
    let document: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut library = Library::new();
    for (name, text) in document["filters"].as_object().unwrap() {
        library.add(name, text.as_str().unwrap()).unwrap();
    }
    library
}

fn binding(filter: &str, list: &[(&str, &str)]) -> Binding {
    let mut parameters = Parameters::new();
    for (name, value) in list {
        assert!(parameters.add(name, value));
    }
    Binding {
        port: None,
        mac: MAC.into(),
        filter: Reference {
            filter: filter.into(),
            parameters,
            place: Place::new("binding", 0, 0),
        },
        owner: None,
        warnings: Vec::new(),
    }
}

/// A bridge with three ports in a namespace: `p0` is the guest's, `p1` and `p2` are others; what
/// comes out of port pN is seen at gN.
struct Bridge {
    namespace: Temporary,
}

impl Bridge {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pmf-{}-{number}", std::process::id());
        let namespace = NetNs::create(&name).unwrap().delete_on_drop();
        let bridge = Self { namespace };
        bridge.ip("link add br0 type bridge mcast_snooping 0");
        // Without IP's hooks, which cut what stands behind a packet. Where there is no such setting,
        // nothing cuts.
        let settings = || {
            for version in ["ip", "ip6", "arp"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{version}tables");
                let _ = std::fs::write(path, "0");
            }
        };
        bridge.namespace.run_in(settings).unwrap();
        for port in 0..3 {
            bridge.ip(&format!("link add p{port} type veth peer name g{port}"));
            bridge.ip(&format!("link set p{port} master br0"));
            // Every frame goes to every other port.
            bridge.ip(&format!(
                "link set p{port} type bridge_slave learning off flood on mcast_flood on"
            ));
        }
        for device in ["br0", "p0", "p1", "p2", "g0", "g1", "g2"] {
            bridge.ip(&format!("link set {device} addrgenmode none up"));
        }
        bridge
    }

    fn ip(&self, words: &str) {
        let status = self.namespace.command("ip").args(words.split(' ')).status();
        assert!(status.unwrap().success(), "ip {words}");
    }

    /// Installs rules instead of those that were there.
    fn install(&self, rules: &Ruleset) {
        self.feed("nft", &["-f", "-"], "flush ruleset\n");
        for table in &rules.tables {
            match table.engine {
                Engine::Ebtables => self.feed("ebtables-restore", &[], &ebtables(table)),
                Engine::Nftables => self.feed("nft", &["-f", "-"], &nft(table)),
                other => panic!("{other:?}"),
            }
        }
    }

    fn feed(&self, program: &str, arguments: &[&str], text: &str) {
        let mut child = self
            .namespace
            .command(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        assert!(child.wait().unwrap().success(), "{program}:\n{text}");
    }

    /// Sends frames to or from the guest's port, and tells which come through.
    fn pass(&self, direction: Direction, frames: &[Vec<u8>]) -> Vec<bool> {
        let work = || {
            // One processor has one queue: what is sent first arrives first.
            let mut own = CpuSet::new();
            own.set(sched_getcpu().unwrap()).unwrap();
            sched_setaffinity(Pid::from_raw(0), &own).unwrap();
            let options = Options {
                promiscuous: true,
                ..Options::default()
            };
            let open = |name: &str| Capture::open_with(name, &options).unwrap();
            let (guest, mut other, marker) = (open("g0"), open("g1"), open("g2"));
            let mut seen_by_guest = open("g0");
            let mut passed = vec![false; frames.len()];
            for (batch, some) in frames.chunks(BATCH).enumerate() {
                for frame in some {
                    let from = if direction == Direction::Out {
                        &guest
                    } else {
                        &other
                    };
                    from.send(frame).unwrap();
                }
                let mark = mark(batch);
                marker.send(&mark).unwrap();
                let mut note = |bytes: &[u8]| {
                    for (at, frame) in some.iter().enumerate() {
                        passed[batch * BATCH + at] |= frame == bytes;
                    }
                };
                // The marker is from the third port, so the rules of the guest's leave it alone here.
                loop {
                    let frame = other.next(PATIENCE).unwrap().expect("the marker arrives");
                    if frame.direction == Way::Out {
                        continue;
                    }
                    if frame.bytes == mark {
                        break;
                    }
                    if direction == Direction::Out {
                        note(&frame.bytes);
                    }
                }
                if direction == Direction::In {
                    while let Some(frame) = seen_by_guest.next(Duration::ZERO).unwrap() {
                        if frame.direction != Way::Out {
                            note(&frame.bytes);
                        }
                    }
                }
            }
            passed
        };
        self.namespace.run_in(work).unwrap()
    }
}

fn mark(batch: usize) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 0xee, 0x88, 0xb6]);
    frame.extend((batch as u64).to_be_bytes());
    frame.resize(60, 0xab);
    frame
}

/// As `ebtables-save` prints it.
fn ebtables(table: &Table) -> String {
    let mut text = format!("*{}\n", table.name);
    for chain in &table.chains {
        let end = if chain.end == End::Drop {
            "DROP"
        } else {
            "ACCEPT"
        };
        text += &format!(":{} {end}\n", chain.name);
    }
    for chain in &table.chains {
        for rule in &chain.rules {
            text += &format!("-A {} {}\n", chain.name, rule.text);
        }
    }
    text
}

/// As commands of nft.
fn nft(table: &Table) -> String {
    let own = format!("bridge {}", table.name);
    let mut text = format!("add table {own}\n");
    for chain in &table.chains {
        let base = chain.base.as_ref().map(|base| {
            let hook = format!("{:?}", base.hook).to_lowercase();
            format!("{{ type filter hook {hook} priority {}; }}", base.priority)
        });
        text += &format!(
            "add chain {own} {} {}\n",
            chain.name,
            base.unwrap_or_default()
        );
    }
    for (key, way) in [("iif", "out"), ("oif", "in")] {
        text += &format!("add map {own} vmap-{key} {{ type iface_index : verdict; }}\n");
        text += &format!("add element {own} vmap-{key} {{ \"p0\" : jump p0-{way} }}\n");
    }
    text += &format!("add set {own} same-ip-set {{ type ipv4_addr . ipv4_addr; }}\n");
    let octets = (0..4).flat_map(|octet| (0..256u32).map(move |value| value << (8 * octet)));
    let pairs: Vec<String> = octets
        .map(std::net::Ipv4Addr::from)
        .map(|address| format!("{address} . {address}"))
        .collect();
    text += &format!("add element {own} same-ip-set {{ {} }}\n", pairs.join(", "));
    for chain in &table.chains {
        for rule in &chain.rules {
            // What libvirt writes and nft does not list: without, IP is looked for behind tags too.
            let implied = match &rule.text {
                text if text.contains("ether type") || text.contains("vlan ") => "",
                text if text.starts_with("ip6 ") || text.contains(" ip6 ") => "ether type ip6 ",
                text if text.starts_with("ip ") || text.contains(" ip saddr") => "ether type ip ",
                _ => "",
            };
            let implied = if rule.text.starts_with("arp ") {
                ""
            } else {
                implied
            };
            text += &format!("add rule {own} {} {implied}{}\n", chain.name, rule.text);
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
