//! A data plane that only remembers.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use pointsman_director::{
    Reason,
    adopt::Adopted,
    control::{Mirror, MirrorError, Records},
    record::{
        ConnectionRecord, FlowKey, LocalityKey, LocalityRecord, MarkRuleRecord, ServerCounts,
        ServerRecord, ServerStats, ServiceKey, ServiceRecord, Settings, SlotLine, TableLine,
    },
};
use pointsman_wire::Mac;

use crate::plane::{Flow, Plane, PlaneError};

#[derive(Debug, Default)]
pub(super) struct Memory {
    services: Mutex<HashMap<ServiceKey, ServiceRecord>>,
    connections: Mutex<Vec<(FlowKey, ConnectionRecord)>>,
}

impl Memory {
    pub(super) fn add_connection(&self, key: FlowKey, record: ConnectionRecord) {
        self.connections.lock().unwrap().push((key, record));
    }
}

pub(super) struct Guard<'a>(MutexGuard<'a, HashMap<ServiceKey, ServiceRecord>>);

impl Mirror for Guard<'_> {
    fn set_server(&mut self, _: u32, _: &ServerRecord) -> Result<(), MirrorError> {
        Ok(())
    }
    fn reset_server(&mut self, _: u32) -> Result<(), MirrorError> {
        Ok(())
    }
    fn clear_overload(&mut self, _: u32) -> Result<(), MirrorError> {
        Ok(())
    }
    fn references(&mut self, _: u32) -> Result<u64, MirrorError> {
        Ok(0)
    }
    fn stats(&mut self, _: u32) -> Result<ServerStats, MirrorError> {
        Ok(ServerStats::default())
    }
    fn set_slots(&mut self, _: u32, _: &[SlotLine]) -> Result<(), MirrorError> {
        Ok(())
    }
    fn set_table(&mut self, _: u32, _: &[TableLine]) -> Result<(), MirrorError> {
        Ok(())
    }
    fn scheduler_state(&mut self, _: u32) -> Result<u64, MirrorError> {
        Ok(0)
    }
    fn localities(&mut self) -> Result<Vec<(LocalityKey, LocalityRecord)>, MirrorError> {
        Ok(Vec::new())
    }
    fn remove_locality(&mut self, _: &LocalityKey) -> Result<(), MirrorError> {
        Ok(())
    }
    fn set_service(&mut self, key: &ServiceKey, record: &ServiceRecord) -> Result<(), MirrorError> {
        self.0.insert(*key, *record);
        Ok(())
    }
    fn remove_service(&mut self, key: &ServiceKey) -> Result<(), MirrorError> {
        self.0.remove(key);
        Ok(())
    }
    fn set_mark_rules(&mut self, _: u32, _: &[MarkRuleRecord]) -> Result<(), MirrorError> {
        Ok(())
    }
    fn set_settings(&mut self, _: &Settings) -> Result<(), MirrorError> {
        Ok(())
    }
}

impl Plane for Memory {
    type Mirror<'a> = Guard<'a>;
    type Position = usize;

    fn mirror(&self) -> Guard<'_> {
        Guard(self.services.lock().unwrap())
    }
    fn records(&self) -> Result<Records, PlaneError> {
        Ok(Records::default())
    }
    fn all_counts(&self, servers: &[u32]) -> Result<Vec<ServerCounts>, PlaneError> {
        let mut all = Vec::new();
        let places = servers.last().map_or(0, |last| *last as usize + 1);
        all.resize_with(places, ServerCounts::default);
        Ok(all)
    }
    fn all_stats(&self, servers: &[u32]) -> Result<Vec<ServerStats>, PlaneError> {
        let places = servers.last().map_or(0, |last| *last as usize + 1);
        Ok(vec![ServerStats::default(); places])
    }
    fn verdicts(&self) -> Result<Vec<(Reason, u64)>, PlaneError> {
        Ok(Reason::ALL.iter().map(|reason| (*reason, 0)).collect())
    }
    fn read_connections(&self, position: &mut usize) -> Result<Vec<Flow>, PlaneError> {
        let all = self.connections.lock().unwrap();
        let some: Vec<Flow> = all.iter().skip(*position).take(100).cloned().collect();
        *position += some.len();
        Ok(some)
    }
    fn adopt(&self, told: &[Flow]) -> Result<Vec<Adopted>, PlaneError> {
        let mut all = self.connections.lock().unwrap();
        all.extend(told.iter().cloned());
        Ok(told.iter().map(|_| Adopted::Added).collect())
    }
    fn sweep(&self, _dropping: bool) -> Result<u32, PlaneError> {
        Ok(0)
    }
    fn now(&self) -> Result<u64, PlaneError> {
        Ok(0)
    }
    fn set_link(&self, _: u32, _: Mac) -> Result<(), PlaneError> {
        Ok(())
    }
}
