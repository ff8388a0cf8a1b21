//! From the operator's changes to records: validation with IPVS's meanings, and the order in which
//! records are written.
//!
//! [`Director`] keeps services and real servers as the kernel would, refuses what the kernel
//! refuses, and writes through a [`Mirror`]: first what new records point to, then the record that
//! makes them visible, then what is no longer used. A service's record is replaced as a whole, so a
//! packet meets the old configuration or the new one.

mod lines;
mod plan;
mod restore;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use lines::Lines;
pub use restore::Records;

use crate::{
    model::{
        Change, ControlError, ForwardingMethod, RealServer, ServiceId, StatsView, TunnelType,
        VirtualService,
    },
    record::{
        Address, NextHop, SLOTS_PER_LINE, ServerRecord, ServerStats, ServiceKey, ServiceRecord,
        Settings, SlotLine, TableLine, method, server_flag, service_flag, settings_flag,
    },
    schedule::Scheduler,
};

/// Where records go: maps of the kernel, or native tables.
pub trait Mirror {
    /// Writes a real server.
    fn set_server(&mut self, index: u32, record: &ServerRecord) -> Result<(), MirrorError>;
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
    /// Writes or replaces a service.
    fn set_service(&mut self, key: &ServiceKey, record: &ServiceRecord) -> Result<(), MirrorError>;
    /// Removes a service.
    fn remove_service(&mut self, key: &ServiceKey) -> Result<(), MirrorError>;
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

/// Room in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Virtual services.
    pub services: u32,
    /// Real servers, removed ones with connections included.
    pub servers: u32,
    /// Lines of eight slots.
    pub slot_lines: u32,
    /// Lines of thirty-two table entries.
    pub table_lines: u32,
}

/// A real server of the director.
#[derive(Debug, Clone)]
struct Server {
    index: u32,
    config: RealServer,
    record: ServerRecord,
    /// Counters at the last zeroing.
    zero: ServerStats,
}

/// A virtual service of the director.
#[derive(Debug, Clone)]
struct Service {
    config: VirtualService,
    key: ServiceKey,
    record: ServiceRecord,
    /// Newest first.
    servers: Vec<Server>,
    /// What removed servers had counted.
    past: ServerStats,
}

/// A removed real server that connections still refer to (the kernel's trash).
#[derive(Debug, Clone)]
struct Removed {
    id: ServiceId,
    server: Server,
    /// Its service went, too; one of the same id is another one.
    alone: bool,
    /// Removed before the latest collection: no packet is still choosing it.
    rested: bool,
}

/// The director's configuration, and its records.
#[derive(Debug)]
pub struct Director {
    services: BTreeMap<ServiceId, Service>,
    removed: Vec<Removed>,
    service_indices: Lines,
    server_indices: Lines,
    slot_lines: Lines,
    table_lines: Lines,
    /// Which service each server index belongs to, removed servers included.
    owners: HashMap<u32, ServiceId>,
    settings: Settings,
    sequence: u32,
}

/// A real server for which the daemon has to keep the next hop true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopRequest {
    /// Index of the real server.
    pub server: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its forwarding method.
    pub method: ForwardingMethod,
}

impl Director {
    /// An empty director with room for `capacity`.
    pub fn new(capacity: Capacity, settings: Settings) -> Self {
        Self {
            services: BTreeMap::new(),
            removed: Vec::new(),
            service_indices: Lines::new(capacity.services),
            server_indices: Lines::new(capacity.servers),
            slot_lines: Lines::new(capacity.slot_lines),
            table_lines: Lines::new(capacity.table_lines),
            owners: HashMap::new(),
            settings,
            sequence: 0,
        }
    }

    /// What holds for every service.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes what holds for every service; whether there are services for every port is known
    /// better here.
    ///
    /// # Errors
    ///
    /// When the settings can't be written; then they stay as they were.
    pub fn set_settings<M: Mirror>(
        &mut self,
        mut settings: Settings,
        mirror: &mut M,
    ) -> Result<(), MirrorError> {
        settings.flags &= !settings_flag::ANY_PORT;
        if self.services.keys().any(is_for_every_port) {
            settings.flags |= settings_flag::ANY_PORT;
        }
        mirror.set_settings(&settings)?;
        self.settings = settings;
        Ok(())
    }

    /// Virtual services in order of their ids, each with its servers' indices, newest first.
    pub fn services(&self) -> impl Iterator<Item = ServiceEntry<'_>> {
        self.services
            .values()
            .map(|service| ServiceEntry { service })
    }

    /// The service called `id`.
    pub fn service(&self, id: &ServiceId) -> Option<ServiceEntry<'_>> {
        self.services
            .get(id)
            .map(|service| ServiceEntry { service })
    }

    /// The real server with this index, a removed one with connections included.
    pub fn server(&self, index: u32) -> Option<ServerEntry<'_>> {
        let owner = self.owners.get(&index)?;
        let configured = self.services.get(owner).map(|service| &service.servers);
        let removed = self.removed.iter().map(|removed| &removed.server);
        configured
            .into_iter()
            .flatten()
            .chain(removed)
            .find(|server| server.index == index)
            .map(|server| ServerEntry { server })
    }

    /// Every real server whose next hop has to be known.
    pub fn hops(&self) -> impl Iterator<Item = HopRequest> {
        self.services
            .values()
            .flat_map(|service| &service.servers)
            .map(|server| HopRequest {
                server: server.index,
                address: server.config.address,
                method: server.config.method,
            })
    }

    /// Carries `change` out, or refuses it and changes nothing.
    ///
    /// # Errors
    ///
    /// What the kernel would answer, [`ControlError::NotYet`] for what Pointsman can't do yet, and
    /// [`ControlError::DataPlane`] when a record can't be written.
    pub fn apply<M: Mirror>(
        &mut self,
        change: &Change,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let result = self.carry_out(change, mirror);
        if matches!(
            change,
            Change::AddService { .. } | Change::DeleteService { .. } | Change::Clear
        ) && !self.has_any_port()
        {
            // A flag that stays up only costs a look-up: no reason to call the change failed.
            let _ = self.set_any_port(false, mirror);
        }
        result
    }

    fn has_any_port(&self) -> bool {
        self.services.keys().any(is_for_every_port)
    }

    /// A service for every port is looked for only while there is one: the flag is raised before the
    /// first and lowered behind the last.
    fn set_any_port<M: Mirror>(&mut self, any: bool, mirror: &mut M) -> Result<(), MirrorError> {
        let mut settings = self.settings;
        settings.flags &= !settings_flag::ANY_PORT;
        if any {
            settings.flags |= settings_flag::ANY_PORT;
        }
        if settings == self.settings {
            return Ok(());
        }
        mirror.set_settings(&settings)?;
        self.settings = settings;
        Ok(())
    }

    fn carry_out<M: Mirror>(
        &mut self,
        change: &Change,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        match change {
            Change::AddService { service } => self.add_service(service, mirror),
            Change::EditService { service } => self.edit_service(service, mirror),
            Change::DeleteService { id } => self.delete_service(id, mirror),
            Change::AddServer { id, server } => self.add_server(id, server, mirror),
            Change::EditServer { id, server } => self.edit_server(id, server, mirror),
            Change::DeleteServer { id, address, port } => {
                self.delete_server(id, *address, *port, mirror)
            }
            Change::Clear => self.clear(mirror),
            Change::Zero { id } => self.zero(id.as_ref(), mirror),
            Change::SetTimeouts { tcp, tcp_fin, udp } => {
                self.set_timeouts(*tcp, *tcp_fin, *udp, mirror)
            }
        }
    }

    fn add_service<M: Mirror>(
        &mut self,
        config: &VirtualService,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let scheduler = check_service(config)?;
        if self.services.contains_key(&config.id) {
            return Err(ControlError::ServiceExists);
        }
        let index = self
            .service_indices
            .take(1)
            .ok_or_else(|| full("virtual services", "--services"))?;
        let written = if is_for_every_port(&config.id) {
            self.set_any_port(true, mirror)
        } else {
            Ok(())
        }
        .and_then(|()| self.write_service(config, scheduler, index, mirror));
        if written.is_err() {
            self.service_indices.give(index, 1);
        }
        Ok(written?)
    }

    /// Writes a service that has no servers yet.
    fn write_service<M: Mirror>(
        &mut self,
        config: &VirtualService,
        scheduler: Scheduler,
        index: u32,
        mirror: &mut M,
    ) -> Result<(), MirrorError> {
        let key = service_key(&config.id);
        let mut service = Service {
            config: config.clone(),
            key,
            record: ServiceRecord {
                id: index,
                ..plan::service_record(config, scheduler)
            },
            servers: Vec::new(),
            past: ServerStats::default(),
        };
        // A service index may have had an owner before: its state is of another plan.
        let plan = (mirror.scheduler_state(index)? >> 48) as u16;
        service.record.plan = plan.wrapping_add(1);
        mirror.set_service(&key, &service.record)?;
        self.services.insert(config.id, service);
        Ok(())
    }

    fn edit_service<M: Mirror>(
        &mut self,
        config: &VirtualService,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let scheduler = check_service(config)?;
        let service = self
            .services
            .get(&config.id)
            .ok_or(ControlError::NoSuchService)?;
        let same_scheduler = service.record.scheduler == scheduler as u8;
        let mut edited = service.clone();
        edited.config = config.clone();
        let fresh = plan::service_record(config, scheduler);
        edited.record.flags = fresh.flags;
        edited.record.persistence = fresh.persistence;
        edited.record.prefix = fresh.prefix;
        edited.record.netmask = fresh.netmask;
        if same_scheduler {
            // As in the kernel the scheduler's state stays untouched.
            mirror.set_service(&edited.key, &edited.record)?;
            self.services.insert(config.id, edited);
            return Ok(());
        }
        edited.record.scheduler = scheduler as u8;
        self.replan(edited, plan::Cause::Scheduler, mirror)
    }

    fn delete_service<M: Mirror>(
        &mut self,
        id: &ServiceId,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        if !self.services.contains_key(id) {
            return Err(ControlError::NoSuchService);
        }
        self.delete_services(&[*id], mirror)
    }

    /// Deletes all of these services or none.
    fn delete_services<M: Mirror>(
        &mut self,
        ids: &[ServiceId],
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let services = || ids.iter().filter_map(|id| self.services.get(id));
        let withdrawn = services()
            .try_for_each(|service| mirror.remove_service(&service.key))
            .and_then(|()| {
                let mut servers = services().flat_map(|service| &service.servers);
                servers.try_for_each(|server| withdraw(server, mirror))
            });
        if let Err(error) = withdrawn {
            // What can't be written back either shows the next restart.
            for service in services() {
                for server in &service.servers {
                    let _ = mirror.set_server(server.index, &server.record);
                }
                let _ = mirror.set_service(&service.key, &service.record);
            }
            return Err(error.into());
        }
        for id in ids {
            let Some(service) = self.services.remove(id) else {
                continue;
            };
            self.release_plan(&service.record);
            self.service_indices.give(service.record.id, 1);
            for server in service.servers {
                self.bury(*id, server);
            }
            for removed in self.removed.iter_mut().filter(|r| r.id == *id) {
                removed.alone = true;
            }
        }
        Ok(())
    }

    fn add_server<M: Mirror>(
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
        if service.position(config.address, config.port).is_some() {
            return Err(ControlError::DestinationExists);
        }
        if service.servers.len() >= MAX_SERVERS {
            return Err(ControlError::Invalid);
        }
        let edited = service.clone();
        // The kernel revives a server that is still in its trash, counters and all.
        let revived = self
            .removed
            .iter()
            .position(|r| r.id == *id && r.server.is_at(config.address, config.port));
        if let Some(at) = revived {
            return self.revive_server(edited, config, at, mirror);
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
    fn revive_server<M: Mirror>(
        &mut self,
        mut service: Service,
        config: RealServer,
        at: usize,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let Removed {
            server: old, alone, ..
        } = self.removed[at].clone();
        let counted = mirror.stats(old.index)?;
        let fresh = plan::server_record(&config, &service, self.sequence.wrapping_add(1));
        let record = revised(fresh, &old.record);
        if lifts_overload(&record, &old.record) {
            mirror.clear_overload(old.index)?;
        }
        // In the service that it left it goes on counting; to another one it comes with nothing.
        let zero = if alone {
            counted
        } else {
            service.past = subtract(service.past, subtract(counted, old.zero));
            old.zero
        };
        let server = Server {
            index: old.index,
            config,
            record,
            zero,
        };
        self.put_first(service, server, &old.record, mirror)?;
        self.removed.remove(at);
        Ok(())
    }

    /// Makes `server` the newest of `service`; `before` is what its record was.
    fn put_first<M: Mirror>(
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

    fn edit_server<M: Mirror>(
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

    fn delete_server<M: Mirror>(
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
        let counted = subtract(mirror.stats(server.index)?, server.zero);
        edited.past = sum(edited.past, counted);
        withdraw(&server, mirror)?;
        if let Err(error) = self.replan(edited, plan::Cause::Removed(at), mirror) {
            let _ = mirror.set_server(server.index, &server.record);
            return Err(error);
        }
        self.bury(*id, server);
        Ok(())
    }

    fn clear<M: Mirror>(&mut self, mirror: &mut M) -> Result<(), ControlError> {
        let ids: Vec<ServiceId> = self.services.keys().copied().collect();
        self.delete_services(&ids, mirror)
    }

    fn zero<M: Mirror>(
        &mut self,
        id: Option<&ServiceId>,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        if let Some(id) = id
            && !self.services.contains_key(id)
        {
            return Err(ControlError::NoSuchService);
        }
        let chosen = |key: &ServiceId| id.is_none_or(|id| id == key);
        let mut now = HashMap::new();
        for (_, service) in self.services.iter().filter(|(key, _)| chosen(key)) {
            for server in &service.servers {
                now.insert(server.index, mirror.stats(server.index)?);
            }
        }
        for (_, service) in self.services.iter_mut().filter(|(key, _)| chosen(key)) {
            service.past = ServerStats::default();
            for server in &mut service.servers {
                server.zero = now.get(&server.index).copied().unwrap_or_default();
            }
        }
        Ok(())
    }

    fn set_timeouts<M: Mirror>(
        &mut self,
        tcp: u32,
        tcp_fin: u32,
        udp: u32,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let mut settings = self.settings;
        if tcp != 0 {
            settings.tcp_timeouts[usize::from(crate::tcp::state::ESTABLISHED)] = tcp;
        }
        if tcp_fin != 0 {
            settings.tcp_timeouts[usize::from(crate::tcp::state::FIN_WAIT)] = tcp_fin;
        }
        if udp != 0 {
            settings.udp_timeout = udp;
        }
        Ok(self.set_settings(settings, mirror)?)
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
        let removed = self.removed.iter_mut().map(|r| &mut r.server);
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
        let mut at = 0;
        while at < self.removed.len() {
            let removed = &mut self.removed[at];
            let index = removed.server.index;
            // A packet that chose the server before it was removed has counted itself by now.
            let rested = std::mem::replace(&mut removed.rested, true);
            if !rested || mirror.references(index)? != 0 {
                at += 1;
                continue;
            }
            mirror.set_server(index, &ServerRecord::default())?;
            self.server_indices.give(index, 1);
            self.owners.remove(&index);
            self.removed.remove(at);
        }
        Ok(())
    }

    /// Keeps a server that was withdrawn while connections refer to it.
    fn bury(&mut self, id: ServiceId, mut server: Server) {
        server.record.flags &= !server_flag::AVAILABLE;
        self.removed.push(Removed {
            id,
            server,
            alone: !self.services.contains_key(&id),
            rested: false,
        });
    }

    /// Writes the slots and the table of `edited`, then its record, and gives the old ones back.
    fn replan<M: Mirror>(
        &mut self,
        mut edited: Service,
        cause: plan::Cause,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let old = edited.record;
        let state = mirror.scheduler_state(old.id)?;
        let slots = plan::slots(&edited.servers);
        let table = plan::table(&edited);
        let slot_lines = slots.len() as u32;
        let table_lines = table.len() as u32;
        let first = self
            .slot_lines
            .take(slot_lines)
            .ok_or_else(|| full("slots", "--slot-lines"))?;
        let Some(table_first) = self.table_lines.take(table_lines) else {
            self.slot_lines.give(first, slot_lines);
            return Err(full("lookup tables", "--table-lines"));
        };
        edited.record.slots = first;
        edited.record.slot_lines = slot_lines;
        edited.record.table = table_first;
        edited.record.table_lines = table_lines;
        edited.record.count = edited.servers.len() as u32;
        plan::restart(&mut edited, state, cause);
        let written = mirror
            .set_slots(first, &slots)
            .and_then(|()| mirror.set_table(table_first, &table))
            .and_then(|()| mirror.set_service(&edited.key, &edited.record));
        if let Err(error) = written {
            self.slot_lines.give(first, slot_lines);
            self.table_lines.give(table_first, table_lines);
            return Err(error.into());
        }
        self.release_plan(&old);
        self.services.insert(edited.config.id, edited);
        Ok(())
    }

    fn release_plan(&mut self, record: &ServiceRecord) {
        self.slot_lines.give(record.slots, record.slot_lines);
        self.table_lines.give(record.table, record.table_lines);
    }
}

/// The most real servers a service can have: positions are 16 bits, and the kernel's `mh` stops
/// at the size of its table.
pub const MAX_SERVERS: usize = 4093;

/// A virtual service, to be looked at.
#[derive(Clone, Copy)]
pub struct ServiceEntry<'a> {
    service: &'a Service,
}

/// A real server, to be looked at.
#[derive(Clone, Copy)]
pub struct ServerEntry<'a> {
    server: &'a Server,
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
}

impl Service {
    fn position(&self, address: IpAddr, port: u16) -> Option<usize> {
        self.servers
            .iter()
            .position(|server| server.is_at(address, port))
    }
}

impl Server {
    fn is_at(&self, address: IpAddr, port: u16) -> bool {
        self.config.address == address && self.config.port == port
    }
}

/// Writes that a server takes no more packets.
fn withdraw<M: Mirror>(server: &Server, mirror: &mut M) -> Result<(), MirrorError> {
    let mut record = server.record;
    record.flags &= !server_flag::AVAILABLE;
    mirror.set_server(server.index, &record)
}

/// The record `fresh` with what the server's record before, `old`, knew besides its configuration.
fn revised(fresh: ServerRecord, old: &ServerRecord) -> ServerRecord {
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
fn lifts_overload(new: &ServerRecord, old: &ServerRecord) -> bool {
    new.upper == 0 || new.upper > old.upper
}

/// `a + b`, counter by counter.
pub fn sum(a: ServerStats, b: ServerStats) -> ServerStats {
    ServerStats {
        connections: a.connections.wrapping_add(b.connections),
        in_packets: a.in_packets.wrapping_add(b.in_packets),
        in_bytes: a.in_bytes.wrapping_add(b.in_bytes),
        out_packets: a.out_packets.wrapping_add(b.out_packets),
        out_bytes: a.out_bytes.wrapping_add(b.out_bytes),
    }
}

/// `a - b`, counter by counter.
pub fn subtract(a: ServerStats, b: ServerStats) -> ServerStats {
    ServerStats {
        connections: a.connections.wrapping_sub(b.connections),
        in_packets: a.in_packets.wrapping_sub(b.in_packets),
        in_bytes: a.in_bytes.wrapping_sub(b.in_bytes),
        out_packets: a.out_packets.wrapping_sub(b.out_packets),
        out_bytes: a.out_bytes.wrapping_sub(b.out_bytes),
    }
}

impl From<ServerStats> for StatsView {
    fn from(stats: ServerStats) -> Self {
        Self {
            connections: stats.connections,
            in_packets: stats.in_packets,
            out_packets: stats.out_packets,
            in_bytes: stats.in_bytes,
            out_bytes: stats.out_bytes,
        }
    }
}

/// An address as records hold it.
pub fn address_words(address: IpAddr) -> Address {
    let mut words = [0; 4];
    match address {
        IpAddr::V4(address) => words[0] = u32::from_ne_bytes(address.octets()),
        IpAddr::V6(address) => {
            for (word, bytes) in words.iter_mut().zip(address.octets().chunks_exact(4)) {
                *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
    }
    words
}

/// An address from a record.
pub fn words_address(words: &Address, ipv6: bool) -> IpAddr {
    if !ipv6 {
        return IpAddr::from(words[0].to_ne_bytes());
    }
    let mut octets = [0; 16];
    for (bytes, word) in octets.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    IpAddr::from(octets)
}

/// What a service is found by in the tables.
pub fn service_key(id: &ServiceId) -> ServiceKey {
    match id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => ServiceKey {
            address: address_words(*address),
            port: port.to_be(),
            protocol: protocol.number(),
            ipv6: u8::from(address.is_ipv6()),
        },
        ServiceId::Mark { mark, ipv6 } => ServiceKey {
            address: [*mark, 0, 0, 0],
            port: 0,
            protocol: 0,
            ipv6: u8::from(*ipv6),
        },
    }
}

/// True for a service that takes packets to all ports of its address.
fn is_for_every_port(id: &ServiceId) -> bool {
    matches!(id, ServiceId::Address { port: 0, .. })
}

fn full(what: &str, flag: &str) -> ControlError {
    ControlError::NoMemory(format!(
        "no room for more {what}; see `pointsman run {flag}`"
    ))
}

/// Refuses what the kernel refuses of a service, and what can't be done yet.
fn check_service(config: &VirtualService) -> Result<Scheduler, ControlError> {
    let not_yet = |what: &str| Err(ControlError::NotYet(what.to_owned()));
    let scheduler =
        Scheduler::from_name(&config.scheduler).ok_or(ControlError::SchedulerNotFound)?;
    match config.id {
        ServiceId::Mark { .. } => return not_yet("firewall-mark services"),
        ServiceId::Address {
            protocol: crate::model::Protocol::Sctp,
            ..
        } => {
            return not_yet("SCTP services");
        }
        ServiceId::Address { .. } => {}
    }
    if !scheduler.is_supported() {
        return not_yet(&format!("scheduler {}", scheduler.name()));
    }
    if config.persistence.is_some() {
        return not_yet("persistence");
    }
    if config.one_packet {
        return not_yet("one-packet scheduling");
    }
    if config.engine.is_some() {
        return not_yet("persistence engines");
    }
    Ok(scheduler)
}

/// Refuses what the kernel refuses of a real server, and what can't be done yet; direct routing
/// and tunnels get the service's port.
fn check_server(id: &ServiceId, config: &RealServer) -> Result<RealServer, ControlError> {
    let mut config = config.clone();
    if config.weight < 0 || config.lower > config.upper {
        return Err(ControlError::Range);
    }
    let unicast = match config.address {
        IpAddr::V4(address) => {
            // All of 0.0.0.0/8 counts as broadcast to the kernel (`inet_addr_type`).
            !address.is_multicast() && !address.is_broadcast() && address.octets()[0] != 0
        }
        IpAddr::V6(address) => {
            !address.is_multicast() && !address.is_unspecified() && !address.is_unicast_link_local()
        }
    };
    let tunnel = config.method == ForwardingMethod::Tunnel;
    if !unicast || (config.address.is_ipv6() != id.is_ipv6() && !tunnel) {
        return Err(ControlError::Invalid);
    }
    if tunnel && config.tunnel != TunnelType::Ipip {
        return Err(ControlError::NotYet("GUE and GRE tunnels".to_owned()));
    }
    if let ServiceId::Address { port, .. } = id
        && config.method != ForwardingMethod::Masquerade
    {
        config.port = *port;
    }
    Ok(config)
}

/// The kernel's number of a forwarding method.
pub fn method_number(forwarding: ForwardingMethod) -> u8 {
    match forwarding {
        ForwardingMethod::Masquerade => method::MASQUERADE,
        ForwardingMethod::Tunnel => method::TUNNEL,
        ForwardingMethod::Direct => method::DIRECT,
    }
}

/// Scheduler flags as the kernel's bits.
fn flag_bits(config: &VirtualService) -> u32 {
    let mut bits = 0;
    if config.flags.flag1 {
        bits |= service_flag::SCHED1;
    }
    if config.flags.flag2 {
        bits |= service_flag::SCHED2;
    }
    if config.flags.flag3 {
        bits |= service_flag::SCHED3;
    }
    bits
}

const _: () = assert!(SLOTS_PER_LINE.is_power_of_two());
