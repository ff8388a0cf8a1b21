//! How the daemon is, for people and monitors.

use std::time::Instant;

use pointsman_datapath::{Attachment, Origin};
use serde::{Deserialize, Serialize};

use crate::bfd::BfdStatus;
use crate::health::HealthStatus;
use crate::vrrp::RouterStatus;

use crate::answers::AnswerCounts;

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Seconds since it started.
    pub uptime: u64,
    /// `fresh`, or `taken-over` from a daemon before.
    pub origin: String,
    /// Directory of pinned maps and links.
    pub pin_dir: String,
    /// Where the programs are attached.
    pub interfaces: Vec<InterfaceStatus>,
    /// The connection table.
    pub connections: TableStatus,
    /// ICMP answers.
    pub answers: AnswerCounts,
    /// The state file.
    pub state: StateStatus,
    /// Virtual routers.
    #[serde(default)]
    pub routers: Vec<RouterStatus>,
    /// BFD sessions.
    #[serde(default)]
    pub bfd: BfdStatus,
    /// Virtual services whose real servers are checked.
    #[serde(default)]
    pub health: Vec<HealthStatus>,
}

/// The state file, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StateStatus {
    /// Where it is; `null` when nothing is kept.
    pub path: Option<String>,
    /// Seconds since it was written; `null` before the first time.
    pub saved_ago: Option<u64>,
    /// Why it could not be written the last time.
    pub error: Option<String>,
    /// Why what was there at the start was refused, and where it is now.
    pub damage: Option<String>,
    /// Files that were set aside, ever.
    pub aside: Vec<String>,
}

/// The state file, as the daemon knows it.
#[derive(Debug, Clone, Default)]
pub struct StateReport {
    /// Where it is.
    pub path: Option<String>,
    /// When it was written.
    pub saved: Option<Instant>,
    /// Why it could not be written the last time.
    pub error: Option<String>,
    /// Why what was there at the start was refused, and where it is now.
    pub damage: Option<String>,
    /// Files that were set aside, ever.
    pub aside: Vec<String>,
}

impl StateReport {
    /// For people and programs.
    pub fn view(&self) -> StateStatus {
        StateStatus {
            path: self.path.clone(),
            saved_ago: self.saved.map(|saved| saved.elapsed().as_secs()),
            error: self.error.clone(),
            damage: self.damage.clone(),
            aside: self.aside.clone(),
        }
    }
}

/// An attached interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Name.
    pub name: String,
    /// Number.
    pub ifindex: u32,
    /// Hook: `xdp`, `tcx` or `clsact`.
    pub hook: String,
    /// Why this hook, in words.
    pub why: String,
}

/// The connection table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Room, of each address family.
    pub capacity: u32,
    /// Connections, of both families.
    pub used: u64,
}

/// How often a verdict was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCount {
    /// Stable name of the reason.
    pub reason: String,
    /// `pass`, `forward` or `drop`.
    pub action: String,
    /// Packets.
    pub count: u64,
    /// What happened, in a sentence.
    pub explanation: String,
}

impl From<&Attachment> for InterfaceStatus {
    fn from(attachment: &Attachment) -> Self {
        Self {
            name: attachment.interface.clone(),
            ifindex: attachment.ifindex,
            hook: attachment.hook.name().to_owned(),
            why: attachment.why.clone(),
        }
    }
}

/// An origin in a word.
pub fn origin_name(origin: Origin) -> &'static str {
    match origin {
        Origin::Fresh => "fresh",
        Origin::TakenOver => "taken-over",
    }
}
