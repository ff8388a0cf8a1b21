//! `twos` (`ip_vs_twos.c`, kernel 6.12): of two servers that chance names, the one with less to do.

use super::{fold, is_overloaded, least};
use crate::{
    record::{NONE, ServerCounts, ServiceRecord, Slot},
    tables::{Env, Tables},
};

/// What is left of a draw, and the server at which the weights reached it.
#[derive(Clone, Copy, Default)]
#[cfg_attr(feature = "std", derive(Debug))]
#[repr(C)]
pub struct Draw {
    left: u64,
    server: u32,
    weight: u32,
    overhead: u64,
}

impl Draw {
    /// Draws from 0 to the total, both included; at 0 the newest server is chosen, as at its weight.
    #[inline(always)]
    fn start(&mut self, word: u32, total: u64) {
        self.left = (word as u64).wrapping_mul(total + 1) >> 32;
        self.server = NONE;
    }

    /// Lets a server pass, or chooses it; true while none is chosen.
    #[inline(always)]
    fn pass(&mut self, slot: &Slot, counts: &ServerCounts) -> bool {
        if self.server != NONE {
            return false;
        }
        if self.left > slot.weight as u64 {
            self.left -= slot.weight as u64;
            return true;
        }
        self.server = slot.server;
        self.weight = slot.weight as u32;
        self.overhead = least::overhead(counts);
        false
    }
}

#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn pick<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    first: &mut Draw,
    second: &mut Draw,
) -> u32 {
    let none = env.opaque(0) as u64;
    let total = fold(tables, env, service, none, |total, slot, counts| {
        if !is_overloaded(counts) {
            *total += slot.weight as u64;
        }
        true
    });
    if total == 0 {
        return NONE;
    }
    first.start(env.random(), total);
    // Another word even where chance repeats itself.
    second.start(env.random().wrapping_mul(0x9e37_79b1), total);
    fold(tables, env, service, (), |(), slot, counts| {
        if is_overloaded(counts) {
            return true;
        }
        let open = first.pass(slot, counts);
        second.pass(slot, counts) || open
    });
    // Only a race leaves a draw open: servers that were counted are no longer usable.
    if second.server == NONE {
        return first.server;
    }
    let better = least::is_better(second.overhead, second.weight, first.overhead, first.weight);
    if first.server == NONE || better {
        second.server
    } else {
        first.server
    }
}
