//! The client of a scenario: sockets with exact addresses, and what becomes of what they do.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::error::{LabError, Result};
use crate::oracle::step::Flow;

/// How long a connection may take to be established: the SYN is sent anew after one second, and
/// would be again after three.
const OPEN_LIMIT: Duration = Duration::from_millis(2900);
/// How long an echo may take.
const ECHO_LIMIT: Duration = Duration::from_secs(2);
/// How long the server may take to end after the client.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// How long a port may be taken by the end of its connection before.
const PORT_LIMIT: Duration = Duration::from_secs(3);

/// What became of something that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered.
    Answered(SocketAddr),
    /// It was refused: a reset, or an ICMP error that says so.
    Refused,
    /// No answer came.
    Timeout,
    /// An ICMP error said that there is no way.
    Unreachable,
    /// The connection is no more.
    Reset,
    /// The other end ended the connection.
    Ended,
}

impl Outcome {
    /// The word of recordings for an outcome without an answer.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Answered(_) => "echo",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Ended => "closed",
        }
    }
}

/// A connection of the client.
#[derive(Debug)]
struct Connection {
    flow: Flow,
    /// None when it was never established, or was ended.
    stream: Option<TcpStream>,
}

/// All sockets of the client; made and used on one thread inside its namespace.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Runtime,
    connections: HashMap<String, Connection>,
    sockets: HashMap<String, UdpSocket>,
    /// Connections whose ID was used again: they stay open.
    replaced: Vec<Connection>,
}

impl Client {
    pub(crate) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LabError::io("cannot start the client's runtime"))?;
        Ok(Self {
            runtime,
            connections: HashMap::new(),
            sockets: HashMap::new(),
            replaced: Vec::new(),
        })
    }

    /// Opens a connection from an exact address.
    pub(crate) fn open(&mut self, flow: &Flow) -> Result<Outcome> {
        let opened = self.runtime.block_on(connect(flow))?;
        let (outcome, stream) = match opened {
            Ok(stream) => (Outcome::Answered(flow.destination), Some(stream)),
            Err(outcome) => (outcome, None),
        };
        let connection = Connection {
            flow: flow.clone(),
            stream,
        };
        let before = self.connections.insert(flow.id.clone(), connection);
        self.replaced.extend(before);
        Ok(outcome)
    }

    /// The way of a connection.
    pub(crate) fn flow(&self, id: &str) -> Option<&Flow> {
        self.connections.get(id).map(|connection| &connection.flow)
    }

    /// Ends sending, waits for the server's end, closes.
    pub(crate) fn close(&mut self, id: &str) {
        let Some(mut stream) = self.take(id) else {
            return;
        };
        self.runtime.block_on(async {
            if stream.shutdown().await.is_err() {
                return;
            }
            let mut rest = [0; 1024];
            // What still comes is of no interest; an error is an end, too.
            let end = async { while let Ok(1..) = stream.read(&mut rest).await {} };
            let _ = timeout(CLOSE_LIMIT, end).await;
        });
    }

    /// Resets.
    pub(crate) fn reset(&mut self, id: &str) -> Result<()> {
        if let Some(stream) = self.take(id) {
            stream
                .set_zero_linger()
                .map_err(LabError::io(format!("cannot reset {id}")))?;
            let _guard = self.runtime.enter();
            drop(stream);
        }
        Ok(())
    }

    fn take(&mut self, id: &str) -> Option<TcpStream> {
        self.connections.get_mut(id)?.stream.take()
    }

    /// Sends one byte and waits for one.
    pub(crate) fn send(&mut self, id: &str) -> Outcome {
        let stream = self.connections.get_mut(id);
        let Some(stream) = stream.and_then(|connection| connection.stream.as_mut()) else {
            return Outcome::Ended;
        };
        let destination = stream.peer_addr();
        let exchange = async {
            stream.write_all(b"x").await?;
            stream.read(&mut [0; 1]).await
        };
        match self
            .runtime
            .block_on(async { timeout(ECHO_LIMIT, exchange).await })
        {
            Err(_) => Outcome::Timeout,
            Ok(Ok(0)) => Outcome::Ended,
            Ok(Ok(_)) => destination.map_or(Outcome::Reset, Outcome::Answered),
            Ok(Err(error)) => outcome(&error).unwrap_or(Outcome::Reset),
        }
    }

    /// Sends a datagram and waits for an answer of the same content.
    pub(crate) fn datagram(&mut self, flow: &Flow, payload: &[u8]) -> Result<Outcome> {
        let what = || format!("cannot send from {}", flow.source);
        if !self.sockets.contains_key(&flow.id) {
            let socket = self
                .runtime
                .block_on(UdpSocket::bind(flow.source))
                .map_err(LabError::io(what()))?;
            // Without it the kernel keeps ICMP errors of unconnected sockets to itself.
            match flow.source {
                SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true),
                SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true),
            }
            .map_err(|errno| LabError::io(what())(errno.into()))?;
            self.sockets.insert(flow.id.clone(), socket);
        }
        let socket = &self.sockets[&flow.id];
        let exchange = async {
            // An error of a datagram before may be reported instead of sending this one.
            if socket.send_to(payload, flow.destination).await.is_err() {
                socket.send_to(payload, flow.destination).await?;
            }
            let mut buffer = [0; 2048];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await?;
                // Others are late answers of datagrams before.
                if &buffer[..length] == payload {
                    return Ok(from);
                }
            }
        };
        match self
            .runtime
            .block_on(async { timeout(ECHO_LIMIT, exchange).await })
        {
            Err(_) => Ok(Outcome::Timeout),
            Ok(Ok(from)) => Ok(Outcome::Answered(from)),
            Ok(Err(error)) => outcome(&error)
                .map(Ok)
                .unwrap_or_else(|| Err(LabError::io(what())(error))),
        }
    }
}

/// Connects; an outer error is one of the laboratory.
async fn connect(flow: &Flow) -> Result<Result<TcpStream, Outcome>> {
    let what = || format!("{}: cannot connect from {}", flow.id, flow.source);
    let begun = Instant::now();
    loop {
        let error = match attempt(flow).await {
            Ok(Some(stream)) => return Ok(Ok(stream)),
            Ok(None) => return Ok(Err(Outcome::Timeout)),
            Err(error) => error,
        };
        if let Some(outcome) = outcome(&error) {
            return Ok(Err(outcome));
        }
        // The client's own end of a connection before from the same port, for a second.
        let taken = matches!(
            error.kind(),
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse
        );
        if !taken || begun.elapsed() > PORT_LIMIT {
            return Err(LabError::io(what())(error));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn attempt(flow: &Flow) -> io::Result<Option<TcpStream>> {
    let socket = match flow.source {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(flow.source)?;
    match timeout(OPEN_LIMIT, socket.connect(flow.destination)).await {
        Err(_) => Ok(None),
        Ok(stream) => {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok(Some(stream))
        }
    }
}

/// What an error says about the way; none if it is about this host.
fn outcome(error: &io::Error) -> Option<Outcome> {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Some(Outcome::Refused),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected => Some(Outcome::Reset),
        io::ErrorKind::TimedOut => Some(Outcome::Timeout),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some(Outcome::Unreachable)
        }
        // Administratively prohibited; protocol unreachable; message too long for the way.
        _ if matches!(
            error.raw_os_error(),
            Some(libc::EACCES | libc::EPERM | libc::ENOPROTOOPT | libc::EMSGSIZE)
        ) =>
        {
            Some(Outcome::Unreachable)
        }
        _ => None,
    }
}
