//! Route netlink: links, addresses, routes and neighbours, asked and watched.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::deadline::Deadline;
use message::{Attributes, Message, Messages, Request, string, u32_at};

mod address;
mod link;
mod macvlan;
mod message;
mod monitor;
mod neighbour;
mod new_route;
mod nftables;
mod refusal;
mod route;
mod rule;
mod rule_trace;

pub use address::{Address, NewAddress};
pub use link::Link;
pub use monitor::{Event, Monitor};
pub use neighbour::{Neighbour, NeighbourAdded, nud};
pub use new_route::{NewHop, NewRoute};
pub use nftables::{CountingChain, CountingRule, Layer, OwnTable, Packets, handles};
pub use refusal::RefusalTable;
pub use route::{Route, RouteKind};
pub use rule::{NewRule, RuleAction};
pub use rule_trace::{RuleTraces, Step, TraceStep};

/// How long an answer may take; the kernel answers within the call, so this only ends a bug.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a dump that changed while being read is asked again.
const DUMP_ATTEMPTS: usize = 10;

const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
const NLM_F_DUMP: u16 = libc::NLM_F_DUMP as u16;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Why a netlink call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on the socket failed.
    #[error("netlink {call}: {source}")]
    Socket {
        /// The call.
        call: &'static str,
        /// What it returned.
        source: io::Error,
    },
    /// The kernel answered a request with an error.
    #[error("{request}: {source}{}", .reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default())]
    Refused {
        /// The request and what it was about, such as `RTM_GETROUTE to 10.0.0.1`.
        request: String,
        /// The errno in the answer.
        source: io::Error,
        /// The kernel's own explanation, where it gave one.
        reason: Option<String>,
    },
    /// No answer came.
    #[error("{request}: no answer from the kernel within {} s", ANSWER_TIMEOUT.as_secs())]
    TimedOut {
        /// The request.
        request: String,
    },
    /// The answer lacks what it must hold.
    #[error("{request}: the kernel's answer is unreadable")]
    Malformed {
        /// The request.
        request: String,
    },
    /// A list kept changing while it was read.
    #[error("{request}: the list changed during each of {DUMP_ATTEMPTS} attempts to read it")]
    Interrupted {
        /// The request.
        request: String,
    },
    /// The source address asked about is not one of this host.
    #[error("nothing can be sent from {address}: this network namespace does not have the address")]
    ForeignSource {
        /// The source address.
        address: IpAddr,
    },
    /// There is no such interface in this network namespace.
    #[error("no interface {name:?} in this network namespace")]
    NoSuchLink {
        /// The name asked for.
        name: String,
    },
}

impl Error {
    /// The errno behind this error, where there is one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Socket { source, .. } | Self::Refused { source, .. } => source.raw_os_error(),
            Self::NoSuchLink { .. } => Some(libc::ENODEV),
            _ => None,
        }
    }
}

/// A blocking route-netlink socket in the network namespace it was opened in.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn new() -> Result<Self, Error> {
        Self::of(NETLINK_ROUTE)
    }

    /// Opens a socket of another protocol of netlink.
    fn of(protocol: isize) -> Result<Self, Error> {
        let mut socket = Socket::new(protocol).map_err(|source| Error::Socket {
            call: "socket",
            source,
        })?;
        socket.bind_auto().map_err(|source| Error::Socket {
            call: "bind",
            source,
        })?;
        // Both only make errors better and are missing in old kernels.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Asks for a whole list and reads each message of it.
    fn dump<T>(
        &mut self,
        what: &str,
        request: &Request,
        read: impl Fn(&Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut items = Vec::new();
            if self.exchange(what, request, |message| items.extend(read(message)))? {
                return Ok(items);
            }
        }
        Err(Error::Interrupted {
            request: what.to_owned(),
        })
    }

    /// Sends a request and reads its answer to the end; false when a dump was not consistent.
    fn exchange(
        &mut self,
        what: &str,
        request: &Request,
        mut read: impl FnMut(&Message<'_>),
    ) -> Result<bool, Error> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.clone().finish(self.sequence);
        self.socket
            .send_to(&bytes, &SocketAddr::new(0, 0), 0)
            .map_err(|source| Error::Socket {
                call: "send",
                source,
            })?;

        let deadline = Deadline::after(ANSWER_TIMEOUT);
        let mut consistent = true;
        loop {
            let Some(datagram) = receive(&self.socket, deadline)? else {
                return Err(Error::TimedOut {
                    request: what.to_owned(),
                });
            };
            for message in Messages(&datagram) {
                // Late answers to a request that was given up.
                if message.sequence != self.sequence {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => {
                        return acknowledgement(what, &message).map(|()| consistent);
                    }
                    _ => read(&message),
                }
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.socket)
    }
}

/// Reads the errno and explanation that end an answer.
fn acknowledgement(what: &str, message: &Message<'_>) -> Result<(), Error> {
    let code = u32_at(message.payload, 0).map_or(0, u32::cast_signed);
    if code == 0 {
        return Ok(());
    }
    let mut reason = None;
    if message.flags & NLM_F_ACK_TLVS != 0 {
        // An error repeats the request (or its header), the end of a dump does not.
        let start = match message.kind {
            NLMSG_DONE => 4,
            _ if message.flags & NLM_F_CAPPED != 0 => 4 + 16,
            _ => 4 + (u32_at(message.payload, 4).unwrap_or(0) as usize).next_multiple_of(4),
        };
        reason = Attributes(message.payload.get(start..).unwrap_or_default())
            .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
            .map(|(_, value)| string(value));
    }
    Err(Error::Refused {
        request: what.to_owned(),
        source: io::Error::from_raw_os_error(code.wrapping_neg()),
        reason,
    })
}

/// Receives one datagram from the kernel; `None` when the deadline passed.
fn receive(socket: &Socket, deadline: Deadline) -> Result<Option<Vec<u8>>, Error> {
    loop {
        let ready = deadline
            .wait_readable(borrow(socket))
            .map_err(|source| Error::Socket {
                call: "poll",
                source,
            })?;
        if !ready {
            return Ok(None);
        }
        match socket.recv_from_full() {
            // Port 0 is the kernel; anything else was sent by some process.
            Ok((datagram, from)) if from.port_number() == 0 => return Ok(Some(datagram)),
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Err(source) => {
                return Err(Error::Socket {
                    call: "recv",
                    source,
                });
            }
        }
    }
}

fn borrow(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: the descriptor belongs to `socket`, which the result borrows.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// Names a request for error messages.
fn about(request: &str, address: IpAddr) -> String {
    format!("{request} {address}")
}
