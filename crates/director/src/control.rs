//! From the operator's changes to records: validation with IPVS's meanings, and the order in which
//! records are written.
//!
//! [`Director`] keeps services and real servers as the kernel would, refuses what the kernel
//! refuses, and writes through a [`Mirror`]: first what new records point to, then the record that
//! makes them visible, then what is no longer used. A service's record is replaced as a whole, so a
//! packet meets the old configuration or the new one.

mod check;
mod count;
mod entry;
mod ledger;
mod lines;
mod locality;
mod many;
mod marks;
mod mirror;
mod plan;
mod rates;
mod restore;
mod servers;
mod services;
mod told;
mod trash;
mod words;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use check::{KINDS, full, kind_of};
pub use count::{subtract, sum};
pub use entry::{ServerEntry, ServiceEntry};
pub use ledger::{Ledger, ServerAccount, ServiceAccount};
use lines::Lines;
pub use locality::LOCALITY_INTERVAL;
use locality::{Localities, cache_of};
use marks::Marks;
pub use mirror::{Mirror, MirrorError};
pub use restore::Records;
pub use told::{Untaken, tell};
use trash::{Removed, Trash};
use words::flag_bits;
pub use words::{address_words, method_number, service_key, words_address};

use crate::{
    estimate::Estimate,
    model::{Change, ControlError, ForwardingMethod, RealServer, ServiceId, VirtualService},
    record::{SLOTS_PER_LINE, ServerRecord, ServerStats, ServiceKey, ServiceRecord, Settings},
};

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
    /// Rates of the counters since then.
    estimate: Estimate,
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
    /// What removed servers had counted whatever was zeroed, from when this director began.
    ever: ServerStats,
    /// Rates of all its counters together.
    estimate: Estimate,
}

/// The director's configuration, and its records.
#[derive(Debug)]
pub struct Director {
    services: BTreeMap<ServiceId, Service>,
    removed: Trash,
    service_indices: Lines,
    server_indices: Lines,
    slot_lines: Lines,
    table_lines: Lines,
    localities: Localities,
    /// Which service each server index belongs to, removed servers included.
    owners: HashMap<u32, ServiceId>,
    settings: Settings,
    marks: Marks,
    sequence: u32,
    /// Real servers have to be of their service's family.
    no_mixed: bool,
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
            removed: Trash::default(),
            service_indices: Lines::new(capacity.services),
            server_indices: Lines::new(capacity.servers),
            slot_lines: Lines::new(capacity.slot_lines),
            table_lines: Lines::new(capacity.table_lines),
            localities: Localities::default(),
            owners: HashMap::new(),
            settings,
            marks: Marks::default(),
            sequence: 0,
            no_mixed: false,
        }
    }

    /// Has real servers of another family than their service refused from now on, or no longer: messages
    /// to other directors can't tell their connections. False when there are some.
    pub fn forbid_mixed(&mut self, forbidden: bool) -> bool {
        let mut all = self.services.values();
        let possible = !forbidden || all.all(|service| !service.is_mixed());
        self.no_mixed = forbidden && possible || self.no_mixed && !possible;
        possible
    }

    /// What holds for every service.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes what holds for every service; which kinds of services there are is known better here.
    ///
    /// # Errors
    ///
    /// When the settings can't be written; then they stay as they were.
    pub fn set_settings<M: Mirror>(
        &mut self,
        mut settings: Settings,
        mirror: &mut M,
    ) -> Result<(), MirrorError> {
        settings.flags = (settings.flags & !KINDS) | self.kinds();
        settings.mark_rules = self.settings.mark_rules;
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
        let removed = self.removed.get(index).map(|removed| &removed.server);
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
        let lowers = matches!(change, Change::DeleteService { .. } | Change::Clear)
            || (result.is_err() && matches!(change, Change::AddService { .. }));
        if lowers {
            // A flag that stays up only costs a look-up: no reason to call the change failed.
            let _ = self.set_kinds(self.kinds(), mirror);
        }
        result
    }

    /// The flags for which there are services.
    fn kinds(&self) -> u32 {
        self.services.keys().map(kind_of).fold(0, |a, b| a | b)
    }

    /// What no service is of is not looked for: the flags are raised before the first of a kind and
    /// lowered behind the last.
    fn set_kinds<M: Mirror>(&mut self, kinds: u32, mirror: &mut M) -> Result<(), MirrorError> {
        let mut settings = self.settings;
        settings.flags = (settings.flags & !KINDS) | kinds;
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
            Change::SetMarkRules { rules } => self.set_mark_rules(rules.clone(), mirror),
            Change::AddMarkRule { rule, number } => self.add_mark_rule(rule, *number, mirror),
            Change::DeleteMarkRule { number } => self.delete_mark_rule(*number, mirror),
        }
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

    /// Writes the slots and the table of `edited`, then its record, and gives the old ones back.
    fn replan<M: Mirror>(
        &mut self,
        mut edited: Service,
        cause: plan::Cause,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let old = edited.record;
        let state = mirror.scheduler_state(old.id)?;
        plan::restart(&mut edited, state, cause);
        self.write_plan(edited, &old, mirror)
    }

    /// Writes a service that was planned anew; `old` is its record until now.
    fn write_plan<M: Mirror>(
        &mut self,
        mut edited: Service,
        old: &ServiceRecord,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
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
        let before = self.services.get(&edited.config.id);
        let before = before.map(|service| service.record.scheduler);
        edited.record.table = match cache_of(&edited.record) {
            Some(_) if before != Some(edited.record.scheduler) => self.localities.next(),
            Some(cache) => cache,
            None => table_first,
        };
        edited.record.table_lines = table_lines;
        edited.record.count = edited.servers.len() as u32;
        let written = mirror
            .set_slots(first, &slots)
            .and_then(|()| mirror.set_table(table_first, &table))
            .and_then(|()| mirror.set_service(&edited.key, &edited.record));
        if let Err(error) = written {
            self.slot_lines.give(first, slot_lines);
            self.table_lines.give(table_first, table_lines);
            return Err(error.into());
        }
        self.release_plan(old);
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

impl Service {
    fn is_mixed(&self) -> bool {
        let ipv6 = self.config.id.is_ipv6();
        let mut servers = self.servers.iter();
        servers.any(|server| server.config.address.is_ipv6() != ipv6)
    }

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

const _: () = assert!(SLOTS_PER_LINE.is_power_of_two());
