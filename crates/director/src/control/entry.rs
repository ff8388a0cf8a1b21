//! Services and servers, to be looked at.

use super::{Server, Service, subtract};
use crate::{
    model::{RateView, RealServer, VirtualService},
    record::{ServerRecord, ServerStats, ServiceRecord},
};

/// A virtual service, to be looked at.
#[derive(Clone, Copy)]
pub struct ServiceEntry<'a> {
    pub(super) service: &'a Service,
}

/// A real server, to be looked at.
#[derive(Clone, Copy)]
pub struct ServerEntry<'a> {
    pub(super) server: &'a Server,
}

impl<'a> ServiceEntry<'a> {
    /// As configured.
    pub fn config(&self) -> &'a VirtualService {
        &self.service.config
    }

    /// Its record.
    pub fn record(&self) -> &'a ServiceRecord {
        &self.service.record
    }

    /// Its real servers, newest first.
    pub fn servers(&self) -> impl Iterator<Item = ServerEntry<'a>> + use<'a> {
        self.service
            .servers
            .iter()
            .map(|server| ServerEntry { server })
    }

    /// What removed servers had counted for it.
    pub fn past(&self) -> ServerStats {
        self.service.past
    }

    /// What to add to its servers' counters for those of the service that no zeroing and no removal
    /// lowers: wrapping.
    pub fn ever(&self) -> ServerStats {
        self.service.ever
    }

    /// How fast its counters rise.
    pub fn rate(&self) -> RateView {
        self.service.estimate.rate()
    }
}

impl<'a> ServerEntry<'a> {
    /// Index of its records.
    pub fn index(&self) -> u32 {
        self.server.index
    }

    /// As configured.
    pub fn config(&self) -> &'a RealServer {
        &self.server.config
    }

    /// Its record.
    pub fn record(&self) -> &'a ServerRecord {
        &self.server.record
    }

    /// Its counters since the last zeroing, given its counters now.
    pub fn since_zero(&self, now: ServerStats) -> ServerStats {
        subtract(now, self.server.zero)
    }

    /// How fast its counters rise.
    pub fn rate(&self) -> RateView {
        self.server.estimate.rate()
    }
}
