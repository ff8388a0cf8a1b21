//! What was counted before: the part of the counters that no record holds.

use serde::{Deserialize, Serialize};

use super::{Director, Mirror, MirrorError, Server, subtract};
use crate::{
    model::{ServiceId, StatsView},
    record::ServerStats,
};

/// What the records of a director don't tell its successor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Of virtual services that lost servers.
    pub services: Vec<ServiceAccount>,
    /// Of real servers that were zeroed, or outlived their service.
    pub servers: Vec<ServerAccount>,
}

/// What a service's removed servers had counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAccount {
    /// The service.
    pub id: ServiceId,
    /// Index of its record: another one of the same id has another.
    pub index: u32,
    /// Counted by servers that are gone.
    pub past: StatsView,
}

/// Where a server's counters begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerAccount {
    /// Index of its record.
    pub index: u32,
    /// Its arrival: who has the index later has another.
    pub sequence: u32,
    /// Counters at the last zeroing.
    pub zero: StatsView,
    /// Its service was deleted, too; one of the same id is another one.
    pub alone: bool,
}

impl Director {
    /// What a successor that takes the records over has to be told.
    pub fn ledger(&self) -> Ledger {
        let services = self.services.values().filter(|service| {
            // Most services never lost a server.
            service.past != ServerStats::default()
        });
        let services = services.map(|service| ServiceAccount {
            id: service.config.id,
            index: service.record.id,
            past: service.past.into(),
        });
        let account = |server: &Server, alone| {
            (alone || server.zero != ServerStats::default()).then(|| ServerAccount {
                index: server.index,
                sequence: server.record.sequence,
                zero: server.zero.into(),
                alone,
            })
        };
        let configured = self.services.values().flat_map(|service| &service.servers);
        let configured = configured.filter_map(|server| account(server, false));
        let removed = self.removed.iter();
        let removed = removed.filter_map(|removed| account(&removed.server, removed.alone));
        Ledger {
            services: services.collect(),
            servers: configured.chain(removed).collect(),
        }
    }

    /// Takes over what the director before had in its [`Director::ledger`], as far as it fits the
    /// records: what has changed since then is left as it is.
    ///
    /// # Errors
    ///
    /// When counters can't be read.
    pub fn restore_ledger<M: Mirror>(
        &mut self,
        ledger: &Ledger,
        mirror: &mut M,
    ) -> Result<(), MirrorError> {
        for account in &ledger.services {
            let service = self.services.get_mut(&account.id);
            if let Some(service) = service.filter(|service| service.record.id == account.index) {
                service.past = account.past.into();
            }
        }
        let accounts: std::collections::HashMap<u32, &ServerAccount> = ledger
            .servers
            .iter()
            .map(|account| (account.index, account))
            .collect();
        let configured = self.services.values_mut().flat_map(|s| &mut s.servers);
        let removed = self.removed.iter_mut();
        let removed = removed.map(|removed| (&mut removed.server, Some(&mut removed.alone)));
        for (server, alone) in configured.map(|server| (server, None)).chain(removed) {
            let account = accounts.get(&server.index);
            let Some(account) = account.filter(|a| a.sequence == server.record.sequence) else {
                continue;
            };
            let zero = account.zero.into();
            if is_reached(zero, mirror.stats(server.index)?) {
                server.zero = zero;
            }
            if let Some(alone) = alone {
                *alone |= account.alone;
            }
        }
        Ok(())
    }
}

/// True when every counter of `before` can have become that of `now` without a turn of the clock.
fn is_reached(before: ServerStats, now: ServerStats) -> bool {
    let since = subtract(now, before);
    [
        since.connections,
        since.in_packets,
        since.in_bytes,
        since.out_packets,
        since.out_bytes,
    ]
    .iter()
    .all(|count| *count < 1 << 63)
}
