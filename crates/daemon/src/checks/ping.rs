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

use super::passage::Kind;
use super::{Failure, Target};

/// Bytes of an echo's header.
const HEADER: usize = 8;

/// Sends an echo request and waits for its answer.
pub(super) async fn make(target: &Target) -> Result<(), Failure> {
    let ticket = target.admit(Kind::Ping).await?;
    let failed = |source| target.failed(source, ticket.as_ref());
    let (family, protocol, request, reply) = match target.to {
        SocketAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        SocketAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // Raw, as the other kind depends on who may ping.
    let new = || Ok(socket(family, SockType::Raw, flags, protocol)?);
    let socket = match &ticket {
        None => new().map_err(failed)?,
        Some(ticket) => ticket.socket(new)?,
    };
    target.prepare(&socket, ticket.as_ref()).map_err(failed)?;
    if let Some(from) = target.from(ticket.as_ref()) {
        let from = SockaddrStorage::from(SocketAddr::new(from.ip(), 0));
        nix::sys::socket::bind(socket.as_raw_fd(), &from).map_err(|e| failed(e.into()))?;
    }
    // Connected, it receives from there alone.
    let to = target.to(ticket.as_ref()).ip();
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    connect(socket.as_raw_fd(), &to).map_err(|e| failed(e.into()))?;
    let chance = crate::chance::bits().to_be_bytes();
    let number = match &ticket {
        Some(ticket) => ticket.from().port().to_be_bytes(),
        None => [chance[0], chance[1]],
    };
    let mut echo = [request, 0, 0, 0, number[0], number[1], 0, 1, 0, 0, 0, 0];
    echo[HEADER..].copy_from_slice(&chance[2..6]);
    if target.to.is_ipv4() {
        let sum = checksum::of(&echo);
        echo[2..4].copy_from_slice(&sum.to_ne_bytes());
    }
    send(socket.as_raw_fd(), &echo, MsgFlags::empty())
        .map_err(|e| Failure::broken("sending an echo")(e.into()))?;
    // "Unreachable" is an error, and nothing to be read.
    let news = Interest::READABLE | Interest::ERROR;
    // SAFETY: the descriptor is owned, and open until the registration ends.
    let watched = unsafe { AsyncFd::register_with_interest(socket, news) };
    let what = "watching a socket";
    let watched = watched.map_err(|error| Failure::broken(what)(error.into()))?;
    let mut buffer = [0; 2048];
    loop {
        let mut ready = watched
            .ready(news)
            .await
            .map_err(Failure::broken("waiting for an answer"))?;
        let received =
            ready.try_io(|socket| Ok(recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?));
        let length = match received {
            Err(_) => continue,
            Ok(Err(error)) if ticket.is_some() => return Err(failed(error)),
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
