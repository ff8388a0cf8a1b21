//! The kernel's answer to "which way to this address", as `ip route get` asks it.

use std::net::IpAddr;

use super::message::{Attributes, Message, Request, family, ip, u32_at};
use super::{Error, NLM_F_ACK, NLM_F_REQUEST, Netlink, about};

/// Bytes of `struct rtmsg`.
const HEADER_LEN: usize = 12;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;

/// What the kernel does with packets on a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends them out of an interface.
    Unicast,
    /// Delivers them to this host: the address is its own.
    Local,
    /// Sends them to everybody on a network.
    Broadcast,
    /// Takes them as one of several hosts with the address.
    Anycast,
    /// Sends them to a group.
    Multicast,
    /// Has no route for them (`ENETUNREACH`).
    NoRoute,
    /// Has a route of type `unreachable` (`EHOSTUNREACH`).
    Unreachable,
    /// Has a route of type `prohibit` (`EACCES`).
    Prohibit,
    /// Has a route of type `blackhole`: drops them silently.
    Blackhole,
    /// Another route type, by its `RTN_*` number.
    Other(u8),
}

/// The way to one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// What happens to packets.
    pub kind: RouteKind,
    /// The interface they leave by; `None` where they do not leave.
    pub out_index: Option<u32>,
    /// The router to hand them to; `None` when the destination is a neighbour itself.
    pub gateway: Option<IpAddr>,
    /// The source address packets have: the one asked for, or else the kernel's choice.
    pub source: Option<IpAddr>,
    /// The route's own MTU in bytes, where it has one (a metric, or learned from ICMP).
    pub mtu: Option<u32>,
}

impl Route {
    /// Whether the destination is an address of this host.
    pub fn is_local(&self) -> bool {
        self.kind == RouteKind::Local
    }

    /// Whether no packet gets to the destination.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.kind,
            RouteKind::NoRoute
                | RouteKind::Unreachable
                | RouteKind::Prohibit
                | RouteKind::Blackhole
        )
    }

    fn dead_end(kind: RouteKind) -> Self {
        Self {
            kind,
            out_index: None,
            gateway: None,
            source: None,
            mtu: None,
        }
    }

    fn read(message: &Message<'_>) -> Option<Self> {
        let mut route = Self::dead_end(match *message.payload.get(7)? {
            libc::RTN_UNICAST => RouteKind::Unicast,
            libc::RTN_LOCAL => RouteKind::Local,
            libc::RTN_BROADCAST => RouteKind::Broadcast,
            libc::RTN_ANYCAST => RouteKind::Anycast,
            libc::RTN_MULTICAST => RouteKind::Multicast,
            libc::RTN_BLACKHOLE => RouteKind::Blackhole,
            libc::RTN_UNREACHABLE => RouteKind::Unreachable,
            libc::RTN_PROHIBIT => RouteKind::Prohibit,
            other => RouteKind::Other(other),
        });
        for (kind, value) in message.attributes(HEADER_LEN) {
            match kind {
                RTA_OIF => route.out_index = u32_at(value, 0),
                RTA_GATEWAY => route.gateway = ip(value),
                // A gateway of the other family: two bytes of family, then the address.
                RTA_VIA => route.gateway = value.get(2..).and_then(ip),
                RTA_PREFSRC => route.source = ip(value),
                RTA_METRICS => {
                    route.mtu = Attributes(value)
                        .find(|(kind, _)| *kind == RTAX_MTU)
                        .and_then(|(_, mtu)| u32_at(mtu, 0));
                }
                _ => {}
            }
        }
        Some(route)
    }
}

impl Netlink {
    /// Asks which way packets to `destination` take, sent from `source` where given.
    ///
    /// A destination that can't be reached is an answer, not an error. For IPv4 a `source` that is
    /// not an address of this host is an error; IPv6 does not mind.
    pub fn route_to(
        &mut self,
        destination: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<Route, Error> {
        let mut result = self.ask_route(destination, source);
        if let (Err(refused), Some(source)) = (&result, source)
            && matches!(refused.errno(), Some(libc::EINVAL | libc::ENETUNREACH))
        {
            // Kernels use the errno of a blackhole or of no route for a foreign source too.
            result = self.ask_route(destination, None);
            if result.is_ok() {
                return Err(Error::ForeignSource { address: source });
            }
        }
        result.or_else(|error| {
            let kind = match error.errno() {
                Some(libc::ENETUNREACH) => RouteKind::NoRoute,
                Some(libc::EHOSTUNREACH) => RouteKind::Unreachable,
                Some(libc::EACCES) => RouteKind::Prohibit,
                // How IPv4 tells of a blackhole.
                Some(libc::EINVAL) => RouteKind::Blackhole,
                _ => return Err(error),
            };
            Ok(Route::dead_end(kind))
        })
    }

    fn ask_route(&mut self, destination: IpAddr, source: Option<IpAddr>) -> Result<Route, Error> {
        let bits = |address: IpAddr| if address.is_ipv4() { 32 } else { 128 };
        let mut header = [0; HEADER_LEN];
        header[0] = family(destination);
        header[1] = bits(destination);
        header[2] = source.map_or(0, bits);
        let mut request = Request::new(libc::RTM_GETROUTE, NLM_F_REQUEST | NLM_F_ACK, &header)
            .address(RTA_DST, destination);
        let mut what = about("RTM_GETROUTE to", destination);
        if let Some(source) = source {
            request = request.address(RTA_SRC, source);
            what = about(&format!("{what} from"), source);
        }
        let mut found: Option<Route> = None;
        self.exchange(&what, &request, |message| found = Route::read(message))?;
        if let Some(route) = &mut found {
            // The kernel does not repeat the address it was given.
            route.source = route.source.or(source);
        }
        found.ok_or(Error::Malformed { request: what })
    }
}
