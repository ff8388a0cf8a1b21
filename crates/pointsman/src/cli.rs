//! The command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use pointsman_datapath::{HookChoice, Options};

use crate::{
    capture::CaptureFlags, collect::CollectFlags, config::ConfigVerb, doctor::DoctorFlags,
    mark::MarkVerb, nwfilter::NwfilterVerb, setting::SettingFlags,
};

/// A layer-4 load balancer for virtualised networks.
#[derive(Debug, Parser)]
#[command(name = "pointsman", version, disable_help_subcommand = true)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage. `pointsman ipvsadm` has those \
                        of ipvsadm.\nCalled by the name ipvsadm, ipvsadm-save or ipvsadm-restore, \
                        it is that program."
)]
pub(crate) struct Cli {
    /// Socket of the daemon [default: $POINTSMAN_SOCKET, or /run/pointsman/api.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Be the director: attach to interfaces and forward, until SIGTERM or SIGINT
    #[command(long_about = RUN)]
    Run(RunOptions),
    /// Do what ipvsadm does, with its arguments
    #[command(disable_help_flag = true)]
    Ipvsadm {
        /// ipvsadm's arguments; -h shows them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Remove what a daemon left that was killed, or stopped with --keep
    Detach {
        /// Directory of pinned maps and links
        #[arg(long, value_name = "DIR", default_value_os_t = Options::default().pin_dir)]
        pin_dir: PathBuf,
        /// Only if this systemd unit was stopped for good: neither restarts nor failed (for ExecStopPost)
        #[arg(long, value_name = "UNIT")]
        unless_restarting: Option<String>,
        /// Only give back what other routers take over, virtual addresses; forwarding goes on
        #[arg(long)]
        routers: bool,
        /// Options of the `run` to clean up after: of these, --pin-dir and --socket say where it was
        #[arg(last = true, value_name = "OPTIONS OF RUN")]
        of_run: Vec<OsString>,
    },
    /// Have the daemon read its configuration again, as SIGHUP does, and say what became of it
    Reload {
        /// Options of the `run` that is meant: of these, --socket says where it is
        #[arg(last = true, value_name = "OPTIONS OF RUN")]
        of_run: Vec<OsString>,
    },
    /// Build laboratories of network namespaces, and show connections in them hop by hop
    #[command(disable_help_flag = true)]
    Lab {
        /// The lab's command; help shows them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Write down how hosts, guests and namespaces are set up
    #[command(long_about = crate::collect::LONG_ABOUT)]
    Collect(CollectFlags),
    /// Say what is wrong on the way to a virtual service
    #[command(long_about = crate::doctor::LONG_ABOUT)]
    Doctor(DoctorFlags),
    /// Capture at many points at once, and show packets hop by hop
    #[command(long_about = crate::capture::LONG_ABOUT)]
    Capture(CaptureFlags),
    /// Show or change settings of the running daemon, those of the kernel's net.ipv4.vs.*
    #[command(long_about = crate::setting::LONG_ABOUT)]
    Setting {
        /// A setting to show, or to change; all are shown when none is named
        #[arg(value_name = "NAME[=VALUE]")]
        words: Vec<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Rules that make firewall marks, for services known by marks (`ipvsadm -f`)
    #[command(long_about = crate::mark::LONG_ABOUT)]
    Mark {
        /// What to do
        #[command(subcommand)]
        verb: MarkVerb,
    },
    /// What the packet filters at a guest's port let through, and why
    #[command(long_about = crate::nwfilter::LONG_ABOUT)]
    Nwfilter {
        /// What to do
        #[command(subcommand)]
        verb: NwfilterVerb,
    },
    /// Check configuration files of other programs: keepalived.conf
    Config {
        /// What to do
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Show how the daemon is
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show services and real servers live: rates, connections, next hops
    #[command(long_about = TOP)]
    Top {
        /// Seconds between two looks
        #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = delay)]
        delay: Duration,
        /// Show everything once, as plain text
        #[arg(long)]
        once: bool,
    },
    /// Show how many packets were passed, forwarded and dropped, and why
    Verdicts {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

const TOP: &str = "\
Show services and real servers live: rates, connections, next hops; the busiest first.

Keys: q or Esc quits; arrows, j and k, PgUp and PgDn, Home and End scroll; n and p go to the next and \
the previous service; s and S sort by something else; space pauses. A real server without a next hop \
is red, one of weight 0 dim. Rates are the daemon's, which estimates them every two seconds. Without \
a terminal, or with --once, everything is shown once as plain text.";

const RUN: &str = "\
Be the director: attach to interfaces and forward, until SIGTERM or SIGINT.

Maps and links are pinned, so forwarding survives the daemon: after a crash or `kill -9` packets \
flow on, and the next `pointsman run` takes services and connections over. A normal stop detaches \
and leaves the host as it was found; with --keep it leaves forwarding in place, which is what a \
restart or upgrade by the service manager wants. `pointsman detach` removes what was left.

The line `ready: ...` on stdout says that everything is in place. Logs go to stderr; POINTSMAN_LOG \
chooses them, as in POINTSMAN_LOG=debug.";

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Interface to attach to, where clients' and real servers' packets come in; may be repeated
    /// [default: every Ethernet interface that is up and no port of a bridge or bond]
    #[arg(long = "interface", short = 'i', value_name = "IF")]
    pub(crate) interfaces: Vec<String>,
    /// How to attach: auto, xdp or tcx
    #[arg(long, value_name = "HOOK", default_value = "auto")]
    pub(crate) hook: HookChoice,
    /// Directory for pinned maps and links, on a bpffs
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().pin_dir)]
    pub(crate) pin_dir: PathBuf,
    /// Room for connections, of each address family
    #[arg(long, value_name = "N", default_value_t = Options::default().connections,
          value_parser = clap::value_parser!(u32).range(1..=1 << 28))]
    pub(crate) connections: u32,
    /// Room for virtual services
    #[arg(long, value_name = "N", default_value_t = Options::default().capacity.services,
          value_parser = room())]
    pub(crate) services: u32,
    /// Room for real servers, removed ones that still have connections included
    #[arg(long, value_name = "N", default_value_t = Options::default().capacity.servers,
          value_parser = room())]
    pub(crate) servers: u32,
    /// Room for lists of real servers, in lines of eight
    #[arg(long, value_name = "N", default_value_t = Options::default().capacity.slot_lines,
          value_parser = room())]
    pub(crate) slot_lines: u32,
    /// Room for tables of hash schedulers, in lines of 32 entries
    #[arg(long, value_name = "N", default_value_t = Options::default().capacity.table_lines,
          value_parser = room())]
    pub(crate) table_lines: u32,
    /// Answer GET /metrics on this TCP address, for Prometheus; anybody who reaches it may ask
    /// [default: on the API's socket only]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    /// File that keeps services, servers, timeouts and changed settings for the next run
    /// [default: /var/lib/pointsman/state.json; with another --socket, none]
    #[arg(long, value_name = "FILE", conflicts_with = "no_state")]
    pub(crate) state: Option<PathBuf>,
    /// Keep nothing for the next run, and begin without services
    #[arg(long)]
    pub(crate) no_state: bool,
    /// Leave forwarding in place when stopped, and virtual routers as they are
    #[arg(long)]
    pub(crate) keep: bool,
    /// Do what this keepalived.conf says; SIGHUP reads it again
    #[arg(long, value_name = "FILE")]
    pub(crate) keepalived: Option<PathBuf>,
    /// What conditions (`@id`) of keepalived.conf compare with [default: the host's name up to its
    /// first dot]
    #[arg(long, value_name = "ID", requires = "keepalived")]
    pub(crate) config_id: Option<String>,
    /// Run keepalived.conf without the lines that `pointsman config check` calls errors or unsupported
    #[arg(long, requires = "keepalived")]
    pub(crate) lenient: bool,
    #[command(flatten)]
    pub(crate) settings: SettingFlags,
}

impl Cli {
    /// Reads the command line; wrong usage and `--help` end the program.
    pub(crate) fn read(arguments: Vec<OsString>) -> Self {
        Self::try_read(arguments).unwrap_or_else(|error| error.exit())
    }

    /// Where a daemon is that runs with these options: its pins, and its socket if that is told.
    pub(crate) fn place(of_run: &[OsString]) -> Result<(PathBuf, Option<PathBuf>), clap::Error> {
        let begin = ["pointsman", "run"].map(OsString::from);
        let cli = Self::try_read(begin.iter().chain(of_run))?;
        match cli.verb {
            Verb::Run(options) => Ok((options.pin_dir, cli.socket)),
            _ => Ok((Options::default().pin_dir, cli.socket)),
        }
    }

    fn try_read<T: Into<OsString> + Clone>(
        arguments: impl IntoIterator<Item = T>,
    ) -> Result<Self, clap::Error> {
        let matches = Self::tolerant().try_get_matches_from(arguments)?;
        Self::from_arg_matches(&matches)
    }

    /// The command line, with flags of `run` also as the kernel writes names: `--conn_reuse_mode`.
    fn tolerant() -> clap::Command {
        Self::command().mut_subcommand("run", |run| {
            run.mut_args(
                |arg| match arg.get_long().map(|long| long.replace('-', "_")) {
                    Some(alias) if Some(alias.as_str()) != arg.get_long() => arg.alias(alias),
                    _ => arg,
                },
            )
        })
    }
}

/// Seconds, a tenth at least.
fn delay(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 0.1..=86400.0) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("seconds are a number from 0.1 to 86400".to_owned()),
    }
}

/// Arrays of the kernel are preallocated; more than this is a slip of the finger.
fn room() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::tolerant().debug_assert();
    }

    #[test]
    fn ipvsadm_gets_its_arguments_untouched() {
        let words = [
            "pointsman",
            "--socket",
            "/s",
            "ipvsadm",
            "-A",
            "-t",
            "10.0.0.1:80",
            "-h",
        ];
        let cli = Cli::try_read(words).unwrap();
        assert_eq!(cli.socket, Some("/s".into()));
        let Verb::Ipvsadm { arguments } = cli.verb else {
            panic!("another verb");
        };
        assert_eq!(arguments, ["-A", "-t", "10.0.0.1:80", "-h"]);
        for words in [
            &["pointsman", "ipvsadm", "--help"][..],
            &["pointsman", "ipvsadm", "-Ln"],
        ] {
            let Verb::Ipvsadm { arguments } = Cli::try_read(words).unwrap().verb else {
                panic!("another verb");
            };
            assert_eq!(arguments, words[2..]);
        }
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        for words in [
            &["pointsman"][..],
            &["pointsman", "fly"],
            &["pointsman", "run", "--hook", "generic"],
            &["pointsman", "run", "--connections", "0"],
            &["pointsman", "run", "--pmtu-disc", "2"],
            &["pointsman", "run", "eth0"],
            &["pointsman", "run", "--metrics", "9108"],
            &["pointsman", "top", "-d", "0"],
            &["pointsman", "top", "-d", "nan"],
            &["pointsman", "run", "--sloppy_tcp", "2"],
            &["pointsman", "run", "--drop-entry"],
            &["pointsman", "run", "--drop-entry", "4"],
        ] {
            let error = Cli::try_read(words.iter()).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{words:?}");
        }
    }
}
