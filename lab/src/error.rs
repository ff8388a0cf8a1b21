//! What can go wrong in a lab.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// A failure of the laboratory, said so that its reader knows what to do.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A system call or file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, and to what.
        what: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A program that the lab runs ended badly.
    #[error("`{command}` failed, {status}: {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last words.
        stderr: String,
    },
    /// Something did not become true in time.
    #[error("{what} within {} s", limit.as_secs_f32())]
    Deadline {
        /// What was missing, as a clause: "rs1 said no readiness line".
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The caller asked for something impossible.
    #[error("{0}")]
    Usage(String),
    /// What was tried did not go as it should, and everything about it was said.
    #[error("some scenarios deviate from their recordings")]
    Failed,
    /// An answer that cannot be right.
    #[error("{0}")]
    Answer(String),
    /// A call on a network namespace failed.
    #[error(transparent)]
    Namespace(#[from] pointsman_linux::netns::Error),
    /// A sysctl could not be set.
    #[error(transparent)]
    Sysctl(#[from] pointsman_linux::sysctl::Error),
    /// An offload could not be switched.
    #[error(transparent)]
    Offload(#[from] pointsman_linux::offload::Error),
    /// The kernel layer failed.
    #[error("{what}: {message}")]
    Kernel {
        /// What was being done, and to what.
        what: String,
        /// The layer's own message.
        message: String,
    },
}

impl LabError {
    /// Wraps a system error with what was being done.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Wraps any other error with what was being done.
    pub fn kernel<E: std::error::Error>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error| Self::Kernel {
            what,
            message: error.to_string(),
        }
    }
}

/// Result of laboratory work.
pub type Result<T, E = LabError> = std::result::Result<T, E>;
