//! `pointsman doctor vip` on a story of two blockers: fixes tried in twins, bundles, and questions that
//! are refused. `doctor_labs` asks in all fault labs.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::{Fault, Request, find};
use pointsman_lab::lab::{self, Program};
use pointsman_linux::netns::NetNs;
use pointsman_path::finding::{Confidence, Finding};
use pointsman_path::report::Report;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

fn skipped() -> bool {
    if let Some(reason) = lab::why_not() {
        eprintln!("skipped: {reason}");
        return true;
    }
    false
}

fn doctor(arguments: &[&str]) -> Output {
    let words = [&["doctor", "vip"], arguments].concat();
    Command::new(PROGRAM).args(words).output().unwrap()
}

/// The answer in a lab, its exit code, and how long it took.
fn examine(lab: &FaultLab) -> Result<(Report, Option<i32>, Duration), String> {
    let fault = lab.fault();
    let pattern = format!("{}*", lab.namespace(""));
    let (vip, client) = (fault.vip().to_string(), fault.site.client.to_string());
    let mut words = vec![&*vip, "--from", &client, "--netns", &pattern, "--json"];
    if fault.request == Request::Udp {
        words.push("--udp");
    }
    let started = Instant::now();
    let output = doctor(&words);
    let took = started.elapsed();
    let report = serde_json::from_slice(&output.stdout).map_err(|error| {
        format!(
            "{error}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    })?;
    Ok((report, output.status.code(), took))
}

fn build(fault: Fault) -> Result<FaultLab, String> {
    let program = Program::new(PROGRAM).behind(&["lab"]);
    FaultLab::build(fault, &program, None).map_err(|error| error.to_string())
}

/// All findings, the cause first.
fn findings(report: &Report) -> Vec<&Finding> {
    report.cause.iter().chain(&report.also).collect()
}

fn is_of(finding: &Finding, code: &str, node: &str) -> bool {
    finding.code.name() == code && finding.node.ends_with(&format!("-{node}"))
}

/// What a doctor could leave behind at a node: rules, links, addresses, promiscuous devices.
fn traces(lab: &FaultLab) -> Vec<String> {
    let says = |namespace: &String, words: &[&str]| {
        let output = Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(words)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    lab.namespaces()
        .iter()
        .map(|namespace| {
            let links = says(namespace, &["ip", "-details", "-oneline", "link"]);
            let links: String = links
                .lines()
                .map(|line| {
                    let promiscuous = line.split("promiscuity ").nth(1).unwrap_or_default();
                    let name = line.split(':').nth(1).unwrap_or_default();
                    format!("{name} {}\n", promiscuous.split(' ').next().unwrap_or(""))
                })
                .collect();
            links + &says(namespace, &["ebtables-save"]) + &says(namespace, &["iptables-save"])
        })
        .map(|text| {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            // Counters of chains go on.
            let plain = lines.map(|line| line.split(" [").next().unwrap_or_default());
            plain.collect::<Vec<_>>().join("\n")
        })
        .collect()
}

#[test]
fn fixes_are_tried_in_a_twin_and_nothing_is_left() {
    if skipped() {
        return;
    }
    let lab = build(find("KVM").unwrap()).unwrap();
    let before = traces(&lab);
    let namespaces = || -> Vec<String> {
        let all = NetNs::list().unwrap().into_iter();
        all.filter(|name| name.starts_with(&lab.namespace("")))
            .collect()
    };
    let known = namespaces();
    let (report, ..) = examine(&lab).unwrap();
    let cause = report.cause.as_ref().unwrap();
    let tested: Vec<(usize, usize)> = cause
        .fixes
        .iter()
        .filter_map(|fix| fix.tested)
        .map(|tested| (tested.before, tested.after))
        .collect();
    // The tempting one comes last: one more allowed source does not help direct routing.
    assert_eq!(tested, [(0, 7), (0, 0)], "{report:#?}");
    let second = report
        .also
        .iter()
        .find(|one| is_of(one, "HOST_IP_SPOOF_RS", "host2"));
    let second = second.expect("the second blocker");
    assert!(second.confidence >= Confidence::Likely, "{second:#?}");
    assert_eq!(second.fixes[0].tested.map(|tested| tested.after), Some(7));
    assert_eq!(traces(&lab), before);
    assert_eq!(namespaces(), known);

    // A doctor that is interrupted leaves nothing either.
    let pattern = format!("{}*", lab.namespace(""));
    let mut child = Command::new(PROGRAM)
        .args(["doctor", "vip", "198.51.100.208:80", "--from", "192.0.2.10"])
        .args(["--netns", &pattern])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Packet sockets say that it has begun to watch.
    let packets = NetNs::open(&lab.namespace("host1")).unwrap();
    let watched = || {
        packets
            .run_in(|| fs::read_to_string("/proc/thread-self/net/packet").unwrap())
            .unwrap()
            .lines()
            .count()
            > 1
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !watched() && Instant::now() < deadline {
        thread::yield_now();
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    child.wait().unwrap();
    assert_eq!(traces(&lab), before);
    assert_eq!(namespaces(), known);
}

#[test]
fn a_bundle_is_answered_from_alone() {
    if skipped() {
        return;
    }
    let lab = build(find("KVM").unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bundle.json");
    let pattern = format!("{}*", lab.namespace(""));
    let collected = Command::new(PROGRAM)
        .args(["collect", "--netns", &pattern, "--out"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(collected.status.success(), "{collected:?}");
    drop(lab);
    let output = doctor(&[
        "198.51.100.208:80",
        "--bundle",
        file.to_str().unwrap(),
        "--from",
        "192.0.2.10",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.sent.is_empty() && report.outcomes.is_empty());
    let all = findings(&report);
    let cause = all
        .iter()
        .find(|one| is_of(one, "HOST_IP_SPOOF_DIR", "host1"));
    let cause = cause.expect("the fault");
    assert_eq!(cause.confidence, Confidence::Likely, "{cause:#?}");
    assert_eq!(cause.fixes[0].tested.map(|tested| tested.after), Some(7));
}

#[test]
fn a_question_without_port_or_nodes_is_refused() {
    for words in [
        &["198.51.100.208"][..],
        &["198.51.100.208:80", "--bundle", "/nowhere.json"],
        &["198.51.100.208:80", "--netns", "pm-no-such-lab-*"],
    ] {
        let output = doctor(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}
