//! What a guest sends and receives that has a virtual address while it is master.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::advert::{Authentication, ChecksumStyle, Form};
use pointsman_wire::{Advert, Mac, vrrp};

use super::craft::{Craft, Step, client, link_local, packet, segment, service, too_big};
use super::director::opening;
use super::resolution;
use super::scene::{Cast, Vip};
use super::{Need::Must, Need::Should, Role};
use crate::route::Direction::{In, Out};

/// Link-layer address of the group of all VRRP routers.
const GROUP_MAC_V4: Mac = Mac([0x01, 0, 0x5e, 0, 0, 0x12]);
const GROUP_MAC_V6: Mac = Mac([0x33, 0x33, 0, 0, 0, 0x12]);

pub(super) fn kinds(craft: &mut Craft<'_>, cast: &Cast) {
    adverts(craft, cast);
    for vip in &cast.vips {
        resolution::of_vip(craft, cast, vip.address, Must);
        // A director hands on what others serve.
        if !craft.scene.roles.contains(&Role::Director) {
            served(craft, cast, vip);
        }
    }
}

fn adverts(craft: &mut Craft<'_>, cast: &Cast) {
    let v4 = cast.own.is_ipv4();
    let source = |mac: Mac, address: IpAddr| if v4 { address } else { link_local(mac).into() };
    let own = source(craft.scene.mac, cast.own);
    let peer = source(cast.neighbour.mac, cast.neighbour.address);
    let mac = craft.vip_mac(v4);
    let peer_mac = if craft.scene.vmac {
        mac
    } else {
        cast.neighbour.mac
    };
    let second = Form::V2 {
        authentication: Authentication::None,
        seconds: 1,
    };
    let third = Form::V3 { centiseconds: 100 };
    let forms: &[(Form, [&'static str; 2])] = &[
        (second, ["advert-v2-out", "advert-v2-in"]),
        (third, ["advert-v3-out", "advert-v3-in"]),
    ];
    // Version 2 has no IPv6.
    for (form, [out, in_]) in &forms[usize::from(!v4)..] {
        let version = form.version();
        craft.add(
            (out, Out, Must),
            format!(
                "VRRPv{version} advertisement of virtual router {} from {own} at {mac}",
                craft.scene.vrid
            ),
            advert(craft, cast, *form, mac, own, 150),
        );
        craft.add(
            (in_, In, Must),
            format!("VRRPv{version} advertisement of another router, {peer} at {peer_mac}"),
            advert(craft, cast, *form, peer_mac, peer, 100),
        );
    }
}

/// An advertisement of all virtual addresses of a family.
pub(super) fn advert(
    craft: &Craft<'_>,
    cast: &Cast,
    form: Form,
    mac: Mac,
    source: IpAddr,
    priority: u8,
) -> Vec<u8> {
    let mut addresses: Vec<IpAddr> = cast.vips.iter().map(|vip| vip.address).collect();
    addresses.dedup();
    let (group, group_mac): (IpAddr, Mac) = if source.is_ipv4() {
        (Ipv4Addr::from(vrrp::GROUP_V4).into(), GROUP_MAC_V4)
    } else {
        (Ipv6Addr::from(vrrp::GROUP_V6).into(), GROUP_MAC_V6)
    };
    let advert = Advert {
        form,
        vrid: craft.scene.vrid,
        priority,
        addresses,
    };
    packet((mac, group_mac), source, group)
        .vrrp(&advert, ChecksumStyle::PseudoHeader)
        .build()
}

/// What the guest serves itself under the virtual address.
fn served(craft: &mut Craft<'_>, cast: &Cast, vip: &Vip) {
    let v4 = vip.address.is_ipv4();
    let come = (cast.gateway.mac, craft.vip_mac(v4));
    let go = (craft.scene.mac, cast.gateway.mac);
    let (from, to) = (client(cast), service(vip));
    let opened = segment(vip.protocol, Step::Open, come, from, to).frame;
    craft.add(
        ("client-open-in", In, Must),
        format!("{} of client {} to {vip}", opening(vip), cast.client),
        opened.clone(),
    );
    let reply = segment(vip.protocol, Step::Answer, go, to, from);
    craft.add_after(
        ("reply-out", Out, Must),
        format!(
            "reply to client {} with source {}",
            cast.client, vip.address
        ),
        std::slice::from_ref(&opened),
        reply.frame.clone(),
    );
    let before = [opened, reply.frame];
    craft.add_after(
        ("client-data-in", In, Must),
        format!("what client {} sends then to {vip}", cast.client),
        &before,
        segment(vip.protocol, Step::Data, come, from, to).frame,
    );
    let router = cast.gateway.address;
    craft.add_after(
        ("path-error-in", In, Should),
        format!("ICMP of {router} to {}: a reply is too big", vip.address),
        &before,
        too_big(come, router, vip.address, &reply.packet).frame,
    );
}
