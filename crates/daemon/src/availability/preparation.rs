//! Changes of services that are made before a reload counts, and undone if it does not.

use anyhow::{Result, bail};
use pointsman_director::model::{Change, RealServer, ServiceId};

use super::PlannedService;
use crate::balancer::{Balancer, OnRefusal};
use crate::plane::Plane;

/// Services that are there as a new configuration says; nothing has been taken away yet.
#[derive(Debug, Default)]
pub(super) struct Preparation {
    /// What leads back, the last first.
    back: Vec<Change>,
}

impl Preparation {
    /// Makes new services with the real servers that serve from the start, and changes those that are
    /// there. With an error nothing has changed.
    pub(super) fn make<'a, P: Plane>(
        balancer: &Balancer<P>,
        services: impl Iterator<Item = &'a PlannedService>,
    ) -> Result<Self> {
        let (mut changes, mut back) = (Vec::new(), Vec::new());
        for planned in services {
            // While the sorry server serves, the others come when their health has them come.
            let is_sorry = planned.minded.known().sorry;
            for placed in &planned.placed {
                let id = placed.service.id;
                let service = placed.service.clone();
                let known = balancer.service(id);
                match &known {
                    None => {
                        changes.push(Change::AddService { service });
                        back.push(Change::DeleteService { id });
                    }
                    Some((before, _)) if *before == service => {}
                    Some((before, _)) => {
                        let before = before.clone();
                        changes.push(Change::EditService { service });
                        back.push(Change::EditService { service: before });
                    }
                }
                let known = known.map(|(_, servers)| servers).unwrap_or_default();
                for (server, health) in placed.servers.iter().zip(&planned.minded.service.servers) {
                    let (address, port) = (server.address, server.port);
                    let is_it = |one: &&RealServer| (one.address, one.port) == (address, port);
                    let serves = !is_sorry && health.checkers.iter().all(|up| *up);
                    if serves && known.iter().find(is_it).is_none() {
                        let server = server.clone();
                        changes.push(Change::AddServer { id, server });
                        back.push(Change::DeleteServer { id, address, port });
                    }
                }
            }
        }
        let refusals = balancer.apply(&changes, OnRefusal::Stop);
        let Some(refusal) = refusals.first() else {
            back.reverse();
            return Ok(Self { back });
        };
        back.truncate(refusal.index);
        back.reverse();
        let error = &refusal.error;
        let what = changes.get(refusal.index).map(named).unwrap_or_default();
        Self { back }.undo(balancer);
        bail!("{what}: {error}")
    }

    /// Goes back to what was before.
    pub(super) fn undo<P: Plane>(self, balancer: &Balancer<P>) {
        for refusal in balancer.apply(&self.back, OnRefusal::GoOn) {
            let change = self.back.get(refusal.index);
            tracing::error!(error = %refusal.error, ?change, "can't go back");
        }
    }
}

/// A change in words.
fn named(change: &Change) -> String {
    match change {
        Change::AddService { service } => format!("adding the service {}", called(&service.id)),
        Change::EditService { service } => {
            format!("changing the service {}", called(&service.id))
        }
        Change::AddServer { id, server } => {
            let service = called(id);
            format!(
                "adding the real server {} to the service {service}",
                server.address
            )
        }
        other => format!("{other:?}"),
    }
}

/// A service in words.
fn called(id: &ServiceId) -> String {
    match id {
        ServiceId::Address {
            protocol,
            address,
            port,
        } => format!("{address} {port} {protocol:?}"),
        ServiceId::Mark { mark, .. } => format!("fwmark {mark}"),
    }
}
