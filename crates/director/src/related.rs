//! ICMP errors about connections (`ip_vs_in_icmp`, `ip_vs_out_icmp`, `ip_vs_nat_icmp`).

use pointsman_wire::{Be16, Icmp, Ipv4, Ipv6, checksum::Difference};

use crate::{
    forward::{self, End, Target},
    headers::{self, Headers, SCTP, TCP, UDP},
    process::{Scratch, send},
    reason::{Action, Reason, Verdict, attempt},
    record::{Address, FlowKey, Settings, hop_flag, method, server_flag},
    tables::{Env, Frame, Tables},
};

/// Handles an ICMP packet: an error about a connection goes where the connection goes.
#[inline(always)]
pub fn process<F: Frame, T: Tables, E: Env>(
    frame: &mut F,
    tables: &T,
    env: &E,
    settings: &Settings,
    s: &mut Scratch,
) -> Verdict {
    if !s.headers.is_icmp_error() {
        return Verdict::of(Reason::IcmpUnrelated);
    }
    if headers::parse_quoted(frame, &s.headers, &mut s.quoted).is_err()
        || !is_followed(s.quoted.flow.protocol)
    {
        return Verdict::of(Reason::IcmpUnrelated);
    }
    let now = env.now();
    s.key = s.quoted.flow.reversed();
    if let Some(connection) = tables.connection(&s.key) {
        if connection.is_over(now) || s.headers.flow.destination != s.key.destination {
            return Verdict::of(Reason::IcmpUnrelated);
        }
        let server = attempt!(
            tables
                .server(connection.server)
                .ok_or(Reason::IcmpUnrelated)
        );
        if server.flags & server_flag::AVAILABLE == 0 {
            return Verdict::of(Reason::ServerGone);
        }
        let length = s.headers.length as u64;
        tables.account(connection.server, |stats| {
            stats.in_packets += 1;
            stats.in_bytes += length;
        });
        if connection.method == method::MASQUERADE {
            if server.hop.flags & hop_flag::LOCAL != 0 {
                return Verdict::of(Reason::LocalMasquerade);
            }
            if server.hop.flags & hop_flag::RESOLVED == 0 {
                return Verdict::of(Reason::NoNextHop);
            }
            attempt!(forward::age(frame, &s.headers));
            let to = Translation {
                end: End::Destination,
                address: server.address,
                port: connection.server_port,
            };
            attempt!(translate(frame, &s.headers, &s.quoted, &to));
            return forward::leave(frame, s.headers.tags, &server.hop, Reason::RelatedIn);
        }
        let target = Target {
            server,
            index: connection.server,
            segment: 0,
            port: connection.server_port,
            method: connection.method,
            settings: settings.flags,
        };
        let verdict = send(frame, env, &target, s);
        return match verdict.action() {
            Action::Forward => Verdict {
                reason: Reason::RelatedIn,
                ..verdict
            },
            Action::Pass | Action::Drop => verdict,
        };
    }
    let Some(reply) = tables.reply(&s.key) else {
        return Verdict::of(Reason::IcmpUnrelated);
    };
    s.reply = *reply;
    s.moved = FlowKey {
        source: s.key.destination,
        destination: s.reply.address,
        source_port: s.key.destination_port,
        destination_port: s.reply.port,
        ..s.key
    };
    let Some(connection) = tables.connection(&s.moved) else {
        return Verdict::of(Reason::IcmpUnrelated);
    };
    if connection.is_over(now) || s.headers.flow.destination != s.moved.source {
        return Verdict::of(Reason::IcmpUnrelated);
    }
    let length = s.headers.length as u64;
    tables.account(connection.server, |stats| {
        stats.out_packets += 1;
        stats.out_bytes += length;
    });
    // Errors are rare: route each, remember nothing.
    let known = env.route(
        s.headers.ipv6(),
        &s.reply.address,
        &s.headers.flow.destination,
        frame.ifindex(),
        &mut s.reply.hop,
    );
    if !known && s.reply.hop.flags & hop_flag::RESOLVED == 0 {
        return Verdict::of(Reason::NoReturnRoute);
    }
    attempt!(forward::age(frame, &s.headers));
    let to = Translation {
        end: End::Source,
        address: s.reply.address,
        port: s.reply.port,
    };
    attempt!(translate(frame, &s.headers, &s.quoted, &to));
    forward::leave(frame, s.headers.tags, &s.reply.hop, Reason::RelatedOut)
}

/// True for protocols that connections are followed of.
#[inline(always)]
fn is_followed(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP)
}

/// What an ICMP error's outer header becomes; the quoted packet changes at its other end.
struct Translation {
    end: End,
    address: Address,
    port: u16,
}

/// Translates the error's own header and the packet it quotes; all checksums but the quoted
/// transport's follow, as in IPVS.
#[inline(always)]
fn translate<F: Frame>(
    frame: &mut F,
    h: &Headers,
    quoted: &Headers,
    to: &Translation,
) -> Result<(), Reason> {
    let quoted_end = match to.end {
        End::Source => End::Destination,
        End::Destination => End::Source,
    };
    let field = match quoted_end {
        End::Source => quoted.transport(),
        End::Destination => quoted.transport() + 2,
    };
    // Everything is looked at before anything is changed.
    frame.view::<Be16>(field).ok_or(Reason::Malformed)?;
    frame.view::<Icmp>(h.transport()).ok_or(Reason::Malformed)?;
    let mut covered = Difference::NONE;
    if h.ipv6() {
        frame.view::<Ipv6>(quoted.ip()).ok_or(Reason::Malformed)?;
        covered = forward::translate_address(frame, quoted, quoted_end, &to.address)?;
    } else {
        // Address and header checksum change against each other: the ICMP sum sees neither.
        frame.view::<Ipv4>(quoted.ip()).ok_or(Reason::Malformed)?;
        forward::translate_address(frame, quoted, quoted_end, &to.address)?;
    }
    let port = frame.view_mut::<Be16>(field).ok_or(Reason::Malformed)?;
    let covered = covered.word(port.raw(), to.port);
    port.set_raw(to.port);
    let outer = forward::translate_address(frame, h, to.end, &to.address)?;
    let pseudo = if h.ipv6() { outer } else { Difference::NONE };
    if frame.fix_checksum(h.transport() + Icmp::CHECKSUM, pseudo, covered, false) {
        Ok(())
    } else {
        Err(Reason::Malformed)
    }
}
