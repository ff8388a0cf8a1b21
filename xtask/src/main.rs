//! The only build scripting of the project: one verb per job.

use std::process::ExitCode;

mod guest;

const USAGE: &str = "\
usage: cargo xtask VERB [ARGS...]

verbs:
  guest        run a program under Debian's 6.1 kernel in qemu (`guest --help`)
  guest-cost   instructions per packet of kernel and XDP directors in that guest
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let verb = args.next();
    let rest: Vec<String> = args.collect();
    match verb.as_deref() {
        Some("guest") => guest::main(rest),
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
