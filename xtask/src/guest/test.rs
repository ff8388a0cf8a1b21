//! The loaded programs against the native director, and Pointsman against IPVS, under the oldest
//! kernel supported.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::side_by_side::{self, Seeds};
use super::{GuestCommand, faults, filters, run, sync};

const PACKAGE: &str = "pointsman-datapath";
const EXAMPLE: &str = "differential";

const USAGE: &str = "\
usage: cargo xtask guest-test [--packets N] [--seeds N] [--first SEED] [--faults 0] [--filters 0]
                              [--sync 0]

Loads the programs in the guest and compares them with the native director: N generated packets
(default 20000) with room for every connection, and a quarter as many with a full table. The seed
is printed; POINTSMAN_SEED repeats a run.

Then runs the scenarios of N seeds (default 6), from SEED on (default 1), with the kernel's IPVS and
with Pointsman, and compares what both did. A failing scenario is named after its seed.

Then builds the faults that need VLANs in bridges or the kernel's IPVS (`pointsman lab fault`), cures
them and undoes the cures.

Then compares what `nwfilter apply` enforces with the judge of filters, frame by frame.

Then has connections that the kernel's IPVS tells Pointsman of go on there, and the other way round.

--packets 0, --seeds 0, --faults 0, --filters 0 and --sync 0 leave a part out.
";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Options {
    packets: u32,
    seeds: Seeds,
    faults: bool,
    filters: bool,
    sync: bool,
}

/// The verb `guest-test`.
pub(crate) fn main(args: Vec<String>) -> ExitCode {
    if matches!(args.first().map(String::as_str), Some("--help" | "-h")) {
        print!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    let options = match parse(&args) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("xtask guest-test: {error:#}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match test(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask guest-test: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        packets: 20_000,
        seeds: Seeds {
            first: 1,
            number: 6,
        },
        faults: true,
        filters: true,
        sync: true,
    };
    let mut args = args.iter();
    while let Some(option) = args.next() {
        let value = args
            .next()
            .with_context(|| format!("`{option}` is not an option with a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .with_context(|| format!("{option} takes a number, not `{value}`"))
        };
        match option.as_str() {
            "--packets" => match value.parse() {
                Ok(number @ (0 | 4..)) => options.packets = number,
                _ => bail!("--packets takes 0 or a number from 4, not `{value}`"),
            },
            "--seeds" => options.seeds.number = number()?,
            "--first" => options.seeds.first = number()?,
            "--faults" => options.faults = number()? > 0,
            "--filters" => options.filters = number()? > 0,
            "--sync" => options.sync = number()? > 0,
            other => bail!("there is no option `{other}`"),
        }
    }
    Ok(options)
}

fn test(options: Options) -> Result<()> {
    if options.packets > 0 {
        differential(options.packets)?;
    }
    if options.seeds.number > 0 {
        side_by_side::compare(options.seeds)?;
    }
    if options.faults {
        faults::build_all()?;
    }
    if options.filters {
        filters::compare()?;
    }
    if options.sync {
        sync::exchange()?;
    }
    Ok(())
}

fn differential(packets: u32) -> Result<()> {
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
    fn numbers_are_read() {
        let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
        assert_eq!(parse(&[]).unwrap().packets, 20_000);
        assert_eq!(parse(&words("--packets 100")).unwrap().packets, 100);
        let options = parse(&words("--first 7 --packets 0 --seeds 6")).unwrap();
        let seeds = Seeds {
            first: 7,
            number: 6,
        };
        assert_eq!((options.packets, options.seeds), (0, seeds));
        assert!(options.faults && !parse(&words("--faults 0")).unwrap().faults);
        assert!(options.sync && !parse(&words("--sync 0")).unwrap().sync);
        assert!(options.filters && !parse(&words("--filters 0")).unwrap().filters);
        assert!(parse(&words("--packets")).is_err());
        assert!(parse(&words("--packets 3")).is_err());
        assert!(parse(&words("--seeds few")).is_err());
        assert!(parse(&words("--rounds 3")).is_err());
    }
}
