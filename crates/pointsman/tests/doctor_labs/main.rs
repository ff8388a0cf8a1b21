//! `pointsman doctor vip` in every fault lab that can be built here, asked as a user would: virtual
//! service, client, and where to look. What it answers must be right, what it advises must help as it is
//! printed, and nothing of it may stay.

mod expected;
mod interrupted;
mod marks;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use expected::{Cure, Expected};
use marks::Marks;
use pointsman_lab::error::LabError;
use pointsman_lab::fault::action::Action;
use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::{Fault, Request, faults, quirks, stories};
use pointsman_lab::lab::{self, Program};
use pointsman_path::finding::{Finding, Fix};
use pointsman_path::report::{Report, Status};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
/// Labs at once.
const AT_ONCE: usize = 4;
/// Names labs, separated by spaces; all if it is not set.
const SOME: &str = "POINTSMAN_DOCTOR_LABS";
/// Names a directory that reports are written to, to be read.
const REPORTS: &str = "POINTSMAN_DOCTOR_REPORTS";
/// How long a live answer may take.
const LIVE: Duration = Duration::from_secs(10);
/// How long one from a bundle may take.
const OFFLINE: Duration = Duration::from_secs(2);

/// Whose turn it is.
static TURN: Mutex<()> = Mutex::new(());

type Outcome<T = ()> = Result<T, String>;

fn words<E: std::fmt::Display>(error: E) -> String {
    error.to_string()
}

/// A lab, and how a user stands before it.
struct Scene {
    lab: FaultLab,
    pattern: String,
    vip: String,
    client: String,
    files: tempfile::TempDir,
}

impl Scene {
    fn build(fault: Fault) -> Outcome<Self> {
        let program = Program::new(PROGRAM).behind(&["lab"]);
        let lab = FaultLab::build(fault, &program, None).map_err(words)?;
        let files = tempfile::tempdir().map_err(words)?;
        // As where Pointsman is installed.
        for name in ["pointsman", "ipvsadm"] {
            symlink(PROGRAM, files.path().join(name)).map_err(words)?;
        }
        Ok(Self {
            pattern: format!("{}*", lab.namespace("")),
            vip: lab.fault().vip().to_string(),
            client: lab.fault().site.client.to_string(),
            lab,
            files,
        })
    }

    /// Asks the doctor.
    fn ask(&self, place: &[&str]) -> Outcome<(Report, Duration)> {
        let mut command = Command::new(PROGRAM);
        command.args(["doctor", "vip", &self.vip, "--from", &self.client, "--json"]);
        if self.lab.fault().request == Request::Udp {
            command.arg("--udp");
        }
        let started = Instant::now();
        let output = command.args(place).output().map_err(words)?;
        let took = started.elapsed();
        let report: Report = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("{error}: {}", complaint(&output)))?;
        match output.status.code() == Some(i32::from(report.exit_code())) {
            true => Ok((report, took)),
            false => Err(format!("{} for {:?}", output.status, report.verdict)),
        }
    }

    /// Takes a bundle, and tells how long that took.
    fn collect(&self, file: &Path) -> Outcome<Duration> {
        let started = Instant::now();
        let mut command = Command::new(PROGRAM);
        command.args(["collect", "--netns", &self.pattern, "--out"]);
        let output = command.arg(file).output().map_err(words)?;
        match output.status.success() {
            true => Ok(started.elapsed()),
            false => Err(complaint(&output)),
        }
    }

    /// Types commands of a fix, and what comes afterwards.
    fn type_all(&self, node: &str, lines: &[String], fix: &Fix) -> Outcome {
        let own = lines.iter().map(|line| (node, line));
        let then = fix.afterwards.iter();
        own.chain(then.map(|step| (&*step.node, &step.command)))
            .try_for_each(|(node, line)| self.type_at(node, line))
    }

    /// Types a command at a node.
    fn type_at(&self, node: &str, line: &str) -> Outcome {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", node, "sh", "-c", line])
            .env("PATH", format!("{}:{path}", self.files.path().display()));
        if let Some(director) = self.lab.director() {
            command.env("POINTSMAN_SOCKET", director.socket());
        }
        let output = command.output().map_err(words)?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("{node}# {line}: {}", complaint(&output))),
        }
    }
}

fn complaint(output: &Output) -> String {
    format!(
        "{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// All findings, the cause first.
fn findings(report: &Report) -> Vec<&Finding> {
    report.cause.iter().chain(&report.also).collect()
}

/// Does something in many labs, several at a time, and tells all that went wrong.
fn with_each(labs: Vec<Fault>, work: impl Fn(Fault) -> Outcome + Sync) {
    // One crowd after the other.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let left = Mutex::new(labs);
    let wrong = Mutex::new(Vec::new());
    let one = || {
        loop {
            let Some(fault) = left.lock().unwrap().pop() else {
                return;
            };
            let name = fault.name;
            if !fault.missing().is_empty() {
                eprintln!("{name:24} needs {}", fault.missing().join(" and "));
            } else if let Err(error) = work(fault) {
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

/// The labs that the environment names, or all of these.
fn chosen(mut labs: Vec<Fault>) -> Vec<Fault> {
    if let Ok(some) = std::env::var(SOME) {
        let some: BTreeSet<&str> = some.split_whitespace().collect();
        labs.retain(|fault| some.contains("all") || some.contains(fault.name));
    }
    labs
}

fn skipped() -> bool {
    let reason = lab::why_not();
    if let Some(reason) = &reason {
        eprintln!("skipped: {reason}");
    }
    reason.is_some()
}

/// How many want each processor, at least 1: a machine that is busy is slow at everything.
fn crowd() -> f64 {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|word| word.parse().ok());
    let processors = thread::available_parallelism().map_or(1, usize::from);
    (load.unwrap_or(0.0) / processors as f64).max(1.0)
}

fn keep_report(name: &str, report: &Report) {
    if let Ok(folder) = std::env::var(REPORTS) {
        let path = Path::new(&folder).join(format!("{name}.txt"));
        fs::write(path, report.text()).unwrap();
    }
}

/// What makes a fault that comes and goes, again and again until it is dropped.
struct Recurring {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Recurring {
    fn begin(lab: &FaultLab) -> Self {
        let steps = lab.fault().before.iter();
        let commands: Vec<(String, Vec<String>)> = steps
            .filter_map(|step| match step {
                Action::Run { node, words, .. } => Some((lab.namespace(node), words.clone())),
                _ => None,
            })
            .collect();
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let again = move || {
            while !seen.load(Ordering::Relaxed) {
                for (namespace, words) in &commands {
                    let mut command = Command::new("ip");
                    command.args(["netns", "exec", namespace]).args(words);
                    let _ = command.output();
                }
            }
        };
        let thread = (!lab.fault().before.is_empty()).then(|| thread::spawn(again));
        Self { ended, thread }
    }
}

impl Drop for Recurring {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks live and from a bundle: the live answer, in time, and nothing left behind.
fn answer(scene: &mut Scene) -> Outcome<Report> {
    let name = scene.lab.fault().name;
    let file = scene.files.path().join("bundle.json");
    let usual = scene.collect(&file)?;
    let (_, offline) = scene.ask(&["--bundle", &file.display().to_string()])?;
    let marks = Marks::of(&scene.lab);
    let before = scene.lab.fault().before.clone();
    scene.lab.carry_out(&before).map_err(words)?;
    let cause = Recurring::begin(&scene.lab);
    let answered = scene.ask(&["--netns", &scene.pattern]);
    drop(cause);
    let (report, live) = answered?;
    let left = marks.compare(&Marks::of(&scene.lab));
    keep_report(name, &report);
    let told: Vec<String> = findings(&report)
        .iter()
        .map(|one| format!("{} {}", one.code, one.confidence))
        .collect();
    eprintln!(
        "{name:24} {:8?} collect {:4.1} s, live {:4.1} s, bundle {:4.1} s  {}",
        report.verdict.status,
        usual.as_secs_f32(),
        live.as_secs_f32(),
        offline.as_secs_f32(),
        told.join(", ")
    );
    let crowd = crowd();
    if live > LIVE.mul_f64(crowd) || offline > OFFLINE.mul_f64(crowd) {
        return Err(format!(
            "live {live:?}, from a bundle {offline:?}, where collecting takes {usual:?} and \
             {crowd} want each processor"
        ));
    }
    left.map(|()| report)
}

/// The findings of the lab's blockers, as the table wants them.
fn judged<'a>(scene: &Scene, report: &'a Report, expected: &Expected) -> Outcome<Vec<&'a Finding>> {
    let all = findings(report);
    let said = || format!("\n{}", report.text());
    if report.verdict.status != Status::Fault {
        return Err(format!("{:?}{}", report.verdict.status, said()));
    }
    let mut found = Vec::new();
    for (number, blocker) in scene.lab.fault().blockers.iter().enumerate() {
        let node = scene.lab.namespace(blocker.guilty.node);
        let is_it = |one: &&&Finding| one.code.name() == blocker.code && one.node == node;
        let finding = *all
            .iter()
            .find(is_it)
            .ok_or_else(|| format!("no {} at {node}{}", blocker.code, said()))?;
        if number == 0 && !std::ptr::eq(finding, all[0]) {
            return Err(format!("{} is not the cause{}", blocker.code, said()));
        }
        let places = [blocker.guilty.port, expected.or_at];
        if let Some(link) = finding
            .link
            .as_ref()
            .filter(|at| !places.contains(&at.as_str()))
        {
            return Err(format!("at {link}, not {}{}", blocker.guilty.port, said()));
        }
        found.push(finding);
    }
    let first = found[0];
    let named = serde_json::to_string(first).map_err(words)?;
    if !named.contains(expected.names) {
        return Err(format!("does not name {}{}", expected.names, said()));
    }
    if first.confidence < expected.sure {
        return Err(format!("only {}{}", first.confidence, said()));
    }
    Ok(found)
}

/// The first fix that is made by commands.
fn cure(finding: &Finding) -> Option<&Fix> {
    let mut fixes = finding.fixes.iter();
    fixes.find(|fix| fix.commands.iter().any(|line| !line.is_empty()))
}

/// Types the fixes of findings as they are printed, which must help; then their undo.
fn mend(scene: &mut Scene, found: &[&Finding], report: &Report, expected: &Expected) -> Outcome {
    let said = || format!("\n{}", report.text());
    let mut fixes = Vec::new();
    for finding in found {
        let fix = cure(finding).ok_or_else(|| format!("no cure of {}{}", finding.code, said()))?;
        fixes.push((fix.node.as_ref().unwrap_or(&finding.node), fix));
    }
    for (node, fix) in &fixes {
        scene.type_all(node, &fix.commands, fix)?;
    }
    let told = |what: &'static str| {
        let said = said();
        move |error: LabError| format!("{what}: {error}{said}")
    };
    if scene.lab.expect_answer().is_err() {
        // Others may have heard the old one once more, before it gave way.
        for (node, fix) in &fixes {
            scene.type_all(node, &[], fix)?;
        }
        let answer = scene.lab.expect_answer();
        answer.map_err(told("the fix is none"))?;
    }
    for (node, fix) in fixes.iter().rev() {
        scene.type_all(node, &fix.undo, fix)?;
    }
    if let Cure::Lasting(_) = expected.cure {
        return Ok(());
    }
    let failure = scene.lab.expect_any_failure();
    failure.map(drop).map_err(told("the undo is none"))
}

#[test]
fn the_table_has_every_lab() {
    let named: Vec<&str> = expected::EXPECTED.iter().map(|row| row.lab).collect();
    for fault in [faults(), stories()].concat() {
        let known = named.iter().filter(|name| **name == fault.name).count();
        assert!(
            known == 1 || !fault.missing().is_empty(),
            "{} is there {known} times",
            fault.name
        );
    }
}

#[test]
fn every_fault_is_named_and_mended_as_printed() {
    if skipped() {
        return;
    }
    with_each(chosen([faults(), stories()].concat()), |fault| {
        let expected = expected::of(fault.name).ok_or("no row")?;
        let mut scene = Scene::build(fault)?;
        let report = answer(&mut scene)?;
        let found = judged(&scene, &report, expected)?;
        match expected.cure {
            Cure::Commands | Cure::Lasting(_) => mend(&mut scene, &found, &report, expected),
            Cure::ByHand(_) => {
                if found[0].fixes.is_empty() {
                    return Err(format!("no advice\n{}", report.text()));
                }
                scene.lab.cure_all().map_err(words)?;
                scene.lab.expect_answer().map(drop).map_err(words)
            }
        }
    });
}

#[test]
fn nothing_is_wrong_where_it_only_looks_so() {
    if skipped() {
        return;
    }
    with_each(chosen(quirks()), |fault| {
        let mut scene = Scene::build(fault)?;
        let report = answer(&mut scene)?;
        match (report.verdict.status, findings(&report).is_empty()) {
            (Status::Healthy, true) => Ok(()),
            _ => Err(report.text()),
        }
    });
}
