//! What sweeps do with each entry of the connection table (`ip_vs_conn_expire`,
//! `ip_vs_random_dropentry`, `ip_vs_expire_nodest_conn_flush` in `ip_vs_conn.c`).

use crate::{
    connection::SECOND,
    headers::{SCTP, TCP},
    persistence,
    record::{ConnectionRecord, FlowKey, connection_flag as flag, server_flag, settings_flag},
    sctp,
    tables::{Env, Tables},
    tcp::state,
};

/// One entry in this many is looked at by a sweep, one a second, while `drop_entry` is at work.
const SHARE: u32 = 32;
/// Entries with more packets than this are not dropped.
const FEW: u32 = 8;

/// Ends the entry under `key` when its time is over, or when `flags`, of [`settings_flag`], want it
/// gone. True when it was ended here.
#[inline(always)]
pub fn expire<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    flags: u32,
    key: &FlowKey,
    connection: &ConnectionRecord,
    now: u64,
) -> bool {
    let dead = connection.word.load() & flag::DEAD != 0;
    let expires = connection.expires.load();
    if expires <= now {
        // A dead one still in the table lost its remover to a race: take it out a second later.
        if dead {
            if expires + SECOND <= now {
                tables.remove_connection(key);
            }
            return false;
        }
        return !persistence::extend(connection, now) && env.retire(tables, key, connection, false);
    }
    let wanted = flags & (settings_flag::EXPIRE_NODEST | settings_flag::DROP_ENTRY) == 0;
    if wanted || dead || (connection.is_template() && connection.members.load() != 0) {
        return false;
    }
    let dropped = flags & settings_flag::DROP_ENTRY != 0
        && env.random().is_multiple_of(SHARE)
        && may_drop(env, key, connection, now);
    let lost = flags & settings_flag::EXPIRE_NODEST != 0
        && match tables.server(connection.server) {
            Some(server) => server.flags & server_flag::AVAILABLE == 0,
            None => true,
        };
    (dropped || lost) && env.retire(tables, key, connection, true)
}

/// True when `drop_entry` may end the entry: half-open connections and templates that never had a
/// real client, and now and then one that did little.
#[inline(always)]
fn may_drop<E: Env>(env: &E, key: &FlowKey, connection: &ConnectionRecord, now: u64) -> bool {
    if connection.is_template() {
        return !connection.is_assured();
    }
    match (key.protocol, connection.state()) {
        (TCP, state::SYN_RECV | state::SYNACK) | (SCTP, sctp::INIT1 | sctp::INIT) => return true,
        (TCP, state::ESTABLISHED) | (SCTP, sctp::ESTABLISHED) => {}
        (TCP | SCTP, _) => return false,
        _ => {}
    }
    // Idle for a minute at least, by `todrop_entry`.
    let left = connection.expires.load().saturating_sub(now);
    let idle = (connection.timeout.load() as u64 * SECOND).saturating_sub(left);
    let packets = connection.packets.load();
    idle >= 60 * SECOND && (1..=FEW).contains(&packets) && env.random().is_multiple_of(packets)
}
