//! A reload: the difference of two plans, carried out as a whole or not at all.

use std::collections::HashSet;
use std::fmt;
use std::sync::PoisonError;

use anyhow::{Context, Result};
use pointsman_config::keepalived::model::ServiceKey;
use pointsman_config::keepalived::{Act, Change as Difference};
use pointsman_director::model::{Change, ServiceId};
use pointsman_ha::vrrp::Notice;
use serde::Serialize;
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::block_in_place;

use super::mails;
use super::preparation::Preparation;
use super::work::Availability;
use super::{Plan, PlannedService};
use crate::fifo::Fifos;
use crate::plane::Plane;
use crate::vrrp::Vrrp;
use crate::vrrp::hooks::Hooks;

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Reloaded {
    /// Services that are new.
    pub added: usize,
    /// Services that are gone.
    pub removed: usize,
    /// Services that changed.
    pub changed: usize,
    /// Services that went on as they were.
    pub kept: usize,
    /// What is different, in words.
    pub differences: Vec<String>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.differences[..] {
            [] => f.write_str("nothing is different"),
            differences => f.write_str(&differences.join("; ")),
        }
    }
}

impl<P: Plane + Send + Sync + 'static> Availability<P> {
    /// Takes a new plan: what is the same goes on as it is. With an error nothing has changed.
    pub async fn reload(&mut self, mut plan: Plan) -> Result<Reloaded> {
        let differences = self.plan.configuration.changes_to(&plan.configuration);
        let touched = self.touched(&plan, &differences);
        // All that can fail comes first, each undone by what it leaves when the next fails.
        let fifos = Fifos::open(plan.fifos(), &self.fifos).context("opening FIFOs")?;
        self.suspend(&mut plan)?;
        let sessions = self.prepare_sessions(&plan)?;
        for planned in &mut plan.services {
            if let Some(before) = self.minder(&planned.origin.key()) {
                planned.minded.inherit(&before.minded);
            }
        }
        let services = plan.services.iter();
        let services = services.filter(|planned| touched.contains(&planned.origin.key()));
        let prepared = match Preparation::make(&self.shell.balancer, services) {
            Ok(prepared) => prepared,
            Err(error) => {
                self.undo_sessions(sessions);
                return Err(error);
            }
        };
        if let Err(error) = self.reload_routers(&plan, &fifos).await {
            prepared.undo(&self.shell.balancer);
            self.undo_sessions(sessions);
            return Err(error);
        }
        // From here on nothing fails.
        fifos.settle(plan.fifos());
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = fifos.only(&plan.service_fifos);
        self.fifos = fifos;
        let minders = self.minders.values().map(|minder| &minder.planned);
        mails::tell_removed(&self.mailer, minders, &plan.services);
        self.mailer.set_config(plan.mail.clone());
        let old = std::mem::replace(&mut self.plan, plan);
        self.reload_sessions(sessions);
        let remote = self.vrrp.as_ref().map(Vrrp::remote);
        let levels = self.levels.subscribe();
        self.trackers.follow(&self.plan, remote.as_ref(), &levels);
        self.set_umask();
        self.quorums
            .follow(&self.plan, self.vrrp.as_ref().map(Vrrp::remote).as_ref());
        if old.timeouts != self.plan.timeouts {
            self.set_timeouts();
        }
        self.synchronise().await;
        let mut done = self.reload_services(&touched).await;
        if self.plan.tell_states {
            self.tell_states().await;
        }
        done.differences = differences.iter().map(ToString::to_string).collect();
        Ok(done)
    }

    /// Services that are not the same as before: those that differ, and those whose scripts or checks
    /// mean something else because of what differs elsewhere.
    fn touched(&self, plan: &Plan, differences: &[Difference]) -> HashSet<ServiceKey> {
        let differ = differences
            .iter()
            .filter(|difference| !matches!(difference, Difference::Service(Act::Remove, _)));
        let mut touched: HashSet<ServiceKey> =
            differ.filter_map(Difference::service).cloned().collect();
        for planned in &plan.services {
            let key = planned.origin.key();
            let same = self.minder(&key).is_some_and(|before| {
                before.scripts == planned.scripts && before.minded.checks == planned.minded.checks
            });
            if !same {
                touched.insert(key);
            }
        }
        touched
    }

    async fn reload_routers(&mut self, plan: &Plan, fifos: &Fifos) -> Result<()> {
        let same = self.plan.vrrp == plan.vrrp && self.plan.hooks == plan.hooks;
        if same || self.vrrp.is_none() && plan.vrrp.is_empty() {
            return Ok(());
        }
        let (notices, heard) = unbounded_channel::<Notice>();
        match &self.vrrp {
            Some(vrrp) => block_in_place(|| vrrp.set_config(&plan.vrrp, notices))?,
            None => {
                let none = Default::default();
                let vrrp = Vrrp::start(&plan.vrrp, &none, notices, self.board())?;
                self.adopt_routers(vrrp);
            }
        }
        if plan.vrrp.is_empty()
            && let Some(vrrp) = self.vrrp.take()
        {
            block_in_place(|| vrrp.stop());
            self.forget_routers().await;
        }
        // What was said before is told by the old ones first, which end then.
        if let Some(before) = self.hooks.take() {
            let _ = before.await;
        }
        let hooks = Hooks::new(plan.hooks.clone(), fifos, &self.mailer);
        self.hooks = Some(tokio::spawn(hooks.keep(heard)));
        Ok(())
    }

    async fn reload_services(&mut self, touched: &HashSet<ServiceKey>) -> Reloaded {
        let mut done = Reloaded::default();
        let wanted: HashSet<ServiceKey> = self
            .plan
            .services
            .iter()
            .map(|one| one.origin.key())
            .collect();
        let gone: Vec<ServiceKey> = self
            .minders
            .keys()
            .filter(|key| !wanted.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            if let Some(minder) = self.minders.remove(&key) {
                let before = minder.planned.clone();
                minder.end().await;
                self.remove(&before, &[]);
                done.removed += 1;
            }
        }
        for planned in self.plan.services.clone() {
            let key = planned.origin.key();
            if !touched.contains(&key) {
                done.kept += 1;
                continue;
            }
            match self.minders.remove(&key) {
                None => done.added += 1,
                Some(minder) => {
                    let before = minder.planned.clone();
                    minder.hand_over().await;
                    self.remove(&before, &planned.placed);
                    done.changed += 1;
                }
            }
            self.mind(planned);
        }
        self.show_minded();
        done
    }

    /// Removes the virtual services that are not among those that stay.
    fn remove(&self, before: &PlannedService, stay: &[super::Placed]) {
        let stays = |id: &ServiceId| stay.iter().any(|one| one.service.id == *id);
        let ids = before.placed.iter().map(|placed| placed.service.id);
        let gone = ids.filter(|id| !stays(id));
        let changes: Vec<_> = gone.map(|id| Change::DeleteService { id }).collect();
        self.apply(&changes);
    }

    /// Tells FIFOs what virtual routers are.
    async fn tell_states(&self) {
        let Some(vrrp) = &self.vrrp else { return };
        let states = vrrp.remote().ask_states().await.unwrap_or_default();
        let fifos = self.fifos.only(&self.plan.hooks.fifos);
        for state in states {
            fifos.write(&format!("{state}\n"));
        }
    }
}
