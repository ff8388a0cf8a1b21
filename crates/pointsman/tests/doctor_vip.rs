//! `pointsman doctor vip` in fault labs, asked as a user would: virtual service, client, and where to
//! look. The right code at the right node, and nothing where nothing is wrong.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::{Fault, Request, faults, find, quirks, stories};
use pointsman_lab::lab::{self, Program};
use pointsman_linux::netns::NetNs;
use pointsman_path::finding::{Confidence, Finding};
use pointsman_path::report::{Report, Status};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
/// Labs at once.
const AT_ONCE: usize = 3;
/// Names labs for the table, separated by spaces; all if it is not set.
const MORE: &str = "POINTSMAN_DOCTOR_LABS";

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

/// Does something with many labs, several at a time, and tells all that went wrong.
fn with_each(faults: Vec<Fault>, work: impl Fn(Fault) -> Result<(), String> + Sync) {
    let left = Mutex::new(faults);
    let wrong = Mutex::new(Vec::new());
    let one = || {
        loop {
            let Some(fault) = left.lock().unwrap().pop() else {
                return;
            };
            if !fault.missing().is_empty() {
                eprintln!("{}: needs {}", fault.name, fault.missing().join(" and "));
                continue;
            }
            let name = fault.name;
            if let Err(error) = work(fault) {
                wrong.lock().unwrap().push(format!("{name}: {error}"));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(one);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
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

/// Builds a lab with this fault, asks, and writes a line of the table.
fn ask(fault: Fault) -> Result<(FaultLab, Report), String> {
    let mut lab = build(fault)?;
    let before = lab.fault().before.clone();
    lab.carry_out(&before).map_err(|error| error.to_string())?;
    let (report, exit, took) = examine(&lab)?;
    let fault = lab.fault();
    let place = fault.blockers.first().map(|blocker| {
        let mut all = findings(&report).into_iter();
        all.position(|one| is_of(one, blocker.code, blocker.guilty.node))
    });
    let found = match place {
        None => "no fault".to_owned(),
        Some(None) => "MISSED".to_owned(),
        Some(Some(0)) => "cause".to_owned(),
        Some(Some(place)) => format!("number {}", place + 1),
    };
    let told: Vec<String> = findings(&report)
        .iter()
        .map(|one| format!("{} {}", one.code, one.confidence))
        .collect();
    eprintln!(
        "{:24} {found:10} {:8?} exit {exit:?} {:4.1} s  {}",
        fault.name,
        report.verdict.status,
        took.as_secs_f32(),
        told.join(", ")
    );
    if exit != Some(i32::from(report.exit_code())) {
        return Err(format!("exit code {exit:?} for {:?}", report.verdict));
    }
    Ok((lab, report))
}

/// Whether the first blocker is among the surest findings.
fn is_found(lab: &FaultLab, report: &Report, sure: Confidence) -> Result<(), String> {
    let blocker = &lab.fault().blockers[0];
    let all = findings(report);
    let found = all
        .iter()
        .position(|one| is_of(one, blocker.code, blocker.guilty.node));
    let said = || format!("{report:#?}");
    let Some(at) = found else {
        return Err(format!("{} is not there: {}", blocker.code, said()));
    };
    if at > 1 || all[at].confidence < sure || report.verdict.status != Status::Fault {
        return Err(format!("{} is number {}: {}", blocker.code, at + 1, said()));
    }
    Ok(())
}

/// Faults that two kinds of witnesses see.
const PROVED: &[&str] = &[
    "KVM",
    "OPENSTACK",
    "HARVESTER",
    "HOST_IP_SPOOF_RS",
    "SG_INGRESS",
    "DOCKER_FORWARD_DROP",
    "KUBE_INVALID_DROP",
    "NO_SERVICE_MATCH",
    "RS_LOCAL_FW",
    "RS_RPFILTER",
    "RS_VIP_MISSING",
    "SERVICE_BIND",
];
/// Faults that show at one place only, or not in packets.
const SEEN: &[&str] = &["UDP_SRC_RIP", "L2_MTU", "STALE_NEIGH", "NAT_BAD_GATEWAY"];
/// Those of them whose first fix is for a shell as it is written.
const CURED: &[&str] = &[
    "HOST_IP_SPOOF_RS",
    "SG_INGRESS",
    "DOCKER_FORWARD_DROP",
    "KUBE_INVALID_DROP",
    "RS_LOCAL_FW",
    "RS_RPFILTER",
    "RS_VIP_MISSING",
];
/// Labs that only look suspicious.
const HEALTHY: &[&str] = &[
    "direct",
    "tunnel",
    "masquerade",
    "cluster",
    "mended-filter",
    "other-drop",
    "loose-rp-filter",
];

fn named(names: &[&str]) -> Vec<Fault> {
    names.iter().map(|name| find(name).unwrap()).collect()
}

#[test]
fn faults_are_found_where_they_are() {
    if skipped() {
        return;
    }
    let names = [PROVED, SEEN].concat();
    with_each(named(&names), |fault| {
        let sure = match PROVED.contains(&fault.name) {
            true => Confidence::Proved,
            false => Confidence::Possible,
        };
        let (mut lab, report) = ask(fault)?;
        is_found(&lab, &report, sure)?;
        if CURED.contains(&lab.fault().name) {
            is_cured(&mut lab, report.cause.as_ref().unwrap())?;
        }
        Ok(())
    });
}

/// The doctor's first fix makes requests work, and its undo takes that back.
fn is_cured(lab: &mut FaultLab, cause: &Finding) -> Result<(), String> {
    let fix = cause.fixes.first().ok_or("no fix")?;
    let run = |command: &String| {
        let output = Command::new("ip")
            .args(["netns", "exec", &cause.node, "sh", "-c", command])
            .output()
            .map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "{command}: {}",
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    };
    fix.commands.iter().try_for_each(run)?;
    lab.expect_answer().map_err(|error| error.to_string())?;
    fix.undo.iter().try_for_each(run)?;
    lab.expect_any_failure()
        .map_err(|error| error.to_string())?;
    Ok(())
}

#[test]
fn what_works_is_called_healthy() {
    if skipped() {
        return;
    }
    with_each(named(HEALTHY), |fault| {
        let (_lab, report) = ask(fault)?;
        if report.verdict.status != Status::Healthy || report.cause.is_some() {
            return Err(format!("{report:#?}"));
        }
        Ok(())
    });
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
        all.filter(|name| name.contains(lab.tag())).collect()
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

/// How many labs are left out for each that is asked in, unless told.
const SPREAD: usize = 9;

/// Asks in labs and writes how that ends as a table: in those that the environment names, in all of them
/// if it says `all`, which takes minutes, else in some of all kinds.
#[test]
fn labs_of_all_kinds_get_an_answer() {
    if skipped() {
        return;
    }
    let mut labs = [faults(), stories(), quirks()].concat();
    match std::env::var(MORE) {
        Ok(wanted) if wanted == "all" => {}
        Ok(wanted) => {
            let wanted: BTreeSet<&str> = wanted.split_whitespace().collect();
            labs.retain(|fault| wanted.contains(fault.name));
        }
        Err(_) => labs = labs.into_iter().step_by(SPREAD).collect(),
    }
    with_each(labs, |fault| ask(fault).map(drop));
}
