//! What a service's configuration becomes: slots, lookup table, the scheduler's starting point.

use super::{Server, Service, address_words, flag_bits, method_number};
use crate::{
    model::{RealServer, VirtualService},
    record::{
        ENTRIES_PER_LINE, SLOTS_PER_LINE, ServerRecord, ServiceRecord, Slot, SlotLine, TableLine,
        server_flag, service_flag,
    },
    schedule::{Scheduler, State, destination_table, maglev_table, source_table},
};

/// Why a service is planned anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Another scheduler.
    Scheduler,
    /// A server was added, at the head.
    Added,
    /// A server was edited.
    Edited,
    /// The server at this position was removed.
    Removed(usize),
}

/// The record of a service without servers.
pub(super) fn service_record(config: &VirtualService, scheduler: Scheduler) -> ServiceRecord {
    let mut record = ServiceRecord {
        flags: flag_bits(config),
        scheduler: scheduler as u8,
        table: 0,
        step: 1,
        ..ServiceRecord::default()
    };
    if config.one_packet {
        record.flags |= service_flag::ONE_PACKET;
    }
    if let Some(persistence) = config.persistence {
        record.flags |= service_flag::PERSISTENT;
        record.persistence = persistence.timeout;
        record.prefix = u32::from(persistence.prefix);
        record.netmask = persistence.netmask.to_be();
    }
    record
}

/// The record of a server whose next hop is not known yet.
pub(super) fn server_record(config: &RealServer, service: &Service, sequence: u32) -> ServerRecord {
    let mut flags = server_flag::PRESENT | server_flag::AVAILABLE;
    if config.address.is_ipv6() {
        flags |= server_flag::IPV6;
    }
    ServerRecord {
        service: service.record.id,
        port: config.port.to_be(),
        method: method_number(config.method),
        flags,
        address: address_words(config.address),
        weight: config.weight,
        upper: config.upper,
        lower: config.lower,
        last_weight: config.weight,
        key: service.key,
        sequence,
        ..ServerRecord::default()
    }
}

/// Slots of `servers`, newest first, filled up with unused ones.
pub(super) fn slots(servers: &[Server]) -> Vec<SlotLine> {
    servers
        .chunks(SLOTS_PER_LINE)
        .map(|servers| {
            let mut line = [Slot::UNUSED; SLOTS_PER_LINE];
            for (slot, server) in line.iter_mut().zip(servers) {
                *slot = Slot {
                    server: server.index,
                    weight: server.record.weight,
                };
            }
            line
        })
        .collect()
}

/// The lookup table of a service, empty when its scheduler has none.
pub(super) fn table(service: &Service) -> Vec<TableLine> {
    let entries = match scheduler_of(&service.record) {
        // Edits don't change it: the order of servers stays, and weights don't matter.
        Some(Scheduler::DestinationHash) => destination_table(service.servers.len()),
        Some(Scheduler::SourceHash) => {
            let weights: Vec<i32> = service.servers.iter().map(|s| s.record.weight).collect();
            source_table(&weights)
        }
        Some(Scheduler::MaglevHash) => {
            let servers: Vec<_> = service
                .servers
                .iter()
                .map(|s| (s.record.address, s.record.port, s.record.last_weight))
                .collect();
            maglev_table(&servers)
        }
        _ => return Vec::new(),
    };
    let mut entries = entries.into_iter();
    let size = scheduler_of(&service.record).map_or(0, Scheduler::table_size);
    (0..size.div_ceil(ENTRIES_PER_LINE))
        .map(|_| {
            // Beyond the entries: a position that no service has.
            let mut line = [u16::MAX; ENTRIES_PER_LINE];
            for entry in &mut line {
                *entry = entries.next().unwrap_or(u16::MAX);
            }
            line
        })
        .collect()
}

pub(super) fn scheduler_of(record: &ServiceRecord) -> Option<Scheduler> {
    Scheduler::ALL
        .iter()
        .copied()
        .find(|s| *s as u8 == record.scheduler)
}

/// Numbers the plan and says where its scheduler starts, given its state before.
pub(super) fn restart(service: &mut Service, word: u64, cause: Cause) {
    let record = &mut service.record;
    let state = State::of(word, record);
    record.plan = record.plan.wrapping_add(1);
    let start = match scheduler_of(record) {
        Some(Scheduler::WeightedRoundRobin) => {
            let level = if cause == Cause::Scheduler {
                0
            } else {
                state.level
            };
            weigh(record, &service.servers, level)
        }
        Some(Scheduler::RoundRobin) => {
            // The cursor is the position behind the server chosen last; it stays with that server.
            let cursor = match cause {
                Cause::Scheduler => 0,
                Cause::Edited => state.cursor,
                Cause::Added if state.cursor == 0 => 0,
                Cause::Added => state.cursor + 1,
                Cause::Removed(at) if state.cursor > at as u32 => state.cursor - 1,
                Cause::Removed(_) => state.cursor,
            };
            State { cursor, level: 0 }
        }
        _ => State {
            cursor: 0,
            level: 0,
        },
    };
    record.start = start.pack(record.plan);
}

/// `ip_vs_wrr_dest_changed`: cursor to the head, highest level and step anew, level adjusted.
fn weigh(record: &mut ServiceRecord, servers: &[Server], level: i32) -> State {
    let mut step = 0;
    let mut heaviest = 0;
    for weight in servers.iter().map(|s| s.record.weight).filter(|w| *w > 0) {
        step = greatest_common_divisor(weight, step);
        heaviest = heaviest.max(weight);
    }
    record.step = step.max(1);
    record.top = if heaviest == 0 {
        0
    } else {
        heaviest - (record.step - 1)
    };
    let level = if level > record.top || level == 0 {
        record.top
    } else if record.step > 1 {
        level / record.step * record.step + 1
    } else {
        level
    };
    State { cursor: 0, level }
}

fn greatest_common_divisor(a: i32, b: i32) -> i32 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}
