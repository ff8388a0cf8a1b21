//! Reads ipvsadm's command line.

mod acceptance;
mod list;
mod option;
mod request;
mod scanner;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use pointsman_director::model::Change;

use super::resolve::Resolve;
use acceptance::{Breach, check};
pub use list::{ListOptions, ListSubject, ListView};
use option::{Meaning, Verb};
use request::Request;
use scanner::{ScanError, Scanner};

/// What a command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A change of the configuration: `-A -E -D -a -e -d -C -Z --set`.
    Change {
        /// The change, complete: everything not written has its default.
        change: Change,
        /// What the operator wrote and does not get, as sentences for stderr; ipvsadm is silent
        /// about these.
        warnings: Vec<String>,
    },
    /// `-L`, or no argument at all.
    List(ListOptions),
    /// `-S`
    Save {
        /// Print numbers, not names.
        numeric: bool,
    },
    /// `-R`
    Restore,
    /// `--start-daemon`
    StartDaemon(StartDaemon),
    /// `--stop-daemon`
    StopDaemon(StopDaemon),
    /// `-h`
    Help,
    /// `-v`
    Version,
}

/// Which sync daemon is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncRole {
    /// Sends connections.
    Master,
    /// Receives connections.
    Backup,
}

/// `--start-daemon` and its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartDaemon {
    /// Which daemon.
    pub role: SyncRole,
    /// Interface of the multicast, `eth0` when not given; at most 15 bytes.
    pub interface: String,
    /// Sync id, 0 when not given.
    pub sync_id: u8,
    /// Multicast group, if given.
    pub group: Option<IpAddr>,
    /// Multicast port, host order, if given.
    pub port: Option<u16>,
    /// Multicast time to live, if given.
    pub ttl: Option<u8>,
    /// Longest message in bytes, if given.
    pub max_length: Option<u16>,
}

/// `--stop-daemon` and its options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopDaemon {
    /// Which daemon.
    pub role: SyncRole,
    /// Sync id, 0 when not given; without effect.
    pub sync_id: u8,
}

/// A command line that cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// Exactly what goes to stderr, with its line end.
    pub message: String,
    /// Exit code of the process.
    pub exit_code: u8,
}

impl UsageError {
    /// A rule of ipvsadm's own language is broken.
    pub(crate) fn new(message: impl std::fmt::Display) -> Self {
        Self {
            message: format!("{message}\n"),
            exit_code: 2,
        }
    }

    /// There is no command, or none that is known.
    pub(crate) fn try_help() -> Self {
        let message = "Try `ipvsadm -h' or 'ipvsadm --help' for more information.\n";
        Self {
            message: message.to_owned(),
            exit_code: 255,
        }
    }

    fn scan(argument: &str, error: &ScanError) -> Self {
        Self {
            message: format!("{argument}: {error}\n"),
            exit_code: 255,
        }
    }

    fn breach(breach: Breach, what: &str) -> Self {
        Self::new(match breach {
            Breach::Missing(option) => {
                format!(
                    "You need to supply the '{}' option for the {what}",
                    option.name()
                )
            }
            Breach::Illegal(option) => {
                format!("Illegal '{}' option with the {what}", option.name())
            }
            Breach::Conflict(option, other) => format!(
                "The option '{}' conflicts with the '{}' option in the {what}",
                option.name(),
                other.name()
            ),
        })
    }
}

/// Reads a command line; `arguments` begin after the program's name.
///
/// Order of checks, messages and exit codes are those of ipvsadm 1.31 as Debian builds it (weights
/// up to 2147483647). Three things differ: `-b ,` means no flag where ipvsadm crashes, popt's
/// substitution of `!#:+` by the next argument does not exist, and bytes that are no UTF-8 are
/// replaced before they are read.
pub fn parse<S: AsRef<std::ffi::OsStr>>(
    arguments: &[S],
    names: &impl Resolve,
) -> Result<Command, UsageError> {
    if arguments.is_empty() {
        return Ok(Command::List(ListOptions::default()));
    }
    let arguments: Vec<String> = arguments
        .iter()
        .map(|argument| argument.as_ref().to_string_lossy().into_owned())
        .collect();
    let mut scanner = Scanner::new(&arguments);
    let Some(Ok(first)) = scanner.next_option() else {
        return Err(UsageError::try_help());
    };
    let Meaning::Verb(verb) = first.meaning else {
        return Err(UsageError::try_help());
    };
    let mut request = match verb {
        Verb::Help => return Ok(Command::Help),
        Verb::Version => return Ok(Command::Version),
        _ => Request::new(verb, first.value)?,
    };
    while let Some(met) = scanner.next_option() {
        let met = met.map_err(|error| UsageError::scan(scanner.current(), &error))?;
        if let Meaning::Verb(_) = met.meaning {
            return Err(UsageError::new(format_args!(
                "invalid option `{}'",
                scanner.current()
            )));
        }
        request.take(
            met.meaning,
            met.value.unwrap_or_default(),
            met.value.is_some(),
            names,
        )?;
    }
    let mut words = scanner.into_words();
    request.take_words(&mut words)?;
    if let Some(word) = words.next() {
        return Err(UsageError::new(format_args!("unexpected argument {word}")));
    }
    request.read_flags()?;
    check(verb, request.given)
        .map_err(|breach| UsageError::breach(breach, &format!("'{}' command", verb.name())))?;
    request.finish()
}
