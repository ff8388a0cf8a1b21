//! What FIFOs are told of health, in keepalived's words.

use std::fmt;

/// A real server or a quorum that came or went.
///
/// It prints as a line of keepalived's FIFO: `VS [192.168.201.15]:tcp:80 UP`,
/// `RS [1.2.3.4]:tcp:80 [192.168.201.15]:tcp:80 DOWN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthNotice {
    /// The virtual service, as keepalived names it.
    pub service: String,
    /// The real server; none when it is about the service's quorum.
    pub server: Option<String>,
    /// Whether it is up.
    pub up: bool,
    /// What it follows from.
    pub occasion: Occasion,
    /// How the quorum stands, when it is about that.
    pub standing: Option<Standing>,
}

/// What a notice follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// The service begins.
    Begin,
    /// A check.
    Change,
    /// It is no longer configured.
    Removal,
    /// The daemon ends.
    End,
}

/// How the weight of live real servers compares with what is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Weight that is enough.
    pub quorum: u64,
    /// How far beyond the quorum the weight has to rise or fall before it counts.
    pub hysteresis: u64,
    /// Weight of live real servers.
    pub live: u64,
}

impl fmt::Display for HealthNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.up { "UP" } else { "DOWN" };
        match &self.server {
            Some(server) => write!(f, "RS {server} {} {state}", self.service),
            None => write!(f, "VS {} {state}", self.service),
        }
    }
}
