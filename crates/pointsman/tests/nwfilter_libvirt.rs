//! `pointsman nwfilter check` and `mend` at a port that a real libvirt filters.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use pointsman_filter::ebtables;
use pointsman_filter::model::Action;
use pointsman_lab::libvirt::{Installation, Libvirt};
use pointsman_lab::namespace;
use pointsman_linux::packet::{Capture, Direction, Options};
use serde_json::Value;
use tempfile::TempDir;

/// The guest's port; `guest` is its other end.
const PORT: &str = "vnet0";
/// Roles and service, as people ask.
const ASKED: &[&str] = &[
    "--role",
    "director",
    "--role",
    "vrrp",
    "--vip",
    "192.0.2.208:80",
    "--method",
    "dr",
];
/// For frames that are surely under way.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn check_names_the_rules_that_count_and_mend_opens_no_more_than_it_says() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let Some(installation) = Installation::for_tests() else {
        println!("skipped: needs libvirt's packages; `cargo xtask setup` gets them");
        return;
    };
    let port = FilteredPort::new(&installation);
    let before = port.checked();
    let forward = ["forward-open-out", "forward-data-out"];
    let floating = ["vip-answer-out", "vip-announcement-out"];
    let adverts = ["advert-v2-out", "advert-v3-out"];
    let attacks = [
        "foreign-mac",
        "gateway-answer",
        "neighbour-answer",
        "foreign-arp-mac",
        "foreign-source",
        "neighbour-source",
        "gateway-source",
        "vip-other-port",
        "tagged-foreign-source",
    ];
    before.drops(&forward);
    before.drops(&floating);
    before.drops(&attacks);
    before.passes(&adverts);
    assert_eq!(before.code, 1);

    let folder = TempDir::new().unwrap();
    let change = folder.path().join("change");
    let mend = port.pointsman("mend", &["--out", change.to_str().unwrap()]);
    assert_eq!(mend.status.code(), Some(0), "{mend:?}");
    let run = |script: &str| {
        let path = change.join(script).display().to_string();
        port.libvirt.run("sh", &[&path]).unwrap();
    };
    run("apply.sh");
    let mended = port.checked();
    assert_eq!(mended.code, 0);
    mended.passes(&forward);
    mended.passes(&floating);
    mended.passes(&adverts);
    mended.passes(&["client-open-in", "vip-asked-in", "own-connection-out"]);
    mended.drops(&attacks);

    run("undo.sh");
    let undone = port.checked();
    for (frame, was) in undone.frames.iter().zip(&before.frames) {
        assert_eq!(frame.passed, was.passed, "{}", frame.id);
    }
}

/// A frame that `check` lists, and what became of it.
struct Frame {
    id: String,
    passed: bool,
}

/// What `check` said, confirmed frame by frame.
struct Checked {
    code: i32,
    frames: Vec<Frame>,
}

impl Checked {
    #[track_caller]
    fn passes(&self, ids: &[&str]) {
        self.are(ids, true);
    }

    #[track_caller]
    fn drops(&self, ids: &[&str]) {
        self.are(ids, false);
    }

    #[track_caller]
    fn are(&self, ids: &[&str], passed: bool) {
        for id in ids {
            let mut frames = self
                .frames
                .iter()
                .filter(|frame| frame.id == *id)
                .peekable();
            assert!(frames.peek().is_some(), "{id} is not in the list");
            for frame in frames {
                assert_eq!(frame.passed, passed, "{id}");
            }
        }
    }
}

/// A port of a bridge with libvirt's clean-traffic, and two more without a filter.
struct FilteredPort {
    libvirt: Libvirt,
    folder: TempDir,
}

impl FilteredPort {
    fn new(installation: &Installation) -> Self {
        let libvirt = Libvirt::start(installation).unwrap();
        let port = Self {
            libvirt,
            folder: TempDir::new().unwrap(),
        };
        port.ip("link add br0 type bridge mcast_snooping 0");
        let settings = || {
            for version in ["ip", "ip6", "arp"] {
                // Where there is no such setting, packets are not for iptables to see.
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{version}tables");
                let _ = fs::write(path, "0");
            }
        };
        namespace::run_in(port.libvirt.namespace(), settings).unwrap();
        for (device, peer) in [(PORT, "guest"), ("p1", "other"), ("p2", "marker")] {
            port.ip(&format!("link add {device} type veth peer name {peer}"));
            port.ip(&format!("link set {device} master br0"));
            // Every frame goes to every other port.
            port.ip(&format!(
                "link set {device} type bridge_slave learning off flood on mcast_flood on"
            ));
            for device in [device, peer] {
                port.ip(&format!("link set {device} addrgenmode none up"));
            }
        }
        port.ip("link set br0 addrgenmode none up");
        let binding = format!(
            "<filterbinding><owner><name>director</name>\
             <uuid>d54df46f-1ab5-4a22-8618-4560ef5fac2c</uuid></owner>\
             <portdev name='{PORT}'/><mac address='02:00:73:b6:53:c8'/>\
             <filterref filter='clean-traffic'><parameter name='IP' value='192.0.2.200'/>\
             </filterref></filterbinding>"
        );
        port.libvirt.bind(&binding).unwrap();
        port
    }

    fn ip(&self, words: &str) {
        let words: Vec<&str> = words.split(' ').collect();
        namespace::check_in(self.libvirt.namespace(), Command::new("ip").args(words)).unwrap();
    }

    /// Asks about the port as libvirt has it now.
    fn pointsman(&self, verb: &str, more: &[&str]) -> std::process::Output {
        let binding = self.folder.path().join("binding.xml");
        let dumped = self.libvirt.virsh(&["nwfilter-binding-dumpxml", PORT], "");
        fs::write(&binding, dumped.unwrap()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pointsman"));
        command.args(["nwfilter", verb, "--domain"]).arg(binding);
        command.arg("--filters").arg(self.filters());
        command.args(ASKED).args(more).output().unwrap()
    }

    fn filters(&self) -> PathBuf {
        self.libvirt.root().join("etc/libvirt/nwfilter")
    }

    /// Sends each frame that `check` lists and compares what becomes of it, and which rule counts.
    fn checked(&self) -> Checked {
        let said = self.pointsman("check", &["--json"]);
        let code = said.status.code().unwrap();
        assert!(code < 2, "{said:?}");
        let report: Value = serde_json::from_slice(&said.stdout).unwrap();
        let mut frames = Vec::new();
        let mut named = 0;
        let mut counts = self.counts();
        for frame in report["frames"].as_array().unwrap() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let id = text(&frame["id"]);
            let passed = self.sent(&text(&frame["direction"]), &bytes(&text(&frame["frame"])));
            let verdict = text(&frame["verdict"]);
            assert_eq!(verdict, if passed { "pass" } else { "drop" }, "{id}");
            let after = self.counts();
            let rule = &frame["rule"];
            if let (Some(chain), Some(number)) = (rule["chain"].as_str(), rule["number"].as_u64()) {
                let is_named = |(name, at, ..): &&Count| name == chain && *at == number;
                let find = |counts: &[Count]| counts.iter().find(is_named).unwrap().clone();
                let (was, is) = (find(&counts), find(&after));
                assert_eq!(is.3, was.3 + 1, "{id}: {chain} rule {number}, `{}`", is.2);
                named += 1;
            }
            counts = after;
            frames.push(Frame { id, passed });
        }
        // What decides is mostly a rule, not the end of a chain.
        assert!(named * 10 > frames.len() * 9, "{named} of {}", frames.len());
        Checked { code, frames }
    }

    /// Rules of libvirt's chains that decide, with their counters.
    fn counts(&self) -> Vec<Count> {
        let text = self.libvirt.run("ebtables-save", &["-c"]).unwrap();
        let rules = ebtables::read_save("ebtables-save", &text).unwrap();
        let mut counts = Vec::new();
        for chain in rules.tables.iter().flat_map(|table| &table.chains) {
            for (at, rule) in chain.rules.iter().enumerate() {
                if matches!(rule.action, Action::Accept | Action::Drop | Action::Return) {
                    let packets = rule.packets.expect("a counter");
                    counts.push((
                        chain.name.clone(),
                        at as u64 + 1,
                        rule.text.clone(),
                        packets,
                    ));
                }
            }
        }
        counts
    }

    /// Whether a frame from or to the guest comes through.
    fn sent(&self, direction: &str, frame: &[u8]) -> bool {
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
            let (mut guest, mut other, marker) = (open("guest"), open("other"), open("marker"));
            let outgoing = direction == "out";
            let from = if outgoing { &guest } else { &other };
            from.send(frame).unwrap();
            let mark = [&[0xff; 6], &[2, 0, 0, 0, 0, 0xee, 0x88, 0xb6][..], &[0; 46]].concat();
            marker.send(&mark).unwrap();
            let mut passed = false;
            // No rule is in the marker's way to the other port.
            loop {
                let seen = other.next(PATIENCE).unwrap().expect("the marker arrives");
                if seen.direction == Direction::Out {
                    continue;
                }
                if seen.bytes == mark {
                    break;
                }
                passed |= outgoing && seen.bytes == frame;
            }
            while let Some(seen) = guest.next(Duration::ZERO).unwrap() {
                passed |= !outgoing && seen.direction != Direction::Out && seen.bytes == frame;
            }
            passed
        };
        namespace::run_in(self.libvirt.namespace(), work).unwrap()
    }
}

/// Chain, number of the rule from 1, its text, packets.
type Count = (String, u64, String, u64);

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| digit.to_digit(16).unwrap() as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}
