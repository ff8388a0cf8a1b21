//! What the machines of availability are told: virtual routers, sync groups, health of services.

use std::time::Duration;

use pointsman_director::model::Protocol;
use pointsman_ha::health::{CheckerConfig, ServerConfig, ServiceConfig};
use pointsman_ha::vrrp::{
    AddressCheck, AnnounceConfig, Peer, Peers, RouterConfig, Tracker, Version,
};

use super::model::{
    Authentication, Configuration, Instance, Server, Service, Target, Timing, Track, TrackGroup,
    Tracked, Tracking,
};

/// Hop limits of unicast advertisements that say nothing, of IPv4 and of IPv6.
const HOP_LIMITS: [u8; 2] = [255, 64];

impl Configuration {
    /// The virtual routers, in order; what can't be says why (`RouterConfig::check`).
    ///
    /// What a sync group tracks, each of its members tracks.
    pub fn routers(&self) -> Vec<RouterConfig> {
        self.instances.iter().map(|one| self.router(one)).collect()
    }

    fn router(&self, instance: &Instance) -> RouterConfig {
        let is_ipv6 = instance.is_ipv6();
        let global = &self.global;
        let peers = if instance.peers.is_empty() && !instance.fault_without_peer {
            let group = if is_ipv6 {
                global.group_v6
            } else {
                global.group_v4
            };
            Peers::Multicast(instance.group.unwrap_or(group))
        } else {
            let peers = instance.peers.iter().map(|peer| Peer {
                address: peer.address,
                hop_limits: peer.least_ttl..=peer.most_ttl,
            });
            let hop_limit = HOP_LIMITS[usize::from(is_ipv6)];
            Peers::Unicast {
                peers: peers.collect(),
                hop_limit: instance.unicast_ttl.unwrap_or(hop_limit),
                only_peers: instance.only_peers,
            }
        };
        let groups = self.sync_groups.iter();
        let of_group = groups
            .filter(|group| group.members.contains(&instance.name))
            .flat_map(|group| &group.tracked);
        let announce = &instance.announce;
        let interface = instance.interface.clone().unwrap_or_default();
        let addresses = instance
            .addresses
            .iter()
            .map(|a| a.address)
            .collect::<Vec<_>>();
        RouterConfig {
            interface: interface.clone(),
            version: if instance.version == 3 {
                Version::V3
            } else {
                Version::V2
            },
            priority: instance.priority,
            interval: instance.interval,
            excluded: instance.excluded.iter().map(|a| a.address).collect(),
            peers,
            password: match instance.authentication {
                Some(Authentication::Password(password)) => Some(password),
                _ => None,
            },
            old_checksum: instance.old_checksum,
            preempt: instance.preempt,
            preempt_delay: instance.preempt_delay,
            down_adverts: instance.down_adverts,
            address_check: match instance.skip_check {
                true => AddressCheck::TrustMaster,
                false => AddressCheck::Reject,
            },
            answer_lower: !instance.lower_no_advert,
            answer_higher: instance.higher_send_advert,
            announce: AnnounceConfig {
                repeat: announce.repeat,
                delay: announce.delay,
                refresh: announce.refresh,
                refresh_repeat: announce.refresh_repeat,
                lower_repeat: announce.lower_repeat,
                lower_delay: announce.lower_delay,
                spacing: self.spacing(&interface, is_ipv6),
            },
            trackers: self.trackers(instance, instance.tracked.iter().chain(of_group)),
            notify_priority: instance.notify.priority,
            ..RouterConfig::new(&instance.name, &interface, instance.vrid, &addresses)
        }
    }

    /// What it tracks: what it is told to, and the interfaces of what it holds and of what it minds.
    fn trackers<'a>(
        &self,
        instance: &Instance,
        tracked: impl Iterator<Item = &'a Track>,
    ) -> Vec<Tracker> {
        let mut trackers: Vec<Tracker> = tracked.map(Track::tracker).collect();
        let vmacs = self.instances.iter().filter_map(|one| one.vmac.as_ref());
        // While it is no master they are down.
        let vmacs: Vec<&str> = vmacs.map(|vmac| vmac.name.as_str()).collect();
        for device in self.minded(instance) {
            let name = format!("interface {device}");
            let is_own = instance.interface.as_deref() == Some(device);
            if !is_own && !vmacs.contains(&device) && trackers.iter().all(|one| one.name != name) {
                trackers.push(Tracker::new(&name));
            }
        }
        trackers
    }

    /// Interfaces of addresses, routes and rules without which a virtual router is in fault.
    fn minded<'a>(&'a self, instance: &'a Instance) -> impl Iterator<Item = &'a str> {
        let device = |device: &'a Option<String>, tracking: &Tracking| {
            device.as_deref().filter(|_| tracking.tracked)
        };
        let addresses = instance.addresses.iter().chain(&instance.excluded);
        let own = addresses
            .filter_map(move |one| device(&one.device, &one.tracking))
            .chain(
                instance
                    .routes
                    .iter()
                    .filter_map(move |one| device(&one.device, &one.tracking)),
            )
            .chain(
                instance
                    .rules
                    .iter()
                    .filter_map(move |one| device(&one.incoming, &one.tracking)),
            );
        let groups: Vec<&TrackGroup> = self
            .track_groups
            .iter()
            .filter(|group| group.members.contains(&instance.name))
            .collect();
        let statics = &self.statics;
        let all = statics
            .addresses
            .iter()
            .map(|one| (&one.device, &one.tracking))
            .chain(
                statics
                    .routes
                    .iter()
                    .map(|one| (&one.device, &one.tracking)),
            )
            .chain(
                statics
                    .rules
                    .iter()
                    .map(|one| (&one.incoming, &one.tracking)),
            );
        let grouped = all.filter_map(move |(device, tracking)| {
            let name = tracking.group.as_ref()?;
            let minds = groups.iter().any(|group| group.name == *name);
            device.as_deref().filter(|_| minds)
        });
        own.chain(grouped)
    }

    /// Time between two announcements that leave by an interface.
    fn spacing(&self, interface: &str, is_ipv6: bool) -> Duration {
        let mut groups = self.garp_groups.iter();
        let group = groups.find(|group| group.interfaces.iter().any(|name| name == interface));
        let (own, global) = match is_ipv6 {
            false => (
                group.and_then(|g| g.garp_interval),
                self.global.garp_interval,
            ),
            true => (group.and_then(|g| g.gna_interval), self.global.gna_interval),
        };
        own.unwrap_or(global)
    }
}

impl Instance {
    /// True when it is about IPv6 addresses.
    pub fn is_ipv6(&self) -> bool {
        self.addresses.first().is_some_and(|a| a.address.is_ipv6())
    }
}

impl Track {
    /// The name under which its readings come: `script check_ssh`.
    pub fn reading(&self) -> String {
        let kind = match self.kind {
            Tracked::Interface => "interface",
            Tracked::Script => "script",
            Tracked::File => "file",
            Tracked::Process => "process",
            Tracked::Bfd => "bfd",
            Tracked::Service => "virtual_server",
        };
        format!("{kind} {}", self.name)
    }

    fn tracker(&self) -> Tracker {
        Tracker {
            name: self.reading(),
            weight: self.weight.weight,
            reverse: self.weight.reverse,
        }
    }
}

impl Service {
    /// Its health; real servers and their checkers are in the service's order.
    pub fn health(&self) -> ServiceConfig {
        ServiceConfig {
            name: self.name(),
            quorum: self.quorum,
            hysteresis: self.hysteresis,
            omega: self.omega,
            sorry_server: self.sorry.is_some(),
            sorry_inhibit: self.sorry.is_some_and(|sorry| sorry.inhibit),
            servers: self
                .servers
                .iter()
                .map(|server| self.server(server))
                .collect(),
        }
    }

    /// As keepalived names it: `[192.168.201.15]:tcp:80`, `FWM 5`, `[GROUP]:0`.
    pub fn name(&self) -> String {
        match &self.target {
            Target::Address(address, port) => {
                format!("[{address}]:{}:{port}", self.protocol_name())
            }
            Target::Mark(mark) => format!("FWM {mark}"),
            Target::Group(name) => format!("[{name}]:0"),
        }
    }

    fn protocol_name(&self) -> &'static str {
        match (&self.target, self.protocol) {
            (Target::Mark(_), _) => "none",
            (_, Protocol::Tcp) => "tcp",
            (_, Protocol::Udp) => "udp",
            (_, Protocol::Sctp) => "sctp",
        }
    }

    fn server(&self, server: &Server) -> ServerConfig {
        ServerConfig {
            name: format!(
                "[{}]:{}:{}",
                server.address,
                self.protocol_name(),
                server.port
            ),
            weight: server.weight,
            inhibit: server.inhibit,
            checkers: server
                .checkers
                .iter()
                .map(|checker| !checker.timing.alpha)
                .collect(),
        }
    }
}

impl Timing {
    /// When the check is made.
    pub fn checker(&self) -> CheckerConfig {
        CheckerConfig {
            delay_loop: self.delay_loop,
            retry: self.retry,
            delay_before_retry: self.delay_before_retry,
            warmup: self.warmup,
            alpha: self.alpha,
        }
    }
}
