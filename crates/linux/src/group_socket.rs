//! UDP to and from a multicast group, on one interface.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
    sockopt::{BindToDevice, RcvBufForce, ReuseAddr},
};

use crate::socket_option;

/// A socket that sends to `group` by the interface `name`, whose number is `index`, with this time to
/// live. Nobody on this host hears it. Its source is the interface's address.
///
/// # Errors
///
/// When the kernel refuses, e.g. because the interface has no address.
pub fn sender(name: &str, index: u32, group: SocketAddr, ttl: u8) -> io::Result<UdpSocket> {
    let socket = open(name, group)?;
    let ttl = i32::from(ttl);
    match group {
        SocketAddr::V4(_) => {
            let ip = libc::IPPROTO_IP;
            socket_option::set(&socket, ip, libc::IP_MULTICAST_LOOP, &0_i32)?;
            socket_option::set(&socket, ip, libc::IP_MULTICAST_TTL, &ttl)?;
            let never = libc::IP_PMTUDISC_DONT;
            socket_option::set(&socket, ip, libc::IP_MTU_DISCOVER, &never)?;
            let request = request(Ipv4Addr::UNSPECIFIED, index);
            socket_option::set(&socket, ip, libc::IP_MULTICAST_IF, &request)?;
        }
        SocketAddr::V6(_) => {
            let ip = libc::IPPROTO_IPV6;
            socket_option::set(&socket, ip, libc::IPV6_MULTICAST_LOOP, &0_i32)?;
            socket_option::set(&socket, ip, libc::IPV6_MULTICAST_HOPS, &ttl)?;
            let never = libc::IPV6_PMTUDISC_DONT;
            socket_option::set(&socket, ip, libc::IPV6_MTU_DISCOVER, &never)?;
            let index = index.cast_signed();
            socket_option::set(&socket, ip, libc::IPV6_MULTICAST_IF, &index)?;
        }
    }
    connect(socket.as_raw_fd(), &scoped(group, index))?;
    Ok(UdpSocket::from(socket))
}

/// A socket that hears `group` at the interface `name`, whose number is `index`, with room for `room`
/// bytes that wait.
///
/// # Errors
///
/// When the kernel refuses.
pub fn receiver(name: &str, index: u32, group: SocketAddr, room: usize) -> io::Result<UdpSocket> {
    let socket = open(name, group)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    // More than the host's limit takes a privilege that not every container has.
    let _ = setsockopt(&socket, RcvBufForce, &room);
    bind(socket.as_raw_fd(), &scoped(group, index))?;
    match group.ip() {
        IpAddr::V4(group) => {
            let ip = libc::IPPROTO_IP;
            socket_option::set(&socket, ip, libc::IP_MULTICAST_ALL, &0_i32)?;
            let request = request(group, index);
            socket_option::set(&socket, ip, libc::IP_ADD_MEMBERSHIP, &request)?;
        }
        IpAddr::V6(group) => {
            let ip = libc::IPPROTO_IPV6;
            socket_option::set(&socket, ip, libc::IPV6_MULTICAST_ALL, &0_i32)?;
            let request = libc::ipv6_mreq {
                ipv6mr_multiaddr: libc::in6_addr {
                    s6_addr: group.octets(),
                },
                ipv6mr_interface: index,
            };
            socket_option::set(&socket, ip, libc::IPV6_ADD_MEMBERSHIP, &request)?;
        }
    }
    Ok(UdpSocket::from(socket))
}

/// A socket that never blocks, bound to an interface.
fn open(name: &str, group: SocketAddr) -> io::Result<OwnedFd> {
    let family = match group {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    setsockopt(&socket, BindToDevice, &name.into())?;
    Ok(socket)
}

fn scoped(group: SocketAddr, index: u32) -> SockaddrStorage {
    match group {
        SocketAddr::V4(group) => group.into(),
        SocketAddr::V6(group) => SocketAddrV6::new(*group.ip(), group.port(), 0, index).into(),
    }
}

fn request(group: Ipv4Addr, index: u32) -> libc::ip_mreqn {
    let address = |address: Ipv4Addr| libc::in_addr {
        s_addr: u32::from_ne_bytes(address.octets()),
    };
    libc::ip_mreqn {
        imr_multiaddr: address(group),
        imr_address: address(Ipv4Addr::UNSPECIFIED),
        imr_ifindex: index.cast_signed(),
    }
}
