//! `pointsman nwfilter`: what the packet filters at a guest's port let through.

mod apply;
mod check;
mod learn;
mod list;
mod mend;
mod remove;
mod scene;
mod source;

use std::process::ExitCode;

use clap::Subcommand;
use pointsman_filter::nwfilter::{Installed, Learning};
use pointsman_linux::nft;

pub(crate) const LONG_ABOUT: &str = "\
What the packet filters at a guest's port let through, and why

libvirt's network filters pin a guest to its own addresses, and a director sends with its clients'. \
`check` says for every frame that a role must send and receive whether the filter lets it through, and \
which rule decides. `mend` finds the smallest change of the filter that lets them through. `apply`, `list` and \
`remove` enforce such filters by nftables, without libvirt.";

#[derive(Debug, Subcommand)]
pub(crate) enum NwfilterVerb {
    /// List the frames that a role needs, whether they pass, and which rule decides
    #[command(long_about = check::LONG_ABOUT)]
    Check(Box<check::CheckFlags>),
    /// Find the smallest change of a guest's filter that lets a role work
    #[command(long_about = mend::LONG_ABOUT)]
    Mend(Box<mend::MendFlags>),
    /// Enforce a filter at a port, by nftables, without libvirt
    #[command(long_about = apply::LONG_ABOUT)]
    Apply(apply::ApplyFlags),
    /// Remove what `apply` made
    Remove(remove::RemoveFlags),
    /// List ports with filters that `apply` made: parameters, learned addresses, counters
    List(list::ListFlags),
    /// Watch the DHCP of a guest, and let the port have the address that is leased
    #[command(long_about = learn::LONG_ABOUT)]
    Learn(learn::LearnFlags),
}

/// Obeys; errors are told here, for each verb has its own exit codes.
pub(crate) fn run(verb: NwfilterVerb) -> ExitCode {
    match verb {
        NwfilterVerb::Check(flags) => ended(check::run(&flags), TROUBLE),
        NwfilterVerb::Mend(flags) => ended(mend::run(&flags), TROUBLE),
        NwfilterVerb::Apply(flags) => ended(apply::run(&flags), FAILED),
        NwfilterVerb::Remove(flags) => ended(remove::run(&flags), FAILED),
        NwfilterVerb::List(flags) => ended(list::run(&flags), FAILED),
        NwfilterVerb::Learn(flags) => ended(learn::run(&flags), FAILED),
    }
}

/// Exit code of a verb whose 1 says that something was found.
const TROUBLE: u8 = 2;

/// Exit code of a verb that could not do its work.
const FAILED: u8 = 1;

/// A name that a port may have.
fn port(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 15 || text.contains(|c: char| c == '/' || c.is_whitespace())
    {
        return Err("an interface's name has 1 to 15 bytes, without blanks and slashes".into());
    }
    Ok(text.to_owned())
}

/// The ports with rules of ours in this network namespace.
fn installed() -> anyhow::Result<Vec<Installed>> {
    Ok(Installed::read(&nft::list(&["ruleset", "bridge"])?)?)
}

fn learning_name(learning: Learning) -> &'static str {
    match learning {
        Learning::Any => "any",
        Learning::Dhcp => "dhcp",
    }
}

/// The exit code, or the error with its own.
fn ended(result: anyhow::Result<ExitCode>, failed: u8) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("pointsman: {error:#}");
        ExitCode::from(failed)
    })
}
