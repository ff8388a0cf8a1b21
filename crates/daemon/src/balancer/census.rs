//! Everything that is counted, at one moment.

use std::net::IpAddr;

use pointsman_director::{
    Reason,
    control::sum,
    model::{ForwardingMethod, ServiceId},
    record::{ServerCounts, ServerStats, counts_flag, hop_flag},
};

use super::Balancer;
use crate::plane::{Plane, PlaneError};

/// Everything that is counted, at one moment. No zeroing lowers its counters.
#[derive(Debug, Default)]
pub struct Census {
    /// Virtual services, in order of their ids.
    pub services: Vec<ServiceCensus>,
    /// Connections, those of removed real servers included.
    pub connections: u64,
    /// How often each verdict was given.
    pub verdicts: Vec<(Reason, u64)>,
}

/// A virtual service.
#[derive(Debug)]
pub struct ServiceCensus {
    /// What it is known by.
    pub id: ServiceId,
    /// Name of its scheduler.
    pub scheduler: String,
    /// Since the daemon began, those of removed real servers included.
    pub stats: ServerStats,
    /// Its real servers.
    pub servers: Vec<ServerCensus>,
}

/// A real server.
#[derive(Debug)]
pub struct ServerCensus {
    /// Address.
    pub address: IpAddr,
    /// Port, host order.
    pub port: u16,
    /// Forwarding method.
    pub method: ForwardingMethod,
    /// Weight.
    pub weight: i32,
    /// Since it was added.
    pub stats: ServerStats,
    /// Active connections.
    pub active: u32,
    /// Inactive connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// Its upper threshold was reached.
    pub overloaded: bool,
    /// Frames to it have somewhere to go.
    pub reachable: bool,
}

impl<P: Plane> Balancer<P> {
    /// Everything that is counted.
    pub fn census(&self) -> Result<Census, PlaneError> {
        let state = self.state();
        let indices = super::with_removed(&state.director);
        let (stats, counts, verdicts) = {
            let plane = self.plane();
            let (stats, counts) = (plane.all_stats(&indices)?, plane.all_counts(&indices)?);
            (stats, counts, plane.verdicts()?)
        };
        let connections = super::connections(&indices, &counts);
        let none = ServerCounts::default();
        let mut services = Vec::new();
        for service in state.director.services() {
            let mut total = service.ever();
            let mut servers = Vec::new();
            for server in service.servers() {
                let index = server.index() as usize;
                let stats = stats.get(index).copied().unwrap_or_default();
                let counts = counts.get(index).unwrap_or(&none);
                total = sum(total, stats);
                let config = server.config();
                let hop = server.record().hop;
                servers.push(ServerCensus {
                    address: config.address,
                    port: config.port,
                    method: config.method,
                    weight: config.weight,
                    stats,
                    active: counts.active.load(),
                    inactive: counts.inactive.load(),
                    persistent: counts.persistent.load(),
                    overloaded: counts.flags.load() & counts_flag::OVERLOAD != 0,
                    reachable: hop.flags & (hop_flag::RESOLVED | hop_flag::LOCAL) != 0,
                });
            }
            services.push(ServiceCensus {
                id: service.config().id,
                scheduler: service.config().scheduler.clone(),
                stats: total,
                servers,
            });
        }
        Ok(Census {
            services,
            connections,
            verdicts,
        })
    }
}
