//! What a virtual service's health wants, carried out.

use std::sync::{Arc, Mutex, PoisonError};

use pointsman_director::model::{Change, ControlError, RealServer};
use pointsman_ha::health::{HealthNotice, Target};
use pointsman_ha::mail::{Alert, Told};

use super::quorums::Quorums;
use super::{Placed, PlannedService};
use crate::api::Shell;
use crate::balancer::OnRefusal;
use crate::child::Script;
use crate::fifo::Fifos;
use crate::mail::Mailer;
use crate::minding::{CheckNews, Hand, Placing};
use crate::plane::Plane;

/// Carries out what the health of a service wants.
pub(super) struct ServiceHand<P> {
    pub(super) shell: Arc<Shell<P>>,
    pub(super) planned: PlannedService,
    pub(super) fifos: SharedFifos,
    pub(super) mailer: Mailer,
    pub(super) quorums: Quorums,
}

/// The FIFOs that are told of services; a reload puts others in their place.
pub(super) type SharedFifos = Arc<Mutex<Fifos>>;

impl<P: Plane + Send + Sync + 'static> Hand for ServiceHand<P> {
    fn place(&self, placing: Placing) {
        for placed in &self.planned.placed {
            self.place_in(placed, placing);
        }
    }

    fn settle(&self, present: &[Target]) {
        for placed in &self.planned.placed {
            let all = placed.servers.iter().zip((0..).map(Target::Server));
            let sorry = placed.sorry.iter().map(|server| (server, Target::Sorry));
            let is_here = |server: &RealServer| {
                let mut here = all.clone().chain(sorry.clone());
                here.any(|(one, target)| {
                    present.contains(&target)
                        && (one.address, one.port) == (server.address, server.port)
                })
            };
            let id = placed.service.id;
            let known = self.shell.balancer.service(id);
            for server in known.iter().flat_map(|(_, servers)| servers) {
                if !is_here(server) {
                    let (address, port) = (server.address, server.port);
                    self.carry(&Change::DeleteServer { id, address, port });
                }
            }
        }
    }

    fn quorum(&self, enough: bool) {
        self.quorums.tell(&self.planned.origin.key(), enough);
    }

    fn notify(&self, notice: HealthNotice) {
        tracing::info!("{notice}");
        let fifos = self.fifos.lock().unwrap_or_else(PoisonError::into_inner);
        fifos.write(&format!("{notice}\n"));
        drop(fifos);
        let scripts = &self.planned.scripts;
        let script = match &notice.server {
            None if notice.up => scripts.quorum_up.as_ref(),
            None => scripts.quorum_down.as_ref(),
            Some(name) => {
                let servers = &self.planned.minded.service.servers;
                let at = servers.iter().position(|server| server.name == *name);
                let pair = at.and_then(|at| scripts.servers.get(at));
                pair.and_then(|(up, down)| {
                    if notice.up {
                        up.as_ref()
                    } else {
                        down.as_ref()
                    }
                })
            }
        };
        Script::begin_and_forget(script, &[]);
        if self.mails_of(&notice) {
            let alert = || Alert::new(Told::Health(&notice));
            self.mailer.post(|_| true, alert);
        }
    }

    fn tell(&self, news: &CheckNews<'_>) {
        let minded = &self.planned.minded;
        let server = self.planned.origin.servers.get(news.server);
        if !server.is_some_and(|server| server.alert) {
            return;
        }
        let alert = || {
            let checks = minded.checks.get(news.server)?;
            let check = &checks.get(news.checker)?.check;
            Alert::new(Told::Check {
                service: &minded.service.name,
                server: &minded.service.servers.get(news.server)?.name,
                up: news.up,
                says: &check.said(news.succeeds, news.failure)?,
            })
        };
        self.mailer
            .post(|config| config.checkers || news.turned, alert);
    }
}

impl<P: Plane> ServiceHand<P> {
    /// Whether mails are wanted about the real server or the quorum.
    fn mails_of(&self, notice: &HealthNotice) -> bool {
        let origin = &self.planned.origin;
        let Some(name) = &notice.server else {
            return origin.alert;
        };
        let servers = self.planned.minded.service.servers.iter();
        let mut pairs = servers.zip(&origin.servers);
        pairs.any(|(one, origin)| one.name == *name && origin.alert)
    }

    /// Does it in one virtual service; who was there, or was not, against what is remembered gets what
    /// is wanted all the same.
    fn place_in(&self, placed: &Placed, placing: Placing) {
        let id = placed.service.id;
        let (target, weight) = match placing {
            Placing::Add(target, weight) | Placing::Weigh(target, weight) => (target, weight),
            Placing::Remove(target) => (target, 0),
        };
        let server = match target {
            Target::Server(at) => placed.servers.get(at),
            Target::Sorry => placed.sorry.as_ref(),
        };
        let Some(server) = server.cloned() else {
            return;
        };
        let server = RealServer {
            weight: i32::try_from(weight).unwrap_or(i32::MAX),
            ..server
        };
        let (address, port) = (server.address, server.port);
        let edit = Change::EditServer {
            id,
            server: server.clone(),
        };
        let add = Change::AddServer { id, server };
        let (change, otherwise) = match placing {
            Placing::Add(..) => (add, Some((ControlError::DestinationExists, edit))),
            Placing::Weigh(..) => (edit, Some((ControlError::NoSuchDestination, add))),
            Placing::Remove(_) => (Change::DeleteServer { id, address, port }, None),
        };
        let Some(mut refusal) = self.carry(&change) else {
            return;
        };
        match otherwise {
            Some((cause, other)) if refusal == cause => match self.carry(&other) {
                Some(again) => refusal = again,
                None => return,
            },
            // Somebody removed it by hand.
            None if refusal == ControlError::NoSuchDestination => return,
            _ => {}
        }
        tracing::error!(error = %refusal, ?change, "refused");
    }

    fn carry(&self, change: &Change) -> Option<ControlError> {
        let changes = std::slice::from_ref(change);
        let mut refusals = self.shell.balancer.apply(changes, OnRefusal::Stop);
        refusals.pop().map(|refusal| refusal.cause)
    }
}
