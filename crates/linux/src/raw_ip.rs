//! Datagrams of an IP protocol without ports, on one interface.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::socket_option;
use control::{Control, Facts};

mod control;

/// Room for the largest datagram.
const DATAGRAM_MAX: usize = 65_536;

/// A call on a raw socket that failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} on interface {interface}: {source}")]
pub struct Error {
    /// The call.
    pub call: &'static str,
    /// The interface.
    pub interface: String,
    /// What it returned.
    pub source: io::Error,
}

/// The IP family of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// What follows an IP header, and what the header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub hop_limit: u8,
    /// The bytes behind the IP header.
    pub payload: Vec<u8>,
}

/// A raw socket of one protocol, bound to one interface of the network namespace it was opened in.
///
/// It never blocks. What it sends may be cut by routers (DF is not set), goes to nobody's own
/// multicast membership on this host, and has the traffic class given.
#[derive(Debug)]
pub struct RawIp {
    socket: OwnedFd,
    interface: String,
    index: u32,
    family: Family,
    buffer: Vec<u8>,
}

impl RawIp {
    /// Opens a socket for `protocol` on the interface `name`, whose number is `index`; what it sends has
    /// `traffic_class` (DSCP and ECN).
    pub fn open(
        family: Family,
        protocol: u8,
        name: &str,
        index: u32,
        traffic_class: u8,
    ) -> Result<Self, Error> {
        let domain = match family {
            Family::V4 => libc::AF_INET,
            Family::V6 => libc::AF_INET6,
        };
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: the call takes no pointers.
        let socket = unsafe { libc::socket(domain, kind, i32::from(protocol)) };
        if socket < 0 {
            return Err(Error {
                call: "socket(SOCK_RAW)",
                interface: name.to_owned(),
                source: io::Error::last_os_error(),
            });
        }
        let socket = Self {
            // SAFETY: the descriptor is new and nobody else's.
            socket: unsafe { OwnedFd::from_raw_fd(socket) },
            interface: name.to_owned(),
            index,
            family,
            buffer: vec![0; DATAGRAM_MAX],
        };
        socket.bind()?;
        let class = i32::from(traffic_class);
        match family {
            Family::V4 => {
                let ip = libc::IPPROTO_IP;
                socket.set(ip, libc::IP_TOS, &class, "IP_TOS")?;
                let never = libc::IP_PMTUDISC_DONT;
                socket.set(ip, libc::IP_MTU_DISCOVER, &never, "IP_MTU_DISCOVER")?;
                socket.set(ip, libc::IP_MULTICAST_LOOP, &0_i32, "IP_MULTICAST_LOOP")?;
                // Only the groups joined here, not those of any other program.
                socket.set(ip, libc::IP_MULTICAST_ALL, &0_i32, "IP_MULTICAST_ALL")?;
                let request = socket.request(Ipv4Addr::UNSPECIFIED);
                socket.set(ip, libc::IP_MULTICAST_IF, &request, "IP_MULTICAST_IF")?;
            }
            Family::V6 => {
                let ip = libc::IPPROTO_IPV6;
                socket.set(ip, libc::IPV6_TCLASS, &class, "IPV6_TCLASS")?;
                let none = 0_i32;
                socket.set(ip, libc::IPV6_MULTICAST_LOOP, &none, "IPV6_MULTICAST_LOOP")?;
                socket.set(ip, libc::IPV6_MULTICAST_ALL, &none, "IPV6_MULTICAST_ALL")?;
                let index = index.cast_signed();
                socket.set(ip, libc::IPV6_MULTICAST_IF, &index, "IPV6_MULTICAST_IF")?;
                socket.set(ip, libc::IPV6_RECVPKTINFO, &1_i32, "IPV6_RECVPKTINFO")?;
                socket.set(ip, libc::IPV6_RECVHOPLIMIT, &1_i32, "IPV6_RECVHOPLIMIT")?;
            }
        }
        Ok(socket)
    }

    /// The interface's number.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Joins a multicast group on the interface.
    pub fn join(&self, group: IpAddr) -> Result<(), Error> {
        let (v4, v6) = (libc::IP_ADD_MEMBERSHIP, libc::IPV6_ADD_MEMBERSHIP);
        match self.member(group, v4, v6, "joining a group") {
            Err(error) if error.source.raw_os_error() == Some(libc::EADDRINUSE) => Ok(()),
            joined => joined,
        }
    }

    /// Leaves a multicast group, if it was joined.
    pub fn leave(&self, group: IpAddr) -> Result<(), Error> {
        let (v4, v6) = (libc::IP_DROP_MEMBERSHIP, libc::IPV6_DROP_MEMBERSHIP);
        match self.member(group, v4, v6, "leaving a group") {
            Err(error) if error.source.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            left => left,
        }
    }

    fn member(&self, group: IpAddr, v4: i32, v6: i32, call: &'static str) -> Result<(), Error> {
        match group {
            IpAddr::V4(group) => {
                let request = libc::ip_mreqn {
                    imr_multiaddr: in_addr(group),
                    ..self.request(Ipv4Addr::UNSPECIFIED)
                };
                self.set(libc::IPPROTO_IP, v4, &request, call)
            }
            IpAddr::V6(group) => {
                let request = libc::ipv6_mreq {
                    ipv6mr_multiaddr: in6_addr(group),
                    ipv6mr_interface: self.index,
                };
                self.set(libc::IPPROTO_IPV6, v6, &request, call)
            }
        }
    }

    /// Sends a datagram of the socket's family, from an address of this host.
    pub fn send(&self, datagram: &Datagram) -> Result<(), Error> {
        let mut control = Control::new();
        // SAFETY: all-zero bytes are a valid value of this plain C structure.
        let mut message = unsafe { zeroed::<libc::msghdr>() };
        // SAFETY: as above.
        let (mut to4, mut to6) = unsafe {
            (
                zeroed::<libc::sockaddr_in>(),
                zeroed::<libc::sockaddr_in6>(),
            )
        };
        match (datagram.source, datagram.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                to4.sin_family = libc::AF_INET as libc::sa_family_t;
                to4.sin_addr = in_addr(destination);
                message.msg_name = (&raw mut to4).cast();
                message.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                control.leave_v4(source, self.index, datagram.hop_limit, &mut message);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                to6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                to6.sin6_addr = in6_addr(destination);
                if is_link_scoped(destination) {
                    to6.sin6_scope_id = self.index;
                }
                message.msg_name = (&raw mut to6).cast();
                message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
                control.leave_v6(source, self.index, datagram.hop_limit, &mut message);
            }
            _ => return Err(self.error("sendmsg", io::ErrorKind::InvalidInput.into())),
        }
        let mut part = libc::iovec {
            iov_base: datagram.payload.as_ptr().cast_mut().cast(),
            iov_len: datagram.payload.len(),
        };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        loop {
            // SAFETY: `message` points to live buffers with their true lengths, which are only read.
            let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, 0) };
            if sent >= 0 {
                return Ok(());
            }
            let source = io::Error::last_os_error();
            if source.kind() != io::ErrorKind::Interrupted {
                return Err(self.error("sendmsg", source));
            }
        }
    }

    /// Takes the next datagram; `None` when none is there. Fragments have been joined.
    pub fn receive(&mut self) -> Result<Option<Datagram>, Error> {
        loop {
            let mut control = Control::new();
            // SAFETY: all-zero bytes are valid values of these plain C structures.
            let (mut from, mut message) =
                unsafe { (zeroed::<libc::sockaddr_in6>(), zeroed::<libc::msghdr>()) };
            let mut part = libc::iovec {
                iov_base: self.buffer.as_mut_ptr().cast(),
                iov_len: self.buffer.len(),
            };
            message.msg_name = (&raw mut from).cast();
            message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            control.lend_to(&mut message);
            // SAFETY: `message` points to live buffers with their true lengths.
            let length = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
            let Ok(length) = usize::try_from(length) else {
                let source = io::Error::last_os_error();
                match source.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock => return Ok(None),
                    _ => return Err(self.error("recvmsg", source)),
                }
            };
            let bytes = &self.buffer[..length.min(self.buffer.len())];
            let datagram = match self.family {
                Family::V4 => with_header(bytes),
                Family::V6 => {
                    let source = Ipv6Addr::from(from.sin6_addr.s6_addr);
                    without_header(bytes, source, &control.read(&message))
                }
            };
            // What has no whole header did not come from the kernel's IP.
            if datagram.is_some() {
                return Ok(datagram);
            }
        }
    }

    fn bind(&self) -> Result<(), Error> {
        let call = "setsockopt(SO_BINDTODEVICE)";
        // SAFETY: the pointer and length are those of the name.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                self.interface.as_ptr().cast(),
                self.interface.len() as libc::socklen_t,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(self.error(call, io::Error::last_os_error())),
        }
    }

    fn request(&self, address: Ipv4Addr) -> libc::ip_mreqn {
        libc::ip_mreqn {
            imr_multiaddr: in_addr(address),
            imr_address: in_addr(Ipv4Addr::UNSPECIFIED),
            imr_ifindex: self.index.cast_signed(),
        }
    }

    fn set<T: Copy>(
        &self,
        level: i32,
        option: i32,
        value: &T,
        call: &'static str,
    ) -> Result<(), Error> {
        let set = socket_option::set(&self.socket, level, option, value);
        set.map_err(|source| self.error(call, source))
    }

    fn error(&self, call: &'static str, source: io::Error) -> Error {
        Error {
            call,
            interface: self.interface.clone(),
            source,
        }
    }
}

impl AsFd for RawIp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for RawIp {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// An IPv4 datagram, which comes with its header.
fn with_header(bytes: &[u8]) -> Option<Datagram> {
    let octets = |at: usize| <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok();
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    Some(Datagram {
        source: octets(12)?.into(),
        destination: octets(16)?.into(),
        hop_limit: *bytes.get(8)?,
        payload: bytes.get(header..)?.to_vec(),
    })
}

/// An IPv6 datagram, whose header's facts come beside it.
fn without_header(bytes: &[u8], source: Ipv6Addr, facts: &Facts) -> Option<Datagram> {
    Some(Datagram {
        source: source.into(),
        destination: facts.destination?.into(),
        hop_limit: facts.hop_limit?,
        payload: bytes.to_vec(),
    })
}

fn in_addr(address: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(address.octets()),
    }
}

fn in6_addr(address: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr {
        s6_addr: address.octets(),
    }
}

/// True for addresses that mean something on one link only.
fn is_link_scoped(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.octets();
    address.is_unicast_link_local() || (first == 0xff && second & 0x0f == 2)
}
