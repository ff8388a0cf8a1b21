//! How link-layer addresses are found: ARP, and neighbour discovery.

use std::net::{IpAddr, Ipv6Addr};

use pointsman_wire::build::{arp_announcement, arp_reply, arp_request, neighbor_announcement};
use pointsman_wire::{Mac, icmp};

use super::Need;
use super::craft::{Craft, Step, group_mac, link_local, packet, segment};
use super::scene::{Cast, Station};
use super::{Need::Free, Need::Must, Need::Should, Protocol};
use crate::route::Direction::{In, Out};

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// `asker` asks who has `target`: as a broadcast, or to the target's own group.
pub(super) fn question(asker: Station, target: IpAddr) -> Vec<u8> {
    match (asker.address, target) {
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let group = solicited(target);
            let body = [target.octets().as_slice(), &[1, 1], &asker.mac.0].concat();
            packet(
                (asker.mac, group_mac(group)),
                source.into(),
                IpAddr::from(group),
            )
            .ttl(255)
            .icmp(icmp::V6_NEIGHBOR_SOLICITATION, 0, 0)
            .payload(&body)
            .build()
        }
        (IpAddr::V4(source), IpAddr::V4(target)) => arp_request(asker.mac, source, target),
        _ => Vec::new(),
    }
}

/// `owner` says to `asker` that it has its address.
pub(super) fn answer(owner: Station, asker: Station) -> Vec<u8> {
    match (owner.address, asker.address) {
        (IpAddr::V4(own), IpAddr::V4(to)) => arp_reply(owner.mac, own, asker.mac, to),
        (IpAddr::V6(own), IpAddr::V6(to)) => {
            const SOLICITED: u32 = 1 << 30;
            let body = [own.octets().as_slice(), &[2, 1], &owner.mac.0].concat();
            packet((owner.mac, asker.mac), own.into(), IpAddr::from(to))
                .ttl(255)
                .icmp(
                    icmp::V6_NEIGHBOR_ADVERTISEMENT,
                    0,
                    SOLICITED | icmp::NEIGHBOR_OVERRIDE,
                )
                .payload(&body)
                .build()
        }
        _ => Vec::new(),
    }
}

/// `owner` says to everybody that it has its address.
pub(super) fn announcement(owner: Station) -> Vec<u8> {
    match owner.address {
        IpAddr::V4(address) => arp_announcement(owner.mac, address),
        IpAddr::V6(address) => neighbor_announcement(owner.mac, address, false),
    }
}

/// What the guest does on its own behalf, whatever its role.
pub(super) fn own(craft: &mut Craft<'_>, cast: &Cast) {
    let own = Station {
        mac: craft.scene.mac,
        address: cast.own,
    };
    let gateway = cast.gateway;
    let what = name(cast.own);
    craft.add(
        ("own-question-out", Out, Must),
        format!(
            "{what} question for {} by the guest's own address {}",
            gateway.address, cast.own
        ),
        question(own, gateway.address),
    );
    craft.add(
        ("own-question-answer-in", In, Must),
        format!(
            "{what} answer of {} to the guest's own address",
            gateway.address
        ),
        answer(gateway, own),
    );
    craft.add(
        ("own-asked-in", In, Must),
        format!("{what} question of others for the own address {}", cast.own),
        question(gateway, cast.own),
    );
    craft.add(
        ("own-answer-out", Out, Must),
        format!("{what} answer for the own address {}", cast.own),
        answer(own, gateway),
    );
    let talk = |step, link, from, to| segment(Protocol::Tcp, step, link, from, to).frame;
    let (near, far) = ((cast.own, 40022), (cast.gateway.address, 443));
    let opened = talk(Step::Open, (own.mac, gateway.mac), near, far);
    craft.add(
        ("own-connection-out", Out, Must),
        format!("a connection of the guest's own, from {}", cast.own),
        opened.clone(),
    );
    craft.add_after(
        ("own-connection-answer-in", In, Must),
        format!(
            "the answer to a connection of the guest's own, to {}",
            cast.own
        ),
        &[opened],
        talk(Step::Answer, (gateway.mac, own.mac), far, near),
    );
    match cast.own {
        IpAddr::V4(address) => {
            craft.add(
                ("own-probe-out", Out, Free),
                format!("ARP probe whether {address} is taken (sender 0.0.0.0)"),
                arp_request(own.mac, [0, 0, 0, 0].into(), address),
            );
            craft.add(
                ("dhcp-question-out", Out, Free),
                "DHCP discover, from 0.0.0.0",
                packet(
                    (own.mac, Mac::BROADCAST),
                    IpAddr::from([0, 0, 0, 0]),
                    IpAddr::from([255; 4]),
                )
                .udp(68, 67)
                .payload(&[1; 60])
                .build(),
            );
            craft.add(
                ("dhcp-answer-in", In, Free),
                format!("a DHCP answer of {}", gateway.address),
                packet((gateway.mac, own.mac), gateway.address, cast.own)
                    .udp(67, 68)
                    .payload(&[2; 60])
                    .build(),
            );
        }
        IpAddr::V6(_) => {
            let own = Station {
                mac: own.mac,
                address: link_local(own.mac).into(),
            };
            craft.add(
                ("link-local-question-out", Out, Must),
                format!(
                    "{what} question for {} by the link-local address {}",
                    gateway.address, own.address
                ),
                question(own, gateway.address),
            );
            craft.add(
                ("router-question-out", Out, Should),
                "router solicitation",
                packet(
                    (own.mac, group_mac(ALL_ROUTERS)),
                    own.address,
                    ALL_ROUTERS.into(),
                )
                .ttl(255)
                .icmp(133, 0, 0)
                .build(),
            );
            craft.add(
                ("router-advert-in", In, Should),
                "router advertisement",
                router_advert(gateway.mac, (gateway.mac, group_mac(ALL_NODES))),
            );
            craft.add(
                ("group-report-out", Out, Should),
                "report of the guest's groups (MLDv2), by which switches know where neighbour \
                 discovery goes",
                report(own),
            );
        }
    }
}

/// Questions for a virtual address and answers to them, as the owner of the address does it.
pub(super) fn of_vip(craft: &mut Craft<'_>, cast: &Cast, vip: IpAddr, announce: Need) {
    let what = name(vip);
    let owner = Station {
        mac: craft.vip_mac(vip.is_ipv4()),
        address: vip,
    };
    let gateway = cast.gateway;
    craft.add(
        ("vip-asked-in", In, Must),
        format!("{what} question of the router for the VIP {vip}"),
        question(gateway, vip),
    );
    craft.add(
        ("vip-answer-out", Out, Must),
        format!("{what} answer: the VIP {vip} is at {}", owner.mac),
        answer(owner, gateway),
    );
    craft.add(
        ("vip-announcement-out", Out, announce),
        match vip {
            IpAddr::V4(_) => format!("gratuitous ARP for the VIP {vip}, as a request (keepalived)"),
            IpAddr::V6(_) => format!("unsolicited neighbour advertisement for the VIP {vip}"),
        },
        announcement(owner),
    );
    if let IpAddr::V4(address) = vip {
        craft.add(
            ("vip-announcement-reply-out", Out, Should),
            format!("gratuitous ARP for the VIP {vip}, as a reply (arping -A)"),
            arp_reply(owner.mac, address, Mac::BROADCAST, address),
        );
    }
    craft.add(
        ("vip-question-out", Out, Should),
        format!(
            "{what} question for {} by the VIP {vip}, as Linux asks before it sends from the VIP",
            gateway.address
        ),
        question(owner, gateway.address),
    );
}

/// What the protocol is called.
pub(super) fn name(address: IpAddr) -> &'static str {
    if address.is_ipv4() {
        "ARP"
    } else {
        "neighbour discovery"
    }
}

/// A router advertisement: hop limit 64, for half an hour.
pub(super) fn router_advert(sender: Mac, link: (Mac, Mac)) -> Vec<u8> {
    packet(link, link_local(sender).into(), ALL_NODES.into())
        .ttl(255)
        .icmp(134, 0, 64 << 24 | 1800)
        .payload(&[0; 8])
        .build()
}

fn report(own: Station) -> Vec<u8> {
    const MLD_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    let IpAddr::V6(address) = own.address else {
        return Vec::new();
    };
    // One record: change to exclude mode, no sources, the group.
    let body = [&[4, 0, 0, 0], solicited(address).octets().as_slice()].concat();
    packet(
        (own.mac, group_mac(MLD_ROUTERS)),
        own.address,
        MLD_ROUTERS.into(),
    )
    .ttl(1)
    .extension(pointsman_wire::ipv6::HOP_BY_HOP, &[5, 2, 0, 0, 1, 0])
    .icmp(143, 0, 1)
    .payload(&body)
    .build()
}

/// The group that is asked for an address.
fn solicited(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    let low = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), low)
}
