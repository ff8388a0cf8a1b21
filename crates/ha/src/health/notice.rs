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
