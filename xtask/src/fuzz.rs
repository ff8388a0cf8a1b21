//! Runs the fuzz targets, by cargo-fuzz or without it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, find, run, say};

const USAGE: &str = "usage: cargo xtask fuzz [TARGET...] [--seconds N]";

/// What cargo-fuzz passes to the compiler: coverage for libFuzzer, and the address sanitizer.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
                     -Cllvm-args=-sanitizer-coverage-level=4 \
                     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                     -Cllvm-args=-sanitizer-coverage-pc-table \
                     -Cllvm-args=-sanitizer-coverage-trace-compares \
                     -Ccodegen-units=1 -Cdebug-assertions -Zsanitizer=address";

/// The verb `fuzz`.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let all = targets()?;
    let (wanted, seconds) = parse(args, &all)?;
    if !has_nightly() {
        bail!(
            "fuzzing needs a nightly compiler, for coverage and the address sanitizer: \
             rustup toolchain install nightly --profile minimal"
        );
    }
    let by_cargo_fuzz = find("cargo-fuzz").is_some();
    if !by_cargo_fuzz {
        say("without cargo-fuzz: building with its flags");
        let mut cargo = nightly();
        cargo.args(["build", "--release", "--bins", "--target", &triple()]);
        run(cargo.env("RUSTFLAGS", FLAGS))?;
    }
    for target in &wanted {
        say(&format!("fuzzing {target} for {seconds} s"));
        let limit = format!("-max_total_time={seconds}");
        let mut command = if by_cargo_fuzz {
            let mut command = nightly();
            command.args(["fuzz", "run", "--fuzz-dir", ".", target, "--"]);
            command
        } else {
            let program = folder().join("target").join(triple()).join("release");
            let mut command = Command::new(program.join(target));
            let artifacts = folder().join("artifacts").join(target);
            std::fs::create_dir_all(&artifacts)?;
            command
                .arg(format!("-artifact_prefix={}/", artifacts.display()))
                .arg(folder().join("corpus").join(target));
            command
        };
        run(command.current_dir(folder()).arg(limit))
            .with_context(|| format!("{target}: see fuzz/artifacts/{target}"))?;
    }
    Ok(())
}

fn folder() -> PathBuf {
    workspace::root().join("fuzz")
}

fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Cargo of the nightly toolchain, in the fuzz targets' folder.
fn nightly() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]);
    command.current_dir(folder());
    command.env_remove("CARGO_TARGET_DIR");
    command
}

fn has_nightly() -> bool {
    Command::new("rustup")
        .args(["run", "nightly", "rustc", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Names of all targets, from their files.
fn targets() -> Result<Vec<String>> {
    let folder = folder().join("fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs")
            && let Some(name) = path.file_stem()
        {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The targets to run, and for how many seconds each.
fn parse(args: &[String], all: &[String]) -> Result<(Vec<String>, u32)> {
    let mut wanted = Vec::new();
    let mut seconds = 60;
    let mut args = args.iter();
    while let Some(word) = args.next() {
        if word == "--seconds" {
            seconds = match args.next().and_then(|text| text.parse().ok()) {
                Some(number @ 1..) => number,
                _ => {
                    return Err(crate::Usage(format!("--seconds needs a number\n{USAGE}")).into());
                }
            };
        } else if all.contains(word) {
            wanted.push(word.clone());
        } else {
            return Err(crate::Usage(format!(
                "there is no target `{word}`, but {}\n{USAGE}",
                all.join(", ")
            ))
            .into());
        }
    }
    if wanted.is_empty() {
        wanted = all.to_vec();
    }
    Ok((wanted, seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn no_target_means_all() {
        let all = words("a b");
        assert_eq!(parse(&[], &all).unwrap(), (all.clone(), 60));
        let (wanted, seconds) = parse(&words("b --seconds 5"), &all).unwrap();
        assert_eq!((wanted, seconds), (words("b"), 5));
    }

    #[test]
    fn mistakes_are_named() {
        for (line, part) in [
            ("c", "there is no target `c`, but a, b"),
            ("a --seconds", "needs a number"),
            ("--seconds 0", "needs a number"),
        ] {
            let error = parse(&words(line), &words("a b")).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn the_targets_are_there() {
        assert!(targets().unwrap().contains(&"director_process".to_owned()));
    }
}
