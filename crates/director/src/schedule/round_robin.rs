//! `rr` (`ip_vs_rr.c`): the first usable server behind the one chosen last.

use super::{State, is_usable, slot};
use crate::{
    record::{NONE, ServiceRecord},
    tables::{Env, Tables},
};

#[cfg_attr(target_arch = "bpf", inline(never))]
pub(super) fn pick<T: Tables, E: Env>(tables: &T, env: &E, service: &ServiceRecord) -> u32 {
    let Some(shared) = tables.scheduler_state(service.id) else {
        return NONE;
    };
    let mut server = NONE;
    // A processor that loses the race looks again from where the winner stopped.
    let mut tries = 0;
    while tries < 3 {
        let seen = shared.0.load();
        let state = State::of(seen, service);
        let first = state.cursor;
        let mut found = env.opaque(NONE);
        let mut position = env.opaque(0);
        env.repeat(service.count, |i| {
            let mut at = first + i;
            if at >= service.count {
                at -= service.count;
            }
            let slot = slot(tables, service, at);
            if is_usable(tables, &slot) {
                found = slot.server;
                position = at;
                return false;
            }
            true
        });
        server = found;
        if server == NONE {
            break;
        }
        let next = State {
            cursor: position + 1,
            level: state.level,
        };
        if shared.0.replace(seen, next.pack(service.plan)) {
            break;
        }
        tries += 1;
    }
    server
}
