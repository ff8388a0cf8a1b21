//! Where the director writes its records.

use crate::{
    model::ControlError,
    record::{
        LocalityKey, LocalityRecord, MarkRuleRecord, ServerRecord, ServerStats, ServiceKey,
        ServiceRecord, Settings, SlotLine, TableLine,
    },
};

/// Where records go: maps of the kernel, or native tables.
pub trait Mirror {
    /// Writes a real server.
    fn set_server(&mut self, index: u32, record: &ServerRecord) -> Result<(), MirrorError>;
    /// Writes real servers at `first`, `first + 1`, ... whose indices were not used before, or not any
    /// more.
    fn add_servers(&mut self, first: u32, records: &[ServerRecord]) -> Result<(), MirrorError> {
        for (index, record) in (first..).zip(records) {
            self.reset_server(index)?;
            self.set_server(index, record)?;
        }
        Ok(())
    }
    /// Zeroes counts and counters of a real server's index before its first use.
    fn reset_server(&mut self, index: u32) -> Result<(), MirrorError>;
    /// Clears the overload flag of a real server.
    fn clear_overload(&mut self, index: u32) -> Result<(), MirrorError>;
    /// Connections that still refer to a real server, templates included.
    fn references(&mut self, index: u32) -> Result<u64, MirrorError>;
    /// Counters of a real server, all processors together.
    fn stats(&mut self, index: u32) -> Result<ServerStats, MirrorError>;
    /// Writes lines of slots.
    fn set_slots(&mut self, first: u32, lines: &[SlotLine]) -> Result<(), MirrorError>;
    /// Writes lines of a lookup table.
    fn set_table(&mut self, first: u32, lines: &[TableLine]) -> Result<(), MirrorError>;
    /// Reads a service's scheduler state.
    fn scheduler_state(&mut self, service: u32) -> Result<u64, MirrorError>;
    /// Reads the caches of all services.
    fn localities(&mut self) -> Result<Vec<(LocalityKey, LocalityRecord)>, MirrorError>;
    /// Removes the entry of a cache, if it is there.
    fn remove_locality(&mut self, key: &LocalityKey) -> Result<(), MirrorError>;
    /// Writes or replaces a service.
    fn set_service(&mut self, key: &ServiceKey, record: &ServiceRecord) -> Result<(), MirrorError>;
    /// Removes a service.
    fn remove_service(&mut self, key: &ServiceKey) -> Result<(), MirrorError>;
    /// Writes records of rules that make firewall marks.
    fn set_mark_rules(&mut self, first: u32, records: &[MarkRuleRecord])
    -> Result<(), MirrorError>;
    /// Writes the settings.
    fn set_settings(&mut self, settings: &Settings) -> Result<(), MirrorError>;
}

/// A record could not be written or read; the text says which and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MirrorError(pub String);

impl From<MirrorError> for ControlError {
    fn from(error: MirrorError) -> Self {
        Self::DataPlane(error.0)
    }
}
