//! What a real server sends and receives.

use std::net::SocketAddr;

use pointsman_wire::Mac;

use super::craft::{Craft, Step, client, segment, service, too_big, tunnelled};
use super::director::opening;
use super::resolution::{announcement, answer, name, question};
use super::scene::{Cast, Station, Vip};
use super::{Method, Need::Free, Need::Must, Need::MustNot, Need::Should};
use crate::route::Direction::{In, Out};

pub(super) fn kinds(craft: &mut Craft<'_>, cast: &Cast) {
    for vip in &cast.vips {
        served(craft, cast, vip);
        check(craft, cast, vip);
        if craft.scene.method != Method::Masquerade {
            silence(craft, cast, vip);
        }
    }
}

/// What the director hands over, and the answers.
fn served(craft: &mut Craft<'_>, cast: &Cast, vip: &Vip) {
    let own = craft.scene.mac;
    let director = cast.neighbour;
    let method = craft.scene.method;
    let come: (Mac, Mac) = (director.mac, own);
    let from = client(cast);
    let to = match method {
        Method::Masquerade => (cast.own, vip.port),
        _ => service(vip),
    };
    let handed = |step| {
        let bytes = segment(vip.protocol, step, come, from, to);
        match method {
            Method::Tunnel => tunnelled(come, director.address, cast.own, &bytes.packet),
            _ => bytes.frame,
        }
    };
    let how = match method {
        Method::Direct => format!("client {} to {vip}, handed over", cast.client),
        Method::Tunnel => format!(
            "client {} to {vip}, in IPIP from {} to {}",
            cast.client, director.address, cast.own
        ),
        Method::Masquerade => format!(
            "client {} to {}, translated",
            cast.client,
            SocketAddr::new(cast.own, vip.port)
        ),
    };
    let opened = handed(Step::Open);
    craft.add(
        ("handed-open-in", In, Must),
        format!("{} of {how} by the director", opening(vip)),
        opened.clone(),
    );
    // Masqueraded replies go by way of the director, others do not.
    let back = match method {
        Method::Masquerade => director.mac,
        _ => cast.gateway.mac,
    };
    let reply = segment(vip.protocol, Step::Answer, (own, back), to, from);
    craft.add_after(
        ("server-reply-out", Out, Must),
        match method {
            Method::Masquerade => format!("reply to client {} with the own source", cast.client),
            _ => format!(
                "reply to client {} with source {}",
                cast.client, vip.address
            ),
        },
        std::slice::from_ref(&opened),
        reply.frame.clone(),
    );
    let before = [opened, reply.frame];
    craft.add_after(
        ("handed-data-in", In, Must),
        format!("what follows of {how} by the director"),
        &before,
        handed(Step::Data),
    );
    let router = cast.gateway.address;
    let error = too_big(come, router, to.0, &reply.packet);
    let error = match method {
        Method::Tunnel => tunnelled(come, director.address, cast.own, &error.packet),
        _ => error.frame,
    };
    craft.add_after(
        ("handed-path-error-in", In, Should),
        format!("ICMP of {router}: a reply is too big, handed over by the director"),
        &before,
        error,
    );
}

fn check(craft: &mut Craft<'_>, cast: &Cast, vip: &Vip) {
    let (own, director) = (craft.scene.mac, cast.neighbour);
    let (asker, asked) = ((director.address, 40100), (cast.own, vip.port));
    let question = segment(vip.protocol, Step::Open, (director.mac, own), asker, asked).frame;
    craft.add(
        ("check-in", In, Must),
        format!(
            "health check of {} by the director",
            SocketAddr::new(cast.own, vip.port)
        ),
        question.clone(),
    );
    craft.add_after(
        ("check-answer-out", Out, Must),
        format!(
            "answer of {} to the health check",
            SocketAddr::new(cast.own, vip.port)
        ),
        &[question],
        segment(
            vip.protocol,
            Step::Answer,
            (own, director.mac),
            asked,
            asker,
        )
        .frame,
    );
}

/// Only the director may say where the virtual address is.
fn silence(craft: &mut Craft<'_>, cast: &Cast, vip: &Vip) {
    let address = vip.address;
    let what = name(address);
    let owner = Station {
        mac: craft.scene.mac,
        address,
    };
    craft.add(
        ("vip-asked-in", In, Free),
        format!("{what} question of the router for the VIP {address}"),
        question(cast.gateway, address),
    );
    craft.add(
        ("vip-answer-out", Out, MustNot),
        format!("{what} answer for the VIP {address}: it would take clients from the director"),
        answer(owner, cast.gateway),
    );
    craft.add(
        ("vip-announcement-out", Out, MustNot),
        format!("announcement of the VIP {address}: it would take clients from the director"),
        announcement(owner),
    );
    craft.add(
        ("vip-question-out", Out, MustNot),
        format!(
            "{what} question by the VIP {address}: neighbours learn the real server from it \
             (arp_announce)"
        ),
        question(owner, cast.gateway.address),
    );
}
