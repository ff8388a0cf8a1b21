//! `wrr` (`ip_vs_wrr.c`): rounds at falling weight levels.

use super::{is_usable, slot};
use crate::{
    record::{NONE, ServiceRecord},
    tables::{Env, Tables},
};

/// A scheduler's memory, unpacked from [`crate::record::SchedulerState`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(Debug))]
pub struct State {
    /// Position behind the server chosen last; 0 at the head of the list.
    pub cursor: u32,
    /// wrr: current level, `cw`.
    pub level: i32,
}

impl State {
    /// The state in `word`, or the plan's first when `word` is of an earlier plan.
    #[inline(always)]
    pub fn of(word: u64, service: &ServiceRecord) -> Self {
        let word = if (word >> 48) as u16 == service.plan {
            word
        } else {
            service.start
        };
        Self {
            cursor: (word >> 32) as u32 & 0xffff,
            level: word as i32,
        }
    }

    /// The word for plan number `plan`.
    #[inline(always)]
    pub fn pack(self, plan: u16) -> u64 {
        ((plan as u64) << 48) | (((self.cursor & 0xffff) as u64) << 32) | self.level as u32 as u64
    }
}

#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn pick<T: Tables, E: Env>(tables: &T, env: &E, service: &ServiceRecord) -> u32 {
    if service.top <= 0 {
        return NONE;
    }
    let Some(shared) = tables.scheduler_state(service.id) else {
        return NONE;
    };
    let mut server = NONE;
    let mut tries = 0;
    while tries < 3 {
        let seen = shared.0.load();
        let state = State::of(seen, service);
        let next;
        (server, next) = step(tables, env, service, state);
        if shared.0.replace(seen, next.pack(service.plan)) {
            break;
        }
        tries += 1;
    }
    server
}

/// One pick from `state`: the server and the state after it.
///
/// The kernel walks the list once per level until a server is heavy enough, which takes as many
/// walks as the weights are apart. Levels are 1 modulo the step, so the level at which that search
/// ends can be computed from the heaviest usable server.
#[inline(always)]
fn step<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    state: State,
) -> (u32, State) {
    let mut level = state.level;
    let mut found = first_heavy(tables, env, service, state.cursor, level);
    if found.0 == NONE {
        level = lower(tables, env, service, level);
        if level == 0 {
            // Where the kernel stands after a search in vain.
            let next = if state.cursor != 0 && state.level <= service.step {
                state
            } else {
                State {
                    cursor: 0,
                    level: service.top,
                }
            };
            return (NONE, next);
        }
        found = first_heavy(tables, env, service, 0, level);
    }
    (
        found.0,
        State {
            cursor: found.1 + 1,
            level,
        },
    )
}

/// The level below `level` at which a usable server is heavy enough, from the top again below the
/// lowest; 0 when no server is usable.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn lower<T: Tables, E: Env>(tables: &T, env: &E, service: &ServiceRecord, level: i32) -> i32 {
    let mut level = level - service.step;
    if level <= 0 {
        level = service.top;
    }
    let heaviest = heaviest(tables, env, service);
    if heaviest <= 0 {
        return 0;
    }
    if heaviest < level {
        let step = service.step.max(1) as u32;
        let levels = ((level - heaviest) as u32).div_ceil(step);
        level = (level - (levels * step) as i32).max(1);
    }
    level
}

/// The first usable server from position `from` on with at least weight `level`, and its position.
#[inline(always)]
fn first_heavy<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    from: u32,
    level: i32,
) -> (u32, u32) {
    let found = walk(tables, env, service, from, level);
    (found as u32, (found >> 32) as u32)
}

/// [`first_heavy`] as a function of its own, with a stack of its own: server, and position from bit
/// 32 on.
#[cfg_attr(target_arch = "bpf", inline(never))]
fn walk<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    service: &ServiceRecord,
    from: u32,
    level: i32,
) -> u64 {
    let mut server = env.opaque(NONE);
    let mut position = env.opaque(0);
    env.repeat(service.count.saturating_sub(from), |i| {
        let slot = slot(tables, service, from + i);
        if slot.weight >= level && is_usable(tables, &slot) {
            server = slot.server;
            position = from + i;
            return false;
        }
        true
    });
    server as u64 | ((position as u64) << 32)
}

/// The largest weight of a usable server, 0 when there is none.
#[inline(always)]
fn heaviest<T: Tables, E: Env>(tables: &T, env: &E, service: &ServiceRecord) -> i32 {
    let mut weight = env.opaque(0);
    env.repeat(service.count, |i| {
        let slot = slot(tables, service, i);
        if slot.weight > weight as i32 && is_usable(tables, &slot) {
            weight = slot.weight as u32;
        }
        true
    });
    weight as i32
}
