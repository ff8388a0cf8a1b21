//! The doctor's methods that do more than look on, in fault labs: what they find, that nothing is done
//! without consent, and that nothing is left, however the program ends.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::find;
use pointsman_lab::lab::{self, Program};
use pointsman_linux::netns::NetNs;
use pointsman_path::finding::{Confidence, Finding, Witness};
use pointsman_path::report::{Method, Report};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
/// How long something may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

fn skipped() -> bool {
    if let Some(reason) = lab::why_not() {
        eprintln!("skipped: {reason}");
        return true;
    }
    false
}

fn build(name: &str) -> FaultLab {
    let program = Program::new(PROGRAM).behind(&["lab"]);
    let mut lab = FaultLab::build(find(name).unwrap(), &program, None).unwrap();
    let before = lab.fault().before.clone();
    lab.carry_out(&before).unwrap();
    lab
}

fn doctor(lab: &FaultLab, flags: &[&str]) -> Command {
    let fault = lab.fault();
    let mut command = Command::new(PROGRAM);
    command
        .args(["doctor", "vip", &fault.vip().to_string()])
        .args(["--from", &fault.site.client.to_string()])
        .args(["--netns", &format!("{}*", lab.namespace("")), "--json"])
        .args(flags)
        .stdin(Stdio::null());
    command
}

fn report(output: &Output) -> Report {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn ask(lab: &FaultLab, flags: &[&str]) -> Report {
    report(&doctor(lab, flags).output().unwrap())
}

fn method<'a>(report: &'a Report, name: &str) -> &'a Method {
    let found = report.methods.iter().find(|method| method.name == name);
    found.unwrap_or_else(|| panic!("{name} is not listed: {report:#?}"))
}

fn witnesses(finding: &Finding) -> Vec<Witness> {
    finding.evidence.iter().filter_map(|e| e.witness).collect()
}

/// All rules of all nodes but their counters.
fn rules(lab: &FaultLab) -> Vec<String> {
    let list = |namespace: &String| {
        let output = Command::new("ip")
            .args([
                "netns",
                "exec",
                namespace,
                "nft",
                "--stateless",
                "list",
                "ruleset",
            ])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    lab.namespaces().iter().map(list).collect()
}

/// `nft monitor` in a node, which says all that is made and taken away there.
struct Monitor {
    child: std::process::Child,
    file: tempfile::NamedTempFile,
}

impl Monitor {
    fn start(namespace: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let child = Command::new("ip")
            .args(["netns", "exec", namespace, "nft", "monitor"])
            .stdout(file.reopen().unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut monitor = Self { child, file };
        // It listens once it tells of a table that is made for that.
        let nft = |words: &str| {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace, "nft"]);
            assert!(command.args(words.split(' ')).status().unwrap().success());
        };
        let deadline = Instant::now() + PATIENCE;
        while !monitor.said().contains("heard_by_monitor") {
            assert!(Instant::now() < deadline, "nft monitor says nothing");
            nft("add table ip heard_by_monitor");
            nft("delete table ip heard_by_monitor");
            thread::yield_now();
        }
        monitor
    }

    fn said(&mut self) -> String {
        fs::read_to_string(self.file.path()).unwrap()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In a lab the trace names the guilty rule and the hook at which probes are lost.
fn names_the_rule(name: &str, hook: &str) {
    if skipped() {
        return;
    }
    let lab = build(name);
    let before = rules(&lab);
    let report = ask(&lab, &["--trace"]);
    let guilty = lab.fault().blockers[0].guilty.clone();
    let cause = report.cause.as_ref().unwrap();
    assert_eq!(cause.confidence, Confidence::Proved, "{report:#?}");
    let found = witnesses(cause);
    assert!(found.contains(&Witness::Rule), "{report:#?}");
    assert!(found.contains(&Witness::Hook), "{report:#?}");
    let rule = cause.rule.as_ref().unwrap();
    assert!(guilty.rule.contains(&rule.text), "{guilty:?} {rule:?}");
    let told = method(&report, "nft trace");
    assert!(told.ran && told.note.contains(&rule.text), "{told:?}");
    let counted = method(&report, "hook counts");
    let node = lab.namespace(guilty.node);
    assert!(
        counted.ran && counted.note.contains(&format!("{hook} on {node}")),
        "{counted:?}"
    );
    assert_eq!(rules(&lab), before);
}

#[test]
fn a_bridge_rule_is_named_by_the_kernel() {
    names_the_rule("HOST_IP_SPOOF_DIR", "bridge prerouting");
}

#[test]
fn a_server_s_own_rule_is_named_by_the_kernel() {
    names_the_rule("RS_LOCAL_FW", "ip input");
}

#[test]
fn a_rule_that_drops_what_connection_tracking_does_not_know_is_named_by_the_kernel() {
    names_the_rule("KUBE_INVALID_DROP", "ip forward");
}

#[test]
fn hooks_tell_what_no_rule_does() {
    if skipped() {
        return;
    }
    let lab = build("PORT_ISOLATED");
    let report = ask(&lab, &["--trace"]);
    let cause = report.cause.as_ref().unwrap();
    assert!(witnesses(cause).contains(&Witness::Hook), "{report:#?}");
    let counted = method(&report, "hook counts");
    let switch = format!("next hook on {}", lab.namespace("switch"));
    assert!(
        counted.note.contains("between bridge prerouting"),
        "{counted:?}"
    );
    assert!(counted.note.contains(&switch), "{counted:?}");
    let told = method(&report, "nft trace");
    assert!(told.note.contains("no rule dropped one"), "{told:?}");
}

#[test]
fn nothing_is_inserted_without_consent() {
    if skipped() {
        return;
    }
    let lab = build("HOST_IP_SPOOF_DIR");
    let mut monitor = Monitor::start(&lab.namespace("host1"));
    let before = rules(&lab);
    let silent = ask(&lab, &[]);
    for name in ["nft trace", "hook counts"] {
        let method = method(&silent, name);
        assert!(!method.ran && method.note.contains("--trace"), "{method:?}");
    }
    assert!(!monitor.said().contains("pointsman_doctor"));
    assert_eq!(rules(&lab), before);
    // The monitor would have told of it.
    ask(&lab, &["--trace"]);
    let deadline = Instant::now() + PATIENCE;
    while !monitor.said().contains("table bridge pointsman_doctor") {
        assert!(Instant::now() < deadline, "{}", monitor.said());
        thread::yield_now();
    }
}

#[test]
fn rules_go_with_a_doctor_that_is_killed() {
    if skipped() {
        return;
    }
    let lab = build("HOST_IP_SPOOF_DIR");
    let before = rules(&lab);
    let mut child = doctor(&lab, &["--trace"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let is_there = || {
        rules(&lab)
            .iter()
            .any(|text| text.contains("pointsman_doctor"))
    };
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        assert!(Instant::now() < deadline, "its rules were never seen");
        assert_eq!(child.try_wait().unwrap(), None, "it ended too soon");
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
    let deadline = Instant::now() + PATIENCE;
    while rules(&lab) != before {
        assert!(Instant::now() < deadline, "{:#?}", rules(&lab));
        thread::yield_now();
    }
    // And nothing else of it either.
    let sockets = NetNs::open(&lab.namespace("host1")).unwrap();
    let packets = sockets.run_in(|| fs::read_to_string("/proc/thread-self/net/packet").unwrap());
    assert_eq!(packets.unwrap().lines().count(), 1);
}

/// Where the answer says that the way is broken.
fn broken(name: &str) -> (FaultLab, Report, String) {
    let lab = build(name);
    let before = rules(&lab);
    let report = ask(&lab, &["--inject"]);
    let told = method(&report, "injection");
    assert!(told.ran, "{told:?}");
    let place = told.note.clone();
    assert_eq!(rules(&lab), before);
    (lab, report, place)
}

/// What is put in tells, as a witness, that a fault is between two ports: node and device of each.
fn is_between(name: &str, ports: [(&str, &str); 2]) {
    let (lab, report, place) = broken(name);
    let [before, behind] = ports.map(|(node, device)| format!("{}/{device}", lab.namespace(node)));
    let words = format!("broken between {before} and {behind}");
    assert!(place.contains(&words), "{place}");
    let cause = report.cause.as_ref().unwrap();
    assert!(
        witnesses(cause).contains(&Witness::Injection),
        "{report:#?}"
    );
}

#[test]
fn what_is_put_in_behind_the_broken_hop_is_answered() {
    if skipped() {
        return;
    }
    // A port of the switch does not let through to the next; behind it everything works.
    is_between("PORT_ISOLATED", [("switch", "h1"), ("host2", "eth0")]);
}

#[test]
fn a_filter_is_told_from_what_is_behind_it() {
    if skipped() {
        return;
    }
    is_between("HOST_IP_SPOOF_DIR", [("host1", "vnet0"), ("switch", "h1")]);
}

#[test]
fn a_server_behind_a_router_answers_what_is_put_in_there() {
    if skipped() {
        return;
    }
    let (lab, _, place) = broken("L2_NOT_ADJACENT");
    let server = lab.namespace("rs1");
    let (before, behind) = place.split_once(" and ").unwrap();
    assert!(before.contains("broken between"), "{place}");
    assert!(behind.starts_with(&format!("{server}/eth0")), "{place}");
}

#[test]
fn nothing_is_put_in_without_consent() {
    if skipped() {
        return;
    }
    let lab = build("PORT_ISOLATED");
    let report = ask(&lab, &[]);
    let told = method(&report, "injection");
    assert!(!told.ran && told.note.contains("--inject"), "{told:?}");
    let healthy = build("direct");
    let report = ask(&healthy, &["--inject", "--trace"]);
    for name in ["nft trace", "hook counts", "injection"] {
        let method = method(&report, name);
        assert!(
            !method.ran && method.note.contains("was answered"),
            "{method:?}"
        );
    }
}

#[test]
fn tracepoints_stand_in_for_captures() {
    if skipped() {
        return;
    }
    let lab = build("HOST_IP_SPOOF_DIR");
    // Without the right to open packet sockets.
    let output = Command::new("setpriv")
        .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw", PROGRAM])
        .args(doctor(&lab, &[]).get_args())
        .output()
        .unwrap();
    let report = report(&output);
    let captures = method(&report, "captures");
    assert!(
        !captures.ran && captures.note.contains("CAP_NET_RAW"),
        "{captures:?}"
    );
    assert!(method(&report, "tracepoints").ran, "{report:#?}");
    // The ladder shows how far requests came.
    let host1 = lab.namespace("host1");
    let hop = report
        .ladder
        .lines()
        .find(|line| line.contains(&host1) && line.contains("vnet0"));
    assert!(hop.is_some(), "{}", report.ladder);
    let cause = report.cause.as_ref().unwrap();
    assert_eq!(cause.node, host1, "{report:#?}");
    assert!(witnesses(cause).contains(&Witness::Capture), "{report:#?}");
}
