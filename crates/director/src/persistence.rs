//! Templates: what makes a persistent service's clients stick to their real server
//! (`ip_vs_sched_persist`, `ip_vs_check_template` in `net/netfilter/ipvs/ip_vs_core.c` and
//! `ip_vs_conn.c`).
//!
//! A template lies in the connection table, under a key that no packet's flow is equal to: the
//! client's address under the service's mask, port 0, and the protocol number with every bit turned.
//! Each connection of the client keeps what is needed to find its template again, so that the
//! template knows whether it is still in use.

use crate::{
    connection::{self, SECOND},
    process::Scratch,
    reason::Reason,
    record::{
        Address, ConnectionRecord, FlowKey, NONE, ServiceRecord, Settings, connection_flag as flag,
        control, server_flag, settings_flag,
    },
    service::Found,
    tables::{Env, InsertError, Tables},
};

/// Seconds by which a template outlives its time while connections belong to it; from then on also
/// its timeout.
const EXTENSION: u32 = 60;

/// Client and virtual port in the key of a template that no longer counts.
pub const INVALID: u16 = u16::MAX;

/// State of a template some connection of which was a real client's.
const ASSURED: u32 = 1;

/// `address` under `mask`: an IPv4 netmask in network order, or the length of an IPv6 prefix.
#[inline(always)]
fn masked(address: &Address, ipv6: bool, mask: u32) -> Address {
    if !ipv6 {
        return [address[0] & mask, 0, 0, 0];
    }
    let mut words = [0; 4];
    let mut at = 0;
    while at < 4 {
        let bits = mask.saturating_sub(at as u32 * 32).min(32);
        let mask = (0xffff_ffff_u64 << (32 - bits)) as u32;
        words[at] = address[at] & mask.to_be();
        at += 1;
    }
    words
}

/// The mask of `service` for clients, in the form of [`ConnectionRecord::members`].
#[inline(always)]
pub fn mask_of(service: &ServiceRecord, ipv6: bool) -> u32 {
    if ipv6 {
        service.prefix
    } else {
        service.netmask
    }
}

/// Writes the key of the template that `flow` belongs to by `via`, one of [`control`].
#[inline(always)]
fn write_key(key: &mut FlowKey, flow: &FlowKey, via: u8, mask: u32, mark: u32) {
    key.source = masked(&flow.source, flow.ipv6 != 0, mask);
    key.source_port = 0;
    key.ipv6 = flow.ipv6;
    key.pad = 0;
    if via == control::MARK {
        key.destination = [mark.to_be(), 0, 0, 0];
        key.destination_port = 0;
        key.protocol = !0;
    } else {
        key.destination = flow.destination;
        key.destination_port = if via == control::PORT {
            flow.destination_port
        } else {
            0
        };
        key.protocol = !flow.protocol;
    }
}

impl ConnectionRecord {
    /// True when this is a template.
    #[inline(always)]
    pub fn is_template(&self) -> bool {
        self.word.load() & flag::TEMPLATE != 0
    }

    /// True when a connection of this template was a real client's.
    #[inline(always)]
    pub fn is_assured(&self) -> bool {
        u32::from(self.state()) == ASSURED
    }
}

/// The real server of the packet's client: its template's, or a scheduled one, with a template from
/// now on. `mark` is the one by which the service was found, or 0. The template's key is in `s.key` then, its number in `s.template`.
#[inline(always)]
pub fn server_for<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    settings: &Settings,
    found: &Found<'_>,
    mark: u32,
    s: &mut Scratch,
    now: u64,
) -> Result<u32, Reason> {
    let service = found.service;
    let via = found.by.control(s.headers.flow.destination_port);
    let mask = mask_of(service, s.headers.ipv6());
    write_key(&mut s.key, &s.headers.flow, via, mask, mark);
    if let Some(template) = tables.connection(&s.key) {
        if is_usable(tables, settings, &template, now) {
            s.template.template = template.template;
            return Ok(template.server);
        }
        if template.is_over(now) {
            end(tables, &s.key, &template);
        } else {
            invalidate(tables, &template, s);
        }
    }
    let index = env.schedule(tables, service, s);
    if index == NONE {
        return Err(Reason::NoDestination);
    }
    let server = tables.server(index).ok_or(Reason::NoDestination)?;
    s.template
        .expires
        .store(now + service.persistence as u64 * SECOND);
    s.template.word.store(flag::TEMPLATE | flag::INACTIVE);
    s.template.server = index;
    s.template.packets.store(0);
    s.template.timeout.store(service.persistence);
    s.template.server_port = if via == control::PORT { server.port } else { 0 };
    s.template.method = server.method;
    s.template.control = control::NONE;
    s.template.mark = mark;
    s.template.template = env.random();
    s.template.members.store(0);
    match tables.add_connection(&s.key, &s.template) {
        Ok(()) => {}
        Err(InsertError::Exists) => return Err(Reason::Contended),
        Err(InsertError::Full) => return Err(Reason::TableFull),
    }
    if let Some(counts) = tables.counts(index) {
        counts.persistent.fetch_add(1);
    }
    Ok(index)
}

/// True when new connections may follow `template`. One whose time is over lives on with its
/// connections.
#[inline(always)]
fn is_usable<T: Tables>(
    tables: &T,
    settings: &Settings,
    template: &ConnectionRecord,
    now: u64,
) -> bool {
    if template.is_over(now) && !extend(template, now) {
        return false;
    }
    let Some(server) = tables.server(template.server) else {
        return false;
    };
    let quiescent = settings.flags & settings_flag::EXPIRE_QUIESCENT != 0 && server.weight == 0;
    server.flags & server_flag::AVAILABLE != 0 && !quiescent
}

/// Gives a template whose time is over the time that its connections need; false when it has none.
#[inline(always)]
pub fn extend(template: &ConnectionRecord, now: u64) -> bool {
    let word = template.word.load();
    if word & flag::TEMPLATE == 0 || word & flag::DEAD != 0 || template.members.load() == 0 {
        return false;
    }
    template.timeout.store(EXTENSION);
    template.expires.store(now + EXTENSION as u64 * SECOND);
    true
}

/// Moves the template under `s.key` to a key at which new connections don't look; there it stays
/// until its time is over.
#[inline(always)]
fn invalidate<T: Tables>(tables: &T, template: &ConnectionRecord, s: &mut Scratch) {
    let Some(word) = connection::claim(template) else {
        return;
    };
    s.template.expires.store(template.expires.load());
    s.template.word.store(word);
    s.template.server = template.server;
    s.template.packets.store(template.packets.load());
    s.template.timeout.store(template.timeout.load());
    s.template.server_port = INVALID;
    s.template.method = template.method;
    s.template.control = control::NONE;
    s.template.mark = template.mark;
    s.template.template = template.template;
    s.template.members.store(template.members.load());
    s.moved = FlowKey {
        source_port: INVALID,
        destination_port: INVALID,
        ..s.key
    };
    // Two invalid templates of one client: the kernel keeps both, here the first stays.
    if tables.add_connection(&s.moved, &s.template).is_err()
        && let Some(counts) = tables.counts(template.server)
    {
        counts.persistent.fetch_add(u32::MAX);
    }
    tables.remove_connection(&s.key);
}

/// Starts the time of the template under `key` anew, for a packet that used it; with `member` one
/// more connection belongs to it.
#[inline(always)]
pub fn refresh<T: Tables>(tables: &T, key: &FlowKey, number: u32, member: bool, now: u64) {
    let Some(template) = tables.connection(key) else {
        return;
    };
    if template.template != number {
        return;
    }
    if member {
        template.members.fetch_add(1);
    }
    template
        .expires
        .store(now + template.timeout.load() as u64 * SECOND);
}

/// Does `act` with the template that the connection under `key` belongs to, and its key.
#[inline(always)]
fn with_template<T: Tables>(
    tables: &T,
    key: &FlowKey,
    connection: &ConnectionRecord,
    act: impl Fn(&FlowKey, &ConnectionRecord),
) {
    let mut at = FlowKey::default();
    let mask = connection.members.load();
    write_key(&mut at, key, connection.control, mask, connection.mark);
    let mut tries = 0;
    while tries < 2 {
        if let Some(template) = tables.connection(&at)
            && template.template == connection.template
            && template.is_template()
        {
            act(&at, &template);
            return;
        }
        at.source_port = INVALID;
        at.destination_port = INVALID;
        tries += 1;
    }
}

/// Tells the template of the connection under `key` that a real client is behind it.
#[inline(always)]
pub fn assure<T: Tables>(tables: &T, key: &FlowKey, connection: &ConnectionRecord) {
    with_template(tables, key, connection, |_, template| {
        let word = template.word.load();
        // Lost to somebody who ends the template, or who does the same.
        template.word.replace(word, word | ASSURED);
    });
}

/// Takes the ended connection under `key` off its template. When it was ended by force and was the
/// last one, a template that no real client is behind goes, too.
#[inline(always)]
pub fn leave<T: Tables>(tables: &T, key: &FlowKey, connection: &ConnectionRecord, forced: bool) {
    with_template(tables, key, connection, |at, template| {
        let rest = template.members.fetch_add(u32::MAX).wrapping_sub(1);
        if forced && rest == 0 && !template.is_assured() {
            end(tables, at, template);
        }
    });
}

/// Takes the template under `key` out of the table and of its server's count, once.
#[inline(always)]
fn end<T: Tables>(tables: &T, key: &FlowKey, template: &ConnectionRecord) {
    if connection::claim(template).is_some() {
        if let Some(counts) = tables.counts(template.server) {
            counts.persistent.fetch_add(u32::MAX);
        }
        tables.remove_connection(key);
    }
}
