//! Datagrams of a protocol of our own between two namespaces, and addresses that come and go.

use std::net::IpAddr;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pointsman_linux::netlink::{Netlink, NewAddress};
use pointsman_linux::netns::Temporary;
use pointsman_linux::raw_ip::{Datagram, Family, RawIp};

#[path = "support/pair.rs"]
mod pair;
use pair::{Pair, is_root};

/// VRRP's number; nothing else in the namespaces speaks it.
const PROTOCOL: u8 = 112;
const NODAD: u32 = 0x02;

fn open(namespace: &Temporary, family: Family) -> RawIp {
    let _inside = namespace.enter().expect("enter");
    let link = Netlink::new().and_then(|mut netlink| netlink.link_by_name("veth0"));
    let index = link.expect("veth0").index;
    RawIp::open(family, PROTOCOL, "veth0", index, 0xc0).expect("open")
}

fn receive(socket: &mut RawIp) -> Datagram {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(5000_u16)), Ok(1));
    socket.receive().expect("receive").expect("a datagram")
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn what_is_sent_arrives_with_its_addresses_and_hop_limit() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    for (family, source, destination, group) in [
        (Family::V4, "10.9.0.1", "10.9.0.2", "224.0.0.18"),
        (Family::V6, "fd09::1", "fd09::2", "ff02::12"),
    ] {
        let left = open(&pair.left, family);
        let mut right = open(&pair.right, family);
        right.join(address(group)).expect("join");
        right.join(address(group)).expect("join again");
        for (to, hop_limit) in [(destination, 64), (group, 255)] {
            let datagram = Datagram {
                source: address(source),
                destination: address(to),
                hop_limit,
                payload: b"hello".to_vec(),
            };
            left.send(&datagram).expect("send");
            assert_eq!(receive(&mut right), datagram);
        }
        let mixed = Datagram {
            source: address("10.9.0.1"),
            destination: address("fd09::2"),
            hop_limit: 1,
            payload: Vec::new(),
        };
        left.send(&mixed).expect_err("families differ");
    }
}

#[test]
fn addresses_come_and_go() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let index = pair.left_index();
    let _inside = pair.left.enter().expect("enter");
    let mut netlink = Netlink::new().expect("netlink");
    for (text, prefix) in [("192.0.2.7", 24), ("2001:db8::7", 128)] {
        let new = NewAddress {
            index,
            address: address(text),
            prefix,
            peer: None,
            broadcast: None,
            scope: 0,
            label: None,
            flags: NODAD,
            preferred_seconds: (prefix == 128).then_some(0),
        };
        netlink.address_add(&new).expect("add");
        netlink.address_add(&new).expect("add what is there");
        let found = netlink.addresses().expect("list");
        let found = found.iter().find(|a| a.address == new.address);
        let found = found.expect("the address");
        assert_eq!((found.index, found.prefix), (index, prefix));
        // IFA_F_DEPRECATED
        assert_eq!(found.flags & 0x20 != 0, new.preferred_seconds.is_some());
        assert!(
            netlink
                .address_delete(index, new.address, prefix)
                .expect("delete")
        );
        assert!(
            !netlink
                .address_delete(index, new.address, prefix)
                .expect("delete")
        );
    }
    let missing = NewAddress {
        index: 999,
        address: address("192.0.2.8"),
        peer: None,
        prefix: 24,
        broadcast: None,
        scope: 0,
        label: None,
        flags: 0,
        preferred_seconds: None,
    };
    let error = netlink
        .address_add(&missing)
        .expect_err("no such interface");
    assert_eq!(error.errno(), Some(libc::ENODEV), "{error}");
}
