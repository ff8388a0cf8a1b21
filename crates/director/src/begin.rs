//! The first packet of a connection: may it begin one, of which service, to which real server
//! (`ip_vs_schedule` in `net/netfilter/ipvs/ip_vs_core.c`).

use pointsman_wire::tcp;

use crate::{
    connection,
    headers::{Headers, SCTP, UDP},
    persistence,
    process::Scratch,
    reason::Reason,
    record::{NONE, ServerRecord, ServiceRecord, Settings, method, service_flag, settings_flag},
    schedule::Scheduler,
    sctp,
    service::{self, By, Found},
    tables::{Env, InsertError, Tables},
};

/// Where a first packet goes, and what is remembered of it.
#[derive(Clone, Copy, Default)]
#[cfg_attr(feature = "std", derive(Debug, PartialEq, Eq))]
#[repr(C)]
pub struct Choice {
    /// Index of its real server.
    pub server: u32,
    /// Port of the real server, network order.
    pub port: u16,
    /// 1 when its connection is in the table.
    pub kept: u8,
    /// 1 when it counts as a connection; 0 when a full table made it be sent by hash.
    pub counted: u8,
}

/// [`choose`] as a result.
#[inline(always)]
pub fn outcome(number: u32, s: &Scratch) -> Result<(), Reason> {
    if number == 0 {
        return Ok(());
    }
    // What no reason has can't come from there; the kernel gets such a packet.
    let reason = Reason::from_number((number - 1) as u8).unwrap_or(Reason::NoService);
    // What may be a data connection may be another program's, too, and is refused by nobody here.
    let refused = reason == Reason::NoDestination;
    Err(
        if refused && service::is_ftp_data(&s.wanted, &s.headers.flow) {
            Reason::NoService
        } else {
            reason
        },
    )
}

/// Decides about the packet in `s`, which no connection knows, and adds the connection that it
/// begins; the decision is in `s.choice`. Returns 0, or the number of the [`Reason`] against it plus
/// one.
#[inline(always)]
pub fn choose<T: Tables, E: Env>(tables: &T, env: &E, s: &mut Scratch, now: u64) -> u32 {
    match decide(tables, env, s, now) {
        Ok(()) => 0,
        Err(reason) => reason as u32 + 1,
    }
}

#[inline(always)]
fn decide<T: Tables, E: Env>(tables: &T, env: &E, s: &mut Scratch, now: u64) -> Result<(), Reason> {
    let settings = tables.settings().ok_or(Reason::NoService)?;
    let mark = s.mark;
    let found = service::find(tables, settings, &s.headers.flow, mark, &mut s.wanted)
        .ok_or(Reason::NoService)?;
    let Found { service, by } = found;
    let mark = if by == By::Mark { mark } else { 0 };
    let stateless = may_begin(&s.headers, settings, service)?;
    let persistent = service.flags & service_flag::PERSISTENT != 0;
    if !persistent && by == By::Ftp {
        // Data connections follow their control connection only by persistence.
        return Err(Reason::NoService);
    }
    let index = if persistent {
        persistence::server_for(tables, env, settings, &found, mark, s, now)?
    } else {
        env.schedule(tables, service, s)
    };
    if index == NONE {
        return Err(Reason::NoDestination);
    }
    let server = tables.server(index).ok_or(Reason::NoDestination)?;
    if stateless && server.method == method::MASQUERADE {
        return Err(Reason::NoConnection);
    }
    let named = by == By::Port || (by == By::Mark && !persistent);
    let port = if named && server.port != 0 {
        server.port
    } else {
        s.headers.flow.destination_port
    };
    let single = service.flags & service_flag::ONE_PACKET != 0 && s.headers.flow.protocol == UDP;
    s.choice = Choice {
        server: index,
        port,
        kept: 0,
        counted: u8::from(!stateless),
    };
    if single && persistent {
        persistence::refresh(tables, &s.key, s.template.template, false, now);
    }
    if stateless || single {
        return Ok(());
    }
    connection::begin(&mut s.fresh, settings, &s.headers, index, server, port, now);
    s.fresh.mark = mark;
    if persistent {
        s.fresh.control = by.control(s.headers.flow.destination_port);
        s.fresh.template = s.template.template;
        let mask = persistence::mask_of(service, s.headers.ipv6());
        s.fresh.members.store(mask);
    }
    match connection::add(tables, &s.headers.flow, &s.fresh, server) {
        Ok(()) => {
            s.choice.kept = 1;
            if persistent {
                persistence::refresh(tables, &s.key, s.template.template, true, now);
            }
            Ok(())
        }
        Err(InsertError::Exists) => Err(Reason::Contended),
        Err(InsertError::Full) if can_be_stateless(service, server) => {
            s.choice.counted = 0;
            Ok(())
        }
        Err(InsertError::Full) => Err(Reason::TableFull),
    }
}

/// Whether the packet may begin a connection of `service`; true when it may only be sent by hash.
#[inline(always)]
fn may_begin(h: &Headers, settings: &Settings, service: &ServiceRecord) -> Result<bool, Reason> {
    if h.flow.source_port == 20u16.to_be() {
        return Err(Reason::SourcePort20);
    }
    if h.flow.protocol == UDP {
        return Ok(false);
    }
    if h.flow.protocol == SCTP {
        let sloppy = settings.flags & settings_flag::SLOPPY_SCTP != 0;
        let begins = h.kind == sctp::event::INIT || (sloppy && h.kind != sctp::event::ABORT);
        return if begins {
            Ok(false)
        } else {
            Err(Reason::NoConnection)
        };
    }
    let sloppy = settings.flags & settings_flag::SLOPPY_TCP != 0;
    if h.kind & tcp::RST == 0 && (sloppy || h.kind & tcp::SYN != 0) {
        return Ok(false);
    }
    if settings.flags & settings_flag::TABLE_FULL != 0 && is_hash(service) {
        return Ok(true);
    }
    Err(Reason::NoConnection)
}

/// True when every packet of a flow finds the same real server without a table.
#[inline(always)]
fn is_hash(service: &ServiceRecord) -> bool {
    (service.scheduler == Scheduler::SourceHash as u8
        || service.scheduler == Scheduler::MaglevHash as u8)
        && service.flags & service_flag::PERSISTENT == 0
}

/// When the table is full, a hash finds the same server for every packet of a flow, and without
/// translation nothing else needs remembering.
#[inline(always)]
fn can_be_stateless(service: &ServiceRecord, server: &ServerRecord) -> bool {
    is_hash(service) && server.method != method::MASQUERADE
}
