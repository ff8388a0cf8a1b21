//! The real servers of a scenario: every port echoes, and tells out of band who was asked.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::Interest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use crate::error::{LabError, Result};
use crate::oracle::site::{Site, server_addresses};
use crate::topology::Role;
use crate::{namespace, responder};

/// Something that a real server saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A connection was established.
    Accepted(Ends),
    /// A connection ended, in whatever way.
    Ended(Ends),
    /// A datagram came.
    Datagram {
        /// Between whom.
        ends: Ends,
        /// What was in it.
        payload: Vec<u8>,
    },
}

/// The two ends of a connection or datagram, as the real server sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Number of the real server.
    pub(crate) server: u8,
    /// Its port.
    pub(crate) port: u16,
    /// The client's end.
    pub(crate) peer: SocketAddr,
}

impl Ends {
    /// The real server's own address, in the client's family, and the port.
    pub(crate) fn server_address(&self) -> SocketAddr {
        let [four, six] = server_addresses(self.server).unwrap_or([IpAddr::from([0; 4]); 2]);
        let address = if self.peer.is_ipv4() { four } else { six };
        SocketAddr::new(address, self.port)
    }
}

/// All real servers of a site; dropping it closes their sockets.
#[derive(Debug)]
pub(crate) struct Servers {
    events: Receiver<Event>,
    /// Events that came while another was waited for.
    kept: Vec<Event>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Sockets {
    server: u8,
    listeners: Vec<(u16, TcpListener)>,
    datagrams: Vec<(u16, UdpSocket)>,
}

impl Servers {
    /// Listens on every port of every real server.
    pub(crate) fn start(site: &Site, ports: &BTreeSet<u16>) -> Result<Self> {
        let mut all = Vec::new();
        for server in 1..=site.servers() {
            let name = site.namespace(Role::RealServer(server));
            all.push(namespace::run_in(&name, || open(server, ports))??);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LabError::io("cannot start the real servers' runtime"))?;
        let (send, events) = channel();
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = channel();
        let thread = thread::Builder::new()
            .name("real-servers".to_owned())
            .spawn(move || {
                let tasks = tokio::task::LocalSet::new();
                let begun = runtime.block_on(tasks.run_until(async { spawn_all(all, &send) }));
                let good = begun.is_ok();
                let _ = ready.send(begun);
                if good {
                    let _ = runtime.block_on(tasks.run_until(stopped));
                }
            })
            .map_err(LabError::io("cannot start the real servers"))?;
        let servers = Self {
            events,
            kept: Vec::new(),
            stop: Some(stop),
            thread: Some(thread),
        };
        started
            .recv()
            .map_err(|_| LabError::Answer("the real servers ended early".to_owned()))?
            .map_err(LabError::io("the real servers cannot serve"))?;
        Ok(servers)
    }

    /// Waits for an event that fits; `None` if none came in time.
    pub(crate) fn wait(&mut self, limit: Duration, fits: impl Fn(&Event) -> bool) -> Option<Event> {
        if let Some(at) = self.kept.iter().position(&fits) {
            return Some(self.kept.remove(at));
        }
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left).ok()?;
            if fits(&event) {
                return Some(event);
            }
            self.kept.push(event);
        }
    }

    /// Forgets what nobody waited for.
    pub(crate) fn forget(&mut self) {
        self.kept.clear();
        while self.events.try_recv().is_ok() {}
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(server: u8, ports: &BTreeSet<u16>) -> Result<Sockets> {
    let mut sockets = Sockets {
        server,
        listeners: Vec::new(),
        datagrams: Vec::new(),
    };
    for port in ports {
        let what = || format!("real server {server} cannot listen on port {port}");
        let listener = TcpListener::bind(("::", *port)).map_err(LabError::io(what()))?;
        let socket = UdpSocket::bind(("::", *port)).map_err(LabError::io(what()))?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)
            .map_err(|errno| LabError::io(what())(errno.into()))?;
        for result in [listener.set_nonblocking(true), socket.set_nonblocking(true)] {
            result.map_err(LabError::io(what()))?;
        }
        sockets.listeners.push((*port, listener));
        sockets.datagrams.push((*port, socket));
    }
    Ok(sockets)
}

fn spawn_all(all: Vec<Sockets>, events: &Sender<Event>) -> io::Result<()> {
    for sockets in all {
        let server = sockets.server;
        for (port, listener) in sockets.listeners {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            tokio::task::spawn_local(accept(listener, server, port, events.clone()));
        }
        for (port, socket) in sockets.datagrams {
            let socket = tokio::net::UdpSocket::from_std(socket)?;
            tokio::task::spawn_local(answer(socket, server, port, events.clone()));
        }
    }
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, server: u8, port: u16, events: Sender<Event>) {
    let events = Rc::new(events);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // The connection went away before it was accepted.
            tokio::task::yield_now().await;
            continue;
        };
        let ends = Ends {
            server,
            port,
            peer: canonical(peer),
        };
        let _ = events.send(Event::Accepted(ends));
        let events = Rc::clone(&events);
        tokio::task::spawn_local(async move {
            echo(stream).await;
            let _ = events.send(Event::Ended(ends));
        });
    }
}

/// Gives back what comes, until the client ends.
async fn echo(mut stream: tokio::net::TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

async fn answer(socket: tokio::net::UdpSocket, server: u8, port: u16, events: Sender<Event>) {
    let mut buffer = vec![0; 65_536];
    loop {
        let exchange = socket
            .async_io(Interest::READABLE, || {
                responder::answer_one(socket.as_raw_fd(), b"", &mut buffer).map_err(io::Error::from)
            })
            .await;
        match exchange {
            Ok(Some(exchange)) => {
                let ends = Ends {
                    server,
                    port,
                    peer: canonical(exchange.peer),
                };
                let payload = buffer[..exchange.length].to_vec();
                let _ = events.send(Event::Datagram { ends, payload });
            }
            // A datagram without a sender, or an ICMP error of an earlier answer.
            Ok(None) | Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// An IPv4 address that came through a dual-stack socket, as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
