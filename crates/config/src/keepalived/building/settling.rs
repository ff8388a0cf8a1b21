//! What follows from a service's keywords together.

use pointsman_director::model::ForwardingMethod;

use super::super::model::{Members, Service, ServiceGroup, Target};
use super::super::reader::Reader;

/// Without a port it is the service's; direct routing and tunnels leave the port as it is.
pub(super) fn ports(reader: &mut Reader<'_>, service: &mut Service, groups: &[ServiceGroup]) {
    let port = match &service.target {
        Target::Address(_, port) => *port,
        Target::Mark(_) => 0,
        Target::Group(name) => {
            let group = groups.iter().find(|group| group.name == *name);
            return group_ports(reader, service, group.map_or(&[], |group| &group.members));
        }
    };
    if let Some(sorry) = &mut service.sorry
        && sorry.port == 0
    {
        sorry.port = port;
    }
    if let Some(sorry) = &mut service.sorry
        && sorry.method.method != ForwardingMethod::Masquerade
        && sorry.port != port
    {
        if port != 0 {
            let text = format!(
                "port {}: direct routing and tunnels leave the service's port, {port}, as it is",
                sorry.port
            );
            reader.error(service.places.near("sorry_server"), text);
        }
        sorry.port = port;
    }
    for server in &mut service.servers {
        if server.port == 0 {
            server.port = port;
        }
        if server.method.method == ForwardingMethod::Masquerade || server.port == port {
            continue;
        }
        if port != 0 {
            let text = format!(
                "port {}: direct routing and tunnels leave the service's port, {port}, as it is; only \
                 checks go to {}",
                server.port, server.port
            );
            reader.error(server.places.begin(), text);
        }
        server.port = port;
    }
}

/// What a group's ports leave of its real servers'.
fn group_ports(reader: &mut Reader<'_>, service: &Service, members: &[Members]) {
    for server in &service.servers {
        let is_other = |member: &Members| match member {
            Members::Addresses(_, _, port) => *port != server.port,
            Members::Mark(..) => false,
        };
        let leaves = server.method.method != ForwardingMethod::Masquerade;
        if leaves && server.port != 0 && members.iter().any(is_other) {
            let text = format!(
                "port {}: direct routing and tunnels leave the ports of the group as they are; only \
                 checks go to {}",
                server.port, server.port
            );
            reader.error(server.places.begin(), text);
        }
    }
}

pub(super) fn duplicates(reader: &mut Reader<'_>, service: &mut Service) {
    let mut seen = std::collections::HashSet::new();
    service.servers.retain(|server| {
        let is_new = seen.insert((server.address, server.port));
        if !is_new {
            let text = format!(
                "real server `{}` port {} is there already; this one is left out",
                server.address, server.port
            );
            reader.error(server.places.begin(), text);
        }
        is_new
    });
}

/// Quorum and hysteresis that can be reached.
pub(super) fn enough(reader: &mut Reader<'_>, service: &mut Service) {
    if service.hysteresis >= service.quorum {
        let text = format!(
            "hysteresis {} is not less than quorum {}: it becomes {}",
            service.hysteresis,
            service.quorum,
            service.quorum - 1
        );
        if service.hysteresis > 0 {
            reader.error(service.places.near("hysteresis"), text);
        }
        service.hysteresis = service.quorum - 1;
    }
    let total: u64 = service.servers.iter().map(|s| u64::from(s.weight)).sum();
    if u64::from(service.quorum) > total {
        let text = format!(
            "quorum {} is more than the weight of all real servers, {total}: it becomes that",
            service.quorum
        );
        reader.error(service.places.near("quorum"), text);
        service.quorum = u32::try_from(total).unwrap_or(u32::MAX).max(1);
        service.hysteresis = service.hysteresis.min(service.quorum - 1);
    }
}
