//! `pointsman nwfilter`: what the packet filters at a guest's port let through.

mod check;
mod mend;
mod scene;
mod source;

use std::process::ExitCode;

use clap::Subcommand;

pub(crate) const LONG_ABOUT: &str = "\
What the packet filters at a guest's port let through, and why

libvirt's network filters pin a guest to its own addresses, and a director sends with its clients'. \
`check` says for every frame that a role must send and receive whether the filter lets it through, and \
which rule decides. `mend` finds the smallest change of the filter that lets them through.";

#[derive(Debug, Subcommand)]
pub(crate) enum NwfilterVerb {
    /// List the frames that a role needs, whether they pass, and which rule decides
    #[command(long_about = check::LONG_ABOUT)]
    Check(Box<check::CheckFlags>),
    /// Find the smallest change of a guest's filter that lets a role work
    #[command(long_about = mend::LONG_ABOUT)]
    Mend(Box<mend::MendFlags>),
}

/// Obeys; errors are told here, for each verb has its own exit codes.
pub(crate) fn run(verb: NwfilterVerb) -> ExitCode {
    match verb {
        NwfilterVerb::Check(flags) => ended(check::run(&flags), TROUBLE),
        NwfilterVerb::Mend(flags) => ended(mend::run(&flags), TROUBLE),
    }
}

/// Exit code of a verb whose 1 says that something was found.
const TROUBLE: u8 = 2;

/// The exit code, or the error with its own.
fn ended(result: anyhow::Result<ExitCode>, failed: u8) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("pointsman: {error:#}");
        ExitCode::from(failed)
    })
}
