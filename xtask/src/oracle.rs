//! Replays scenarios and compares with what the kernel's IPVS did.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::setup::{self, Purpose};
use crate::tally::Tally;
use crate::workspace::{self, find, is_root, run, say};

/// The project's own scenarios, from the folder of the workspace.
const OWN: &str = "lab/scenarios";

/// The verb `oracle`; options and folders go to `pointsman-lab oracle`.
pub(crate) fn main(args: &[String]) -> Result<ExitCode> {
    setup::prepare(Purpose::Oracle)?;
    run(workspace::cargo().args([
        "build",
        "--package",
        "pointsman",
        "--package",
        "pointsman-lab",
        "--bins",
    ]))?;
    let mut command = command()?;
    command.args(args);
    if !names_folder(args) {
        command.arg(workspace::root().join(OWN));
    }
    let status = command
        .status()
        .context("cannot run pointsman-lab oracle")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Counts every scenario of the project as a test; the programs are built.
pub(crate) fn count(tally: &mut Tally) -> Result<()> {
    if !is_root() && find("sudo").is_none() {
        tally.leave_out("oracle", "scenarios need root");
        return Ok(());
    }
    say("the scenarios of lab/scenarios; two of them sleep for two minutes");
    let mut child = command()?
        .arg(workspace::root().join(OWN))
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run pointsman-lab oracle")?;
    let before = tally.total();
    let lines = child.stdout.take().map(BufReader::new);
    for line in lines.into_iter().flat_map(BufRead::lines) {
        let line = line.context("cannot read what pointsman-lab oracle says")?;
        println!("{line}");
        match verdict(&line) {
            Some((_, true)) => tally.pass(),
            Some((name, false)) => tally.fail(format!("scenario {name}")),
            None => {}
        }
    }
    let status = child.wait()?;
    if tally.total() == before || (!status.success() && tally.failed() == 0) {
        tally.fail(format!("pointsman-lab oracle ended with {status}"));
    }
    Ok(())
}

/// The scenario of a line `NAME: ok` or `NAME: FAILED`, and whether it passed.
fn verdict(line: &str) -> Option<(&str, bool)> {
    let (name, verdict) = line.split_once(": ")?;
    match verdict {
        _ if name.starts_with(' ') => None,
        "ok" => Some((name, true)),
        "FAILED" => Some((name, false)),
        _ => None,
    }
}

/// `pointsman-lab oracle`, as it was built.
fn command() -> Result<Command> {
    let mut command = workspace::as_root(workspace::target().join("debug/pointsman-lab"))?;
    command.arg("oracle");
    Ok(command)
}

/// Whether there is a word that is neither an option nor its value; every option has one.
fn names_folder(args: &[String]) -> bool {
    let mut args = args.iter();
    while let Some(word) = args.next() {
        if !word.starts_with("--") {
            return true;
        }
        args.next();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_counted_by_its_line() {
        assert_eq!(verdict("01-rr-basic: ok"), Some(("01-rr-basic", true)));
        assert_eq!(verdict("02-x: FAILED"), Some(("02-x", false)));
        for other in ["    step 3: ok", "40 passed, 0 failed", "    exception: ok"] {
            assert_eq!(verdict(other), None);
        }
    }

    #[test]
    fn values_of_options_are_no_folders() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            names_folder(&words)
        };
        assert!(!names(&[]));
        assert!(!names(&["--jobs", "4", "--slack", "9"]));
        assert!(names(&["--jobs", "4", "scenarios"]));
        assert!(names(&["scenarios", "--jobs", "4"]));
    }
}
