//! The caches of `lblc` and `lblcr`: numbered, emptied, aged.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Director, Mirror, MirrorError, plan::scheduler_of};
use crate::{
    connection::SECOND,
    record::{LocalityKey, ServiceRecord},
    schedule::Scheduler,
};

/// Seconds between two calls of [`Director::expire_localities`] (`CHECK_EXPIRE_INTERVAL`).
pub const LOCALITY_INTERVAL: u64 = 60;
/// Calls until entries are looked at that only lie there (`COUNT_FOR_FULL_EXPIRATION`).
const FULL: u32 = 30;
/// Entries of a cache above which others than the old ones go (`max_size`).
const MOST: usize = 16_384;
/// Seconds that an entry is kept in a cache that is too large (`ENTRY_TIMEOUT`).
const TIMEOUT: u64 = 360;

/// What the director knows of the caches.
#[derive(Debug, Default)]
pub(super) struct Localities {
    /// The latest number that a cache was given.
    number: u32,
    /// Calls since the last full look at each cache.
    calls: HashMap<u32, u32>,
    /// Raised by every look at all entries.
    round: u32,
}

impl Localities {
    /// A number that no cache had.
    pub(super) fn next(&mut self) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.number
    }

    /// The number of the current round.
    pub(super) fn round(&self) -> u32 {
        self.round
    }
}

/// The number of the service's cache, if it has one.
pub(super) fn cache_of(record: &ServiceRecord) -> Option<u32> {
    scheduler_of(record)
        .filter(|scheduler| scheduler.has_cache())
        .map(|_| record.table)
}

impl Director {
    /// Takes over the caches of services that were restored; others are emptied.
    pub(super) fn restore_localities<M: Mirror>(
        &mut self,
        mirror: &mut M,
    ) -> Result<(), MirrorError> {
        let caches = self.caches();
        self.localities.number = caches.keys().copied().max().unwrap_or(0);
        for (key, _) in mirror.localities()? {
            if !caches.contains_key(&key.cache) {
                mirror.remove_locality(&key)?;
            }
        }
        Ok(())
    }

    /// The caches of all services, each with its scheduler.
    fn caches(&self) -> BTreeMap<u32, Scheduler> {
        let records = self.services.values().map(|service| &service.record);
        records
            .filter_map(|record| Some((cache_of(record)?, scheduler_of(record)?)))
            .collect()
    }

    /// Empties caches that no service has any more. Their entries are found by nobody, so what can't
    /// be removed only takes room.
    pub(super) fn flush<M: Mirror>(&mut self, caches: &[u32], mirror: &mut M) {
        if caches.is_empty() {
            return;
        }
        for (key, _) in mirror.localities().unwrap_or_default() {
            if caches.contains(&key.cache) {
                let _ = mirror.remove_locality(&key);
            }
        }
    }

    /// Indices of real servers that caches refer to.
    pub(super) fn cached_servers<M: Mirror>(
        &self,
        mirror: &mut M,
    ) -> Result<HashSet<u32>, MirrorError> {
        let entries = mirror.localities()?;
        let members = entries.iter().flat_map(|(_, record)| record.members());
        Ok(members.copied().collect())
    }

    /// Forgets entries that were not used for long, as `ip_vs_lblc_check_expire` does; to be called
    /// every [`LOCALITY_INTERVAL`] with nanoseconds of the programs' clock. Returns how many.
    ///
    /// # Errors
    ///
    /// When entries can't be read or removed.
    pub fn expire_localities<M: Mirror>(
        &mut self,
        now: u64,
        mirror: &mut M,
    ) -> Result<usize, MirrorError> {
        let caches = self.caches();
        self.localities
            .calls
            .retain(|cache, _| caches.contains_key(cache));
        if caches.is_empty() {
            return Ok(0);
        }
        self.localities.round = self.localities.round.wrapping_add(1);
        let mut entries: BTreeMap<u32, Vec<(u64, LocalityKey)>> = BTreeMap::new();
        for (key, record) in mirror.localities()? {
            let list = entries.entry(key.cache).or_default();
            list.push((record.used.load(), key));
        }
        let mut gone = 0;
        for (cache, scheduler) in caches {
            let mut list = entries.remove(&cache).unwrap_or_default();
            let expiration = if scheduler == Scheduler::LocalityBased {
                self.settings.lblc_expiration
            } else {
                self.settings.lblcr_expiration
            };
            let calls = self.localities.calls.entry(cache).or_insert(1);
            let (timeout, goal) = if calls.is_multiple_of(FULL) {
                *calls = 1;
                (u64::from(expiration), usize::MAX)
            } else if list.len() <= MOST {
                *calls += 1;
                continue;
            } else {
                (TIMEOUT, ((list.len() - MOST) * 4 / 3).min(MOST / 2))
            };
            list.retain(|(used, _)| now >= used.saturating_add(timeout * SECOND));
            // The kernel goes on from where it stopped the last time; here the oldest go first.
            list.sort_by_key(|(used, _)| *used);
            for (_, key) in list.iter().take(goal) {
                mirror.remove_locality(key)?;
                gone += 1;
            }
        }
        // Whatever a packet added while its service was going.
        for (_, key) in entries.into_values().flatten() {
            mirror.remove_locality(&key)?;
        }
        Ok(gone)
    }
}
