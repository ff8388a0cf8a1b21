//! The director without a kernel: tables in memory, frames in vectors, time and routes by hand.
//!
//! Tests, fuzzers and `pointsman explain` run [`crate::process()`] on these.

pub mod fragments;
pub mod generate;
pub mod marks;
pub mod services;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use zerocopy::FromZeros;

use pointsman_wire::{Be16, Ethernet, VlanTag, Wire, ethernet};

use crate::{
    control::{Capacity, Mirror, MirrorError, Records},
    reason::{REASONS, Reason},
    record::{
        Address, ConnectionRecord, FlowKey, LinkRecord, LocalityKey, LocalityRecord, MARK_RULES,
        MarkRuleRecord, NextHop, ReplyRecord, SchedulerState, ServerCounts, ServerRecord,
        ServerStats, ServiceKey, ServiceRecord, Settings, Slot, SlotLine, TableLine, server_flag,
    },
    tables::{Env, Frame, InsertError, Tables},
};

/// The tables, in memory.
#[derive(Debug)]
pub struct NativeTables {
    /// Attached devices.
    pub links: HashMap<u32, LinkRecord>,
    /// What holds for every service.
    pub settings: Settings,
    /// Connections; at most [`Self::connection_limit`] of each family.
    pub connections: RefCell<HashMap<FlowKey, Rc<ConnectionRecord>>>,
    /// Reply entries.
    pub replies: RefCell<HashMap<FlowKey, Rc<ReplyRecord>>>,
    /// Caches of `lblc` and `lblcr`; at most [`Self::locality_limit`] entries.
    pub localities: RefCell<BTreeMap<LocalityKey, Rc<LocalityRecord>>>,
    /// Room for entries of caches.
    pub locality_limit: usize,
    /// Room for connections of each family.
    pub connection_limit: usize,
    /// Room for reply entries of each family.
    pub reply_limit: usize,
    /// Virtual services.
    pub services: HashMap<ServiceKey, ServiceRecord>,
    servers: Vec<ServerRecord>,
    counts: Vec<ServerCounts>,
    stats: RefCell<Vec<ServerStats>>,
    slots: Vec<SlotLine>,
    table: Vec<TableLine>,
    schedulers: Vec<SchedulerState>,
    mark_rules: Vec<MarkRuleRecord>,
    verdicts: RefCell<[u64; REASONS]>,
}

impl NativeTables {
    /// Empty tables with room for `capacity`.
    pub fn new(capacity: Capacity) -> Self {
        let many = |count: u32| count as usize;
        Self {
            links: HashMap::new(),
            settings: Settings::DEFAULT,
            connections: RefCell::default(),
            replies: RefCell::default(),
            localities: RefCell::default(),
            locality_limit: 1 << 16,
            connection_limit: 1 << 20,
            reply_limit: 1 << 20,
            services: HashMap::new(),
            servers: vec![ServerRecord::default(); many(capacity.servers)],
            counts: vec![ServerCounts::default(); many(capacity.servers)],
            stats: RefCell::new(vec![ServerStats::default(); many(capacity.servers)]),
            slots: vec![[Slot::UNUSED; 8]; many(capacity.slot_lines)],
            table: vec![[u16::MAX; 32]; many(capacity.table_lines)],
            schedulers: vec![SchedulerState::default(); many(capacity.services)],
            mark_rules: vec![MarkRuleRecord::new_zeroed(); many(2 * MARK_RULES)],
            verdicts: RefCell::new([0; REASONS]),
        }
    }

    /// What the mirror was given, as [`Director::restore`](crate::control::Director::restore) wants
    /// it.
    pub fn records(&self) -> Records {
        let mut services: Vec<_> = self.services.iter().map(|(k, r)| (*k, *r)).collect();
        services.sort_by_key(|(key, _)| *key);
        let present = |record: &ServerRecord| record.flags & server_flag::PRESENT != 0;
        let servers = (0..).zip(&self.servers);
        Records {
            services,
            servers: servers
                .filter(|(_, record)| present(record))
                .map(|(index, record)| (index, *record))
                .collect(),
            slots: self.slots.clone(),
            mark_rules: self.mark_rules.clone(),
            settings: self.settings,
        }
    }

    /// How often a verdict had this reason.
    pub fn verdicts(&self, reason: Reason) -> u64 {
        self.verdicts.borrow()[reason as usize]
    }
}

impl Tables for NativeTables {
    type Connection<'a> = Rc<ConnectionRecord>;
    type Reply<'a> = Rc<ReplyRecord>;
    type Locality<'a> = Rc<LocalityRecord>;

    fn link(&self, ifindex: u32) -> Option<&LinkRecord> {
        self.links.get(&ifindex)
    }

    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }

    fn connection(&self, key: &FlowKey) -> Option<Rc<ConnectionRecord>> {
        self.connections.borrow().get(key).cloned()
    }

    fn add_connection(&self, key: &FlowKey, record: &ConnectionRecord) -> Result<(), InsertError> {
        let mut connections = self.connections.borrow_mut();
        if connections.contains_key(key) {
            return Err(InsertError::Exists);
        }
        if is_full(&connections, self.connection_limit, key) {
            return Err(InsertError::Full);
        }
        connections.insert(*key, Rc::new(record.clone()));
        Ok(())
    }

    fn remove_connection(&self, key: &FlowKey) {
        self.connections.borrow_mut().remove(key);
    }

    fn reply(&self, key: &FlowKey) -> Option<Rc<ReplyRecord>> {
        self.replies.borrow().get(key).cloned()
    }

    fn set_reply(&self, key: &FlowKey, record: &ReplyRecord) -> bool {
        let mut replies = self.replies.borrow_mut();
        let fits = replies.contains_key(key) || !is_full(&replies, self.reply_limit, key);
        if fits {
            replies.insert(*key, Rc::new(*record));
        }
        fits
    }

    fn remove_reply(&self, key: &FlowKey) {
        self.replies.borrow_mut().remove(key);
    }

    fn service(&self, key: &ServiceKey) -> Option<&ServiceRecord> {
        self.services.get(key)
    }

    fn server(&self, server: u32) -> Option<&ServerRecord> {
        self.servers.get(server as usize)
    }

    fn counts(&self, server: u32) -> Option<&ServerCounts> {
        self.counts.get(server as usize)
    }

    fn account(&self, server: u32, change: impl FnOnce(&mut ServerStats)) {
        if let Some(stats) = self.stats.borrow_mut().get_mut(server as usize) {
            change(stats);
        }
    }

    fn slots(&self, line: u32) -> Option<&SlotLine> {
        self.slots.get(line as usize)
    }

    fn table(&self, line: u32) -> Option<&TableLine> {
        self.table.get(line as usize)
    }

    fn scheduler_state(&self, service: u32) -> Option<&SchedulerState> {
        self.schedulers.get(service as usize)
    }

    fn mark_rule(&self, place: u32) -> Option<&MarkRuleRecord> {
        self.mark_rules.get(place as usize)
    }

    fn locality(&self, key: &LocalityKey) -> Option<Rc<LocalityRecord>> {
        self.localities.borrow().get(key).cloned()
    }

    fn set_locality(&self, key: &LocalityKey, record: &LocalityRecord) -> bool {
        let mut localities = self.localities.borrow_mut();
        let fits = localities.contains_key(key) || localities.len() < self.locality_limit;
        if fits {
            localities.insert(*key, Rc::new(record.clone()));
        }
        fits
    }

    fn count(&self, reason: Reason) {
        self.verdicts.borrow_mut()[reason as usize] += 1;
    }
}

/// True when `table` has no room for another flow of `key`'s family.
fn is_full<V>(table: &HashMap<FlowKey, V>, limit: usize, key: &FlowKey) -> bool {
    // Families have tables of their own in the kernel; only here somebody has to count.
    table.len() >= limit && table.keys().filter(|k| k.ipv6 == key.ipv6).count() >= limit
}

/// The place at `index`, or an error that names the table.
fn place<T>(table: &mut [T], index: u32, name: &str) -> Result<usize, MirrorError> {
    if (index as usize) < table.len() {
        Ok(index as usize)
    } else {
        Err(MirrorError(format!("{name} has no index {index}")))
    }
}

impl Mirror for NativeTables {
    fn set_server(&mut self, index: u32, record: &ServerRecord) -> Result<(), MirrorError> {
        let at = place(&mut self.servers, index, "servers")?;
        self.servers[at] = *record;
        Ok(())
    }

    fn reset_server(&mut self, index: u32) -> Result<(), MirrorError> {
        let at = place(&mut self.counts, index, "counts")?;
        self.counts[at] = ServerCounts::default();
        self.stats.borrow_mut()[at] = ServerStats::default();
        Ok(())
    }

    fn clear_overload(&mut self, index: u32) -> Result<(), MirrorError> {
        let at = place(&mut self.counts, index, "counts")?;
        self.counts[at].flags.store(0);
        Ok(())
    }

    fn references(&mut self, index: u32) -> Result<u64, MirrorError> {
        let at = place(&mut self.counts, index, "counts")?;
        let counts = &self.counts[at];
        Ok(u64::from(counts.active.load())
            + u64::from(counts.inactive.load())
            + u64::from(counts.persistent.load()))
    }

    fn stats(&mut self, index: u32) -> Result<ServerStats, MirrorError> {
        let at = place(&mut self.counts, index, "stats")?;
        Ok(self.stats.borrow()[at])
    }

    fn set_slots(&mut self, first: u32, lines: &[SlotLine]) -> Result<(), MirrorError> {
        for (index, line) in (first..).zip(lines) {
            let at = place(&mut self.slots, index, "slots")?;
            self.slots[at] = *line;
        }
        Ok(())
    }

    fn set_table(&mut self, first: u32, lines: &[TableLine]) -> Result<(), MirrorError> {
        for (index, line) in (first..).zip(lines) {
            let at = place(&mut self.table, index, "tables")?;
            self.table[at] = *line;
        }
        Ok(())
    }

    fn scheduler_state(&mut self, service: u32) -> Result<u64, MirrorError> {
        let at = place(&mut self.schedulers, service, "schedulers")?;
        Ok(self.schedulers[at].0.load())
    }

    fn localities(&mut self) -> Result<Vec<(LocalityKey, LocalityRecord)>, MirrorError> {
        let localities = self.localities.borrow();
        let entries = localities.iter();
        Ok(entries
            .map(|(key, record)| (*key, LocalityRecord::clone(record)))
            .collect())
    }

    fn remove_locality(&mut self, key: &LocalityKey) -> Result<(), MirrorError> {
        self.localities.borrow_mut().remove(key);
        Ok(())
    }

    fn set_service(&mut self, key: &ServiceKey, record: &ServiceRecord) -> Result<(), MirrorError> {
        self.services.insert(*key, *record);
        Ok(())
    }

    fn remove_service(&mut self, key: &ServiceKey) -> Result<(), MirrorError> {
        self.services.remove(key);
        Ok(())
    }

    fn set_mark_rules(
        &mut self,
        first: u32,
        records: &[MarkRuleRecord],
    ) -> Result<(), MirrorError> {
        for (index, record) in (first..).zip(records) {
            let at = place(&mut self.mark_rules, index, "mark rules")?;
            self.mark_rules[at] = *record;
        }
        Ok(())
    }

    fn set_settings(&mut self, settings: &Settings) -> Result<(), MirrorError> {
        self.settings = *settings;
        Ok(())
    }
}

/// Time, chance and routes, set by hand.
#[derive(Debug, Default)]
pub struct NativeEnv {
    /// Nanoseconds of the clock.
    pub now: Cell<u64>,
    /// The next random word, and every one after it.
    pub random: Cell<u32>,
    /// Next hops by destination address; the device a packet came in by does not matter.
    pub routes: HashMap<Address, NextHop>,
}

impl Env for NativeEnv {
    fn now(&self) -> u64 {
        self.now.get()
    }

    fn random(&self) -> u32 {
        self.random.get()
    }

    fn route(
        &self,
        _ipv6: bool,
        _source: &Address,
        destination: &Address,
        _ifindex: u32,
        hop: &mut NextHop,
    ) -> bool {
        match self.routes.get(destination) {
            Some(route) => {
                *hop = *route;
                true
            }
            None => false,
        }
    }

    fn repeat(&self, times: u32, mut body: impl FnMut(u32) -> bool) {
        for index in 0..times {
            if !body(index) {
                break;
            }
        }
    }

    fn opaque(&self, value: u32) -> u32 {
        value
    }
}

/// A frame with complete checksums, as XDP sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeFrame {
    /// The frame from its Ethernet header on.
    pub bytes: Vec<u8>,
    /// Device it came in by.
    pub ifindex: u32,
    /// Room in front of the frame, bytes.
    pub headroom: u32,
}

/// Headers are looked for below this offset, as in the programs.
const MAX_OFFSET: u32 = 1023;

impl NativeFrame {
    /// A frame that came in by `ifindex`, with as much headroom as XDP promises.
    pub fn new(bytes: Vec<u8>, ifindex: u32) -> Self {
        Self {
            bytes,
            ifindex,
            headroom: 256,
        }
    }

    /// Opens (`by` > 0) or closes room in front of the frame.
    fn grow_head(&mut self, by: i32) -> bool {
        if by >= 0 {
            let by = by as u32;
            if by > self.headroom {
                return false;
            }
            self.headroom -= by;
            self.bytes.splice(0..0, std::iter::repeat_n(0, by as usize));
        } else {
            let by = by.unsigned_abs();
            if self.bytes.len() < by as usize + size_of::<Ethernet>() {
                return false;
            }
            self.headroom += by;
            self.bytes.drain(..by as usize);
        }
        true
    }
}

impl Frame for NativeFrame {
    const TAGS_IN_FRAME: bool = true;
    const RESOLVES: bool = false;

    fn holds(&self, bytes: u32) -> bool {
        self.bytes.len() >= bytes as usize
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn segment_size(&self) -> u32 {
        0
    }

    fn tags_outside(&self) -> u8 {
        0
    }

    fn view<T: Wire>(&self, offset: u32) -> Option<&T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let bytes = self.bytes.get(offset as usize..)?;
        T::ref_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    fn view_mut<T: Wire>(&mut self, offset: u32) -> Option<&mut T> {
        if offset > MAX_OFFSET {
            return None;
        }
        let bytes = self.bytes.get_mut(offset as usize..)?;
        T::mut_from_prefix(bytes).ok().map(|(header, _)| header)
    }

    fn set_vlan(&mut self, tags: u8, vlan: u16) -> bool {
        let Some(&old) = self.view::<Ethernet>(0) else {
            return false;
        };
        let had = i32::from(tags) * 4;
        let Some(&ethertype) = self.view::<Be16>(12 + had as u32) else {
            return false;
        };
        let has = if vlan != 0 { 4 } else { 0 };
        if !self.grow_head(has - had) {
            return false;
        }
        let Some(new) = self.view_mut::<Ethernet>(0) else {
            return false;
        };
        *new = Ethernet { ethertype, ..old };
        if vlan == 0 {
            return true;
        }
        new.ethertype.set(ethernet::VLAN);
        let Some(tag) = self.view_mut::<VlanTag>(14) else {
            return false;
        };
        *tag = VlanTag {
            control: Be16::new(vlan & 0x0fff),
            ethertype,
        };
        true
    }

    fn encapsulate(&mut self, bytes: u32, _outer_ipv6: bool, _inner_ipv6: bool) -> bool {
        let Some(&header) = self.view::<Ethernet>(0) else {
            return false;
        };
        let link = if header.ethertype.get() == ethernet::VLAN {
            18
        } else {
            14
        };
        let head: Vec<u8> = self.bytes[..link].to_vec();
        if !self.grow_head(bytes as i32) {
            return false;
        }
        self.bytes[..link].copy_from_slice(&head);
        true
    }
}
