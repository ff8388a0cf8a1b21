//! Routes that are made and taken away.

use std::net::IpAddr;

use super::message::{Request, family};
use super::{Error, NLM_F_ACK, NLM_F_REQUEST, Netlink, about};

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTNH_F_ONLINK: u32 = 4;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
const NLM_F_REPLACE: u16 = libc::NLM_F_REPLACE as u16;

/// A route to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        match self.gateway {
            Some(gateway) if gateway.is_ipv4() == self.destination.is_ipv4() => {
                request = request.address(RTA_GATEWAY, gateway);
            }
            Some(IpAddr::V6(gateway)) => {
                let mut via = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
                via.extend(gateway.octets());
                request = request.attribute(RTA_VIA, &via);
            }
            _ => {}
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
        if !self.metrics.is_empty() {
            let mut nested = Vec::new();
            for (kind, value) in &self.metrics {
                nested.extend(8_u16.to_ne_bytes());
                nested.extend(kind.to_ne_bytes());
                nested.extend(value.to_ne_bytes());
            }
            request = request.attribute(RTA_METRICS, &nested);
        }
        request
    }
}

impl Netlink {
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
