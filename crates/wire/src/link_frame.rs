//! Frames that carry no IP or announce where an address is, and the link header of the others.

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::IntoBytes;

use crate::arp::{self, Arp};
use crate::build::Frame;
use crate::bytes::{Be16, Mac};
use crate::ethernet::{self, Ethernet, VlanTag};
use crate::icmp;

/// A frame of any EtherType; `tags` are EtherType and control word, outermost first.
pub fn ethernet_frame(
    source: Mac,
    destination: Mac,
    tags: &[(u16, u16)],
    ethertype: u16,
    payload: &[u8],
) -> Vec<u8> {
    let first = tags.first().map_or(ethertype, |tag| tag.0);
    let header = Ethernet {
        destination,
        source,
        ethertype: Be16::new(first),
    };
    let mut frame = header.as_bytes().to_vec();
    for (index, (_, control)) in tags.iter().enumerate() {
        let next = tags.get(index + 1).map_or(ethertype, |tag| tag.0);
        let tag = VlanTag {
            control: Be16::new(*control),
            ethertype: Be16::new(next),
        };
        frame.extend(tag.as_bytes());
    }
    frame.extend(payload);
    frame
}

/// The broadcast by which `sender` asks who has `target`; `sender == target` announces it.
pub fn arp_request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let message = arp_message(arp::REQUEST, (mac, sender), (Mac::default(), target));
    ethernet_frame(mac, Mac::BROADCAST, &[], ethernet::ARP, message.as_bytes())
}

/// The answer that `sender` is at `mac`, to the `target` that asked.
pub fn arp_reply(mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let message = arp_message(arp::REPLY, (mac, sender), (target_mac, target));
    ethernet_frame(mac, target_mac, &[], ethernet::ARP, message.as_bytes())
}

/// The gratuitous ARP by which `address` is announced to be at `mac`: a request, its target all ones,
/// as keepalived sends it.
pub fn arp_announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let message = arp_message(arp::REQUEST, (mac, address), (Mac::BROADCAST, address));
    ethernet_frame(mac, Mac::BROADCAST, &[], ethernet::ARP, message.as_bytes())
}

/// The unsolicited neighbor advertisement (RFC 4861) by which `address` is announced to all nodes to
/// be at `mac`; `router` says that it forwards.
pub fn neighbor_announcement(mac: Mac, address: Ipv6Addr, router: bool) -> Vec<u8> {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
    let flags = if router {
        icmp::NEIGHBOR_OVERRIDE | icmp::NEIGHBOR_ROUTER
    } else {
        icmp::NEIGHBOR_OVERRIDE
    };
    // Behind the target the option with its link-layer address: type 2, one unit of 8 bytes.
    let body = [address.octets().as_slice(), &[2, 1], &mac.0].concat();
    Frame::ipv6(address, ALL_NODES)
        .macs(mac, ALL_NODES_MAC)
        .ttl(255)
        .icmp(icmp::V6_NEIGHBOR_ADVERTISEMENT, 0, flags)
        .payload(&body)
        .build()
}

fn arp_message(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Arp {
    Arp {
        hardware: Be16::new(arp::ETHERNET),
        protocol: Be16::new(ethernet::IPV4),
        hardware_length: 6,
        protocol_length: 4,
        operation: Be16::new(operation),
        sender_mac: sender.0,
        sender: sender.1.into(),
        target_mac: target.0,
        target: target.1.into(),
    }
}
