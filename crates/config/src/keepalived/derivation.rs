//! What a director is told for a configuration's services.

use std::net::IpAddr;

use pointsman_director::model::{
    ForwardingMethod, Persistence, RealServer, ServiceId, TunnelType, VirtualService,
};

use super::model::{Configuration, Members, Server, Service, ServiceGroup, Target};

/// Addresses that a range of a `virtual_server_group` may have.
pub(super) const MOST: u128 = 65_536;

/// One virtual service as the director knows it, and who serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived<'a> {
    /// What it comes from.
    pub origin: &'a Service,
    /// The virtual service.
    pub service: VirtualService,
    /// All its real servers with the weight that they have when they are up, in order.
    pub servers: Vec<RealServer>,
    /// The real server for the time without quorum.
    pub sorry: Option<RealServer>,
}

impl Configuration {
    /// Every virtual service, groups written out, in order.
    pub fn virtual_services(&self) -> Vec<Derived<'_>> {
        let services = self.services.iter();
        services
            .flat_map(|service| {
                let ids = self.ids(service);
                ids.into_iter().map(|id| derive(service, id))
            })
            .collect()
    }

    /// The group that a service names.
    pub fn group_of(&self, service: &Service) -> Option<&ServiceGroup> {
        match &service.target {
            Target::Group(name) => self.service_groups.iter().find(|group| group.name == *name),
            _ => None,
        }
    }

    fn ids(&self, service: &Service) -> Vec<ServiceId> {
        let mark = |mark, ipv6| ServiceId::Mark { mark, ipv6 };
        let address = |address, port| ServiceId::Address {
            protocol: service.protocol,
            address,
            port,
        };
        match &service.target {
            Target::Address(ip, port) => vec![address(*ip, *port)],
            Target::Mark(number) => vec![mark(*number, service.is_ipv6)],
            Target::Group(_) => {
                let members = self
                    .group_of(service)
                    .map_or(&[][..], |group| &group.members);
                let mut ids = Vec::new();
                for member in members {
                    match *member {
                        Members::Mark(number, family) => {
                            ids.push(mark(number, family.unwrap_or(service.is_ipv6)));
                        }
                        Members::Addresses(first, last, port) => {
                            ids.extend(range(first, last).map(|ip| address(ip, port)));
                        }
                    }
                }
                ids
            }
        }
    }
}

/// From the first to the last, [`MOST`] at most.
fn range(first: IpAddr, last: IpAddr) -> Box<dyn Iterator<Item = IpAddr>> {
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Box::new(
            (u32::from(first)..=u32::from(last))
                .take(MOST as usize)
                .map(|number| IpAddr::V4(number.into())),
        ),
        (IpAddr::V6(first), IpAddr::V6(last)) => Box::new(
            (u128::from(first)..=u128::from(last))
                .take(MOST as usize)
                .map(|number| IpAddr::V6(number.into())),
        ),
        _ => Box::new(std::iter::empty()),
    }
}

fn derive(service: &Service, id: ServiceId) -> Derived<'_> {
    let (is_ipv6, port) = match id {
        ServiceId::Address { address, port, .. } => (address.is_ipv6(), port),
        ServiceId::Mark { ipv6, .. } => (ipv6, 0),
    };
    let persistence = service.persistence.map(|timeout| match is_ipv6 {
        false => {
            let netmask = service.granularity.unwrap_or(u32::MAX);
            Persistence {
                timeout,
                prefix: netmask.leading_ones() as u8,
                netmask,
            }
        }
        true => Persistence {
            timeout,
            prefix: service
                .granularity
                .and_then(|n| n.try_into().ok())
                .unwrap_or(128),
            netmask: 0,
        },
    });
    let own_port = |method, own| match method {
        ForwardingMethod::Masquerade if own != 0 => own,
        _ => port,
    };
    let server = |server: &Server| RealServer {
        address: server.address,
        port: own_port(server.method.method, server.port),
        method: server.method.method,
        weight: i32::try_from(server.weight).unwrap_or(i32::MAX),
        upper: server.upper,
        lower: server.lower,
        tunnel: tunnel(server.method.method, server.method.tunnel),
    };
    let sorry = service.sorry.map(|sorry| RealServer {
        address: sorry.address,
        port: own_port(sorry.method.method, sorry.port),
        method: sorry.method.method,
        weight: 1,
        upper: 0,
        lower: 0,
        tunnel: tunnel(sorry.method.method, sorry.method.tunnel),
    });
    Derived {
        origin: service,
        service: VirtualService {
            id,
            scheduler: service.scheduler.clone(),
            flags: service.flags,
            persistence,
            one_packet: service.one_packet,
            engine: None,
        },
        servers: service.servers.iter().map(server).collect(),
        sorry,
    }
}

fn tunnel(method: ForwardingMethod, tunnel: TunnelType) -> TunnelType {
    match method {
        ForwardingMethod::Tunnel => tunnel,
        _ => TunnelType::default(),
    }
}
