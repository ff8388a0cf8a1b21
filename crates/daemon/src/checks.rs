//! Checks of real servers: how each is made, and what it found.
//!
//! When a check is due and how many failures count is decided by [`pointsman_ha::health`]; here are the
//! sockets. Every check ends in time, whatever the other side does, and reads no more than
//! [`ANSWER_MAX`] of what it says.

mod connection;
mod datagram;
mod dns;
mod file;
mod http;
mod passage;
mod ping;
mod smtp;
mod tls;

use std::io;
use std::time::Duration;

use thiserror::Error;

pub use connection::{Target, Through};
pub use datagram::{Payload, UdpCheck};
pub use dns::{DnsCheck, RecordType};
pub use file::FileCheck;
pub use http::{HttpCheck, HttpVersion, Pattern, Url};
pub use smtp::SmtpCheck;
pub use tls::{Identity, Tls};

use crate::child::{Outcome, Script};

/// No more of an answer is read, in bytes: a target that never stops sending has failed.
pub const ANSWER_MAX: usize = 16 << 20;

/// What is checked.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    /// A connection is accepted (`TCP_CHECK`).
    Tcp(Target),
    /// Pages are right (`HTTP_GET`, `SSL_GET`).
    Http(Box<HttpCheck>),
    /// A mail server greets (`SMTP_CHECK`).
    Smtp(SmtpCheck),
    /// A name server answers (`DNS_CHECK`).
    Dns(DnsCheck),
    /// Datagrams are taken or answered (`UDP_CHECK`).
    Udp(UdpCheck),
    /// Echo requests are answered (`PING_CHECK`).
    Ping(Target),
    /// A file says so (`FILE_CHECK`).
    File(FileCheck),
    /// The BFD session of this name is up (`BFD_CHECK`).
    Bfd(String),
    /// A program says so (`MISC_CHECK`).
    Script {
        /// The program.
        script: Script,
        /// For how long it may run.
        limit: Duration,
        /// True when its exit status 2 to 255 is a weight plus two (`misc_dynamic`).
        dynamic: bool,
    },
}

/// What a check found that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Found {
    /// The weight that a dynamic check says.
    pub weight: Option<u32>,
    /// What a file adds to the configured weight.
    pub added: Option<i64>,
}

/// Why a check failed.
#[derive(Debug, Error)]
pub enum Failure {
    /// No connection.
    #[error("can't connect to {to}: {source}")]
    Connect {
        /// Where to.
        to: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke.
    #[error("{what}: {source}")]
    Broken {
        /// What was being done.
        what: &'static str,
        /// Why it could not be.
        source: io::Error,
    },
    /// It took too long.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// The answer is not what it has to be.
    #[error("{0}")]
    Wrong(String),
}

impl Failure {
    /// A step that broke.
    fn broken(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Broken { what, source }
    }
}

impl Check {
    /// What keepalived.conf calls it.
    pub fn keyword(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "TCP_CHECK",
            Self::Http(check) if check.tls.is_some() => "SSL_GET",
            Self::Http(_) => "HTTP_GET",
            Self::Smtp(_) => "SMTP_CHECK",
            Self::Dns(_) => "DNS_CHECK",
            Self::Udp(_) => "UDP_CHECK",
            Self::Ping(_) => "PING_CHECK",
            Self::File(_) => "FILE_CHECK",
            Self::Bfd(_) => "BFD_CHECK",
            Self::Script { .. } => "MISC_CHECK",
        }
    }

    /// Prepares what is to be checked, once.
    pub async fn prepare(&self) {
        if let Self::File(check) = self {
            check.prepare().await;
        }
    }

    /// What mails say of it, in keepalived's words; of files they say nothing.
    pub fn said(&self, succeeds: bool, failure: &str) -> Option<String> {
        let plain = |name: &str| {
            let verb = if succeeds { "succeed" } else { "failed" };
            format!("{name} {verb} on service")
        };
        Some(match self {
            Self::Tcp(_) => plain("TCP CHECK"),
            Self::Udp(_) => plain("UDP CHECK"),
            Self::Ping(_) => plain("ICMP CHECK"),
            Self::Http(_) | Self::Smtp(_) if succeeds => plain("CHECK"),
            Self::Http(_) => "CHECK failed on service : HTTP request failed".to_owned(),
            Self::Smtp(_) => format!("CHECK failed on service : {failure}"),
            Self::Dns(_) if succeeds => "DNS_CHECK: succeeded on service".to_owned(),
            Self::Dns(_) => plain("DNS_CHECK:"),
            Self::Script { .. } if succeeds => "MISC CHECK succeeded on service".to_owned(),
            Self::Script { .. } => plain("MISC CHECK"),
            Self::Bfd(session) => {
                let verb = if succeeds { "succeeded" } else { "failed" };
                format!("BFD CHECK {session} {verb} on service")
            }
            Self::File(_) => return None,
        })
    }

    /// Makes the check once.
    pub async fn make(&self) -> Result<Found, Failure> {
        let nothing = Found::default();
        match self {
            Self::Tcp(target) => target.within(target.connect()).await.map(|_| nothing),
            Self::Http(check) => check.make().await.map(|()| nothing),
            Self::Smtp(check) => check.make().await.map(|()| nothing),
            Self::Dns(check) => check.make().await.map(|()| nothing),
            Self::Udp(check) => check.make().await.map(|()| nothing),
            Self::Ping(target) => target.within(ping::make(target)).await.map(|()| nothing),
            Self::File(check) => check.make().await,
            // Who minds it is told when that changes, and need not ask.
            Self::Bfd(session) => Err(Failure::Wrong(format!(
                "the BFD session {session} is told, not asked for"
            ))),
            Self::Script {
                script,
                limit,
                dynamic,
            } => said(script.run(*limit).await, *limit, *dynamic),
        }
    }
}

/// What a program's end says.
fn said(outcome: Outcome, limit: Duration, dynamic: bool) -> Result<Found, Failure> {
    let status = match outcome {
        Outcome::Ended(status) => status,
        Outcome::TimedOut => return Err(Failure::TimedOut(limit)),
        Outcome::Failed(source) => {
            let what = "running the program";
            return Err(Failure::Broken { what, source });
        }
    };
    match status.code() {
        Some(0) => Ok(Found::default()),
        Some(code @ 2..=255) if dynamic => Ok(Found {
            weight: u32::try_from(code - 2).ok(),
            added: None,
        }),
        _ => Err(Failure::Wrong(format!("the program ended with {status}"))),
    }
}
