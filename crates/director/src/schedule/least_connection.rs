//! `lc` and `wlc` (`ip_vs_lc.c`, `ip_vs_wlc.c`): the server with the least overhead.

use crate::{
    record::{NONE, SLOTS_PER_LINE, ServerCounts, ServiceRecord, counts_flag},
    tables::{Env, Tables},
};

/// What a server's connections weigh: 256 for an active one, 1 for an inactive one
/// (`ip_vs_dest_conn_overhead`, kernel 6.1).
#[inline(always)]
fn overhead(counts: &ServerCounts) -> u64 {
    ((counts.active.load() as u64) << 8) + counts.inactive.load() as u64
}

/// `weighted` divides overhead by weight; else weight only says whether a server may be chosen.
#[inline(always)]
pub(super) fn pick<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    weighted: bool,
) -> u32 {
    let mut best = env.opaque(NONE);
    let mut best_overhead = env.opaque(0) as u64;
    let mut best_weight = env.opaque(1);
    // A line of slots at a time: the lookup and the call are paid once for eight servers.
    env.repeat(service.count.div_ceil(SLOTS_PER_LINE as u32), |line| {
        let Some(slots) = tables.slots(service.slots.wrapping_add(line)) else {
            return false;
        };
        for slot in slots {
            if slot.weight <= 0 {
                continue;
            }
            let Some(counts) = tables.counts(slot.server) else {
                continue;
            };
            if counts.flags.load() & counts_flag::OVERLOAD != 0 {
                continue;
            }
            let overhead = overhead(counts);
            let weight = if weighted { slot.weight as u32 } else { 1 };
            // best / best_weight > overhead / weight, without dividing.
            let better = best == NONE
                || best_overhead.wrapping_mul(weight as u64)
                    > overhead.wrapping_mul(best_weight as u64);
            if better {
                best = slot.server;
                best_overhead = overhead;
                best_weight = weight;
            }
        }
        true
    });
    best
}
