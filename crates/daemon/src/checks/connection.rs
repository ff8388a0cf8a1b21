//! Where a check goes, and from where.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::Failure;

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
    pub(super) async fn connect(&self) -> Result<TcpStream, Failure> {
        let failed = |source| Failure::Connect {
            to: self.to,
            source,
        };
        let socket = match self.to {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(failed)?;
        self.prepare(&socket).map_err(failed)?;
        if let Some(from) = self.from {
            socket.set_reuseaddr(true).map_err(failed)?;
            socket.bind(from).map_err(failed)?;
        }
        socket.connect(self.to).await.map_err(failed)
    }

    /// A UDP socket that talks to the target alone, so that it hears of its errors.
    pub(super) async fn datagrams(&self) -> Result<UdpSocket, Failure> {
        let failed = |source| Failure::Connect {
            to: self.to,
            source,
        };
        let any: SocketAddr = match self.to {
            SocketAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(self.from.unwrap_or(any))
            .await
            .map_err(failed)?;
        self.prepare(&socket).map_err(failed)?;
        socket.connect(self.to).await.map_err(failed)?;
        Ok(socket)
    }

    /// Has what the socket sends go as it was told to.
    pub(super) fn prepare(&self, socket: &impl std::os::fd::AsFd) -> std::io::Result<()> {
        if self.mark != 0 {
            setsockopt(socket, sockopt::Mark, &self.mark)?;
        }
        if let Some(device) = &self.device {
            setsockopt(socket, sockopt::BindToDevice, &device.into())?;
        }
        Ok(())
    }
}
