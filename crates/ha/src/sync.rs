//! Connection synchronisation: which connections a director tells others of, and which of those told it
//! keeps for later.
//!
//! IPVS decides at each packet; here a sweep looks at the connections once in a while and finds out what
//! packets between two looks would have decided ([`Master::look`]). What a backup does with a
//! connection, its table decides.

mod backup;
mod master;

pub use backup::{Backup, BackupCounts};
pub use master::{Master, Seen};

/// When connections are told, by the settings `sync_*` of IPVS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Packets of a connection from the client before it is told first.
    pub threshold: u32,
    /// Packets after which it is told again; 0 for never again.
    pub period: u32,
    /// Seconds that its end has to move before it is told again; 0 for any.
    pub refresh: u32,
    /// How often it is repeated though its end has not moved so far.
    pub retries: u32,
    /// Connections of templates are not told, templates alone are.
    pub templates_only: bool,
}

impl Default for Policy {
    /// The kernel's.
    fn default() -> Self {
        Self {
            threshold: 3,
            period: 50,
            refresh: 0,
            retries: 0,
            templates_only: false,
        }
    }
}
