//! What a reload has to do: the difference of two configurations.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;

use super::model::{
    Checker, Configuration, Id, MAIN_TABLE, Route, Rule, Server, Service, ServiceKey,
    VirtualAddress,
};

/// Something that a reload does; what is not named goes on as it is, state included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `global_defs` are others.
    Global,
    /// Something static of the host's, by name.
    Static(Act, String),
    /// A virtual router, by name.
    Instance(Act, String),
    /// A sync group, by name.
    SyncGroup(Act, String),
    /// A `vrrp_script`, `track_file` or `vrrp_track_process`, by name.
    Tracked(Act, String),
    /// A BFD session, by name.
    Bfd(Act, String),
    /// A virtual service: its own words or its group, not its real servers.
    Service(Act, ServiceKey),
    /// A real server of a service that stays, by address and port.
    Server(Act, ServiceKey, IpAddr, u16),
    /// The checkers of a real server that stays are others: it is checked anew.
    Checkers(ServiceKey, IpAddr, u16),
}

impl Change {
    /// The virtual service that it is about.
    pub fn service(&self) -> Option<&ServiceKey> {
        match self {
            Self::Service(_, key) | Self::Server(_, key, ..) | Self::Checkers(key, ..) => Some(key),
            _ => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => write!(f, "global_defs changed"),
            Self::Static(act, name) => write!(f, "{name} {act}"),
            Self::Instance(act, name) => write!(f, "vrrp_instance {name} {act}"),
            Self::SyncGroup(act, name) => write!(f, "vrrp_sync_group {name} {act}"),
            Self::Tracked(act, name) => write!(f, "{name}, which is tracked, {act}"),
            Self::Bfd(act, name) => write!(f, "bfd_instance {name} {act}"),
            Self::Service(act, key) => write!(f, "virtual_server {key} {act}"),
            Self::Server(act, key, address, port) => {
                write!(f, "real_server {address} {port} of {key} {act}")
            }
            Self::Checkers(key, address, port) => {
                write!(f, "checks of real_server {address} {port} of {key} changed")
            }
        }
    }
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// It is new.
    Add,
    /// It stays, with something about it changed.
    Edit,
    /// It goes.
    Remove,
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "added",
            Self::Edit => "changed",
            Self::Remove => "removed",
        })
    }
}

impl Configuration {
    /// What has to be done to go over to another configuration: first what goes, then what is new or
    /// changed, each in its configuration's order.
    pub fn changes_to(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.global != new.global {
            changes.push(Change::Global);
        }
        self.statics_to(new, &mut changes);
        each(
            &self.scripts,
            &new.scripts,
            |s| s.name.clone(),
            |act, name| {
                changes.push(Change::Tracked(act, name));
            },
        );
        each(
            &self.track_files,
            &new.track_files,
            |f| f.name.clone(),
            |act, name| {
                changes.push(Change::Tracked(act, name));
            },
        );
        each(
            &self.track_processes,
            &new.track_processes,
            |p| p.name.clone(),
            |act, name| {
                changes.push(Change::Tracked(act, name));
            },
        );
        each(
            &self.bfd_instances,
            &new.bfd_instances,
            |b| b.name.clone(),
            |act, name| {
                changes.push(Change::Bfd(act, name));
            },
        );
        each(
            &self.instances,
            &new.instances,
            |i| i.name.clone(),
            |act, name| {
                changes.push(Change::Instance(act, name));
            },
        );
        // What is global, in a garp_group or in a sync group may change a router that says the same.
        let before = self.routers();
        for router in new.routers() {
            let edit = Change::Instance(Act::Edit, router.name.clone());
            let old = before.iter().find(|old| old.name == router.name);
            if old.is_some_and(|old| *old != router) && !changes.contains(&edit) {
                changes.push(edit);
            }
        }
        each(
            &self.sync_groups,
            &new.sync_groups,
            |g| g.name.clone(),
            |act, name| {
                changes.push(Change::SyncGroup(act, name));
            },
        );
        self.services_to(new, &mut changes);
        changes
    }

    fn statics_to(&self, new: &Self, changes: &mut Vec<Change>) {
        let (old, new) = (&self.statics, &new.statics);
        each(
            &old.addresses,
            &new.addresses,
            static_address,
            |act, name| {
                changes.push(Change::Static(act, format!("static_ipaddress {name}")));
            },
        );
        each(&old.routes, &new.routes, static_route, |act, name| {
            changes.push(Change::Static(act, format!("static_routes {name}")));
        });
        each(&old.rules, &new.rules, static_rule, |act, name| {
            changes.push(Change::Static(act, format!("static_rules {name}")));
        });
    }

    fn services_to(&self, new: &Self, changes: &mut Vec<Change>) {
        let key = Service::key;
        let before: HashMap<_, &Service> = self.services.iter().map(|s| (key(s), s)).collect();
        let after: HashSet<_> = new.services.iter().map(key).collect();
        for service in self
            .services
            .iter()
            .filter(|service| !after.contains(&key(service)))
        {
            changes.push(Change::Service(Act::Remove, key(service)));
        }
        for service in &new.services {
            let Some(old) = before.get(&key(service)) else {
                changes.push(Change::Service(Act::Add, key(service)));
                continue;
            };
            let own = |service: &Service| Service {
                servers: Vec::new(),
                ..service.clone()
            };
            if own(old) != own(service) || self.group_of(old) != new.group_of(service) {
                changes.push(Change::Service(Act::Edit, key(service)));
            }
            servers_to(old, service, changes);
        }
    }
}

fn servers_to(old: &Service, new: &Service, changes: &mut Vec<Change>) {
    let key = new.key();
    let own = |server: &Server| Server {
        checkers: Vec::new(),
        ..server.clone()
    };
    let without: [Vec<Server>; 2] = [old, new].map(|s| s.servers.iter().map(own).collect());
    each(
        &without[0],
        &without[1],
        |s| (s.address, s.port),
        |act, (address, port)| {
            changes.push(Change::Server(act, key.clone(), address, port));
        },
    );
    let checkers: HashMap<(IpAddr, u16), &Vec<Checker>> = old
        .servers
        .iter()
        .map(|s| ((s.address, s.port), &s.checkers))
        .collect();
    for server in &new.servers {
        let before = checkers.get(&(server.address, server.port));
        if before.is_some_and(|before| **before != server.checkers) {
            changes.push(Change::Checkers(key.clone(), server.address, server.port));
        }
    }
}

fn static_address(address: &VirtualAddress) -> String {
    let device = address.device.as_deref().unwrap_or_default();
    format!("{}/{} dev {device}", address.address, address.prefix)
}

/// By what a routing table knows it.
fn static_route(route: &Route) -> String {
    let mut name = route.name();
    if let Some(metric) = route.metric {
        name += &format!(" metric {metric}");
    }
    if route.table != MAIN_TABLE {
        name += match &route.table {
            Id::Number(number) => format!(" table {number}"),
            Id::Name(table) => format!(" table {table}"),
        }
        .as_str();
    }
    name
}

fn static_rule(rule: &Rule) -> String {
    let family = if rule.ipv6 { " of IPv6" } else { "" };
    format!("preference {}{family}", rule.preference)
}

/// Tells of everything that goes, is new or differs.
fn each<T: PartialEq, K: Hash + Eq>(
    old: &[T],
    new: &[T],
    key: impl Fn(&T) -> K,
    mut tell: impl FnMut(Act, K),
) {
    let before: HashMap<K, &T> = old.iter().map(|one| (key(one), one)).collect();
    let after: HashSet<K> = new.iter().map(&key).collect();
    for one in old.iter().filter(|one| !after.contains(&key(one))) {
        tell(Act::Remove, key(one));
    }
    for one in new {
        match before.get(&key(one)) {
            None => tell(Act::Add, key(one)),
            Some(old) if *old != one => tell(Act::Edit, key(one)),
            Some(_) => {}
        }
    }
}
