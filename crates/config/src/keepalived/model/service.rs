//! Virtual services and their real servers.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use pointsman_director::model::{ForwardingMethod, Protocol, SchedulerFlags, TunnelType};

use super::{Checker, Command, Places};

/// `virtual_server`: one service, or with a group many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Where its keywords stand.
    pub places: Places,
    /// What clients use.
    pub target: Target,
    /// The protocol; of firewall marks it means nothing.
    pub protocol: Protocol,
    /// True for IPv6.
    pub is_ipv6: bool,
    /// The scheduler's name.
    pub scheduler: String,
    /// The scheduler's flags.
    pub flags: SchedulerFlags,
    /// True when every packet is scheduled, which only UDP does.
    pub one_packet: bool,
    /// Seconds of persistence.
    pub persistence: Option<u32>,
    /// Which clients share: a netmask, or a length of prefix of IPv6.
    pub granularity: Option<u32>,
    /// The persistence engine's name.
    pub engine: Option<String>,
    /// How real servers are reached that say nothing, and the sorry server.
    pub method: Method,
    /// Weight of live real servers that is enough.
    pub quorum: u32,
    /// How far from it counts.
    pub hysteresis: u32,
    /// Notifies are run at the end, too.
    pub omega: bool,
    /// Real servers are down until a check succeeds.
    pub alpha: bool,
    /// Checks rest while the address is not on this host.
    pub ha_suspend: bool,
    /// Run when the quorum is there.
    pub quorum_up: Option<Command>,
    /// Run when it is not.
    pub quorum_down: Option<Command>,
    /// True when mails tell of the quorum (`smtp_alert`).
    pub alert: bool,
    /// Serves while there is no quorum.
    pub sorry: Option<Sorry>,
    /// The real servers, in order.
    pub servers: Vec<Server>,
}

/// What a virtual service is known by: one of the same key is the same, changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// What clients use.
    pub target: Target,
    /// An address is told apart by its protocol.
    pub protocol: Protocol,
    /// A firewall mark is told apart by its family.
    pub is_ipv6: bool,
}

impl Service {
    /// What it is known by.
    pub fn key(&self) -> ServiceKey {
        ServiceKey {
            target: self.target.clone(),
            protocol: self.protocol,
            is_ipv6: self.is_ipv6,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.is_ipv6 { "inet6" } else { "inet" };
        match &self.target {
            Target::Address(address, port) => write!(f, "{address} {port} {:?}", self.protocol),
            Target::Mark(mark) => write!(f, "fwmark {mark} {family}"),
            Target::Group(name) => write!(f, "group {name} {:?} {family}", self.protocol),
        }
    }
}

/// What clients use.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address and a port, 0 for all.
    Address(IpAddr, u16),
    /// A firewall mark.
    Mark(u32),
    /// A [`ServiceGroup`].
    Group(String),
}

/// `virtual_server_group`: addresses and marks that are served alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceGroup {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub places: Places,
    /// What it holds, in order.
    pub members: Vec<Members>,
}

/// A line of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Members {
    /// Addresses from the first to the last, and a port, 0 for all.
    Addresses(IpAddr, IpAddr, u16),
    /// A firewall mark, and whether it is IPv6's if that is said.
    Mark(u32, Option<bool>),
}

/// How a real server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    /// Forwarding method.
    pub method: ForwardingMethod,
    /// What a tunnel puts in between.
    pub tunnel: TunnelType,
}

impl Default for Method {
    fn default() -> Self {
        Self {
            method: ForwardingMethod::Masquerade,
            tunnel: TunnelType::Ipip,
        }
    }
}

/// `sorry_server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sorry {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// How it is reached.
    pub method: Method,
    /// True when it stays with weight 0 while it is not needed.
    pub inhibit: bool,
}

/// `real_server`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where its keywords stand.
    pub places: Places,
    /// Its address.
    pub address: IpAddr,
    /// Its port in the service: with direct routing and tunnels the service's own.
    pub port: u16,
    /// Its weight.
    pub weight: u32,
    /// How it is reached.
    pub method: Method,
    /// Connections at which it takes no more, 0 for none.
    pub upper: u32,
    /// Connections below which it takes some again.
    pub lower: u32,
    /// True when it stays with weight 0 while it is down.
    pub inhibit: bool,
    /// True when it is down until a check succeeds.
    pub alpha: bool,
    /// Time between checks that say nothing.
    pub delay_loop: Duration,
    /// Run when it is up.
    pub notify_up: Option<Command>,
    /// Run when it is down.
    pub notify_down: Option<Command>,
    /// True when mails tell of it (`smtp_alert`).
    pub alert: bool,
    /// What is checked, in order.
    pub checkers: Vec<Checker>,
}
