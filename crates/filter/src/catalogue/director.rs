//! What a director sends and receives.

use std::net::SocketAddr;

use super::craft::{
    Bytes, Craft, End, Link, Step, client, fragment, packet, segment, service, too_big, tunnelled,
};
use super::resolution;
use super::scene::{Cast, Station, Vip};
use super::{Method, Need, Need::Must, Need::Should, Protocol};
use crate::route::Direction::{In, Out};
use pointsman_wire::icmp;

pub(super) fn kinds(craft: &mut Craft<'_>, cast: &Cast) {
    for vip in &cast.vips {
        resolution::of_vip(craft, cast, vip.address, Must);
        from_client(craft, cast, vip);
        for (server, port) in &cast.servers {
            let server = (*server, port.unwrap_or(vip.port));
            to_server(craft, cast, vip, server);
            check(craft, cast, vip.protocol, server);
        }
        errors(craft, cast, vip);
    }
}

/// From the router to the guest, where the virtual address is.
fn towards(craft: &Craft<'_>, cast: &Cast) -> Link {
    (cast.gateway.mac, craft.vip_mac(cast.own.is_ipv4()))
}

/// Whether fragments of the protocol are common.
fn fragments(protocol: Protocol) -> Need {
    match protocol {
        // Path MTU discovery keeps TCP from being fragmented.
        Protocol::Tcp => Should,
        Protocol::Udp => Must,
    }
}

/// The frames of clients, as they come.
fn from_client(craft: &mut Craft<'_>, cast: &Cast, vip: &Vip) {
    let link = towards(craft, cast);
    let (from, to) = (client(cast), service(vip));
    let said = |step| segment(vip.protocol, step, link, from, to).frame;
    craft.add(
        ("client-open-in", In, Must),
        format!("{} of client {} to {vip}", opening(vip), cast.client),
        said(Step::Open),
    );
    craft.add(
        ("client-fragment-in", In, fragments(vip.protocol)),
        format!(
            "later fragment of client {} to {}",
            cast.client, vip.address
        ),
        fragment(vip.protocol, link, cast.client, vip.address).frame,
    );
}

/// What a conversation begins with.
pub(super) fn opening(vip: &Vip) -> &'static str {
    match vip.protocol {
        Protocol::Tcp => "SYN",
        Protocol::Udp => "request",
    }
}

/// The frames of clients as they are handed to a real server, and replies where they come back.
fn to_server(craft: &mut Craft<'_>, cast: &Cast, vip: &Vip, (server, port): (Station, u16)) {
    let link = (craft.scene.mac, server.mac);
    let method = craft.scene.method;
    let (from, to) = (client(cast), service(vip));
    let come = towards(craft, cast);
    let came = |step| segment(vip.protocol, step, come, from, to).frame;
    let handed = |step| match method {
        Method::Direct => segment(vip.protocol, step, link, from, to).frame,
        Method::Tunnel => {
            let inner = segment(vip.protocol, step, link, from, to).packet;
            tunnelled(link, cast.own, server.address, &inner)
        }
        Method::Masquerade => segment(vip.protocol, step, link, from, (server.address, port)).frame,
    };
    let how = match method {
        Method::Direct => format!(
            "client {} to {vip}, handed on to the real server at {}",
            cast.client, server.mac
        ),
        Method::Tunnel => format!(
            "client {} to {vip}, handed on in IPIP from {} to {}",
            cast.client, cast.own, server.address
        ),
        Method::Masquerade => format!(
            "client {} to {vip}, handed on with destination {}",
            cast.client,
            SocketAddr::new(server.address, port)
        ),
    };
    let (opened, passed_on) = (came(Step::Open), handed(Step::Open));
    craft.add_after(
        ("forward-open-out", Out, Must),
        format!("{} of {how}", opening(vip)),
        std::slice::from_ref(&opened),
        passed_on.clone(),
    );
    let mut before = vec![opened, passed_on];
    if method == Method::Masquerade {
        let reply = segment(
            vip.protocol,
            Step::Answer,
            (server.mac, craft.scene.mac),
            (server.address, port),
            from,
        )
        .frame;
        craft.add_after(
            ("server-reply-in", In, Must),
            format!(
                "reply of the real server {} to client {}, by way of the director",
                server.address, cast.client
            ),
            &before,
            reply.clone(),
        );
        before.push(reply);
        let link = (craft.scene.mac, cast.gateway.mac);
        let answer = segment(vip.protocol, Step::Answer, link, to, from).frame;
        craft.add_after(
            ("reply-out", Out, Must),
            format!(
                "reply to client {} with source {}",
                cast.client, vip.address
            ),
            &before,
            answer.clone(),
        );
        before.push(answer);
    }
    craft.add_after(
        ("client-data-in", In, Must),
        format!("what client {} sends then to {vip}", cast.client),
        &before,
        came(Step::Data),
    );
    before.push(came(Step::Data));
    craft.add_after(
        ("forward-data-out", Out, Must),
        format!("what follows of {how}"),
        &before,
        handed(Step::Data),
    );
    let piece = |link, to| fragment(vip.protocol, link, cast.client, to);
    let Bytes { frame, packet } = match method {
        Method::Masquerade => piece(link, server.address),
        _ => piece(link, vip.address),
    };
    let frame = match method {
        Method::Tunnel => tunnelled(link, cast.own, server.address, &packet),
        _ => frame,
    };
    craft.add(
        ("forward-fragment-out", Out, fragments(vip.protocol)),
        format!("later fragment of {how}"),
        frame,
    );
    path_error(craft, cast, vip, (server, port), &before);
}

/// A router on the way back says that the path is too narrow; the real server must hear it.
fn path_error(
    craft: &mut Craft<'_>,
    cast: &Cast,
    vip: &Vip,
    (server, port): (Station, u16),
    before: &[Vec<u8>],
) {
    let come = towards(craft, cast);
    let link = (craft.scene.mac, server.mac);
    let router = cast.gateway.address;
    let answer = |from: End| segment(vip.protocol, Step::Answer, link, from, client(cast)).packet;
    let quoted = answer(service(vip));
    let error = too_big(come, router, vip.address, &quoted).frame;
    craft.add_after(
        ("path-error-in", In, Should),
        format!("ICMP of {router} to {}: a reply is too big", vip.address),
        before,
        error.clone(),
    );
    let frame = match craft.scene.method {
        Method::Direct => too_big(link, router, vip.address, &quoted).frame,
        Method::Tunnel => {
            let inner = too_big(link, router, vip.address, &quoted).packet;
            tunnelled(link, cast.own, server.address, &inner)
        }
        Method::Masquerade => {
            let quoted = answer((server.address, port));
            too_big(link, router, server.address, &quoted).frame
        }
    };
    let mut before = before.to_vec();
    before.push(error);
    craft.add_after(
        ("forward-path-error-out", Out, Should),
        format!(
            "ICMP of {router}: a reply is too big, handed on to {}",
            server.address
        ),
        &before,
        frame,
    );
}

/// The director's own look at a real server.
fn check(craft: &mut Craft<'_>, cast: &Cast, protocol: Protocol, (server, port): (Station, u16)) {
    let link = (craft.scene.mac, server.mac);
    let own = (cast.own, 40100);
    let asked = segment(protocol, Step::Open, link, own, (server.address, port)).frame;
    craft.add(
        ("check-out", Out, Must),
        format!(
            "health check of {} by {}",
            SocketAddr::new(server.address, port),
            cast.own
        ),
        asked.clone(),
    );
    let back = (server.mac, craft.scene.mac);
    craft.add_after(
        ("check-answer-in", In, Must),
        format!(
            "answer of {} to the health check",
            SocketAddr::new(server.address, port)
        ),
        &[asked],
        segment(protocol, Step::Answer, back, (server.address, port), own).frame,
    );
}

/// What the director says to clients about their packets.
fn errors(craft: &mut Craft<'_>, cast: &Cast, vip: &Vip) {
    let come = towards(craft, cast);
    let back = (craft.scene.mac, cast.gateway.mac);
    let asked = segment(vip.protocol, Step::Open, come, client(cast), service(vip));
    let need = match craft.scene.method {
        // A tunnel's header makes packets too big that fitted before.
        Method::Tunnel => Must,
        Method::Direct | Method::Masquerade => Should,
    };
    craft.add_after(
        ("too-big-out", Out, need),
        format!(
            "ICMP of the VIP {} to client {}: the packet is too big",
            vip.address, cast.client
        ),
        std::slice::from_ref(&asked.frame),
        too_big(back, vip.address, cast.client, &asked.packet).frame,
    );
    let (kind, code) = if vip.address.is_ipv4() {
        (icmp::V4_UNREACHABLE, icmp::V4_CODE_PORT)
    } else {
        (icmp::V6_UNREACHABLE, icmp::V6_CODE_PORT)
    };
    craft.add_after(
        ("unreachable-out", Out, Should),
        format!(
            "ICMP of the VIP {} to client {}: no real server",
            vip.address, cast.client
        ),
        std::slice::from_ref(&asked.frame),
        packet(back, vip.address, cast.client)
            .icmp_error(kind, code, 0, &asked.packet)
            .build(),
    );
}
