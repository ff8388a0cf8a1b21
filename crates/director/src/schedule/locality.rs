//! `lblc` and `lblcr` (`ip_vs_lblc.c`, `ip_vs_lblcr.c`): the server, or the servers, that a destination
//! address was sent to before; else the one that `wlc` chooses.
//!
//! A service has a cache of its own ([`ServiceRecord::table`] is its number). An entry is replaced as
//! a whole; of two processors that change one at once, one is forgotten.

use super::{
    Scheduler, fold,
    least::{self, WeightedConnections},
};
use crate::{
    connection::SECOND,
    headers::Headers,
    record::{
        LOCALITY_SERVERS, LocalityEntry, LocalityKey, LocalityRecord, NONE, ServerRecord,
        ServiceRecord, counts_flag, server_flag,
    },
    tables::{Env, Tables},
};

/// With `lblcr` an entry holds a set of servers, with `lblc` one.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn pick<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    h: &Headers,
    entry: &mut LocalityEntry,
) -> u32 {
    let replicated = is_replicated(service);
    let now = env.now();
    entry.key = LocalityKey {
        address: h.flow.destination,
        cache: service.table,
    };
    let mut found = false;
    if let Some(record) = tables.locality(&entry.key) {
        found = true;
        record.used.store(now);
        let server = least_loaded(tables, env, service, &record);
        if record.count > 1 && now > record.modified + expiration(tables) {
            copy(env, &mut entry.record, &record);
            if drop_most_loaded(tables, env, &mut entry.record) {
                entry.record.modified = now;
                tables.set_locality(&entry.key, &entry.record);
            }
        }
        if server != NONE && !is_overloaded(tables, env, service, server) {
            return server;
        }
    }
    let server = least::pick::<WeightedConnections, T, E>(tables, env, service);
    if server == NONE {
        return NONE;
    }
    entry.record.count = 0;
    if found && let Some(record) = tables.locality(&entry.key) {
        if replicated {
            copy(env, &mut entry.record, &record);
        } else if record.servers[0] == server {
            return server;
        }
    }
    if insert(env, &mut entry.record, server) {
        entry.record.used.store(now);
        entry.record.modified = now;
        // No room: the choice is as good, only not remembered.
        tables.set_locality(&entry.key, &entry.record);
    }
    server
}

/// Makes `to` the same as `from`. A loop, for so many words at once would be copied by way of the stack.
#[cfg_attr(target_arch = "bpf", inline(never))]
#[cfg_attr(not(target_arch = "bpf"), inline(always))]
fn copy<E: Env>(env: &E, to: &mut LocalityRecord, from: &LocalityRecord) {
    to.used.store(from.used.load());
    to.modified = from.modified;
    to.count = from.count;
    env.repeat(from.count, |i| {
        let at = i as usize % LOCALITY_SERVERS;
        to.servers[at] = from.servers[at];
        true
    });
}

/// How long a set stays as it is before its most loaded member leaves it, nanoseconds.
#[inline(always)]
fn expiration<T: Tables>(tables: &T) -> u64 {
    match tables.settings() {
        Some(settings) => settings.lblcr_expiration as u64 * SECOND,
        None => u64::MAX >> 1,
    }
}

#[inline(always)]
fn is_replicated(service: &ServiceRecord) -> bool {
    service.scheduler == Scheduler::LocalityBasedReplicated as u8
}

/// The member with the least overhead by weight that may take connections; of equals the one that
/// joined last (`ip_vs_dest_set_min`). To `lblc`, whose entries have one member, the threshold flag does
/// not matter.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn least_loaded<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    record: &LocalityRecord,
) -> u32 {
    let replicated = is_replicated(service);
    let mut best = Candidate::none(env);
    env.repeat(record.count, |i| {
        let Some((index, server)) = member(tables, record, i) else {
            return true;
        };
        let Some(counts) = tables.counts(index) else {
            return true;
        };
        let overload = counts.flags.load() & counts_flag::OVERLOAD != 0;
        if server.flags & server_flag::AVAILABLE == 0
            || server.service != service.id
            || server.weight <= 0
            || (overload && replicated)
        {
            return true;
        }
        let cost = least::overhead(counts);
        let weight = server.weight as u32;
        if best.server == NONE || least::is_better(cost, weight, best.cost, best.weight) {
            best = Candidate {
                server: index,
                weight,
                cost,
            };
        }
        true
    });
    best.server
}

/// The best so far; one variable, because each that a closure changes takes stack of its own.
struct Candidate {
    server: u32,
    weight: u32,
    cost: u64,
}

impl Candidate {
    #[inline(always)]
    fn none<E: Env>(env: &E) -> Self {
        Self {
            server: env.opaque(NONE),
            weight: env.opaque(1),
            cost: env.opaque(0) as u64,
        }
    }
}

/// The member that joined as the `i`th before the last.
#[inline(always)]
fn member<'a, T: Tables>(
    tables: &'a T,
    record: &LocalityRecord,
    i: u32,
) -> Option<(u32, &'a ServerRecord)> {
    let at = record.count.wrapping_sub(1).wrapping_sub(i);
    let index = record.servers[at as usize % LOCALITY_SERVERS];
    Some((index, tables.server(index)?))
}

/// Takes the member with the most overhead by weight out of the set (`ip_vs_dest_set_max`), usable or
/// not; false when all have weight 0.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn drop_most_loaded<T: Tables, E: Env>(tables: &T, env: &E, record: &mut LocalityRecord) -> bool {
    let mut most = Candidate::none(env);
    let set = &*record;
    env.repeat(set.count, |i| {
        let Some((index, server)) = member(tables, set, i) else {
            return true;
        };
        let Some(counts) = tables.counts(index) else {
            return true;
        };
        if server.weight <= 0 {
            return true;
        }
        let cost = least::overhead(counts);
        let weight = server.weight as u32;
        if most.server == NONE || least::is_better(most.cost, most.weight, cost, weight) {
            most = Candidate {
                server: index,
                weight,
                cost,
            };
        }
        true
    });
    let most = most.server;
    if most == NONE {
        return false;
    }
    // Those behind it move up.
    let mut gone = env.opaque(0);
    env.repeat(record.count, |i| {
        let at = i as usize % LOCALITY_SERVERS;
        let server = record.servers[at];
        if server == most {
            gone = 1;
        } else if gone != 0 {
            record.servers[at.wrapping_sub(1) % LOCALITY_SERVERS] = server;
        }
        true
    });
    record.count -= 1;
    true
}

/// Adds a server to the set; false when it is there already, or the set is full.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn insert<E: Env>(env: &E, record: &mut LocalityRecord, server: u32) -> bool {
    let mut absent = env.opaque(1);
    let set = &*record;
    env.repeat(set.count, |i| {
        if set.servers[i as usize % LOCALITY_SERVERS] == server {
            absent = 0;
        }
        absent != 0
    });
    let count = record.count;
    if absent == 0 || count >= LOCALITY_SERVERS as u32 {
        return false;
    }
    record.servers[count as usize % LOCALITY_SERVERS] = server;
    record.count = count + 1;
    true
}

/// True when a server has more active connections than its weight while another of the service has
/// not even half of its own (`is_overloaded`).
#[cfg_attr(target_arch = "bpf", inline(never))]
fn is_overloaded<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    index: u32,
) -> bool {
    let (Some(server), Some(counts)) = (tables.server(index), tables.counts(index)) else {
        return true;
    };
    if counts.active.load() as i64 <= server.weight as i64 {
        return false;
    }
    let no = env.opaque(0);
    fold(tables, env, service, no, |idle, slot, counts| {
        if (counts.active.load() as u64) * 2 < slot.weight as u64 {
            *idle = 1;
        }
        *idle == 0
    }) != 0
}
