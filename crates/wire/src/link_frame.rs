//! Frames that carry no IP, and the link header of those that do.

use std::net::Ipv4Addr;

use zerocopy::IntoBytes;

use crate::arp::{self, Arp};
use crate::bytes::{Be16, Mac};
use crate::ethernet::{self, Ethernet, VlanTag};

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
