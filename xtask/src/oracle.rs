//! Replays scenarios and compares with what the kernel's IPVS did.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::setup::{self, Purpose};
use crate::workspace::{self, run};

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
