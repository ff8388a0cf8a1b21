//! UDP sockets of BFD: one to hear with for each family, one to speak with for each session.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrIn6, SockaddrStorage,
    bind, recvmsg, setsockopt, socket, sockopt,
};
use pointsman_ha::bfd::SessionConfig;
use pointsman_wire::bfd;

/// Internetwork control, as FRR sends.
const CLASS: i32 = 0xc0;
/// Room for more than a control packet has.
const PACKET_MAX: usize = 256;

/// A packet that came in.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) source: IpAddr,
    pub(super) hop_limit: u8,
    pub(super) payload: Vec<u8>,
}

/// The socket to which all packets of one family come.
#[derive(Debug)]
pub(super) struct Listener(UdpSocket);

impl Listener {
    /// Listens at every address.
    pub(super) fn open(is_ipv6: bool) -> io::Result<Self> {
        if !is_ipv6 {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, bfd::PORT))?;
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            socket.set_nonblocking(true)?;
            return Ok(Self(socket));
        }
        // Beside the one for IPv4, which std's would shut out.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Inet6, SockType::Datagram, flags, None)?;
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        let all = std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, bfd::PORT, 0, 0);
        bind(socket.as_raw_fd(), &SockaddrIn6::from(all))?;
        Ok(Self(socket.into()))
    }

    /// The next packet, if there is one.
    pub(super) fn receive(&self) -> io::Result<Option<Received>> {
        loop {
            let mut payload = [0; PACKET_MAX];
            let mut parts = [IoSliceMut::new(&mut payload)];
            let mut control = nix::cmsg_space!(i32);
            let flags = MsgFlags::empty();
            let descriptor = self.0.as_raw_fd();
            let message =
                recvmsg::<SockaddrStorage>(descriptor, &mut parts, Some(&mut control), flags);
            let message = match message {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let hop_limit = message.cmsgs()?.find_map(|control| match control {
                ControlMessageOwned::Ipv4Ttl(limit) | ControlMessageOwned::Ipv6HopLimit(limit) => {
                    u8::try_from(limit).ok()
                }
                _ => None,
            });
            let source = message.address.as_ref().and_then(address);
            let length = message.bytes;
            // The kernel tells both of every packet.
            if let (Some(hop_limit), Some(source)) = (hop_limit, source) {
                return Ok(Some(Received {
                    source,
                    hop_limit,
                    payload: payload[..length.min(PACKET_MAX)].to_vec(),
                }));
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn address(from: &SockaddrStorage) -> Option<IpAddr> {
    match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => Some(v4.ip().into()),
        (_, Some(v6)) => Some(v6.ip().into()),
        _ => None,
    }
}

/// The socket from which one session speaks.
#[derive(Debug)]
pub(super) struct Speaker {
    socket: UdpSocket,
    to: SocketAddr,
    hop_limit: u8,
    source: Option<IpAddr>,
}

impl Speaker {
    /// Takes a port of those that RFC 5881 allows: this one if it is free, else another from `chance` on.
    pub(super) fn open(config: &SessionConfig, port: Option<u16>, chance: u32) -> io::Result<Self> {
        let is_ipv6 = config.neighbor.is_ipv6();
        let any = match is_ipv6 {
            false => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            true => Ipv6Addr::UNSPECIFIED.into(),
        };
        let from = config.source.unwrap_or(any);
        let room = u32::from(u16::MAX - bfd::SOURCE_PORT) + 1;
        let others = (0..room).map(|step| {
            let offset = (chance % room + step) % room;
            bfd::SOURCE_PORT + u16::try_from(offset).unwrap_or(0)
        });
        let mut refusal = None;
        for port in port.into_iter().chain(others) {
            match UdpSocket::bind((from, port)) {
                Ok(socket) => return Self::set(socket, config),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => refusal = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(refusal.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    fn set(socket: UdpSocket, config: &SessionConfig) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let limit = i32::from(config.hop_limit);
        if config.neighbor.is_ipv6() {
            setsockopt(&socket, sockopt::Ipv6Ttl, &limit)?;
            setsockopt(&socket, sockopt::Ipv6TClass, &CLASS)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4Ttl, &limit)?;
            setsockopt(&socket, sockopt::Ipv4Tos, &CLASS)?;
        }
        Ok(Self {
            socket,
            to: SocketAddr::new(config.neighbor, bfd::PORT),
            hop_limit: config.hop_limit,
            source: config.source,
        })
    }

    /// Whether it speaks as this configuration says.
    pub(super) fn fits(&self, config: &SessionConfig) -> bool {
        (self.to.ip(), self.hop_limit, self.source)
            == (config.neighbor, config.hop_limit, config.source)
    }

    /// The port from which it speaks.
    pub(super) fn port(&self) -> Option<u16> {
        self.socket.local_addr().ok().map(|address| address.port())
    }

    pub(super) fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.socket.send_to(payload, self.to).map(|_| ())
    }
}
