//! `pointsman doctor vip` in fault labs, asked as a user would: virtual service, client, and where to
//! look. The right code at the right node, and nothing where nothing is wrong.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::{Fault, Request, faults, find, quirks, stories};
use pointsman_lab::lab::{self, Program};
use pointsman_linux::netns::NetNs;
use pointsman_path::finding::{Confidence, Finding};
use pointsman_path::report::{Report, Status};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
/// Labs at once.
const AT_ONCE: usize = 3;
/// Names more, separated by spaces, or `all`: labs for the table.
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

#[test]
fn the_table() {
    if skipped() {
        return;
    }
    let Ok(wanted) = std::env::var(MORE) else {
        eprintln!("{MORE} names labs, or says all");
        return;
    };
    let all = [faults(), stories(), quirks()].concat();
    let names: BTreeSet<&str> = wanted.split_whitespace().collect();
    let labs = all
        .into_iter()
        .filter(|fault| names.contains("all") || names.contains(fault.name));
    let wrong = Mutex::new(Vec::new());
    with_each(labs.collect(), |fault| {
        let name = fault.name;
        if let Err(error) = ask(fault) {
            wrong.lock().unwrap().push(format!("{name}: {error}"));
        }
        Ok(())
    });
    eprintln!("{}", wrong.into_inner().unwrap().join("\n"));
}
