//! The loaded programs against the native director, under the oldest kernel supported.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::{GuestCommand, run};

const PACKAGE: &str = "pointsman-datapath";
const EXAMPLE: &str = "differential";

const USAGE: &str = "\
usage: cargo xtask guest-test [--packets N]

Loads the programs in the guest and compares them with the native director: N generated packets
(default 20000) with room for every connection, and a quarter as many with a full table. The seed
is printed; POINTSMAN_SEED repeats a run.
";

/// The verb `guest-test`.
pub(crate) fn main(args: Vec<String>) -> ExitCode {
    if matches!(args.first().map(String::as_str), Some("--help" | "-h")) {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let packets = match parse(&args) {
        Ok(packets) => packets,
        Err(error) => {
            eprintln!("xtask guest-test: {error:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match test(packets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask guest-test: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<u32> {
    match args {
        [] => Ok(20_000),
        [option, number] if option == "--packets" => match number.parse() {
            Ok(number @ 4..) => Ok(number),
            _ => bail!("--packets takes a number from 4, not `{number}`"),
        },
        [other, ..] => bail!("`{other}` is not an option with a value"),
    }
}

fn test(packets: u32) -> Result<()> {
    let program = build()?;
    let mut command = GuestCommand::new("sh");
    command.args = vec![
        "-ec".to_owned(),
        "uname -r; \"$0\" \"$1\"; \"$0\" \"$2\" 48".to_owned(),
        program.clone(),
        packets.to_string(),
        (packets / 4).to_string(),
    ];
    command.with = vec![program, "ip".to_owned()];
    // A minute where nothing else runs.
    command.timeout = Duration::from_secs(900);
    if let Ok(seed) = std::env::var("POINTSMAN_SEED") {
        command.env.push(("POINTSMAN_SEED".to_owned(), seed));
    }
    let output = run(&command)?;
    ensure!(
        output.status == 0,
        "{EXAMPLE} ended with status {} in the guest",
        output.status
    );
    Ok(())
}

/// Builds the example into the folder of this program's target, and gives its path.
fn build() -> Result<String> {
    let here = std::env::current_exe()?;
    let target: PathBuf = here
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .context("this program is in no target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", PACKAGE])
        .args(["--example", EXAMPLE, "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cannot run cargo")?;
    ensure!(
        status.success(),
        "{EXAMPLE} of {PACKAGE} does not build: `cargo xtask setup` installs what it needs"
    );
    let path = target.join("debug/examples").join(EXAMPLE);
    ensure!(path.exists(), "{} was not built", path.display());
    Ok(path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_packets_is_read() {
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        assert_eq!(parse(&[]).unwrap(), 20_000);
        assert_eq!(parse(&words("--packets 100")).unwrap(), 100);
        assert!(parse(&words("--packets")).is_err());
        assert!(parse(&words("--packets 0")).is_err());
        assert!(parse(&words("--rounds 3")).is_err());
    }
}
