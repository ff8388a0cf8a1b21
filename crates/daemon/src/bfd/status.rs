//! How BFD sessions are, for people and monitors.

use std::collections::BTreeMap;
use std::net::IpAddr;

use pointsman_ha::bfd::{Session, SessionStats, Sessions};
use serde::{Deserialize, Serialize};

/// How all sessions are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BfdStatus {
    /// The sessions.
    pub sessions: Vec<SessionStatus>,
    /// Packets that were for none of them, by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// How a session is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its name.
    pub name: String,
    /// The other end.
    pub neighbor: IpAddr,
    /// `AdminDown`, `Down`, `Init` or `Up`.
    pub state: String,
    /// What the other end said of itself last; none while nothing is heard.
    pub remote_state: Option<String>,
    /// Why it went down the last time.
    pub diagnostic: String,
    /// The interval by which it sends, microseconds.
    pub interval_us: u64,
    /// How long the other end may be silent, microseconds; 0 while nothing is heard.
    pub detection_us: u64,
    /// Packets received that counted.
    pub received: u64,
    /// Packets sent.
    pub sent: u64,
    /// Times it went up.
    pub ups: u64,
    /// Times it went down.
    pub downs: u64,
    /// Times the host must have been paused.
    pub pauses: u64,
    /// Packets that did not count, by reason.
    pub rejected: BTreeMap<String, u64>,
}

impl BfdStatus {
    pub(super) fn of(sessions: &Sessions) -> Self {
        Self {
            sessions: sessions.iter().map(SessionStatus::of).collect(),
            rejected: named(sessions.rejected()),
        }
    }
}

impl SessionStatus {
    fn of(session: &Session) -> Self {
        let SessionStats {
            received,
            sent,
            ups,
            downs,
            pauses,
            rejected,
        } = session.stats();
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(0);
        Self {
            name: session.config().name.clone(),
            neighbor: session.config().neighbor,
            state: session.state().to_string(),
            remote_state: session.heard().map(|heard| heard.state.to_string()),
            diagnostic: session.diagnostic().to_string(),
            interval_us: micros(session.interval()),
            detection_us: micros(session.detection_time()),
            received: *received,
            sent: *sent,
            ups: *ups,
            downs: *downs,
            pauses: *pauses,
            rejected: named(rejected),
        }
    }
}

fn named(counts: &BTreeMap<&'static str, u64>) -> BTreeMap<String, u64> {
    let counts = counts.iter();
    counts.map(|(why, n)| ((*why).to_owned(), *n)).collect()
}
