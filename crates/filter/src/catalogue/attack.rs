//! What a guest could do to others: what filters are there to stop.

use std::net::IpAddr;

use pointsman_wire::advert::Form;
use pointsman_wire::build::{arp_reply, arp_request, ethernet_frame};
use pointsman_wire::{Frame, Mac, arp, ethernet};

use super::craft::{
    Craft, End, Link, Step, client, link_local, packet, plain, segment, service, tagged,
};
use super::resolution::{announcement, answer, router_advert};
use super::scene::{Cast, Station};
use super::vrrp::advert;
use super::{Need::Free, Need::MustNot, Part, Protocol, Role};
use crate::route::Direction::Out;

/// A link-layer address that nobody in the scene has.
const FOREIGN: Mac = Mac([0x02, 0x70, 0x6d, 0, 0xff, 0x66]);
/// The group of bridges, for spanning tree.
const BRIDGES: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0]);
/// A port that is not a virtual service's.
const OTHER_PORT: u16 = 22;

pub(super) fn kinds(craft: &mut Craft<'_>, cast: &Cast) {
    craft.part(Part::Attack);
    let talk =
        |step, link: Link, from: End, to: End| segment(Protocol::Tcp, step, link, from, to).frame;
    let mac = craft.scene.mac;
    let out = (mac, cast.gateway.mac);
    let far = (cast.gateway.address, 443);
    craft.add(
        ("foreign-mac", Out, MustNot),
        "source MAC of another host",
        talk(
            Step::Open,
            (FOREIGN, cast.gateway.mac),
            (cast.own, 40022),
            far,
        ),
    );
    addresses(craft, cast);
    for (id, address, words) in [
        ("foreign-source", cast.client, "source address of a client"),
        (
            "neighbour-source",
            cast.neighbour.address,
            "source address of a neighbour",
        ),
        (
            "gateway-source",
            cast.gateway.address,
            "source address of the router",
        ),
    ] {
        let to = match id {
            "gateway-source" => (cast.neighbour.address, 443),
            _ => far,
        };
        craft.add(
            (id, Out, MustNot),
            format!("{words}, {address}, to {}, which is no VIP", to.0),
            talk(Step::Open, out, (address, 40022), to),
        );
    }
    around_vips(craft, cast);
    craft.add(
        ("foreign-ping", Out, MustNot),
        format!(
            "echo request with the source address of a client, {}",
            cast.client
        ),
        packet(out, cast.client, cast.gateway.address)
            .echo_request(7, 1)
            .build(),
    );
    craft.add(
        ("tagged-own", Out, MustNot),
        "own address in a frame with a VLAN tag that the guest sets itself",
        tagged(&talk(Step::Open, out, (cast.own, 40022), far), 100),
    );
    craft.add(
        ("tagged-foreign-source", Out, MustNot),
        format!(
            "source address of a client, {}, behind a VLAN tag",
            cast.client
        ),
        tagged(&talk(Step::Open, out, (cast.client, 40022), far), 100),
    );
    if !craft.scene.roles.contains(&Role::Vrrp) {
        let form = Form::V3 { centiseconds: 100 };
        let own = match cast.own {
            IpAddr::V4(_) => cast.own,
            IpAddr::V6(_) => link_local(mac).into(),
        };
        let frame = advert(craft, cast, form, mac, own, 254);
        craft.add(
            ("foreign-advert", Out, MustNot),
            "VRRP advertisement of a guest that is no VRRP router",
            frame,
        );
    }
    craft.add(
        ("stp", Out, MustNot),
        "spanning tree: the guest claims to be a bridge",
        bpdu(mac),
    );
    craft.add(
        ("other-ethertype", Out, Free),
        "a frame that is neither IP nor ARP (EtherType 0x88b5)",
        plain(out, 0x88b5, &[0; 46]),
    );
}

/// Lies about which link-layer address belongs to which address.
fn addresses(craft: &mut Craft<'_>, cast: &Cast) {
    let mac = craft.scene.mac;
    let liar = |address| Station { mac, address };
    craft.add(
        ("gateway-answer", Out, MustNot),
        format!(
            "answer that the router {} is at the guest",
            cast.gateway.address
        ),
        answer(liar(cast.gateway.address), cast.neighbour),
    );
    craft.add(
        ("gateway-announcement", Out, MustNot),
        format!(
            "announcement that the router {} is at the guest",
            cast.gateway.address
        ),
        announcement(liar(cast.gateway.address)),
    );
    craft.add(
        ("neighbour-answer", Out, MustNot),
        format!(
            "answer that the neighbour {} is at the guest",
            cast.neighbour.address
        ),
        answer(liar(cast.neighbour.address), cast.gateway),
    );
    match (cast.own, cast.gateway.address) {
        (IpAddr::V4(own), IpAddr::V4(gateway)) => {
            let mut frame = arp_reply(FOREIGN, own, cast.gateway.mac, gateway);
            frame[6..12].copy_from_slice(&mac.0);
            craft.add(
                ("foreign-arp-mac", Out, MustNot),
                "ARP answer that says another MAC than its frame",
                frame,
            );
            let mut frame = arp_request(mac, gateway, own);
            frame[21] = arp::REPLY as u8;
            craft.add(
                ("gateway-broadcast-answer", Out, MustNot),
                format!("ARP answer for the router {gateway} to everybody"),
                frame,
            );
            craft.add(
                ("dhcp-server", Out, MustNot),
                "answers of a DHCP server",
                Frame::ipv4(own, [255; 4])
                    .macs(mac, Mac::BROADCAST)
                    .udp(67, 68)
                    .payload(&[2; 60])
                    .build(),
            );
        }
        _ => craft.add(
            ("router-advert", Out, MustNot),
            "router advertisement: the guest claims to be the router",
            router_advert(mac, (mac, Mac([0x33, 0x33, 0, 0, 0, 1]))),
        ),
    }
}

/// What a hole for virtual services should not let through.
fn around_vips(craft: &mut Craft<'_>, cast: &Cast) {
    let mac = craft.scene.mac;
    let talk =
        |step, link: Link, from: End, to: End| segment(Protocol::Tcp, step, link, from, to).frame;
    let client = client(cast);
    for vip in &cast.vips {
        for (server, _) in &cast.servers {
            let link = (mac, server.mac);
            craft.add(
                ("vip-other-port", Out, MustNot),
                format!(
                    "client {} to the VIP {}, port {OTHER_PORT}, which is not served",
                    cast.client, vip.address
                ),
                talk(Step::Open, link, client, (vip.address, other(vip.port))),
            );
        }
        craft.add(
            ("vip-to-others", Out, MustNot),
            format!(
                "client {} to {vip}, but to the MAC of a host that is no real server",
                cast.client
            ),
            segment(
                vip.protocol,
                Step::Open,
                (mac, cast.neighbour.mac),
                client,
                service(vip),
            )
            .frame,
        );
        craft.add(
            ("vip-source-other-port", Out, Free),
            format!(
                "source {}, by a port that is not served, to {}",
                vip.address, cast.client
            ),
            talk(
                Step::Open,
                (mac, cast.gateway.mac),
                (vip.address, 40022),
                (cast.client, 443),
            ),
        );
        craft.add(
            ("tagged-vip", Out, MustNot),
            format!("client {} to {vip} behind a VLAN tag", cast.client),
            tagged(
                &segment(
                    vip.protocol,
                    Step::Open,
                    (mac, cast.neighbour.mac),
                    client,
                    service(vip),
                )
                .frame,
                100,
            ),
        );
    }
}

fn other(port: u16) -> u16 {
    if port == OTHER_PORT { 2222 } else { OTHER_PORT }
}

/// A configuration message of a root bridge with priority 0.
fn bpdu(mac: Mac) -> Vec<u8> {
    let bridge = [&[0, 0], mac.0.as_slice()].concat();
    let body = [
        &[0x42, 0x42, 0x03, 0, 0, 0, 0, 0],
        bridge.as_slice(),
        &[0, 0, 0, 0],
        bridge.as_slice(),
        &[0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0],
    ]
    .concat();
    let length = body.len() as u16;
    debug_assert!(length < ethernet::IPV4);
    ethernet_frame(mac, BRIDGES, &[], length, &body)
}
