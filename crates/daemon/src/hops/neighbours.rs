//! The neighbours the daemon has the kernel manage, remembered across restarts.
//!
//! They are the one thing in the kernel that is not pinned or attached by the data plane, so a file
//! says which of them are ours: whoever detaches later, even after `kill -9`, takes just these back.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use pointsman_linux::netlink::{Error, NeighbourAdded, Netlink};
use serde::{Deserialize, Serialize};

use super::NeighbourKey;

/// How a neighbour was found, and what could be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Managed {
    /// There was an entry before.
    found: bool,
    /// The kernel only resolves it when asked (before 5.16).
    probed: bool,
}

/// A neighbour as the file has it.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    interface: u32,
    address: IpAddr,
    found: bool,
}

/// The neighbours that are managed for the daemon.
#[derive(Debug)]
pub struct Neighbours {
    file: PathBuf,
    ours: BTreeMap<NeighbourKey, Managed>,
}

impl Neighbours {
    /// Reads what an earlier daemon left in `file`; a missing or unreadable file means nothing.
    pub fn load(file: &Path) -> Self {
        let lines: Vec<Line> = fs::read(file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let ours = lines.into_iter().map(|line| {
            let managed = Managed {
                found: line.found,
                probed: false,
            };
            ((line.interface, line.address), managed)
        });
        Self {
            file: file.to_owned(),
            ours: ours.collect(),
        }
    }

    /// True when this neighbour is managed already.
    pub fn contains(&self, key: &NeighbourKey) -> bool {
        self.ours.contains_key(key)
    }

    /// The neighbours that are managed.
    pub fn keys(&self) -> impl Iterator<Item = NeighbourKey> {
        self.ours.keys().copied()
    }

    /// Has the kernel resolve a neighbour and keep it resolved; what exists already is asked anew.
    pub fn manage(&mut self, netlink: &mut Netlink, key: NeighbourKey) -> Result<(), Error> {
        let (index, address) = key;
        let found = match self.ours.get(&key) {
            Some(managed) => managed.found,
            None => netlink.neighbour(index, address)?.is_some(),
        };
        let probed = match netlink.neighbour_add_managed(index, address)? {
            NeighbourAdded::Managed => false,
            NeighbourAdded::Probed => true,
            // The administrator's: nothing to keep, nothing to take back.
            NeighbourAdded::Permanent => return Ok(()),
        };
        self.ours.insert(key, Managed { found, probed });
        Ok(())
    }

    /// Asks again for the neighbours that this kernel does not manage on its own.
    pub fn probe(&mut self, netlink: &mut Netlink) {
        for ((index, address), managed) in &self.ours {
            if managed.probed
                && let Err(error) = netlink.neighbour_probe(*index, *address)
            {
                tracing::debug!(%error, "can't probe a neighbour");
            }
        }
    }

    /// Takes a neighbour back: the entry goes, or stays unmanaged where there was one before.
    pub fn release(&mut self, netlink: &mut Netlink, key: NeighbourKey) -> Result<(), Error> {
        let Some(managed) = self.ours.remove(&key) else {
            return Ok(());
        };
        let (index, address) = key;
        let Some(now) = netlink.neighbour(index, address)? else {
            return Ok(());
        };
        if !now.managed && !managed.probed {
            // Somebody else made it their own.
            return Ok(());
        }
        if managed.found {
            netlink.neighbour_probe(index, address)
        } else {
            netlink.neighbour_delete(index, address).map(|_| ())
        }
    }

    /// Takes all of them back, and the file; says how many there were and what went wrong.
    pub fn release_all(mut self, netlink: &mut Netlink) -> (usize, Vec<Error>) {
        let keys: Vec<NeighbourKey> = self.keys().collect();
        let count = keys.len();
        let errors = keys
            .into_iter()
            .filter_map(|key| self.release(netlink, key).err())
            // An interface that is gone took its neighbours along.
            .filter(|error| error.errno() != Some(libc::ENODEV))
            .collect();
        let _ = fs::remove_file(&self.file);
        (count, errors)
    }

    /// Writes the file, replacing it as a whole.
    pub fn save(&self) -> io::Result<()> {
        let lines: Vec<Line> = self
            .ours
            .iter()
            .map(|((interface, address), managed)| Line {
                interface: *interface,
                address: *address,
                found: managed.found,
            })
            .collect();
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(&lines)?)?;
        fs::rename(&fresh, &self.file)
    }
}
