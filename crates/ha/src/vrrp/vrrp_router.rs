//! All virtual routers of a host.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::config::RouterConfig;
use super::notice::{Event, Notice, Scope};
use super::output::{Datagram, Interface, Output};
use super::reception::Rejection;
use super::sync_group::SyncGroup;
use super::tracker::Reading;
use super::virtual_router::{State, VirtualRouter};

/// All virtual routers of a host, and their sync groups.
#[derive(Debug, Clone, Default)]
pub struct VrrpRouter {
    routers: Vec<VirtualRouter>,
    groups: Vec<SyncGroup>,
    /// What each tracker found last: trackers tell changes only, and a virtual router that comes later
    /// has to know too.
    readings: BTreeMap<String, Reading>,
}

impl VrrpRouter {
    /// A host with these; groups name routers by position.
    pub fn new(mut routers: Vec<VirtualRouter>, groups: Vec<SyncGroup>) -> Self {
        for group in &groups {
            for at in group.members() {
                if let Some(router) = routers.get_mut(*at) {
                    router.set_grouped(group.tracking_weight());
                }
            }
        }
        Self {
            routers,
            groups,
            readings: BTreeMap::new(),
        }
    }

    /// Stops the virtual routers that have no place in a new configuration; what they still want done
    /// has to be taken before [`Self::set_config`].
    pub fn retire(&mut self, stay: &[RouterConfig], now: Duration) {
        let mut gone = BTreeSet::new();
        for (at, router) in self.routers.iter_mut().enumerate() {
            if !stay.iter().any(|config| is_same(config, router.config())) {
                router.stop(Event::Deleted);
                gone.insert(at);
            }
        }
        // A group that somebody leaves does not give up for that: the next one takes its members as they are.
        for group in &mut self.groups {
            if group.members().iter().all(|at| gone.contains(at)) {
                group.settle(&mut self.routers, now);
            }
        }
    }

    /// Takes a new configuration, after [`Self::retire`]. A virtual router of the same interface, id and
    /// family stays what it is; groups name routers by their new positions.
    pub fn set_config(
        &mut self,
        configs: Vec<RouterConfig>,
        mut groups: Vec<SyncGroup>,
        now: Duration,
    ) {
        // A tracker that nobody has begins anew when somebody has it again.
        let trackers = configs.iter().flat_map(|config| &config.trackers);
        let names: BTreeSet<String> = trackers.map(|tracker| tracker.name.clone()).collect();
        self.readings.retain(|name, _| names.contains(name));
        let mut old = std::mem::take(&mut self.routers);
        for (at, config) in configs.into_iter().enumerate() {
            let found = old
                .iter()
                .position(|router| is_same(&config, router.config()));
            let group = groups.iter().find(|group| group.members().contains(&at));
            let group = group.map(SyncGroup::tracking_weight);
            let mut router = match found {
                Some(found) => old.swap_remove(found),
                None => VirtualRouter::new(config.clone()),
            };
            // Before anything counts: else a member would be told alone for a moment.
            router.set_group(group);
            router.know(&self.readings);
            if found.is_some() {
                router.reconfigure(config, &self.readings, now);
            }
            if group.is_none() {
                router.set_group_fault(false, now);
            }
            self.routers.push(router);
        }
        for group in &mut groups {
            group.join(&self.routers);
        }
        self.groups = groups;
        self.settle(now);
    }

    /// The virtual routers.
    pub fn routers(&self) -> &[VirtualRouter] {
        &self.routers
    }

    /// The sync groups.
    pub fn groups(&self) -> &[SyncGroup] {
        &self.groups
    }

    /// Tells all virtual routers on interface `name` of it; none while it is down or has no
    /// address. `v6` says for which family.
    pub fn handle_interface(
        &mut self,
        name: &str,
        v6: bool,
        interface: Option<Interface>,
        now: Duration,
    ) {
        for router in &mut self.routers {
            if router.config().interface == name && router.config().is_ipv6() == v6 {
                router.handle_interface(interface, now);
            }
        }
        self.settle(now);
    }

    /// Tells the virtual router at this position of its interface; none while that is down or has no
    /// address for it to send from.
    pub fn handle_interface_of(&mut self, at: usize, interface: Option<Interface>, now: Duration) {
        if let Some(router) = self.routers.get_mut(at) {
            router.handle_interface(interface, now);
        }
        self.settle(now);
    }

    /// Tells all virtual routers what the tracker `name` found.
    pub fn handle_reading(&mut self, name: &str, reading: Reading, now: Duration) {
        self.readings.insert(name.to_owned(), reading);
        for router in &mut self.routers {
            router.handle_reading(name, reading, now);
        }
        self.settle(now);
    }

    /// Gives what came in on `interface` to its virtual router. The error has the router's position and
    /// says why it does not count; what is for none of ours is no error.
    pub fn handle_packet(
        &mut self,
        interface: &str,
        datagram: &Datagram,
        now: Duration,
    ) -> Result<(), (usize, Rejection)> {
        let vrid = datagram.message.get(1).copied();
        let v6 = datagram.destination.is_ipv6();
        let found = self.routers.iter_mut().enumerate().find(|(_, router)| {
            let config = router.config();
            Some(config.vrid) == vrid && config.interface == interface && config.is_ipv6() == v6
        });
        let Some((at, router)) = found else {
            return Ok(());
        };
        let result = router.handle_packet(datagram, now);
        self.settle(now);
        result.map_err(|rejection| (at, rejection))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        for router in &mut self.routers {
            router.handle_timeout(now);
        }
        self.settle(now);
    }

    /// What each tracker found last.
    pub fn readings(&self) -> &BTreeMap<String, Reading> {
        &self.readings
    }

    /// Has masters advertise at once: the time until others take this host for down begins anew.
    pub fn advertise(&mut self, now: Duration) {
        for router in &mut self.routers {
            router.advertise_now(now);
        }
    }

    /// What each group and each virtual router is, as a notice would say.
    pub fn states(&self) -> Vec<Notice> {
        let groups = self.groups.iter().map(|group| {
            let name = group.name();
            (Scope::Group, name, group.state(), 0)
        });
        let routers = self.routers.iter().map(|router| {
            let name = router.config().name.as_str();
            (Scope::Instance, name, router.state(), router.priority())
        });
        let all = groups.chain(routers);
        all.map(|(scope, name, state, priority)| Notice {
            scope,
            name: name.to_owned(),
            event: match state {
                State::Master => Event::Master,
                State::Backup => Event::Backup,
                State::Fault => Event::Fault,
                State::Initialize => Event::Stop,
            },
            priority,
        })
        .collect()
    }

    /// Stops all virtual routers.
    pub fn stop(&mut self, now: Duration) {
        for router in &mut self.routers {
            router.stop(Event::Stop);
        }
        self.settle(now);
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let routers = self.routers.iter();
        routers.filter_map(VirtualRouter::poll_timeout).min()
    }

    /// The next thing to do, and the position of the virtual router that wants it; notices about a
    /// group come from its last member.
    pub fn poll_output(&mut self) -> Option<(usize, Output)> {
        let routers = self.routers.iter_mut().enumerate();
        routers
            .filter_map(|(at, router)| Some((at, router.poll_output()?)))
            .next()
    }

    fn settle(&mut self, now: Duration) {
        for group in &mut self.groups {
            group.settle(&mut self.routers, now);
        }
    }
}

/// Whether both are the same virtual router on the wire.
fn is_same(one: &RouterConfig, other: &RouterConfig) -> bool {
    let key = |config: &RouterConfig| (config.vrid, config.is_ipv6());
    key(one) == key(other) && one.interface == other.interface
}
