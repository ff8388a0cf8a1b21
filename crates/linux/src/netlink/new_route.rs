//! Routes that are made and taken away.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::message::{Request, attribute, family};
use super::{Error, NLM_F_ACK, NLM_F_REQUEST, Netlink, about};

const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_FLOW: u16 = 11;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_PREF: u16 = 20;
const RTA_EXPIRES: u16 = 23;
const RTAX_CC_ALGO: u16 = 16;
const RTNH_F_ONLINK: u32 = 4;
/// Bytes of `struct rtnexthop`.
const HOP_LEN: usize = 8;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
const NLM_F_REPLACE: u16 = libc::NLM_F_REPLACE as u16;
const NLM_F_APPEND: u16 = libc::NLM_F_APPEND as u16;

/// One of several ways that a route has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewHop {
    /// The router, if it has one.
    pub gateway: Option<IpAddr>,
    /// The interface's number, where one is named.
    pub index: Option<u32>,
    /// Its share, from 1 to 256.
    pub weight: u16,
    /// True when the router is on the link whatever other routes say.
    pub on_link: bool,
    /// Realms of what comes (upper half) and where it goes.
    pub realms: Option<u32>,
}

/// A route to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRoute {
    /// The network.
    pub destination: IpAddr,
    /// Length of its prefix, in bits.
    pub prefix: u8,
    /// `RTN_*`: 1 sends, 6 drops, 7 is unreachable, 8 prohibited, 9 looks no further.
    pub kind: u8,
    /// The router, none when the network is on the link.
    pub gateway: Option<IpAddr>,
    /// True when the router is on the link whatever other routes say.
    pub on_link: bool,
    /// The interface's number, where one is named.
    pub index: Option<u32>,
    /// The source address that packets get.
    pub source: Option<IpAddr>,
    /// The table; 254 is the main one.
    pub table: u32,
    /// Its metric: lower ones are preferred.
    pub metric: Option<u32>,
    /// `RT_SCOPE_*`, none for the usual one.
    pub scope: Option<u8>,
    /// `RTPROT_*`: who made it; 3 is at the boot, 4 an administrator, 18 keepalived.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// `RTAX_*` metrics of its paths: 2 is the MTU, 3 the window, 8 the MSS.
    pub metrics: Vec<(u16, u32)>,
    /// Congestion control of its connections.
    pub congestion: Option<String>,
    /// Network of those for whom it is, with IPv6.
    pub from: Option<(IpAddr, u8)>,
    /// Several ways, instead of one router and interface.
    pub hops: Vec<NewHop>,
    /// Realms of what comes (upper half) and where it goes.
    pub realms: Option<u32>,
    /// Seconds after which it goes, with IPv6.
    pub expires: Option<u32>,
    /// Preference among routers, with IPv6: 0 medium, 1 high, 3 low.
    pub preference: Option<u8>,
}

impl NewRoute {
    /// A route that sends to a network on an interface's link.
    pub fn on_link(destination: IpAddr, prefix: u8, index: u32) -> Self {
        Self {
            destination,
            prefix,
            kind: libc::RTN_UNICAST,
            gateway: None,
            on_link: false,
            index: Some(index),
            source: None,
            table: libc::RT_TABLE_MAIN.into(),
            metric: None,
            scope: None,
            protocol: libc::RTPROT_STATIC,
            tos: 0,
            metrics: Vec::new(),
            congestion: None,
            from: None,
            hops: Vec::new(),
            realms: None,
            expires: None,
            preference: None,
        }
    }

    fn request(&self, kind: u16, flags: u16) -> Request {
        let usual = match (self.kind, self.gateway) {
            // As `ip route` has it: IPv6 knows no scopes.
            _ if self.destination.is_ipv6() => libc::RT_SCOPE_UNIVERSE,
            (libc::RTN_UNICAST, None) => libc::RT_SCOPE_LINK,
            (libc::RTN_LOCAL, _) => libc::RT_SCOPE_HOST,
            _ => libc::RT_SCOPE_UNIVERSE,
        };
        let mut header = [0; 12];
        header[0] = family(self.destination);
        header[1] = self.prefix;
        header[2] = self.from.map_or(0, |(_, prefix)| prefix);
        header[3] = self.tos;
        header[4] = u8::try_from(self.table).unwrap_or(0);
        header[5] = self.protocol;
        header[6] = self.scope.unwrap_or(usual);
        header[7] = self.kind;
        if self.on_link {
            header[8..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
        }
        let mut request = Request::new(kind, NLM_F_REQUEST | NLM_F_ACK | flags, &header)
            .address(RTA_DST, self.destination)
            .attribute(RTA_TABLE, &self.table.to_ne_bytes());
        if let Some(gateway) = self.gateway {
            let (kind, value) = towards(gateway, self.destination);
            request = request.attribute(kind, &value);
        }
        if let Some((from, _)) = self.from {
            request = request.address(RTA_SRC, from);
        }
        if !self.hops.is_empty() {
            let hops = self.hops.iter();
            let hops: Vec<u8> = hops.flat_map(|hop| hop.bytes(self.destination)).collect();
            request = request.attribute(RTA_MULTIPATH, &hops);
        }
        if let Some(realms) = self.realms {
            request = request.attribute(RTA_FLOW, &realms.to_ne_bytes());
        }
        if let Some(seconds) = self.expires {
            request = request.attribute(RTA_EXPIRES, &seconds.to_ne_bytes());
        }
        if let Some(preference) = self.preference {
            request = request.attribute(RTA_PREF, &[preference]);
        }
        if let Some(index) = self.index {
            request = request.attribute(RTA_OIF, &index.to_ne_bytes());
        }
        if let Some(source) = self.source {
            request = request.address(RTA_PREFSRC, source);
        }
        if let Some(metric) = self.metric {
            request = request.attribute(RTA_PRIORITY, &metric.to_ne_bytes());
        }
        let mut metrics = Vec::new();
        for (kind, value) in &self.metrics {
            metrics.extend(attribute(*kind, &value.to_ne_bytes()));
        }
        if let Some(name) = &self.congestion {
            metrics.extend(attribute(RTAX_CC_ALGO, format!("{name}\0").as_bytes()));
        }
        if !metrics.is_empty() {
            request = request.attribute(RTA_METRICS, &metrics);
        }
        request
    }
}

impl NewHop {
    /// As it stands in the list of a route's ways.
    fn bytes(&self, destination: IpAddr) -> Vec<u8> {
        let mut attributes = Vec::new();
        if let Some(gateway) = self.gateway {
            let (kind, value) = towards(gateway, destination);
            attributes.extend(attribute(kind, &value));
        }
        if let Some(realms) = self.realms {
            attributes.extend(attribute(RTA_FLOW, &realms.to_ne_bytes()));
        }
        let length = u16::try_from(HOP_LEN + attributes.len()).unwrap_or(u16::MAX);
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.push(if self.on_link { RTNH_F_ONLINK as u8 } else { 0 });
        bytes.push(u8::try_from(self.weight.saturating_sub(1)).unwrap_or(u8::MAX));
        bytes.extend(self.index.unwrap_or(0).to_ne_bytes());
        bytes.extend(attributes);
        bytes
    }
}

/// The attribute that names a router: its family may be another than the destination's.
fn towards(gateway: IpAddr, destination: IpAddr) -> (u16, Vec<u8>) {
    match gateway {
        IpAddr::V6(gateway) if destination.is_ipv4() => {
            let mut via = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
            via.extend(gateway.octets());
            (RTA_VIA, via)
        }
        IpAddr::V4(gateway) => (RTA_GATEWAY, gateway.octets().to_vec()),
        IpAddr::V6(gateway) => (RTA_GATEWAY, gateway.octets().to_vec()),
    }
}

impl Netlink {
    /// Makes a route before those of the same destination, type of service, metric and table, or with `append`
    /// behind them; false when it is there already.
    pub fn route_insert(&mut self, route: &NewRoute, append: bool) -> Result<bool, Error> {
        let append = if append { NLM_F_APPEND } else { 0 };
        let request = route.request(libc::RTM_NEWROUTE, NLM_F_CREATE | append);
        let what = about("RTM_NEWROUTE to", route.destination);
        match self.exchange(&what, &request, |_| {}) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a route, or changes the one with this destination, type of service, metric and table.
    pub fn route_add(&mut self, route: &NewRoute) -> Result<(), Error> {
        let request = route.request(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
        self.exchange(
            &about("RTM_NEWROUTE to", route.destination),
            &request,
            |_| {},
        )
        .map(|_| ())
    }

    /// Takes a route away; false when there was none.
    pub fn route_delete(&mut self, route: &NewRoute) -> Result<bool, Error> {
        let request = route.request(libc::RTM_DELROUTE, 0);
        match self.exchange(
            &about("RTM_DELROUTE to", route.destination),
            &request,
            |_| {},
        ) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.errno(), Some(libc::ESRCH | libc::ENODEV)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
