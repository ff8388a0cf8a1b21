//! `pointsman doctor`: what is wrong on the way to a virtual service.

mod arp;
mod check;
mod consent;
mod document;
mod explain;
mod inject;
mod inquiry;
mod methods;
mod probe;
mod routes;
mod sightings;
mod station;
mod trace;
mod trial;
mod twin;
mod vip;
mod vrrp;
mod watch;

use std::process::ExitCode;

use clap::{Args, Subcommand};

pub(crate) const LONG_ABOUT: &str = "\
What is wrong on the way to a virtual service, why, and what mends it

`vip` asks a virtual service as a client would, watches every place on the way, and says where and why \
packets end. `vrrp` listens to virtual routers, and says why there are two masters, or none that the \
segment believes. `check` reads how everything is set up and looks for faults that configuration alone can tell. \
--explain tells what is known of a fault by its name.";

#[derive(Debug, Args)]
#[command(arg_required_else_help = true, args_conflicts_with_subcommands = true)]
pub(crate) struct DoctorFlags {
    /// Tell what is known of a fault; without its name, list them all
    #[arg(long, value_name = "CODE", num_args = 0..=1, default_missing_value = "")]
    explain: Option<String>,
    #[command(subcommand)]
    verb: Option<DoctorVerb>,
}

#[derive(Debug, Subcommand)]
enum DoctorVerb {
    /// Say whether a virtual service answers a client, and if not, where and why packets end
    #[command(long_about = vip::LONG_ABOUT)]
    Vip(Box<vip::VipFlags>),
    /// Say whether virtual routers agree who is master, and whether the segment believes it
    #[command(long_about = vrrp::LONG_ABOUT)]
    Vrrp(Box<vrrp::VrrpFlags>),
    /// Look for faults that configuration alone can tell; nothing is sent and nothing is changed
    #[command(long_about = check::LONG_ABOUT)]
    Check(Box<check::CheckFlags>),
    /// Watch and ask for a doctor elsewhere
    #[command(hide = true)]
    Station(station::StationFlags),
}

/// Exit code where 1 says that something was found.
const TROUBLE: u8 = 2;

/// Obeys; errors are told here, for they have an exit code of their own.
pub(crate) fn run(flags: &DoctorFlags) -> ExitCode {
    let result = match (&flags.explain, &flags.verb) {
        (Some(code), _) => explain::run(code),
        (None, Some(DoctorVerb::Check(flags))) => check::run(flags),
        (None, Some(DoctorVerb::Station(flags))) => station::run(flags),
        (None, Some(DoctorVerb::Vip(flags))) => vip::run(flags),
        (None, Some(DoctorVerb::Vrrp(flags))) => vrrp::run(flags),
        // Help is shown before it comes to this.
        (None, None) => Ok(ExitCode::from(TROUBLE)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("pointsman: {error:#}");
        ExitCode::from(TROUBLE)
    })
}

/// A text without what would steer a terminal: names of interfaces may hold anything.
pub(crate) fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => c,
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(shown).collect()
}
