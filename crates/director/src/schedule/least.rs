//! `lc`, `wlc`, `sed`, `nq`, `fo` and `ovf` (`ip_vs_lc.c` and so on): the server that costs least.
//!
//! One walk, several measures of what a server costs; each is compiled into a walk of its own.

use super::{fold, is_overloaded};
use crate::{
    record::{NONE, ServerCounts, ServiceRecord},
    tables::{Env, Tables},
};

/// What a server's connections weigh: 256 for an active one, 1 for an inactive one
/// (`ip_vs_dest_conn_overhead`, kernel 6.1).
#[inline(always)]
pub(super) fn overhead(counts: &ServerCounts) -> u64 {
    ((counts.active.load() as u64) << 8) + counts.inactive.load() as u64
}

/// True when a server of this `cost` and `weight` is to replace the best one so far: its cost by
/// weight is really smaller, compared without dividing.
#[inline(always)]
pub(super) fn is_better(cost: u64, weight: u32, best_cost: u64, best_weight: u32) -> bool {
    best_cost.wrapping_mul(weight as u64) > cost.wrapping_mul(best_weight as u64)
}

/// What a scheduler asks of a server that may take connections.
pub(super) trait Measure {
    /// False when costs are compared without dividing by weights.
    const WEIGHTED: bool;
    /// True when a server without active connections is taken at once.
    const IDLE_WINS: bool = false;

    /// What another connection to the server costs.
    fn cost(counts: &ServerCounts) -> u64;

    /// False when the server is not even considered.
    #[inline(always)]
    fn admits(_counts: &ServerCounts, _weight: u32) -> bool {
        true
    }
}

/// `lc`.
pub(super) struct Connections;
/// `wlc`.
pub(super) struct WeightedConnections;
/// `sed`.
pub(super) struct Delay;
/// `nq`.
pub(super) struct DelayOrIdle;
/// `fo`.
pub(super) struct Weight;
/// `ovf`.
pub(super) struct WeightWithRoom;

impl Measure for Connections {
    const WEIGHTED: bool = false;

    #[inline(always)]
    fn cost(counts: &ServerCounts) -> u64 {
        overhead(counts)
    }
}

impl Measure for WeightedConnections {
    const WEIGHTED: bool = true;

    #[inline(always)]
    fn cost(counts: &ServerCounts) -> u64 {
        overhead(counts)
    }
}

impl Measure for Delay {
    const WEIGHTED: bool = true;

    #[inline(always)]
    fn cost(counts: &ServerCounts) -> u64 {
        counts.active.load() as u64 + 1
    }
}

impl Measure for DelayOrIdle {
    const WEIGHTED: bool = true;
    const IDLE_WINS: bool = true;

    #[inline(always)]
    fn cost(counts: &ServerCounts) -> u64 {
        Delay::cost(counts)
    }
}

impl Measure for Weight {
    const WEIGHTED: bool = true;

    /// The same for all: the heaviest is the best.
    #[inline(always)]
    fn cost(_counts: &ServerCounts) -> u64 {
        1
    }
}

impl Measure for WeightWithRoom {
    const WEIGHTED: bool = true;

    #[inline(always)]
    fn cost(_counts: &ServerCounts) -> u64 {
        1
    }

    #[inline(always)]
    fn admits(counts: &ServerCounts, weight: u32) -> bool {
        counts.active.load() <= weight
    }
}

/// The best server so far.
#[derive(Clone, Copy)]
struct Best {
    cost: u64,
    server: u32,
    weight: u32,
}

/// The server with the least cost; of equals the newest.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn pick<M: Measure, T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
) -> u32 {
    // A weight of 0, so that everybody is better.
    let none = Best {
        cost: env.opaque(1) as u64,
        server: env.opaque(NONE),
        weight: env.opaque(0),
    };
    let best = fold(tables, env, service, none, |best, slot, counts| {
        if !M::admits(counts, slot.weight as u32) {
            return true;
        }
        let idle = M::IDLE_WINS && counts.active.load() == 0;
        let cost = M::cost(counts);
        let weight = if M::WEIGHTED { slot.weight as u32 } else { 1 };
        // Whether it may take connections is asked last: few get so far.
        if (idle || is_better(cost, weight, best.cost, best.weight)) && !is_overloaded(counts) {
            *best = Best {
                cost,
                server: slot.server,
                weight,
            };
            return !idle;
        }
        true
    });
    best.server
}
