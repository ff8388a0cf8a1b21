//! Virtual services: added, edited, deleted, zeroed.

use std::collections::HashMap;

use super::{
    Director, Mirror, MirrorError, Service, cache_of,
    check::{KINDS, check_service, full, kind_of},
    plan,
    servers::withdraw,
    service_key,
};
use crate::{
    estimate::Estimate,
    model::{ControlError, ServiceId, VirtualService},
    record::{ServerStats, ServiceRecord},
    schedule::Scheduler,
};

impl Director {
    pub(super) fn add_service<M: Mirror>(
        &mut self,
        config: &VirtualService,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        if self.services.contains_key(&config.id) {
            return Err(ControlError::ServiceExists);
        }
        let scheduler = check_service(config)?;
        let index = self
            .service_indices
            .take(1)
            .ok_or_else(|| full("virtual services", "--services"))?;
        let kinds = self.settings.flags & KINDS | kind_of(&config.id);
        let written = self
            .set_kinds(kinds, mirror)
            .and_then(|()| self.write_service(config, scheduler, index, mirror));
        if written.is_err() {
            self.service_indices.give(index, 1);
        }
        Ok(written?)
    }

    /// Writes a service that has no servers yet.
    pub(super) fn write_service<M: Mirror>(
        &mut self,
        config: &VirtualService,
        scheduler: Scheduler,
        index: u32,
        mirror: &mut M,
    ) -> Result<(), MirrorError> {
        let key = service_key(&config.id);
        let mut service = Service {
            config: config.clone(),
            key,
            record: ServiceRecord {
                id: index,
                ..plan::service_record(config, scheduler)
            },
            servers: Vec::new(),
            past: ServerStats::default(),
            ever: ServerStats::default(),
            estimate: Estimate::default(),
        };
        // A service index may have had an owner before: its state is of another plan.
        let plan = (mirror.scheduler_state(index)? >> 48) as u16;
        service.record.plan = plan.wrapping_add(1);
        if scheduler.has_cache() {
            service.record.table = self.localities.next();
        }
        mirror.set_service(&key, &service.record)?;
        self.services.insert(config.id, service);
        Ok(())
    }

    pub(super) fn edit_service<M: Mirror>(
        &mut self,
        config: &VirtualService,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let service = self
            .services
            .get(&config.id)
            .ok_or(ControlError::NoSuchService)?;
        let scheduler = check_service(config)?;
        let same_scheduler = service.record.scheduler == scheduler as u8;
        let mut edited = service.clone();
        edited.config = config.clone();
        let fresh = plan::service_record(config, scheduler);
        edited.record.flags = fresh.flags;
        edited.record.persistence = fresh.persistence;
        edited.record.prefix = fresh.prefix;
        edited.record.netmask = fresh.netmask;
        if same_scheduler {
            // As in the kernel the scheduler's state stays untouched.
            mirror.set_service(&edited.key, &edited.record)?;
            self.services.insert(config.id, edited);
            return Ok(());
        }
        let old = cache_of(&service.record);
        edited.record.scheduler = scheduler as u8;
        self.replan(edited, plan::Cause::Scheduler, mirror)?;
        self.flush(old.as_slice(), mirror);
        Ok(())
    }

    pub(super) fn delete_service<M: Mirror>(
        &mut self,
        id: &ServiceId,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        if !self.services.contains_key(id) {
            return Err(ControlError::NoSuchService);
        }
        self.delete_services(&[*id], mirror)
    }

    /// Deletes all of these services or none.
    pub(super) fn delete_services<M: Mirror>(
        &mut self,
        ids: &[ServiceId],
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        let services = || ids.iter().filter_map(|id| self.services.get(id));
        let withdrawn = services()
            .try_for_each(|service| mirror.remove_service(&service.key))
            .and_then(|()| {
                let mut servers = services().flat_map(|service| &service.servers);
                servers.try_for_each(|server| withdraw(server, mirror))
            });
        if let Err(error) = withdrawn {
            // What can't be written back either shows the next restart.
            for service in services() {
                for server in &service.servers {
                    let _ = mirror.set_server(server.index, &server.record);
                }
                let _ = mirror.set_service(&service.key, &service.record);
            }
            return Err(error.into());
        }
        let mut caches = Vec::new();
        for id in ids {
            let Some(service) = self.services.remove(id) else {
                continue;
            };
            self.release_plan(&service.record);
            caches.extend(cache_of(&service.record));
            self.service_indices.give(service.record.id, 1);
            for server in service.servers {
                self.bury(*id, server);
            }
            self.removed.leave_alone(id);
        }
        self.flush(&caches, mirror);
        Ok(())
    }

    pub(super) fn clear<M: Mirror>(&mut self, mirror: &mut M) -> Result<(), ControlError> {
        let ids: Vec<ServiceId> = self.services.keys().copied().collect();
        self.delete_services(&ids, mirror)
    }

    pub(super) fn zero<M: Mirror>(
        &mut self,
        id: Option<&ServiceId>,
        mirror: &mut M,
    ) -> Result<(), ControlError> {
        if let Some(id) = id
            && !self.services.contains_key(id)
        {
            return Err(ControlError::NoSuchService);
        }
        let chosen = |key: &ServiceId| id.is_none_or(|id| id == key);
        let mut now = HashMap::new();
        for (_, service) in self.services.iter().filter(|(key, _)| chosen(key)) {
            for server in &service.servers {
                now.insert(server.index, mirror.stats(server.index)?);
            }
        }
        for (_, service) in self.services.iter_mut().filter(|(key, _)| chosen(key)) {
            service.past = ServerStats::default();
            service.estimate = Estimate::default();
            for server in &mut service.servers {
                server.estimate = Estimate::default();
                server.zero = now.get(&server.index).copied().unwrap_or_default();
            }
        }
        Ok(())
    }
}
