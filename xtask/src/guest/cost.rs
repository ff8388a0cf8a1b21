//! The instruction cost of directors per packet, measured in the guest.
//!
//! What is measured, and how, is told in `cost/main.rs`, the program run there.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use super::{GuestCommand, run};

const PROGRAM: &str = "pointsman-guest-cost";

const USAGE: &str = "\
usage: cargo xtask guest-cost [OPTIONS]

Prints the instructions per packet of the kernel's forwarding, IPVS and XDP, and of Pointsman, in
the guest.

options:
  --row NAME,HOOK,COMMAND  add a director: HOOK is where it works and where the real server is:
                           `stack` (tc or the kernel, out of a dummy device), `xdp` (second wire)
                           or `xdp-tx` (same wire); COMMAND is run by sh in the director's
                           namespace and returns when the director is ready; it gets the variables
                           VIP, PORT, REAL, INPUT, OUTPUT. With a NAME ending in `new flows` each
                           packet opens a connection. Repeatable
  --pointsman PROGRAM      the Pointsman to measure, instead of this one, which is built first
  --with PROGRAM           a program COMMAND needs; repeatable
  --file PATH              a file or directory it needs, at the same path; repeatable
  --only TEXT              of the built-in rows only those with TEXT in the name
  --frames N               packets per round, default 20000
  --rounds N               the least of N rounds counts, default 3
  --append WORDS           more words for the kernel command line
";

/// Instructions per packet of one director.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cost {
    pub(crate) name: String,
    pub(crate) instructions: f64,
}

/// Builds the measuring program and runs it in the guest, with the Pointsman at `pointsman` or the
/// one built here; `with` and `files` (paths on the host and in the guest) are what the commands of
/// `--row`s need.
pub(crate) fn measure(
    args: &[String],
    pointsman: Option<String>,
    with: &[String],
    files: &[(PathBuf, PathBuf)],
    append: &str,
) -> Result<Vec<Cost>> {
    let pointsman = match pointsman {
        Some(path) => std::path::absolute(path)?.display().to_string(),
        None => build("pointsman", "pointsman", Some("release"))?,
    };
    let mut command = GuestCommand::new(build("xtask", PROGRAM, None)?);
    command.args = args.to_vec();
    command
        .args
        .extend(["--pointsman".to_owned(), pointsman.clone()]);
    command.with = ["ip", "ipvsadm", "ethtool"].map(str::to_owned).to_vec();
    command.with.push(pointsman);
    command.with.extend_from_slice(with);
    command.files = files.to_vec();
    // See cost/main.rs about pages.
    command.append = format!("init_on_alloc=0 {append}");
    command.icount = true;
    let output = run(&command)?;
    ensure!(
        output.status == 0,
        "{PROGRAM} failed with status {}",
        output.status
    );
    Ok(costs(&String::from_utf8_lossy(&output.output)))
}

/// The verb `guest-cost`.
pub(crate) fn main(args: Vec<String>) -> ExitCode {
    let (mut passed, mut with, mut files) = (Vec::new(), Vec::new(), Vec::new());
    let mut append = String::new();
    let mut pointsman = None;
    let mut args = args.into_iter();
    while let Some(option) = args.next() {
        match (option.as_str(), args.next()) {
            ("--with", Some(program)) => with.push(program),
            ("--file", Some(path)) => {
                let path = std::path::absolute(&path).unwrap_or_else(|_| path.into());
                files.push((path.clone(), path));
            }
            ("--append", Some(words)) => append = words,
            ("--pointsman", Some(program)) => pointsman = Some(program),
            (name, Some(value)) if name.starts_with("--") => passed.extend([option, value]),
            ("--help" | "-h", None) => {
                print!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("xtask guest-cost: `{option}` is not an option with a value\n\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match measure(&passed, pointsman, &with, &files, &append) {
        Ok(costs) => {
            println!("\n{:<32} instructions/packet", "director");
            for cost in costs {
                println!("{:<32} {:>19.0}", cost.name, cost.instructions);
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("xtask guest-cost: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds `program` of `package` into the target folder this program is in, and gives its path.
/// Without a profile it is the one this program was built by.
fn build(package: &str, program: &str, profile: Option<&str>) -> Result<String> {
    let here = std::env::current_exe()?;
    let folder = here.parent().context("this program is in no folder")?;
    let target = folder.parent().context("this program is in no target")?;
    let folder = profile.map_or_else(|| folder.to_owned(), |profile| target.join(profile));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", package, "--bin", program])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "{program} does not build");
    let path = folder.join(program);
    ensure!(path.exists(), "{} was not built", path.display());
    Ok(path.display().to_string())
}

/// Reads the lines `cost TAB name TAB number`.
fn costs(output: &str) -> Vec<Cost> {
    let cost = |line: &str| {
        let (name, number) = line.strip_prefix("cost\t")?.split_once('\t')?;
        Some(Cost {
            name: name.to_owned(),
            instructions: number.trim().parse().ok()?,
        })
    };
    output.lines().filter_map(cost).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_found_among_other_lines() {
        let found = costs("hello\ncost\tip_vs direct\t6024\ncost\tbroken\n");
        assert_eq!(
            found,
            [Cost {
                name: "ip_vs direct".into(),
                instructions: 6024.0
            }]
        );
    }
}
