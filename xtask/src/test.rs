//! Runs every test and counts.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode};
use std::thread::available_parallelism;

use anyhow::{Context, Result};

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
            oracle::count(&mut tally)?;
        }
        Err(error) => tally.fail(format!("{error:#}")),
    }
    if !crate::has_verb("guest-test") {
        // Nothing to run yet.
    } else if quick {
        tally.leave_out("guest-test", "--quick leaves the guest out");
    } else {
        guest_tests(&mut tally)?;
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

fn guest_tests(tally: &mut Tally) -> Result<()> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let before = tally.total();
    let (success, command) = passed_on(tally, Command::new(own).arg("guest-test"))?;
    if tally.total() == before {
        if success {
            tally.pass();
        } else {
            tally.fail(format!("`{command}` failed"));
        }
    } else if !success && tally.failed() == 0 {
        tally.fail(format!("`{command}` failed after its tests"));
    }
    Ok(())
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
