//! Real servers: added, revived, edited, removed, and their next hops.

use std::net::IpAddr;

use super::{
    Director, MAX_SERVERS, Mirror, MirrorError, Removed, Server, Service, address_words, cache_of,
    check::{check_server, full, is_possible},
    plan, subtract, sum,
};
use crate::{
    estimate::Estimate,
    model::{ControlError, RealServer, ServiceId},
    record::{NextHop, ServerRecord, ServerStats, server_flag},
};

impl Director {
    pub(super) fn add_server<M: Mirror>(
        &mut self,
        id: &ServiceId,
        config: &RealServer,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let service = self
            .services
            .get(id)
            .ok_or(ControlError::ServiceNotDefined)?;
        let config = check_server(id, config)?;
        if self.no_mixed && config.address.is_ipv6() != id.is_ipv6() {
            return Err(ControlError::Invalid);
        }
        if service.position(config.address, config.port).is_some() {
            return Err(ControlError::DestinationExists);
        }
        if service.servers.len() >= MAX_SERVERS {
            return Err(ControlError::Invalid);
        }
        let edited = service.clone();
        // The kernel revives a server that is still in its trash, counters and all.
        let revived = self.removed.at(id, config.address, config.port);
        if let Some(removed) = revived {
            let removed = removed.clone();
            return self.revive_server(edited, config, removed, mirror);
        }
        let index = self
            .server_indices
            .take(1)
            .ok_or_else(|| full("real servers", "--servers"))?;
        let record = plan::server_record(&config, &edited, self.sequence.wrapping_add(1));
        let server = Server {
            index,
            config,
            record,
            zero: ServerStats::default(),
            estimate: Estimate::default(),
        };
        let added = match mirror.reset_server(index) {
            Ok(()) => self.put_first(edited, server, &ServerRecord::default(), mirror),
            Err(error) => Err(error.into()),
        };
        if added.is_err() {
            self.server_indices.give(index, 1);
        }
        added
    }

    /// Adds a server that is in the trash, as `__ip_vs_update_dest` does.
    pub(super) fn revive_server<M: Mirror>(
        &mut self,
        mut service: Service,
        config: RealServer,
        removed: Removed,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let Removed {
            server: old, alone, ..
        } = removed;
        let counted = mirror.stats(old.index)?;
        let fresh = plan::server_record(&config, &service, self.sequence.wrapping_add(1));
        let record = revised(fresh, &old.record);
        if lifts_overload(&record, &old.record) {
            mirror.clear_overload(old.index)?;
        }
        // In the service that it left it goes on counting; to another one it comes with nothing.
        let (zero, estimate) = if alone {
            (counted, Estimate::default())
        } else {
            service.past = subtract(service.past, subtract(counted, old.zero));
            (old.zero, old.estimate)
        };
        service.ever = subtract(service.ever, counted);
        let server = Server {
            index: old.index,
            config,
            record,
            zero,
            estimate,
        };
        self.put_first(service, server, &old.record, mirror)?;
        self.removed.take(old.index);
        Ok(())
    }

    /// Makes `server` the newest of `service`; `before` is what its record was.
    pub(super) fn put_first<M: Mirror>(
        &mut self,
        mut service: Service,
        server: Server,
        before: &ServerRecord,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let (id, index, record) = (service.config.id, server.index, server.record);
        service.servers.insert(0, server);
        mirror.set_server(index, &record)?;
        if let Err(error) = self.replan(service, plan::Cause::Added, mirror) {
            let _ = mirror.set_server(index, before);
            return Err(error);
        }
        self.owners.insert(index, id);
        self.sequence = record.sequence;
        Ok(())
    }

    pub(super) fn edit_server<M: Mirror>(
        &mut self,
        id: &ServiceId,
        config: &RealServer,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let service = self
            .services
            .get(id)
            .ok_or(ControlError::ServiceNotDefined)?;
        let config = match check_server(id, config) {
            // As in the kernel, that the server is not there comes before its address.
            Err(ControlError::Invalid) if !is_possible(config.address) => {
                return Err(ControlError::NoSuchDestination);
            }
            checked => checked?,
        };
        let at = service
            .position(config.address, config.port)
            .ok_or(ControlError::NoSuchDestination)?;
        let mut edited = service.clone();
        let server = &mut edited.servers[at];
        let (index, old) = (server.index, server.record);
        let record = revised(plan::server_record(&config, service, old.sequence), &old);
        server.record = record;
        server.config = config;
        mirror.set_server(index, &record)?;
        let lifted = if lifts_overload(&record, &old) {
            mirror.clear_overload(index)
        } else {
            Ok(())
        };
        let done = match lifted {
            Ok(()) => self.replan(edited, plan::Cause::Edited, mirror),
            Err(error) => Err(error.into()),
        };
        if done.is_err() {
            let _ = mirror.set_server(index, &old);
        }
        done
    }

    pub(super) fn delete_server<M: Mirror>(
        &mut self,
        id: &ServiceId,
        address: IpAddr,
        port: u16,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let service = self
            .services
            .get(id)
            .ok_or(ControlError::ServiceNotDefined)?;
        let at = service
            .position(address, port)
            .ok_or(ControlError::NoSuchDestination)?;
        let mut edited = service.clone();
        let server = edited.servers.remove(at);
        let counted = mirror.stats(server.index)?;
        edited.past = sum(edited.past, subtract(counted, server.zero));
        edited.ever = sum(edited.ever, counted);
        withdraw(&server, mirror)?;
        if let Err(error) = self.replan(edited, plan::Cause::Removed(at), mirror) {
            let _ = mirror.set_server(server.index, &server.record);
            return Err(error);
        }
        self.bury(*id, server);
        Ok(())
    }

    /// Tells where frames to the real server with this index go. `gateway` is the address whose
    /// link-layer address `hop` holds, `source` the outer source of a tunnel.
    ///
    /// # Errors
    ///
    /// When the record can't be written.
    pub fn set_hop<M: Mirror>(
        &mut self,
        index: u32,
        hop: NextHop,
        gateway: IpAddr,
        source: Option<IpAddr>,
        mirror: &mut M,
    ) -> Result<(), MirrorError> {
        let Some(owner) = self.owners.get(&index) else {
            return Ok(());
        };
        let configured = self.services.get_mut(owner).map(|s| &mut s.servers);
        let configured = configured.into_iter().flatten();
        let removed = self.removed.get_mut(index).map(|r| &mut r.server);
        for server in configured.chain(removed).filter(|s| s.index == index) {
            let mut record = server.record;
            record.hop = hop;
            record.gateway = address_words(gateway);
            record.flags &= !server_flag::GATEWAY_IPV6;
            if gateway.is_ipv6() {
                record.flags |= server_flag::GATEWAY_IPV6;
            }
            record.tunnel_source = source.map(address_words).unwrap_or_default();
            if record != server.record {
                mirror.set_server(index, &record)?;
                server.record = record;
            }
        }
        Ok(())
    }

    /// Gives back the indices of servers removed before the last call that no connection refers to
    /// any more, and what earlier plans held. To be called now and then, at least a packet's time
    /// apart.
    ///
    /// # Errors
    ///
    /// When counts can't be read or a record can't be written.
    pub fn collect_removed<M: Mirror>(&mut self, mirror: &mut M) -> Result<(), MirrorError> {
        for lines in [
            &mut self.service_indices,
            &mut self.server_indices,
            &mut self.slot_lines,
            &mut self.table_lines,
        ] {
            lines.settle();
        }
        let mut unused = Vec::new();
        for removed in self.removed.iter_mut() {
            let index = removed.server.index;
            // A packet that chose the server before it was removed has counted itself by now.
            let rested = std::mem::replace(&mut removed.rested, true);
            if rested && mirror.references(index)? == 0 {
                unused.push(index);
            }
        }
        for index in unused {
            if self.is_cached(index, mirror)? {
                continue;
            }
            mirror.set_server(index, &ServerRecord::default())?;
            self.server_indices.give(index, 1);
            self.owners.remove(&index);
            self.removed.take(index);
        }
        Ok(())
    }

    /// True when an entry of its service's cache refers to a removed server: added again, the server is
    /// in the cache again, so its index must not be another's meanwhile. Entries are looked through
    /// once a round only.
    fn is_cached<M: Mirror>(&mut self, index: u32, mirror: &mut M) -> Result<bool, MirrorError> {
        let Some(removed) = self.removed.get(index) else {
            return Ok(false);
        };
        let service = self.services.get(&removed.id);
        if service.is_none_or(|service| cache_of(&service.record).is_none()) {
            return Ok(false);
        }
        let round = Some(self.localities.round());
        if removed.cached == round {
            return Ok(true);
        }
        let cached = self.cached_servers(mirror)?;
        for removed in self.removed.iter_mut().filter(|removed| removed.rested) {
            if cached.contains(&removed.server.index) {
                removed.cached = round;
            }
        }
        Ok(cached.contains(&index))
    }

    /// Keeps a server that was withdrawn while connections refer to it.
    pub(super) fn bury(&mut self, id: ServiceId, mut server: Server) {
        server.record.flags &= !server_flag::AVAILABLE;
        self.removed.put(Removed {
            id,
            server,
            alone: !self.services.contains_key(&id),
            rested: false,
            cached: None,
        });
    }
}

/// Writes that a server takes no more packets.
pub(super) fn withdraw<M: Mirror>(server: &Server, mirror: &mut M) -> Result<(), MirrorError> {
    let mut record = server.record;
    record.flags &= !server_flag::AVAILABLE;
    mirror.set_server(server.index, &record)
}

/// The record `fresh` with what the server's record before, `old`, knew besides its configuration.
pub(super) fn revised(fresh: ServerRecord, old: &ServerRecord) -> ServerRecord {
    ServerRecord {
        hop: old.hop,
        tunnel_source: old.tunnel_source,
        gateway: old.gateway,
        last_weight: if fresh.weight != 0 {
            fresh.weight
        } else {
            old.last_weight
        },
        flags: fresh.flags | (old.flags & server_flag::GATEWAY_IPV6),
        ..fresh
    }
}

/// True when the change of thresholds lets an overloaded server take connections again
/// (`__ip_vs_update_dest`).
pub(super) fn lifts_overload(new: &ServerRecord, old: &ServerRecord) -> bool {
    new.upper == 0 || new.upper > old.upper
}
