//! Connections that another director told of, taken into the table (`ip_vs_proc_conn` in
//! `net/netfilter/ipvs/ip_vs_sync.c`).

use crate::{
    connection::{self, SECOND},
    record::{
        ConnectionRecord, FlowKey, NextHop, ReplyRecord, connection_flag as flag, method,
        server_flag,
    },
    tables::{Env, InsertError, Tables},
};

/// What became of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(Debug))]
#[repr(u32)]
pub enum Adopted {
    /// It is new.
    Added = 1,
    /// It was known; its state and time are those told.
    Updated = 2,
    /// One to another real server is known, and the one told is over or nearly so.
    Ignored = 3,
    /// The table is full.
    Full = 4,
    /// A packet was faster; the next message tells it again.
    Contended = 5,
    /// Its real server is gone.
    NoServer = 6,
}

impl Adopted {
    /// Each of them.
    pub const ALL: [Self; 6] = [
        Self::Added,
        Self::Updated,
        Self::Ignored,
        Self::Full,
        Self::Contended,
        Self::NoServer,
    ];
}

/// What is told, and room to work in.
#[cfg_attr(feature = "std", derive(Debug, Default))]
#[repr(C)]
pub struct Adoption {
    /// The flow from client to virtual service; that of a template as it lies in the table.
    pub key: FlowKey,
    /// The connection; when it ends follows from its timeout.
    pub record: ConnectionRecord,
    /// How its replies look.
    pub reply_key: FlowKey,
    /// What becomes of replies.
    pub reply: ReplyRecord,
}

const STATE: u32 = 0xff;
/// What a message changes of a known connection.
const CHANGES: u32 = STATE | flag::INACTIVE;

/// Adds the connection told, counted with its real server, or lets the known one follow it.
///
/// A known one that goes to another real server gives way to an active one and stays before an
/// inactive one, as in the kernel.
#[inline(always)]
pub fn adopt<T: Tables, E: Env>(tables: &T, env: &E, a: &mut Adoption) -> Adopted {
    let now = env.now();
    let timeout = a.record.timeout.load();
    let expires = now + timeout as u64 * SECOND;
    if let Some(there) = tables.connection(&a.key) {
        let over = !there.is_template() && there.is_over(now);
        let word = there.word.load();
        if word & flag::DEAD == 0 && !over {
            let same = there.server == a.record.server
                && there.server_port == a.record.server_port
                && (word ^ a.record.word.load()) & flag::TEMPLATE == 0;
            if same {
                return update(tables, a, &there, word, expires);
            }
            if a.record.word.load() & flag::INACTIVE != 0 {
                return Adopted::Ignored;
            }
        }
        if !env.retire(tables, &a.key, &there, false) {
            return Adopted::Contended;
        }
    }
    let Some(server) = tables.server(a.record.server) else {
        return Adopted::NoServer;
    };
    if server.flags & server_flag::PRESENT == 0 {
        return Adopted::NoServer;
    }
    a.record.expires.store(expires);
    if a.record.word.load() & flag::TEMPLATE != 0 {
        a.record.template = env.random();
        return match tables.add_connection(&a.key, &a.record) {
            Ok(()) => {
                if let Some(counts) = tables.counts(a.record.server) {
                    counts.persistent.fetch_add(1);
                }
                Adopted::Added
            }
            Err(InsertError::Exists) => Adopted::Contended,
            Err(InsertError::Full) => Adopted::Full,
        };
    }
    if a.record.method == method::MASQUERADE {
        a.reply_key = FlowKey {
            source: server.address,
            destination: a.key.source,
            source_port: a.record.server_port,
            destination_port: a.key.source_port,
            ..a.key
        };
        a.reply = ReplyRecord {
            address: a.key.destination,
            hop: NextHop::default(),
            epoch: 0,
            port: a.key.destination_port,
            pad: 0,
        };
        if !tables.set_reply(&a.reply_key, &a.reply) {
            return Adopted::Full;
        }
    }
    match connection::add(tables, &a.key, &a.record, server) {
        Ok(()) => Adopted::Added,
        Err(InsertError::Exists) => Adopted::Contended,
        Err(InsertError::Full) => Adopted::Full,
    }
}

/// Has the known connection follow the one told.
#[inline(always)]
fn update<T: Tables>(
    tables: &T,
    a: &Adoption,
    there: &ConnectionRecord,
    word: u32,
    expires: u64,
) -> Adopted {
    let new = (word & !CHANGES) | (a.record.word.load() & CHANGES);
    if new != word {
        if !there.word.replace(word, new) {
            return Adopted::Contended;
        }
        if (new ^ word) & flag::INACTIVE != 0
            && new & flag::TEMPLATE == 0
            && let Some(counts) = tables.counts(there.server)
        {
            if new & flag::INACTIVE == 0 {
                counts.inactive.fetch_add(u32::MAX);
                counts.active.fetch_add(1);
            } else {
                counts.active.fetch_add(u32::MAX);
                counts.inactive.fetch_add(1);
            }
        }
    }
    there.timeout.store(a.record.timeout.load());
    there.expires.store(expires);
    Adopted::Updated
}
