//! Probes: connections and datagrams from the client to the virtual service.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::TcpMaxSeg;
use pointsman_linux::netns::NetNs;
use pointsman_path::diagnosis::Outcome;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long each step of a probe may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a request where nobody says how large a segment is.
const REQUEST: usize = 1400;
/// Bytes of the largest request.
const LARGEST: usize = 9000;

/// What is sent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Probe {
    /// Where to.
    pub(super) service: SocketAddr,
    /// From where, if it is told.
    pub(super) client: Option<IpAddr>,
    /// Datagrams instead of connections.
    pub(super) udp: bool,
    /// How many, all at once.
    pub(super) count: usize,
    /// The port of the first one, the next one's following; any ports if nothing is told.
    #[serde(default)]
    pub(super) ports: Option<u16>,
}

impl Probe {
    /// What is sent, in words.
    pub(super) fn words(&self, asker: &str) -> String {
        let what = if self.udp {
            "datagrams"
        } else {
            "connections with an HTTP request each"
        };
        let from = self
            .client
            .map_or_else(|| asker.to_owned(), |client| client.to_string());
        format!("{} {what} from {from} to {}", self.count, self.service)
    }

    /// Sends everything from a namespace, or from here, and tells how it ended.
    pub(super) fn send(self, netns: Option<&NetNs>) -> Result<Vec<Outcome>> {
        match netns {
            Some(netns) => netns.run_in(|| self.send_here())?,
            None => self.send_here(),
        }
    }

    fn send_here(self) -> Result<Vec<Outcome>> {
        // Sockets belong to the namespace of the thread that makes them: one thread makes them all.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot probe")?;
        Ok(runtime.block_on(async {
            let tasks: Vec<_> = (0..self.count)
                .map(|number| tokio::spawn(self.one(number)))
                .collect();
            let mut outcomes = Vec::new();
            for task in tasks {
                outcomes.push(match task.await {
                    Ok(outcome) => outcome,
                    Err(error) => Outcome::Failed(error.to_string()),
                });
            }
            outcomes
        }))
    }

    async fn one(self, number: usize) -> Outcome {
        let outcome = if self.udp {
            self.datagram(number).await
        } else {
            self.connection(number).await
        };
        outcome.unwrap_or_else(|error| match error.kind() {
            ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Outcome::Refused,
            ErrorKind::TimedOut => Outcome::TimedOut,
            _ => Outcome::Failed(error.to_string()),
        })
    }

    /// The first of so many ports in a row that nobody uses.
    pub(super) fn free_ports(
        client: IpAddr,
        udp: bool,
        count: usize,
        netns: Option<&NetNs>,
    ) -> Result<u16> {
        let look = || {
            let chance = RandomState::new().build_hasher().finish();
            // Above what kernels give by themselves where they are set as usual, below what NAT takes.
            let start = u16::try_from(chance % 4000).unwrap_or_default();
            let mut firsts = (0..64).map(|turn| 61_000 + (start + turn * 61) % 4000);
            firsts.find(|first| {
                (0..count).all(|number| {
                    let end = SocketAddr::new(client, port_of(*first, number));
                    match udp {
                        true => std::net::UdpSocket::bind(end).is_ok(),
                        false => std::net::TcpListener::bind(end).is_ok(),
                    }
                })
            })
        };
        let found = match netns {
            Some(netns) => netns.run_in(look)?,
            None => look(),
        };
        found.with_context(|| format!("{client} has no {count} free ports in a row"))
    }

    fn source(&self, number: usize) -> SocketAddr {
        let any: IpAddr = match self.service {
            SocketAddr::V4(_) => [0, 0, 0, 0].into(),
            SocketAddr::V6(_) => [0_u16; 8].into(),
        };
        let port = self.ports.map_or(0, |first| port_of(first, number));
        SocketAddr::new(self.client.unwrap_or(any), port)
    }

    async fn connection(self, number: usize) -> std::io::Result<Outcome> {
        let socket = match self.service {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(self.source(number))?;
        let mut stream: TcpStream = match timeout(PATIENCE, socket.connect(self.service)).await {
            Ok(connected) => connected?,
            Err(_) => return Ok(Outcome::TimedOut),
        };
        // A full segment, so that links and tunnels that are too narrow show.
        let segment = getsockopt(&stream, TcpMaxSeg).map_or(REQUEST, |bytes| bytes as usize);
        let segment = segment.min(LARGEST);
        let mut request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nX-Probe: ",
            self.service
        );
        while request.len() + 4 < segment {
            request.push('p');
        }
        request.push_str("\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = [0; 256];
        // Anything is an answer, the end of the connection too.
        Ok(match timeout(PATIENCE, stream.read(&mut answer)).await {
            Ok(read) => {
                read?;
                Outcome::Answered
            }
            Err(_) => Outcome::Hung,
        })
    }

    async fn datagram(self, number: usize) -> std::io::Result<Outcome> {
        let socket = UdpSocket::bind(self.source(number)).await?;
        socket.connect(self.service).await?;
        socket
            .send(format!("pointsman probe {number}\n").as_bytes())
            .await?;
        let mut answer = [0; 256];
        Ok(match timeout(PATIENCE, socket.recv(&mut answer)).await {
            Ok(read) => {
                read?;
                Outcome::Answered
            }
            Err(_) => Outcome::TimedOut,
        })
    }
}

/// The port of a probe.
fn port_of(first: u16, number: usize) -> u16 {
    first.saturating_add(u16::try_from(number).unwrap_or(u16::MAX))
}
