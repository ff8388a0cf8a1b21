//! The life of a connection: found, followed, begun, retired.

use crate::{
    headers::{Headers, SCTP, TCP, UDP},
    persistence,
    record::{
        ConnectionRecord, FlowKey, ServerCounts, ServerRecord, Settings, connection_flag as flag,
        control, counts_flag, method,
    },
    sctp,
    tables::{Env, InsertError, Tables},
    tcp::{self, Direction},
};

/// Nanoseconds of a second.
pub const SECOND: u64 = 1_000_000_000;

const STATE: u32 = 0xff;

impl ConnectionRecord {
    /// Protocol state.
    #[inline(always)]
    pub fn state(&self) -> u8 {
        self.word.load() as u8
    }

    /// True when the entry no longer counts: its time is over or it is being removed.
    #[inline(always)]
    pub fn is_over(&self, now: u64) -> bool {
        self.expires.load() <= now || self.word.load() & flag::DEAD != 0
    }
}

/// The timeout of `state`, seconds.
#[inline(always)]
fn timeout_of(settings: &Settings, protocol: u8, state: u8) -> u32 {
    match protocol {
        TCP => settings.tcp_timeouts[(state & 15) as usize],
        SCTP => sctp::timeout(state),
        _ => settings.udp_timeout,
    }
}

/// The state of a connection after a packet.
#[inline(always)]
fn next(h: &Headers, state: u8, direction: Direction) -> u8 {
    match h.flow.protocol {
        TCP => tcp::next(state, h.kind, direction),
        SCTP => sctp::next(state, h.kind, direction),
        _ => 0,
    }
}

/// True when connections in `state` count as active; those of UDP never do.
#[inline(always)]
fn is_active(protocol: u8, state: u8) -> bool {
    match protocol {
        TCP => tcp::is_active(state),
        SCTP => state == sctp::ESTABLISHED,
        _ => false,
    }
}

/// True when `state` is that of a handshake that went through.
#[inline(always)]
fn is_established(protocol: u8, state: u8) -> bool {
    match protocol {
        TCP => state == tcp::state::ESTABLISHED,
        SCTP => state == sctp::ESTABLISHED,
        _ => false,
    }
}

/// Moves `connection` by a packet: state, counts of its server, timer.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "a struct would be built for every packet"
)]
pub fn follow<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    settings: &Settings,
    key: &FlowKey,
    connection: &ConnectionRecord,
    h: &Headers,
    output: bool,
    now: u64,
) {
    let mut state = 0;
    // A handshake that went through, or a reply: behind the connection is a real client.
    let mut assured = output;
    if h.flow.protocol != UDP {
        let old = connection.word.load();
        let mut word = old;
        let direction = if output {
            word &= !flag::NO_OUTPUT;
            Direction::Output
        } else if word & flag::NO_OUTPUT != 0 {
            Direction::InputOnly
        } else {
            Direction::Input
        };
        state = next(h, old as u8, direction);
        assured = is_established(h.flow.protocol, state);
        word = (word & !STATE) | state as u32;
        let active = is_active(h.flow.protocol, state);
        word = if active {
            word & !flag::INACTIVE
        } else {
            word | flag::INACTIVE
        };
        // Who loses this race follows the next packet; counts move with the winner only.
        if word != old
            && connection.word.replace(old, word)
            && (word ^ old) & flag::INACTIVE != 0
            && let Some(counts) = tables.counts(connection.server)
        {
            if active {
                counts.inactive.fetch_add(u32::MAX);
                counts.active.fetch_add(1);
            } else {
                counts.active.fetch_add(u32::MAX);
                counts.inactive.fetch_add(1);
            }
        }
    }
    let timeout = timeout_of(settings, h.flow.protocol, state);
    connection.timeout.store(timeout);
    connection.expires.store(now + timeout as u64 * SECOND);
    if assured && connection.control != control::NONE {
        let word = connection.word.load();
        if word & flag::ASSURED == 0 && connection.word.replace(word, word | flag::ASSURED) {
            env.assure(tables, key, connection);
        }
    }
}

/// Writes the record of the connection that a packet begins.
#[inline(always)]
pub fn begin(
    record: &mut ConnectionRecord,
    settings: &Settings,
    h: &Headers,
    index: u32,
    server: &ServerRecord,
    port: u16,
    now: u64,
) {
    let mut word = 0;
    let mut direction = Direction::Input;
    if server.method != method::MASQUERADE {
        word |= flag::NO_OUTPUT;
        direction = Direction::InputOnly;
    }
    let state = next(h, 0, direction);
    if !is_active(h.flow.protocol, state) {
        word |= flag::INACTIVE;
    }
    let timeout = timeout_of(settings, h.flow.protocol, state);
    record.expires.store(now + timeout as u64 * SECOND);
    record.word.store(word | state as u32);
    record.server = index;
    record.packets.store(1);
    record.timeout.store(timeout);
    record.server_port = port;
    record.method = server.method;
    record.control = control::NONE;
    record.mark = 0;
    record.template = 0;
    record.members.store(0);
}

/// Adds a begun connection to the table and to its server's counts.
#[inline(always)]
pub fn add<T: Tables>(
    tables: &T,
    key: &FlowKey,
    record: &ConnectionRecord,
    server: &ServerRecord,
) -> Result<(), InsertError> {
    tables.add_connection(key, record)?;
    if let Some(counts) = tables.counts(record.server) {
        if record.word.load() & flag::INACTIVE != 0 {
            counts.inactive.fetch_add(1);
        } else {
            counts.active.fetch_add(1);
        }
        bound(counts, server);
    }
    Ok(())
}

/// Takes the right to remove `connection` and returns its word before; `None` when somebody else
/// has it.
#[inline(always)]
pub fn claim(connection: &ConnectionRecord) -> Option<u32> {
    let mut tries = 0;
    loop {
        let word = connection.word.load();
        if word & flag::DEAD != 0 || tries == 4 {
            return None;
        }
        if connection.word.replace(word, word | flag::DEAD) {
            return Some(word);
        }
        tries += 1;
    }
}

/// Ends a connection or a template: takes it out of the table and of its server's counts, once.
/// `forced` when its time is not over. False when somebody else is doing so.
#[inline(always)]
pub fn retire<T: Tables>(
    tables: &T,
    key: &FlowKey,
    connection: &ConnectionRecord,
    forced: bool,
) -> bool {
    let Some(word) = claim(connection) else {
        return false;
    };
    if word & flag::TEMPLATE != 0 {
        if let Some(counts) = tables.counts(connection.server) {
            counts.persistent.fetch_add(u32::MAX);
        }
    } else if let (Some(counts), Some(server)) = (
        tables.counts(connection.server),
        tables.server(connection.server),
    ) {
        if word & flag::INACTIVE != 0 {
            counts.inactive.fetch_add(u32::MAX);
        } else {
            counts.active.fetch_add(u32::MAX);
        }
        unbound(counts, server);
        if connection.method == method::MASQUERADE {
            let reply = FlowKey {
                source: server.address,
                destination: key.source,
                source_port: connection.server_port,
                destination_port: key.source_port,
                ..*key
            };
            let ours = match tables.reply(&reply) {
                Some(entry) => {
                    entry.address == key.destination && entry.port == key.destination_port
                }
                None => false,
            };
            if ours {
                tables.remove_reply(&reply);
            }
        }
    }
    if connection.control != control::NONE {
        persistence::leave(tables, key, connection, forced);
    }
    tables.remove_connection(key);
    true
}

/// Sets the overload flag when the upper threshold is reached (`ip_vs_bind_dest`).
#[inline(always)]
fn bound(counts: &ServerCounts, server: &ServerRecord) {
    if server.upper != 0
        && counts.active.load().wrapping_add(counts.inactive.load()) >= server.upper
    {
        set_overload(counts, true);
    }
}

/// Clears the overload flag when enough connections are gone (`ip_vs_dest_totalconns` users).
#[inline(always)]
fn unbound(counts: &ServerCounts, server: &ServerRecord) {
    if counts.flags.load() & counts_flag::OVERLOAD == 0 {
        return;
    }
    let total = counts.active.load().wrapping_add(counts.inactive.load());
    let clear = if server.upper == 0 {
        true
    } else if server.lower != 0 {
        total < server.lower
    } else {
        (total as u64) * 4 < (server.upper as u64) * 3
    };
    if clear {
        set_overload(counts, false);
    }
}

#[inline(always)]
fn set_overload(counts: &ServerCounts, on: bool) {
    let flags = counts.flags.load();
    counts.flags.store(if on {
        flags | counts_flag::OVERLOAD
    } else {
        flags & !counts_flag::OVERLOAD
    });
}
