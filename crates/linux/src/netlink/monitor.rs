//! Changes of links, addresses, routes and neighbours as they happen.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};

use super::message::{Message, Messages, ip};
use super::{Address, Error, Link, Neighbour, borrow, receive};
use crate::deadline::Deadline;

/// Bytes of unread events the kernel keeps before it drops some.
const BUFFER_BYTES: usize = 4 << 20;

const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTA_DST: u16 = 1;
/// Bytes of `struct rtmsg`.
const ROUTE_HEADER_LEN: usize = 12;

/// The groups to join: `RTNLGRP_LINK`, `NEIGH`, `IPV4_IFADDR`, `IPV4_ROUTE`, `IPV4_RULE`,
/// `IPV6_IFADDR`, `IPV6_ROUTE`, `IPV6_RULE`, `NEXTHOP`.
const GROUPS: [u32; 9] = [1, 3, 5, 7, 8, 9, 11, 19, 32];

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An interface appeared, changed or went away.
    Link {
        /// The interface, as it is now or was last.
        link: Link,
        /// Whether it is gone.
        deleted: bool,
    },
    /// An interface got or lost an address.
    Address {
        /// The address.
        address: Address,
        /// Whether it is gone.
        deleted: bool,
    },
    /// A neighbour appeared, changed its state or hardware address, or went away.
    Neighbour {
        /// The interface's number.
        index: u32,
        /// The neighbour's address.
        address: IpAddr,
        /// Its hardware address, once known.
        mac: Option<[u8; 6]>,
        /// State bits, see [`super::nud`].
        state: u16,
        /// Whether the entry is gone.
        deleted: bool,
    },
    /// Routing changed: a route, a rule or a next-hop object.
    Route {
        /// The prefix of a changed route, zero bits long for the default route; `None` for rules
        /// and next-hop objects, which may change the way to anywhere.
        destination: Option<(IpAddr, u8)>,
        /// Whether it is gone.
        deleted: bool,
    },
    /// The kernel dropped events because they were read too slowly: read everything anew.
    Lost,
}

/// A socket that receives the changes of one network namespace.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    pending: VecDeque<Event>,
}

impl Monitor {
    /// Subscribes in the calling thread's network namespace.
    ///
    /// Every change after this call is seen, so subscribe first and list afterwards.
    pub fn new() -> Result<Self, Error> {
        let error = |call| move |source| Error::Socket { call, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(error("socket"))?;
        socket.set_non_blocking(true).map_err(error("fcntl"))?;
        // Without the right to pass the limit, the limit it is.
        if setsockopt(&borrow(&socket), sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            let _ = socket.set_rx_buf_sz(BUFFER_BYTES as libc::c_int);
        }
        socket.bind_auto().map_err(error("bind"))?;
        for group in GROUPS {
            match socket.add_membership(group) {
                // Kernels without IPv6, rules or next-hop objects lack their groups.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                joined => joined.map_err(error("NETLINK_ADD_MEMBERSHIP"))?,
            }
        }
        Ok(Self {
            socket,
            pending: VecDeque::new(),
        })
    }

    /// Waits for the next change, at most `timeout`; `None` when there was none.
    ///
    /// Several changes may come at once: after the descriptor became readable, call this with a
    /// zero timeout until it returns `None`.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        let deadline = Deadline::after(timeout);
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            match receive(&self.socket, deadline) {
                Ok(Some(datagram)) => {
                    self.pending
                        .extend(Messages(&datagram).filter_map(|message| read(&message)));
                }
                Ok(None) => return Ok(None),
                Err(error) if error.errno() == Some(libc::ENOBUFS) => {
                    return Ok(Some(Event::Lost));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(&self.socket)
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn read(message: &Message<'_>) -> Option<Event> {
    match message.kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => {
            // A bridge also tells of its ports under AF_BRIDGE, with their membership alone.
            if i32::from(*message.payload.first()?) != libc::AF_UNSPEC {
                return None;
            }
            Some(Event::Link {
                link: Link::read(message)?,
                deleted: message.kind == libc::RTM_DELLINK,
            })
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => Some(Event::Address {
            address: Address::read(message)?,
            deleted: message.kind == libc::RTM_DELADDR,
        }),
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => {
            let Neighbour {
                index,
                address,
                mac,
                state,
                ..
            } = Neighbour::read(message)?;
            let deleted = message.kind == libc::RTM_DELNEIGH;
            Some(Event::Neighbour {
                index,
                address,
                mac,
                state,
                deleted,
            })
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Some(Event::Route {
            destination: destination(message),
            deleted: message.kind == libc::RTM_DELROUTE,
        }),
        libc::RTM_NEWRULE | RTM_NEWNEXTHOP => Some(Event::Route {
            destination: None,
            deleted: false,
        }),
        libc::RTM_DELRULE | RTM_DELNEXTHOP => Some(Event::Route {
            destination: None,
            deleted: true,
        }),
        _ => None,
    }
}

fn destination(message: &Message<'_>) -> Option<(IpAddr, u8)> {
    let unspecified = match i32::from(*message.payload.first()?) {
        libc::AF_INET => ip(&[0; 4])?,
        libc::AF_INET6 => ip(&[0; 16])?,
        _ => return None,
    };
    let address = message
        .attributes(ROUTE_HEADER_LEN)
        .find(|(kind, _)| *kind == RTA_DST)
        .map_or(Some(unspecified), |(_, value)| ip(value))?;
    Some((address, *message.payload.get(1)?))
}
