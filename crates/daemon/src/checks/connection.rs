//! Where a check goes, and from where.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Failure;
use super::passage::{self, Admission, Kind, Ticket};

/// Where a check goes, how, and for how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Address and port (`connect_ip`, `connect_port`); the port means nothing to pings.
    pub to: SocketAddr,
    /// The address and port it comes from (`bindto`, `bind_port`).
    pub from: Option<SocketAddr>,
    /// The interface by which it goes (`bind_if`).
    pub device: Option<String>,
    /// The firewall mark of its packets (`fwmark`), 0 for none.
    pub mark: u32,
    /// For how long the whole check may take (`connect_timeout`).
    pub timeout: Duration,
    /// The real server through which it goes to a virtual address, if it does (`vip_check`).
    pub through: Option<Through>,
}

/// A real server through which a check goes to a virtual address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Through {
    /// The real server.
    pub server: IpAddr,
    /// True when packets for the address get to it through an IP-in-IP tunnel; else they are sent to its
    /// link-layer address.
    pub is_tunnel: bool,
}

/// A check's socket, and what lets it through to a virtual address.
pub(super) struct Connected<T> {
    pub(super) socket: T,
    /// To be kept as long as the socket.
    pub(super) ticket: Option<Ticket>,
}

impl Target {
    /// A target that is reached as the routes say.
    pub fn new(to: SocketAddr, timeout: Duration) -> Self {
        Self {
            to,
            from: None,
            device: None,
            mark: 0,
            timeout,
            through: None,
        }
    }

    /// Does something within the target's time.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(Failure::TimedOut(self.timeout)),
        }
    }

    /// Connects by TCP.
    pub(super) async fn connect(&self) -> Result<Connected<TcpStream>, Failure> {
        let ticket = self.admit(Kind::Tcp).await?;
        let failed = |source| self.failed(source, ticket.as_ref());
        let new = || match self.to {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = match &ticket {
            None => new().map_err(failed)?,
            Some(ticket) => ticket.socket(new)?,
        };
        self.prepare(&socket, ticket.as_ref()).map_err(failed)?;
        if let Some(from) = self.from(ticket.as_ref()) {
            socket.set_reuseaddr(true).map_err(failed)?;
            socket.bind(from).map_err(failed)?;
        }
        let to = self.to(ticket.as_ref());
        let socket = socket.connect(to).await.map_err(failed)?;
        Ok(Connected { socket, ticket })
    }

    /// A UDP socket that talks to the target alone, so that it hears of its errors.
    pub(super) async fn datagrams(&self) -> Result<Connected<UdpSocket>, Failure> {
        let ticket = self.admit(Kind::Udp).await?;
        let failed = |source| self.failed(source, ticket.as_ref());
        let any: SocketAddr = match self.to {
            SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let from = self.from(ticket.as_ref()).unwrap_or(any);
        let new = || {
            let socket = std::net::UdpSocket::bind(from)?;
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        };
        let socket = match &ticket {
            None => new().map_err(failed)?,
            Some(ticket) => ticket.socket(new)?,
        };
        self.prepare(&socket, ticket.as_ref()).map_err(failed)?;
        let to = self.to(ticket.as_ref());
        socket.connect(to).await.map_err(failed)?;
        Ok(Connected { socket, ticket })
    }

    /// Lets a check to a virtual address through; none where it goes as the routes say.
    pub(super) async fn admit(&self, kind: Kind) -> Result<Option<Ticket>, Failure> {
        let Some(Through { server, is_tunnel }) = self.through else {
            return Ok(None);
        };
        let from = self.from.map(|from| from.ip());
        let admitted = passage::admit(kind, self.to.ip(), server, is_tunnel, from);
        Ok(match admitted.await? {
            Admission::Through(ticket) => Some(ticket),
            Admission::Here => None,
        })
    }

    /// Where it comes from.
    pub(super) fn from(&self, ticket: Option<&Ticket>) -> Option<SocketAddr> {
        ticket.map(Ticket::from).or(self.from)
    }

    /// Where it goes: what is here is asked by its own address.
    pub(super) fn to(&self, ticket: Option<&Ticket>) -> SocketAddr {
        match (self.through, ticket) {
            (Some(through), None) => SocketAddr::new(through.server, self.to.port()),
            _ => self.to,
        }
    }

    /// No connection.
    pub(super) fn failed(&self, source: std::io::Error, ticket: Option<&Ticket>) -> Failure {
        match (self.through, ticket) {
            (Some(through), Some(ticket)) if ticket.was_forwarded() => {
                let (server, vip) = (through.server, self.to.ip());
                Failure::Wrong(format!(
                    "{server} has not got {vip}: it would forward packets to it"
                ))
            }
            (Some(through), Some(_)) => Failure::Wrong(format!(
                "can't connect to {} through {}: {source}",
                self.to, through.server
            )),
            _ => Failure::Connect {
                to: self.to(ticket),
                source,
            },
        }
    }

    /// Has what the socket sends go as it was told to.
    pub(super) fn prepare(
        &self,
        socket: &impl std::os::fd::AsFd,
        ticket: Option<&Ticket>,
    ) -> std::io::Result<()> {
        if ticket.is_some() {
            // Who has not got the address must not pass it on to somebody who has.
            return match self.to {
                SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4Ttl, &1),
                SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6Ttl, &1),
            }
            .map_err(Into::into);
        }
        if self.mark != 0 {
            setsockopt(socket, sockopt::Mark, &self.mark)?;
        }
        if let Some(device) = &self.device {
            setsockopt(socket, sockopt::BindToDevice, &device.into())?;
        }
        Ok(())
    }
}
