//! What a backup makes of messages, and connections that wait for their real server.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use pointsman_wire::sync::{SyncConnection, decode};

/// Connections without a real server that are kept, at most.
const WAITING: usize = 1 << 16;
/// How long one waits whose message does not tell its timeout.
const UNTOLD: u32 = 180;

/// How messages went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BackupCounts {
    /// Messages read.
    pub messages: u64,
    /// Messages of another sync id.
    pub foreign: u64,
    /// Messages that could not be read, or not to their end.
    pub faulty: u64,
    /// Connections that messages told of.
    pub connections: u64,
    /// Connections left out because of an option unknown here.
    pub skipped: u64,
}

/// What a flow is known by.
type Key = (u8, bool, IpAddr, u16, IpAddr, u16);

/// A backup.
#[derive(Debug, Default)]
pub struct Backup {
    sync_id: u8,
    counts: BackupCounts,
    waiting: HashMap<Key, (SyncConnection, Duration)>,
}

impl Backup {
    /// A backup for messages of `sync_id`, or of all directors with 0.
    pub fn new(sync_id: u8) -> Self {
        Self {
            sync_id,
            ..Self::default()
        }
    }

    /// How messages went so far.
    pub fn counts(&self) -> BackupCounts {
        self.counts
    }

    /// What a message tells.
    pub fn handle_message(&mut self, bytes: &[u8]) -> Vec<SyncConnection> {
        let Ok(decoded) = decode(bytes) else {
            self.counts.faulty += 1;
            return Vec::new();
        };
        if self.sync_id != 0 && decoded.sync_id != self.sync_id {
            self.counts.foreign += 1;
            return Vec::new();
        }
        self.counts.messages += 1;
        self.counts.faulty += u64::from(decoded.fault.is_some());
        self.counts.skipped += decoded.skipped as u64;
        self.counts.connections += decoded.connections.len() as u64;
        decoded.connections
    }

    /// Keeps a connection that has no real server here, until its time is over; false when there is no
    /// room.
    pub fn wait(&mut self, connection: SyncConnection, now: Duration) -> bool {
        let key = key(&connection);
        if self.waiting.len() >= WAITING && !self.waiting.contains_key(&key) {
            return false;
        }
        let timeout = match connection.timeout {
            0 => UNTOLD,
            timeout => timeout,
        };
        let ends = now + Duration::from_secs(timeout.into());
        self.waiting.insert(key, (connection, ends));
        true
    }

    /// A connection that waited is told anew, with a real server: it no longer waits.
    pub fn forget(&mut self, connection: &SyncConnection) {
        if !self.waiting.is_empty() {
            self.waiting.remove(&key(connection));
        }
    }

    /// Those that wait, with the time that they have left.
    pub fn waiting(&self, now: Duration) -> impl Iterator<Item = (&SyncConnection, Duration)> {
        self.waiting.values().filter_map(move |(connection, ends)| {
            let left = ends.checked_sub(now).filter(|left| !left.is_zero())?;
            Some((connection, left))
        })
    }

    /// Takes out those that wait and for which `has_server` says yes, and drops those whose time is
    /// over. What comes back has the time it has left as its timeout.
    pub fn take_bound(
        &mut self,
        now: Duration,
        mut has_server: impl FnMut(&SyncConnection) -> bool,
    ) -> Vec<SyncConnection> {
        let mut bound = Vec::new();
        self.waiting.retain(|_, (connection, ends)| {
            let Some(left) = ends.checked_sub(now).filter(|left| !left.is_zero()) else {
                return false;
            };
            if !has_server(connection) {
                return true;
            }
            let mut connection = connection.clone();
            connection.timeout = u32::try_from(left.as_secs()).unwrap_or(u32::MAX).max(1);
            bound.push(connection);
            false
        });
        bound
    }
}

fn key(connection: &SyncConnection) -> Key {
    (
        connection.protocol,
        connection.is_template(),
        connection.client,
        connection.client_port,
        connection.address,
        connection.port,
    )
}
