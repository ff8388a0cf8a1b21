//! Runs every test and counts.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, ExitCode};
use std::thread::{self, available_parallelism};

use anyhow::{Context, Result, anyhow};

use crate::oracle;
use crate::setup::{self, Purpose};
use crate::tally::Tally;
use crate::workspace::{self, find, is_root, line_of, run, say};

/// Packages with tests that need root.
const ROOT_PACKAGES: &[&str] = &[
    "pointsman",
    "pointsman-daemon",
    "pointsman-datapath",
    "pointsman-filter",
    "pointsman-lab",
    "pointsman-linux",
];

/// Namespaces and qemu wait more than they compute, but timing suffers from a crowd.
const MOST_THREADS: usize = 4;

/// Failed tests that are run again; more are no accident.
const MOST_AGAIN: usize = 5;

/// Options of `guest-test` that leave one part each, in two lanes that run beside each other.
const GUEST_LANES: [&[&str]; 2] = [
    &[
        "--seeds 0 --faults 0 --filters 0 --sync 0",
        "--packets 0 --faults 0 --filters 0 --sync 0",
    ],
    &[
        "--packets 0 --seeds 0 --filters 0 --sync 0",
        "--packets 0 --seeds 0 --faults 0 --sync 0",
        "--packets 0 --seeds 0 --faults 0 --filters 0",
    ],
];

/// The verb `test`.
pub(crate) fn main(args: &[String]) -> Result<ExitCode> {
    let quick = match args {
        [] => false,
        [word] if word == "--quick" => true,
        _ => return Err(crate::Usage("usage: cargo xtask test [--quick]".into()).into()),
    };
    if let Err(error) = setup::prepare(Purpose::Test) {
        say(&format!(
            "{error:#}; going on, tests that miss something are skipped"
        ));
    }
    let mut tally = Tally::default();
    // The programs first, which some tests start; the same set of packages builds nothing twice.
    let built = run(workspace::cargo().args(["test", "--no-run"]));
    match built {
        Ok(()) => {
            cargo_tests(&mut tally)?;
            if quick {
                tally.leave_out("guest-test", "--quick leaves the guest out");
                oracle::count(&mut tally)?;
            } else {
                oracle_and_guests(&mut tally)?;
            }
        }
        Err(error) => tally.fail(format!("{error:#}")),
    }
    eprint!("{}", tally.details());
    println!("{tally}");
    Ok(if tally.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn cargo_tests(tally: &mut Tally) -> Result<()> {
    if is_root() || find("sudo").is_none() {
        counted(tally, with_arguments(&mut cargo_test()))?;
        return once_more(tally);
    }
    let mut without_root = cargo_test();
    let mut with_root = cargo_test();
    without_root.arg("--workspace");
    for package in ROOT_PACKAGES {
        without_root.args(["--exclude", package]);
        with_root.args(["--package", package]);
    }
    // Excluded from the default members for the same reason: it is built for another target.
    without_root.args(["--exclude", "pointsman-datapath-ebpf"]);
    workspace::run_tests_as_root(&mut with_root);
    counted(tally, with_arguments(&mut without_root))?;
    say("the tests of the kernel side run by sudo");
    counted(tally, with_arguments(&mut with_root))?;
    once_more(tally)
}

/// Runs the few tests that failed again, each alone: other work may have taken the machine's time.
///
/// Those that pass count as passed and are named at the end.
fn once_more(tally: &mut Tally) -> Result<()> {
    let again = tally.take_again();
    if again.iter().map(|one| one.tests.len()).sum::<usize>() > MOST_AGAIN {
        return Ok(());
    }
    for one in again {
        for test in &one.tests {
            let mut alone = cargo_test();
            workspace::run_tests_as_root(&mut alone);
            alone.args(&one.arguments);
            alone.args(["--", "--exact", test]);
            let mut own = Tally::default();
            let (success, _) = passed_on(&mut own, &mut alone)?;
            if success && own.total() == 1 && own.failed() == 0 {
                tally.passed_alone(test);
            }
        }
    }
    Ok(())
}

fn cargo_test() -> Command {
    let mut command = workspace::cargo();
    command.args(["test", "--no-fail-fast"]);
    command
}

fn with_arguments(command: &mut Command) -> &mut Command {
    let threads = available_parallelism().map_or(2, usize::from);
    let threads = threads.min(MOST_THREADS);
    command
        .arg("--")
        .arg("--show-output")
        .arg(format!("--test-threads={threads}"))
}

/// Runs the scenarios and meanwhile the guests: the former mostly sleep, and a guest mostly keeps one
/// processor busy.
fn oracle_and_guests(tally: &mut Tally) -> Result<()> {
    say("the guests' tests begin; what they print comes after the scenarios");
    thread::scope(|scope| {
        let lanes = GUEST_LANES.map(|parts| {
            scope.spawn(move || -> Result<Vec<Ended>> {
                parts.iter().map(|part| Ended::of(part)).collect()
            })
        });
        oracle::count(tally)?;
        for lane in lanes {
            let ended = lane.join().map_err(|_| anyhow!("a guest's thread died"))?;
            for part in ended? {
                part.count(tally);
            }
        }
        Ok(())
    })
}

/// A part of the guest's tests that has ended.
struct Ended {
    command: String,
    output: String,
    success: bool,
}

impl Ended {
    /// Runs a part, with options that leave the others out.
    fn of(options: &str) -> Result<Self> {
        let own = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(own);
        command.arg("guest-test").args(options.split(' '));
        let (reader, writer) = std::io::pipe()?;
        command.stdout(writer.try_clone()?).stderr(writer);
        let line = line_of(&command);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {line}"))?;
        // It holds the pipe's ends too, and reading would never end.
        drop(command);
        let mut output = Vec::new();
        BufReader::new(reader).read_to_end(&mut output)?;
        Ok(Self {
            command: line,
            output: String::from_utf8_lossy(&output).into_owned(),
            success: child.wait()?.success(),
        })
    }

    /// Shows what it printed; counts the part as a test, or the tests that it ran.
    fn count(&self, tally: &mut Tally) {
        say(&self.command);
        let (total, failed) = (tally.total(), tally.failed());
        for line in self.output.lines() {
            if tally.line(line) {
                println!("{line}");
            }
        }
        tally.end();
        match (self.success, tally.total() == total) {
            (true, true) => tally.pass(),
            (true, false) => {}
            (false, _) if tally.failed() > failed => {}
            (false, _) => tally.fail(format!("`{}` failed", self.command)),
        }
    }
}

fn counted(tally: &mut Tally, command: &mut Command) -> Result<()> {
    let before = tally.failed();
    let (success, command) = passed_on(tally, command)?;
    if !success && tally.failed() == before {
        tally.fail(format!("`{command}` failed"));
    }
    Ok(())
}

/// Runs the command, shows and counts what it prints; says whether it ended well.
fn passed_on(tally: &mut Tally, command: &mut Command) -> Result<(bool, String)> {
    let line = line_of(command);
    say(&line);
    let (reader, writer) = std::io::pipe()?;
    let mut child = command
        .env("CARGO_TERM_COLOR", "never")
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot run {line}"))?;
    // The command holds the pipe's ends too, and reading would never end.
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    while reader.read_until(b'\n', &mut bytes)? > 0 {
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches(['\n', '\r']);
        if tally.line(text) {
            println!("{text}");
        }
        bytes.clear();
    }
    tally.end();
    Ok((child.wait()?.success(), line))
}
