//! The only build scripting of the project: one verb per job.

use std::fmt;
use std::process::ExitCode;

mod bench;
mod check;
mod demo;
#[cfg(test)]
mod documents;
mod failover;
mod frr;
mod fuzz;
mod guest;
mod layers;
mod libvirt;
mod oracle;
mod scale;
mod setup;
mod steady;
mod tally;
mod test;
mod unpack;
mod verdicts;
mod workspace;

const USAGE: &str = "\
usage: cargo xtask VERB [ARGS...]

verbs:
  setup        install what is missing here, saying what and why (`--demo`: only for the demo)
  demo         show the load balancer at work, in network namespaces (root)
  test         run every test; the last line counts them (`--quick`: without the guest)
  check        formatting, layers, lints and documentation
  ci           check and test
  oracle       replay scenarios and compare with what the kernel's IPVS did
               (`[DIR...]`, without: those of lab/scenarios; root)
  bench        nanoseconds per packet, by case (`--schedulers` for those alone, `--json FILE`; root)
  scale        10 000 services, 1 000 000 connections, 1 000 checks a second: time, bytes (root)
  failover     how long clients wait when a VRRP master goes, beside keepalived (root)
  steady       what is lost by reloads and restarts under traffic (root)
  fuzz         run fuzz targets (`[TARGET...] [--seconds N]`; needs nightly)
  verdicts     judge recorded frames with libvirt's filters (`DIR...`)
  guest        run a program under Debian's 6.1 kernel in qemu (`guest --help`)
  guest-test   in that guest, the programs against the native director, Pointsman against IPVS
  golden       record anew what the real ipvsadm says, in that guest (`[NAME...]`)
  guest-cost   instructions per packet of kernel and XDP directors in that guest
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let verb = args.next();
    let rest: Vec<String> = args.collect();
    match verb.as_deref() {
        Some("setup") => done(setup::main(&rest)),
        Some("demo") => ended(demo::main(&rest)),
        Some("test") => ended(test::main(&rest)),
        Some("check") => done(check::main(&rest)),
        Some("ci") => ended(check::main(&rest).and_then(|()| test::main(&[]))),
        Some("oracle") => ended(oracle::main(&rest)),
        Some("bench") => done(bench::main(&rest)),
        Some("scale") => done(scale::main(&rest)),
        Some("failover") => done(failover::main(&rest)),
        Some("steady") => done(steady::main(&rest)),
        Some("fuzz") => done(fuzz::main(&rest)),
        Some("verdicts") => ended(verdicts::main(&rest)),
        Some("guest") => guest::main(rest),
        Some("guest-test") => guest::test::main(rest),
        Some("golden") => guest::golden::main(rest),
        Some("guest-cost") => guest::cost::main(rest),
        Some("help" | "--help" | "-h") => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        Some(other) => {
            eprintln!("xtask: there is no verb `{other}`\n\n{USAGE}");
            ExitCode::from(2)
        }
        None => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Whether there is such a verb; documents are asked by it.
#[cfg(test)]
fn has_verb(verb: &str) -> bool {
    USAGE.contains(&format!("\n  {verb} "))
}

/// Words on the command line that mean nothing.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn done(result: anyhow::Result<()>) -> ExitCode {
    ended(result.map(|()| ExitCode::SUCCESS))
}

fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_known_by_the_help() {
        assert!(has_verb("guest"));
        assert!(has_verb("test"));
        assert!(!has_verb("build"));
    }
}
