//! The packet's path, top to bottom.

use pointsman_wire::{Ethernet, tcp};

use crate::{
    begin::{self, Choice},
    connection,
    forward::{self, Target},
    headers::{self, Headers, SCTP, TCP},
    reason::{Action, Reason, Verdict, attempt},
    record::{
        Address, ConnectionRecord, FlowKey, NONE, NextHop, ReplyRecord, ServerRecord, ServiceKey,
        Settings, connection_flag, control, hop_flag, method, server_flag, settings_flag,
    },
    related, sctp, segment,
    tables::{Env, Frame, Tables},
    tcp::state,
};

/// Room for one packet's working state; lives in a per-processor map, not on the small stack.
#[cfg_attr(feature = "std", derive(Debug, Default))]
#[repr(C)]
pub struct Scratch {
    /// The packet.
    pub headers: Headers,
    /// The packet that an ICMP error quotes.
    pub quoted: Headers,
    /// The connection being begun.
    pub fresh: ConnectionRecord,
    /// A reply entry being written.
    pub reply: ReplyRecord,
    /// The key of a template or of a reply.
    pub key: FlowKey,
    /// The template being begun or moved; its number is that of the packet's template.
    pub template: ConnectionRecord,
    /// The key of the virtual service that is looked for.
    pub wanted: ServiceKey,
    /// Where a template is moved to, or another key.
    pub moved: FlowKey,
    /// What becomes of a packet that no connection knows.
    pub choice: Choice,
    /// Device the packet came in by.
    pub ingress: u32,
    /// Firewall mark of a packet that no connection knows.
    pub mark: u32,
    /// What schedulers work on.
    pub room: crate::schedule::Room,
    /// Address of the next hop whose link-layer address the kernel has to find.
    pub gateway: Address,
    /// 1 when `gateway` is IPv6.
    pub gateway_ipv6: u32,
    /// Index of the real server a packet for the daemon was meant for.
    pub server: u32,
    /// Port of that server for the packet's connection, network order.
    pub port: u32,
    /// Identification of the next outer IPv4 header that needs one; 0 before the first.
    pub identification: u32,
    /// The largest packet that would have fitted, bytes; for [`Reason::TooBig`].
    pub mtu: u32,
}

/// Decides about `frame` and carries the decision out on it.
///
/// Anything that is not a virtual service's is passed, unchanged.
#[inline(always)]
pub fn process<F: Frame, T: Tables, E: Env>(
    frame: &mut F,
    tables: &T,
    env: &E,
    scratch: &mut Scratch,
) -> Verdict {
    let verdict = decide(frame, tables, env, scratch);
    tables.count(verdict.reason);
    verdict
}

#[inline(always)]
fn decide<F: Frame, T: Tables, E: Env>(
    frame: &mut F,
    tables: &T,
    env: &E,
    s: &mut Scratch,
) -> Verdict {
    attempt!(headers::parse(frame, &mut s.headers));
    attempt!(is_for_us(frame, tables));
    let settings = attempt!(tables.settings().ok_or(Reason::NoService));
    // Without services of a family the kernel's hooks are not there, whatever connections remain.
    let serves = if s.headers.ipv6() {
        settings_flag::SERVES_IPV6
    } else {
        settings_flag::SERVES_IPV4
    };
    if settings.flags & serves == 0 {
        return Verdict::of(Reason::NoService);
    }
    if s.headers.is_icmp() {
        return related::process(frame, tables, env, settings, s);
    }
    let now = env.now();
    if let Some(connection) = tables.connection(&s.headers.flow) {
        if !is_over(tables, env, settings, &connection, &s.headers, now) {
            return existing(frame, tables, env, settings, &connection, s, now);
        }
    } else if let Some(reply) = tables.reply(&s.headers.flow) {
        s.reply = *reply;
        return answer(frame, tables, env, settings, s, now);
    }
    begin(frame, tables, env, settings, s, now)
}

/// Only frames addressed to the device they came in by are the director's.
#[inline(always)]
fn is_for_us<F: Frame, T: Tables>(frame: &F, tables: &T) -> Result<(), Reason> {
    let link = tables.link(frame.ifindex()).ok_or(Reason::NotForUs)?;
    let ethernet = frame.view::<Ethernet>(0).ok_or(Reason::Malformed)?;
    if ethernet.destination.is(&link.mac) {
        Ok(())
    } else {
        Err(Reason::NotForUs)
    }
}

/// True when the packet can't use the connection it found; then the connection is retired.
#[inline(always)]
fn is_over<T: Tables, E: Env>(
    tables: &T,
    env: &E,
    settings: &Settings,
    connection: &ConnectionRecord,
    h: &Headers,
    now: u64,
) -> bool {
    let syn = match h.flow.protocol {
        TCP => h.kind & tcp::SYN != 0,
        SCTP => h.kind == sctp::event::INIT,
        _ => false,
    };
    let mut over = connection.is_over(now);
    over |= syn && is_begun_anew(settings, h.flow.protocol, connection);
    over |=
        settings.flags & settings_flag::EXPIRE_NODEST != 0 && lacks_server(tables, connection, syn);
    if over {
        env.retire(tables, &h.flow, connection, false);
    }
    over
}

/// True when a SYN or INIT ends `connection` by `conn_reuse_mode` (`is_new_conn_expected`).
#[inline(always)]
fn is_begun_anew(settings: &Settings, protocol: u8, connection: &ConnectionRecord) -> bool {
    if settings.reuse_mode == 0 || connection.control != control::NONE {
        return false;
    }
    let at = connection.state();
    if protocol == SCTP {
        return at == sctp::CLOSED;
    }
    let unanswered = connection.word.load() & connection_flag::NO_OUTPUT != 0;
    at == state::TIME_WAIT
        || at == state::CLOSE
        || (settings.reuse_mode & 2 != 0 && at == state::FIN_WAIT && unanswered)
}

/// True when `expire_nodest_conn` ends `connection`: its server is removed, or takes nothing new
/// and the packet begins something new.
#[inline(always)]
fn lacks_server<T: Tables>(tables: &T, connection: &ConnectionRecord, syn: bool) -> bool {
    match tables.server(connection.server) {
        Some(server) => server.flags & server_flag::AVAILABLE == 0 || (syn && server.weight == 0),
        None => true,
    }
}

/// A packet of a client on a connection.
#[inline(always)]
fn existing<F: Frame, T: Tables, E: Env>(
    frame: &mut F,
    tables: &T,
    env: &E,
    settings: &Settings,
    connection: &ConnectionRecord,
    s: &mut Scratch,
    now: u64,
) -> Verdict {
    let server = attempt!(tables.server(connection.server).ok_or(Reason::ServerGone));
    if server.flags & server_flag::AVAILABLE == 0 {
        return Verdict::of(Reason::ServerGone);
    }
    let length = s.headers.length as u64;
    tables.account(connection.server, |stats| {
        stats.in_packets += 1;
        stats.in_bytes += length;
    });
    connection::follow(
        tables,
        env,
        settings,
        &s.headers.flow,
        connection,
        &s.headers,
        false,
        now,
    );
    connection
        .packets
        .store(connection.packets.load().wrapping_add(1));
    let target = Target {
        server,
        index: connection.server,
        port: connection.server_port,
        method: connection.method,
        settings: settings.flags,
        segment: settings.mss_clamp,
    };
    send(frame, env, &target, s)
}

/// Forwards, and notes what the hook needs when the next hop is not resolved.
#[inline(always)]
pub(crate) fn send<F: Frame, E: Env>(
    frame: &mut F,
    env: &E,
    target: &Target<'_>,
    s: &mut Scratch,
) -> Verdict {
    if target.method != method::DIRECT {
        segment::clamp(frame, env, &s.headers, target.segment);
    }
    let verdict = forward::forward(
        frame,
        env,
        &s.headers,
        target,
        &mut s.mtu,
        &mut s.identification,
    );
    if F::RESOLVES && verdict.unresolved != 0 {
        s.gateway = target.server.gateway;
        s.gateway_ipv6 = u32::from(target.server.flags & server_flag::GATEWAY_IPV6 != 0);
    }
    if verdict.reason.needs_daemon() {
        s.server = target.index;
        s.port = target.port as u32;
    }
    verdict
}

/// A packet that no connection knows: the first of one, or nobody's.
#[inline(always)]
fn begin<F: Frame, T: Tables, E: Env>(
    frame: &mut F,
    tables: &T,
    env: &E,
    settings: &Settings,
    s: &mut Scratch,
    now: u64,
) -> Verdict {
    s.ingress = frame.ifindex();
    s.mark = if settings.flags & settings_flag::MARKS != 0 {
        env.mark(tables, s)
    } else {
        0
    };
    attempt!(begin::outcome(env.choose(tables, s, now), s));
    let Choice {
        server: index,
        port,
        kept,
        counted,
    } = s.choice;
    let server = attempt!(tables.server(index).ok_or(Reason::NoDestination));
    let target = Target {
        server,
        index,
        port,
        method: server.method,
        settings: settings.flags,
        segment: settings.mss_clamp,
    };
    if kept != 0
        && server.method == method::MASQUERADE
        && !expect_reply(frame, tables, server, port, s)
    {
        // Without the entry its replies would never get back.
        if let Some(connection) = tables.connection(&s.headers.flow) {
            env.retire(tables, &s.headers.flow, &connection, false);
        }
        return Verdict::of(Reason::TableFull);
    }
    let length = s.headers.length as u64;
    tables.account(index, |stats| {
        stats.connections += counted as u64;
        stats.in_packets += 1;
        stats.in_bytes += length;
    });
    let mut verdict = send(frame, env, &target, s);
    if counted == 0 && verdict.action() == Action::Forward {
        verdict.reason = Reason::Stateless;
    }
    verdict
}

/// Notes how the reply to a masqueraded packet will look, and the way back as the packet showed it.
#[inline(always)]
fn expect_reply<F: Frame, T: Tables>(
    frame: &F,
    tables: &T,
    server: &ServerRecord,
    port: u16,
    s: &mut Scratch,
) -> bool {
    let flow = &s.headers.flow;
    s.key = FlowKey {
        source: server.address,
        destination: flow.source,
        source_port: port,
        destination_port: flow.source_port,
        ..*flow
    };
    let Some(ethernet) = frame.view::<Ethernet>(0) else {
        return false;
    };
    // A tagged client is answered by route only: its tag may not be the one to answer with.
    let learned = if s.headers.tags == 0 {
        hop_flag::RESOLVED
    } else {
        0
    };
    s.reply = ReplyRecord {
        address: flow.destination,
        hop: NextHop {
            ifindex: frame.ifindex(),
            mtu: 0,
            destination: ethernet.source,
            source: ethernet.destination,
            vlan: 0,
            flags: learned,
        },
        epoch: 0,
        port: flow.destination_port,
        pad: 0,
    };
    tables.set_reply(&s.key, &s.reply)
}

/// A real server's reply on a masqueraded connection; its entry is in `s.reply`.
#[inline(always)]
fn answer<F: Frame, T: Tables, E: Env>(
    frame: &mut F,
    tables: &T,
    env: &E,
    settings: &Settings,
    s: &mut Scratch,
    now: u64,
) -> Verdict {
    let flow = &s.headers.flow;
    s.key = FlowKey {
        source: flow.destination,
        destination: s.reply.address,
        source_port: flow.destination_port,
        destination_port: s.reply.port,
        ..*flow
    };
    let connection = match tables.connection(&s.key) {
        Some(connection) if !connection.is_over(now) => connection,
        _ => return Verdict::of(Reason::NoConnection),
    };
    let length = s.headers.length as u64;
    tables.account(connection.server, |stats| {
        stats.out_packets += 1;
        stats.out_bytes += length;
    });
    connection::follow(
        tables,
        env,
        settings,
        &s.key,
        &connection,
        &s.headers,
        true,
        now,
    );
    attempt!(route_back(frame, tables, env, settings, s));
    if s.reply.hop.mtu != 0
        && let Err(reason) = forward::fits(frame, &s.headers, s.reply.hop.mtu, false, 0)
    {
        s.server = NONE;
        s.mtu = s.reply.hop.mtu;
        return Verdict::of(reason);
    }
    segment::clamp(frame, env, &s.headers, settings.mss_clamp);
    attempt!(forward::age(frame, &s.headers));
    let end = forward::End::Source;
    attempt!(forward::translate(
        frame,
        env,
        &s.headers,
        end,
        &s.reply.address,
        s.reply.port
    ));
    forward::leave(frame, s.headers.tags, &s.reply.hop, Reason::Reply)
}

/// Makes `s.reply.hop` the way to the client: as remembered, as the routes say now, or as the
/// client's own frame showed.
#[inline(always)]
fn route_back<F: Frame, T: Tables, E: Env>(
    frame: &F,
    tables: &T,
    env: &E,
    settings: &Settings,
    s: &mut Scratch,
) -> Result<(), Reason> {
    if s.reply.epoch == settings.epoch {
        return Ok(());
    }
    let flow = &s.headers.flow;
    let ipv6 = s.headers.ipv6();
    let ifindex = frame.ifindex();
    let learned = s.reply.hop;
    let known = env.route(
        ipv6,
        &s.reply.address,
        &flow.destination,
        ifindex,
        &mut s.reply.hop,
    );
    if known {
        s.reply.epoch = settings.epoch;
        tables.set_reply(flow, &s.reply);
        return Ok(());
    }
    s.reply.hop = learned;
    if learned.flags & hop_flag::RESOLVED != 0 {
        Ok(())
    } else {
        Err(Reason::NoReturnRoute)
    }
}
