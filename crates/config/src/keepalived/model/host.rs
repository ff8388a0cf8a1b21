//! What is set on the host besides virtual addresses: static addresses, routes and rules.

use std::net::IpAddr;

use super::{Places, VirtualAddress};

/// What this host has whoever is master: `static_ipaddress`, `static_routes`, `static_rules`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statics {
    /// Addresses.
    pub addresses: Vec<VirtualAddress>,
    /// Routes.
    pub routes: Vec<Route>,
    /// Rules.
    pub rules: Vec<Rule>,
}

/// `track_group`: virtual routers that are in fault without certain static things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackGroup {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub places: Places,
    /// Names of virtual routers.
    pub members: Vec<String>,
}

/// Whether somebody minds that something of the host goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// False with `no_track`: it is left away when somebody removes it, and its interface may be down.
    pub tracked: bool,
    /// The group that is in fault without its interface (`track_group`); of static things alone.
    pub group: Option<String>,
}

impl Default for Tracking {
    fn default() -> Self {
        Self {
            tracked: true,
            group: None,
        }
    }
}

/// A number that may have a name in a file of the host's, such as `/etc/iproute2/rt_tables`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Id {
    /// The number.
    Number(u32),
    /// Its name.
    Name(String),
}

/// The main routing table.
pub const MAIN_TABLE: Id = Id::Number(254);
/// Who made routes and rules that are tracked: `RTPROT_KEEPALIVED`.
pub const MADE_BY_KEEPALIVED: Id = Id::Number(18);

/// What becomes of packets on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// They are sent.
    Unicast,
    /// They are this host's.
    Local,
    /// They are sent to everybody on a link.
    Broadcast,
    /// They are sent to one of several.
    Anycast,
    /// They are sent to a group.
    Multicast,
    /// They are dropped.
    Blackhole,
    /// They are dropped, and their sender is told that nobody is there.
    Unreachable,
    /// They are dropped, and their sender is told that it is not allowed.
    Prohibit,
    /// The next rule decides.
    Throw,
}

impl RouteKind {
    /// All kinds, with their names.
    pub const ALL: [(&'static str, Self); 9] = [
        ("unicast", Self::Unicast),
        ("local", Self::Local),
        ("broadcast", Self::Broadcast),
        ("anycast", Self::Anycast),
        ("multicast", Self::Multicast),
        ("blackhole", Self::Blackhole),
        ("unreachable", Self::Unreachable),
        ("prohibit", Self::Prohibit),
        ("throw", Self::Throw),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, kind)| *kind == self);
        found.map_or("", |(name, _)| name)
    }
}

/// A property of the connections on a route, by the kernel's number (`RTAX_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Which one.
    pub kind: u16,
    /// Its value, in the kernel's unit.
    pub value: u32,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it stands.
    pub places: Places,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// The network, with its prefix in bits.
    pub destination: (IpAddr, u8),
    /// Network of those for whom it is, with IPv6.
    pub from: Option<(IpAddr, u8)>,
    /// The router.
    pub gateway: Option<IpAddr>,
    /// The interface.
    pub device: Option<String>,
    /// The address that packets have, if they have none yet.
    pub source: Option<IpAddr>,
    /// True when the router is on the link whatever other routes say.
    pub on_link: bool,
    /// The table.
    pub table: Id,
    /// Its metric: lower ones are preferred.
    pub metric: Option<u32>,
    /// Scope, 0 is everywhere.
    pub scope: u8,
    /// Who made it, if it is said.
    pub protocol: Option<Id>,
    /// Type of service.
    pub tos: Id,
    /// Properties of its connections.
    pub metrics: Vec<Metric>,
    /// Those of them, one bit each, that don't change by experience.
    pub locked: u32,
    /// Congestion control of its connections.
    pub congestion: Option<String>,
    /// Realms of what comes and where it goes.
    pub realms: Option<(Id, Id)>,
    /// Seconds after which it goes, with IPv6.
    pub expires: Option<u32>,
    /// Preference among routers, with IPv6: 0 medium, 1 high, 3 low.
    pub preference: Option<u8>,
    /// Several ways, instead of one router and interface.
    pub hops: Vec<Hop>,
    /// True when it comes behind others of the same key.
    pub append: bool,
    /// Who minds that it goes.
    pub tracking: Tracking,
}

/// One of several ways of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// The router.
    pub gateway: Option<IpAddr>,
    /// The interface.
    pub device: Option<String>,
    /// Its share, 1 to 256.
    pub weight: u16,
    /// True when the router is on the link whatever other routes say.
    pub on_link: bool,
    /// Realms of what comes and where it goes.
    pub realms: Option<(Id, Id)>,
}

impl Route {
    /// In the fewest words: `blackhole 10.0.0.0/8`.
    pub fn name(&self) -> String {
        let kind = match self.kind {
            RouteKind::Unicast => String::new(),
            kind => format!("{} ", kind.name()),
        };
        let (address, prefix) = self.destination;
        format!("{kind}{address}/{prefix}")
    }
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleAction {
    /// This table is asked.
    Table(Id),
    /// The table of the packet's VRF is asked (`l3mdev`).
    Vrf,
    /// The rule with this preference is next.
    Goto(u32),
    /// The next rule is next.
    Nothing,
    /// Packets are dropped.
    Blackhole,
    /// They are dropped, and their sender is told that nobody is there.
    Unreachable,
    /// They are dropped, and their sender is told that it is not allowed.
    Prohibit,
}

/// A rule that says which table is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands.
    pub places: Places,
    /// True for IPv6.
    pub ipv6: bool,
    /// Lower ones are asked first.
    pub preference: u32,
    /// What it does.
    pub action: RuleAction,
    /// Network of the packet's source.
    pub from: Option<(IpAddr, u8)>,
    /// Network of the packet's destination.
    pub to: Option<(IpAddr, u8)>,
    /// True when it is about all packets but those.
    pub not: bool,
    /// Type of service.
    pub tos: Id,
    /// Firewall mark, and which bits of it count.
    pub mark: Option<(u32, Option<u32>)>,
    /// The interface by which they come.
    pub incoming: Option<String>,
    /// The interface to which their socket is bound.
    pub outgoing: Option<String>,
    /// Realms of what comes and where it goes.
    pub realms: Option<(Id, Id)>,
    /// Routes with prefixes of at most so many bits don't count.
    pub suppress_prefix: Option<u32>,
    /// Routes by interfaces of this group don't count.
    pub suppress_group: Option<Id>,
    /// Id of the tunnel by which they come.
    pub tunnel: Option<u64>,
    /// First and last user of the socket.
    pub users: Option<(u32, u32)>,
    /// IP protocol.
    pub protocol: Option<u8>,
    /// First and last source port.
    pub source_ports: Option<(u16, u16)>,
    /// First and last destination port.
    pub destination_ports: Option<(u16, u16)>,
    /// Who made it, if it is said.
    pub made_by: Option<u8>,
    /// Who minds that it goes.
    pub tracking: Tracking,
}
