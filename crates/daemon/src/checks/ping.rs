//! `PING_CHECK`: an echo that comes back (RFC 792, RFC 4443).

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, recv,
    send, socket,
};
use pointsman_wire::checksum;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Failure, Target};

/// Bytes of an echo's header.
const HEADER: usize = 8;

/// Sends an echo request and waits for its answer.
pub(super) async fn make(target: &Target) -> Result<(), Failure> {
    let failed = |source: std::io::Error| Failure::Connect {
        to: target.to,
        source,
    };
    let (family, protocol, request, reply) = match target.to {
        SocketAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        SocketAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // Raw, as the other kind depends on who may ping.
    let socket = socket(family, SockType::Raw, flags, protocol).map_err(|e| failed(e.into()))?;
    target.prepare(&socket).map_err(failed)?;
    if let Some(from) = target.from {
        let from = SockaddrStorage::from(SocketAddr::new(from.ip(), 0));
        nix::sys::socket::bind(socket.as_raw_fd(), &from).map_err(|e| failed(e.into()))?;
    }
    // Connected, it receives from there alone.
    let to = SockaddrStorage::from(SocketAddr::new(target.to.ip(), 0));
    connect(socket.as_raw_fd(), &to).map_err(|e| failed(e.into()))?;
    let chance = crate::chance::bits().to_be_bytes();
    let mut echo = [request, 0, 0, 0, chance[0], chance[1], 0, 1, 0, 0, 0, 0];
    echo[HEADER..].copy_from_slice(&chance[2..6]);
    if target.to.is_ipv4() {
        let sum = checksum::of(&echo);
        echo[2..4].copy_from_slice(&sum.to_ne_bytes());
    }
    send(socket.as_raw_fd(), &echo, MsgFlags::empty())
        .map_err(|e| Failure::broken("sending an echo")(e.into()))?;
    // SAFETY: the descriptor is owned, and open until the registration ends.
    let watched = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
    let what = "watching a socket";
    let watched = watched.map_err(|error| Failure::broken(what)(error.into()))?;
    let mut buffer = [0; 2048];
    loop {
        let mut ready = watched
            .readable()
            .await
            .map_err(Failure::broken("waiting for an answer"))?;
        let received =
            ready.try_io(|socket| Ok(recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?));
        let length = match received {
            Err(_) => continue,
            Ok(received) => received.map_err(Failure::broken("waiting for an answer"))?,
        };
        let bytes = &buffer[..length];
        // IPv4 comes with its header.
        let header = match target.to {
            SocketAddr::V4(_) => bytes
                .first()
                .map_or(0, |first| usize::from(first & 0x0f) * 4),
            SocketAddr::V6(_) => 0,
        };
        let answer = bytes.get(header..).unwrap_or_default();
        if answer.first() == Some(&reply) && answer.get(4..12) == Some(&echo[4..12]) {
            return Ok(());
        }
    }
}
