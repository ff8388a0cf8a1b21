//! Quorums of virtual services, told to the virtual routers that track them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pointsman_config::keepalived::model::{ServiceKey, Tracked};
use pointsman_ha::vrrp::Reading;

use super::Plan;
use crate::vrrp::Remote;

/// Whether there are enough real servers of each virtual service; copies share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Quorums(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// By the services' keys in words.
    enough: BTreeMap<String, bool>,
    /// Services that are tracked, with the names of their trackers.
    tracked: BTreeMap<String, String>,
    remote: Option<Remote>,
}

impl Quorums {
    /// Takes note of what was found, and tells it to whoever tracks it.
    pub(super) fn tell(&self, service: &ServiceKey, enough: bool) {
        let mut known = self.lock();
        let name = service.to_string();
        known.read(&name, enough);
        known.enough.insert(name, enough);
    }

    /// Has the virtual routers of a plan told, from now on and at once of what is known.
    pub(super) fn follow(&self, plan: &Plan, remote: Option<&Remote>) {
        let configuration = &plan.configuration;
        let instances = configuration.instances.iter().flat_map(|one| &one.tracked);
        let groups = configuration.sync_groups.iter();
        let all = instances.chain(groups.flat_map(|one| &one.tracked));
        let tracked = all.filter(|track| track.kind == Tracked::Service);
        let services = configuration.services.iter();
        let services: BTreeSet<String> = services.map(|one| one.key().to_string()).collect();
        let mut known = self.lock();
        known.tracked = tracked
            .map(|track| (track.name.clone(), track.reading()))
            .collect();
        known.remote = remote.cloned();
        known.enough.retain(|name, _| services.contains(name));
        for (name, enough) in &known.enough {
            known.read(name, *enough);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn read(&self, service: &str, enough: bool) {
        if let (Some(tracker), Some(remote)) = (self.tracked.get(service), &self.remote) {
            let reading = if enough { Reading::Up } else { Reading::Down };
            remote.read(tracker, reading);
        }
    }
}
