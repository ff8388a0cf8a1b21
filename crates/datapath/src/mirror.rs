//! The director's records, in maps.

use pointsman_director::{
    control::{Mirror, MirrorError, Records, sum},
    record::{
        LocalityKey, LocalityRecord, MarkRuleRecord, NONE, SchedulerState, ServerCounts,
        ServerRecord, ServerStats, ServiceKey, ServiceRecord, Settings, Slot, SlotLine, TableLine,
        server_flag,
    },
};

use crate::{error::Error, object::Maps};

/// A [`Mirror`] whose records are the programs' maps.
#[derive(Debug)]
pub struct MapMirror<'a> {
    maps: &'a Maps,
    processors: usize,
}

/// An [`Error`] as a [`MirrorError`], which belongs to another crate.
fn mirrored<T>(result: Result<T, Error>) -> Result<T, MirrorError> {
    result.map_err(|error| MirrorError(error.to_string()))
}

impl<'a> MapMirror<'a> {
    pub(crate) fn new(maps: &'a Maps, processors: usize) -> Self {
        Self { maps, processors }
    }

    /// Everything that was written, read back.
    ///
    /// # Errors
    ///
    /// When a map can't be read.
    pub fn records(&self) -> Result<Records, Error> {
        let services = self.maps.services.iter().collect::<Result<_, _>>()?;
        let mut servers = Vec::new();
        for element in self.maps.servers.iter() {
            let (index, record) = element?;
            if record.flags & server_flag::PRESENT != 0 {
                servers.push((index, record));
            }
        }
        let mut slots = vec![
            [Slot {
                server: NONE,
                weight: 0
            }; 8];
            self.maps.slots.room() as usize
        ];
        for element in self.maps.slots.iter() {
            let (index, line) = element?;
            if let Some(place) = slots.get_mut(index as usize) {
                *place = line;
            }
        }
        let mark_rules = self.maps.mark_rules.iter().map(|element| Ok(element?.1));
        let mark_rules = mark_rules.collect::<Result<_, Error>>()?;
        let settings = self.maps.settings.get(0)?.unwrap_or(Settings::DEFAULT);
        Ok(Records {
            services,
            servers,
            slots,
            mark_rules,
            settings,
        })
    }

    /// Counts of a real server's connections.
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn counts(&self, index: u32) -> Result<ServerCounts, Error> {
        Ok(self.maps.counts.get(index)?.unwrap_or_default())
    }

    /// Counts of many real servers' connections, by index; only places of `servers`, which rise,
    /// mean something.
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn all_counts(&self, servers: &[u32]) -> Result<Vec<ServerCounts>, Error> {
        let mut all = Vec::new();
        all.resize_with(by_index(servers), ServerCounts::default);
        let take = |index, counts| put(&mut all, index, |place| *place = counts);
        self.maps.counts.each_at(servers, None, take)?;
        Ok(all)
    }

    /// Counters of many real servers, by index, all processors together; only places of `servers`,
    /// which rise, mean something.
    ///
    /// # Errors
    ///
    /// When the map can't be read.
    pub fn all_stats(&self, servers: &[u32]) -> Result<Vec<ServerStats>, Error> {
        let mut all = vec![ServerStats::default(); by_index(servers)];
        let take = |index, stats| put(&mut all, index, |place| *place = sum(*place, stats));
        self.maps
            .stats
            .each_at(servers, Some(self.processors), take)?;
        Ok(all)
    }
}

/// Places of a list by index in which all of `servers` have one.
fn by_index(servers: &[u32]) -> usize {
    servers.last().map_or(0, |last| *last as usize + 1)
}

fn put<T>(all: &mut [T], index: u32, change: impl FnOnce(&mut T)) {
    if let Some(place) = all.get_mut(index as usize) {
        change(place);
    }
}

impl Mirror for MapMirror<'_> {
    fn set_server(&mut self, index: u32, record: &ServerRecord) -> Result<(), MirrorError> {
        mirrored(self.maps.servers.set(index, *record))
    }

    fn add_servers(&mut self, first: u32, records: &[ServerRecord]) -> Result<(), MirrorError> {
        let mut counts = Vec::new();
        counts.resize_with(records.len(), ServerCounts::default);
        mirrored(self.maps.counts.set_range(first, &mut counts))?;
        let count = records.len() as u32;
        let none = ServerStats::default();
        mirrored(
            self.maps
                .stats
                .set_each_of(first, count, none, self.processors),
        )?;
        mirrored(self.maps.servers.set_range(first, &mut records.to_vec()))
    }

    fn reset_server(&mut self, index: u32) -> Result<(), MirrorError> {
        mirrored(self.maps.counts.set(index, ServerCounts::default()))?;
        mirrored(
            self.maps
                .stats
                .set_each(index, ServerStats::default(), self.processors),
        )
    }

    fn clear_overload(&mut self, index: u32) -> Result<(), MirrorError> {
        // A count that a program changes between reading and writing would be lost, so the flag
        // goes by way of a rewrite only when it is set, which thresholds make rare.
        let counts = mirrored(self.counts(index))?;
        if counts.flags.load() != 0 {
            counts.flags.store(0);
            mirrored(self.maps.counts.set(index, counts))?;
        }
        Ok(())
    }

    fn references(&mut self, index: u32) -> Result<u64, MirrorError> {
        let counts = mirrored(self.counts(index))?;
        Ok(u64::from(counts.active.load())
            + u64::from(counts.inactive.load())
            + u64::from(counts.persistent.load()))
    }

    fn stats(&mut self, index: u32) -> Result<ServerStats, MirrorError> {
        let each = mirrored(self.maps.stats.get_each(index, self.processors))?;
        Ok(each.into_iter().fold(ServerStats::default(), sum))
    }

    fn set_slots(&mut self, first: u32, lines: &[SlotLine]) -> Result<(), MirrorError> {
        mirrored(self.maps.slots.set_range(first, &mut lines.to_vec()))
    }

    fn set_table(&mut self, first: u32, lines: &[TableLine]) -> Result<(), MirrorError> {
        mirrored(self.maps.tables.set_range(first, &mut lines.to_vec()))
    }

    fn scheduler_state(&mut self, service: u32) -> Result<u64, MirrorError> {
        let state: Option<SchedulerState> = mirrored(self.maps.schedulers.get(service))?;
        Ok(state.map_or(0, |state| state.0.load()))
    }

    fn localities(&mut self) -> Result<Vec<(LocalityKey, LocalityRecord)>, MirrorError> {
        mirrored(self.maps.localities.iter().collect())
    }

    fn remove_locality(&mut self, key: &LocalityKey) -> Result<(), MirrorError> {
        mirrored(self.maps.localities.remove(*key)).map(drop)
    }

    fn set_service(&mut self, key: &ServiceKey, record: &ServiceRecord) -> Result<(), MirrorError> {
        mirrored(self.maps.services.set(*key, *record))
    }

    fn remove_service(&mut self, key: &ServiceKey) -> Result<(), MirrorError> {
        mirrored(self.maps.services.remove(*key)).map(drop)
    }

    fn set_mark_rules(
        &mut self,
        first: u32,
        records: &[MarkRuleRecord],
    ) -> Result<(), MirrorError> {
        mirrored(self.maps.mark_rules.set_range(first, &mut records.to_vec()))
    }

    fn set_settings(&mut self, settings: &Settings) -> Result<(), MirrorError> {
        mirrored(self.maps.settings.set(0, *settings))
    }
}
