//! What would run, in a few lines.

use super::derivation::Derived;
use super::model::{BfdInstance, Configuration, Instance, SyncGroup};
use crate::ipvsadm::{Numeric, endpoint};
use pointsman_director::model::{ForwardingMethod, ServiceId};

impl Configuration {
    /// What would run, one thing a line.
    pub fn summary(&self) -> Vec<String> {
        let instances = self.instances.iter().map(instance);
        let groups = self.sync_groups.iter().map(group);
        let services = self.virtual_services();
        let services = services.iter().map(service);
        let sessions = self.bfd_instances.iter().map(session);
        let statics = self.statics();
        statics
            .into_iter()
            .chain(instances)
            .chain(groups)
            .chain(sessions)
            .chain(services)
            .collect()
    }

    /// What the host has whoever is master.
    fn statics(&self) -> Vec<String> {
        let addresses = self.statics.addresses.iter().map(|one| {
            let device = one.device.as_deref().unwrap_or_default();
            format!("static address {}/{} dev {device}", one.address, one.prefix)
        });
        let routes = self.statics.routes.iter();
        let routes = routes.map(|route| format!("static route {}", route.name()));
        let rules = self.statics.rules.iter();
        let rules = rules.map(|rule| format!("static rule with preference {}", rule.preference));
        addresses.chain(routes).chain(rules).collect()
    }
}

fn instance(instance: &Instance) -> String {
    let addresses = instance.addresses.iter().chain(&instance.excluded);
    let mut addresses: Vec<String> = addresses.map(|a| a.address.to_string()).collect();
    let routes = instance.routes.iter();
    addresses.extend(routes.map(|route| format!("route {}", route.name())));
    let rules = instance.rules.iter();
    addresses.extend(rules.map(|rule| format!("rule {}", rule.preference)));
    let peers = match instance.peers.len() {
        0 => "multicast".to_owned(),
        1 => "1 peer".to_owned(),
        n => format!("{n} peers"),
    };
    format!(
        "virtual router {}: id {} on {}, priority {}, version {}, every {} s, {peers}: {}",
        instance.name,
        instance.vrid,
        instance.interface.as_deref().unwrap_or("no interface"),
        instance.priority,
        instance.version,
        instance.interval.as_secs_f64(),
        addresses.join(" ")
    )
}

fn group(group: &SyncGroup) -> String {
    format!("sync group {}: {}", group.name, group.members.join(" "))
}

fn session(session: &BfdInstance) -> String {
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
    format!(
        "BFD session {} with {}, sending each {} ms, receiving each {} ms, {} may be lost{}",
        session.name,
        session.neighbor,
        milliseconds(session.min_tx),
        milliseconds(session.min_rx),
        session.multiplier,
        if session.passive { ", passive" } else { "" }
    )
}

fn service(derived: &Derived<'_>) -> String {
    let text = |address, port| endpoint::text(address, port, None, None::<&Numeric>);
    let service = &derived.service;
    let name = match service.id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => format!("{protocol:?} {}", text(address, port)).to_lowercase(),
        ServiceId::Mark { mark, ipv6: false } => format!("firewall mark {mark}"),
        ServiceId::Mark { mark, ipv6: true } => format!("firewall mark {mark} of IPv6"),
    };
    let servers: Vec<String> = derived
        .servers
        .iter()
        .zip(&derived.origin.servers)
        .map(|(server, origin)| {
            let method = match server.method {
                ForwardingMethod::Masquerade => "masquerade",
                ForwardingMethod::Tunnel => "tunnel",
                ForwardingMethod::Direct => "direct",
            };
            let checks = match origin.checkers.len() {
                0 => "no check".to_owned(),
                1 => "1 check".to_owned(),
                n => format!("{n} checks"),
            };
            format!(
                "{} ({method}, weight {}, {checks})",
                text(server.address, server.port),
                server.weight
            )
        })
        .collect();
    format!(
        "virtual service {name}, {}, quorum {}: {}",
        service.scheduler,
        derived.origin.quorum,
        servers.join(", ")
    )
}
