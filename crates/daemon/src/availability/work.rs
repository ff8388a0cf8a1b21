//! The machines of a configuration at work.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use pointsman_director::model::{
    Change, ControlError, RealServer, ServerView, ServiceId, ServiceView,
};
use pointsman_ha::health::{HealthNotice, Target};
use pointsman_ha::vrrp::Notice;
use pointsman_linux::netlink::Netlink;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::task::{JoinHandle, block_in_place};

use super::{Placed, Plan, PlannedService};
use crate::api::Shell;
use crate::balancer::OnRefusal;
use crate::child::Script;
use crate::minding::{Hand, Placing};
use crate::plane::Plane;
use crate::vrrp::hooks::{Hooks, OpenFifo};
use crate::vrrp::{Board, Left, Vrrp};

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
}

/// Virtual routers and checks at work.
pub struct Availability<P> {
    shell: Arc<Shell<P>>,
    plan: Plan,
    vrrp: Option<Vrrp>,
    hooks: Option<JoinHandle<()>>,
    trackers: Vec<JoinHandle<()>>,
    minders: BTreeMap<String, Minder>,
    fifos: Arc<Mutex<Vec<OpenFifo>>>,
    /// Where virtual routers are remembered while nobody runs them.
    left: PathBuf,
}

/// One virtual service that is minded.
struct Minder {
    planned: PlannedService,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

/// What is remembered of virtual routers that were left.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    /// Seconds since the machine started, suspended time included.
    at: f64,
    left: Left,
}

/// Takes away the addresses that a daemon left at its end, as the file `left` tells; says how many.
pub fn release(left: &Path) -> usize {
    let Some(remembered) = remembered(left) else {
        return 0;
    };
    let Ok(mut netlink) = Netlink::new() else {
        return 0;
    };
    let held = remembered.left.held.into_iter();
    let released = held.filter(|(index, address, prefix)| {
        match netlink.address_delete(*index, *address, *prefix) {
            Ok(was_there) => was_there,
            Err(error) => {
                tracing::warn!(%error, %address, "can't take an address away");
                false
            }
        }
    });
    released.count()
}

/// Reads the file and removes it: it is about one moment.
fn remembered(left: &Path) -> Option<Remembered> {
    let text = fs::read_to_string(left).ok()?;
    let _ = fs::remove_file(left);
    serde_json::from_str(&text).ok()
}

impl<P: Plane + Send + Sync + 'static> Availability<P> {
    /// Begins with a plan. Virtual routers that another daemon left a moment ago, as the file `left`
    /// tells, go on without an election.
    pub async fn start(plan: Plan, shell: Arc<Shell<P>>, left: PathBuf) -> Result<Self> {
        if let Some((script, limit)) = &plan.startup {
            script.run(*limit).await;
        }
        let fifos = plan.service_fifos.iter().map(OpenFifo::open);
        let fifos = fifos
            .collect::<std::io::Result<Vec<_>>>()
            .context("opening FIFOs")?;
        let mut this = Self {
            shell,
            vrrp: None,
            hooks: None,
            trackers: Vec::new(),
            minders: BTreeMap::new(),
            fifos: Arc::new(Mutex::new(fifos)),
            left,
            plan,
        };
        if this.plan.flush {
            this.apply(&[Change::Clear]);
        }
        this.set_timeouts();
        for planned in this.plan.services.clone() {
            this.adopt(&planned);
            this.mind(planned);
        }
        if !this.plan.vrrp.instances.is_empty() {
            let resume = this.resumed();
            let (notices, heard) = unbounded_channel::<Notice>();
            let hooks = Hooks::open(this.plan.hooks.clone()).context("opening FIFOs")?;
            this.hooks = Some(tokio::spawn(hooks.keep(heard)));
            this.vrrp = Some(Vrrp::start(
                &this.plan.vrrp,
                &resume,
                notices,
                this.board(),
            )?);
            this.track();
        }
        Ok(this)
    }

    /// Takes a new plan: what is the same goes on as it is. With an error nothing has changed.
    pub async fn reload(&mut self, plan: Plan) -> Result<Reloaded> {
        let hooks = match plan.vrrp.instances.is_empty() {
            true => None,
            false => Some(Hooks::open(plan.hooks.clone()).context("opening FIFOs")?),
        };
        match (&self.vrrp, plan.vrrp.instances.is_empty()) {
            (Some(vrrp), false) => {
                let (notices, heard) = unbounded_channel::<Notice>();
                block_in_place(|| vrrp.set_config(&plan.vrrp, notices))?;
                // What was said before is still told by the old ones, which end then.
                self.hooks = hooks.map(|hooks| tokio::spawn(hooks.keep(heard)));
            }
            (Some(_), true) => {
                if let Some(vrrp) = self.vrrp.take() {
                    block_in_place(|| vrrp.stop());
                }
            }
            (None, false) => {
                let (notices, heard) = unbounded_channel::<Notice>();
                self.vrrp = Some(Vrrp::start(
                    &plan.vrrp,
                    &BTreeSet::new(),
                    notices,
                    self.board(),
                )?);
                self.hooks = hooks.map(|hooks| tokio::spawn(hooks.keep(heard)));
            }
            (None, true) => {}
        }
        let old = std::mem::replace(&mut self.plan, plan);
        if old.scripts != self.plan.scripts || old.files != self.plan.files {
            self.track();
        }
        if old.timeouts != self.plan.timeouts {
            self.set_timeouts();
        }
        Ok(self.reload_services().await)
    }

    async fn reload_services(&mut self) -> Reloaded {
        let mut done = Reloaded::default();
        let wanted: BTreeSet<String> = self.plan.services.iter().map(key).collect();
        let gone: Vec<String> = self
            .minders
            .keys()
            .filter(|key| !wanted.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            if let Some(minder) = self.minders.remove(&key) {
                let ids = minder.planned.placed.iter().map(|placed| placed.service.id);
                let changes: Vec<_> = ids.map(|id| Change::DeleteService { id }).collect();
                minder.end().await;
                self.apply(&changes);
                done.removed += 1;
            }
        }
        for planned in self.plan.services.clone() {
            let Some(minder) = self.minders.remove(&key(&planned)) else {
                self.adopt(&planned);
                self.mind(planned);
                done.added += 1;
                continue;
            };
            if minder.planned.origin == planned.origin && minder.planned.scripts == planned.scripts
            {
                done.kept += 1;
                self.minders.insert(key(&planned), minder);
                continue;
            }
            let before = minder.planned.clone();
            let states = minder.planned.minded.states();
            minder.end().await;
            let gone = before.placed.iter().map(|placed| placed.service.id);
            let gone = gone.filter(|id| planned.placed.iter().all(|one| one.service.id != *id));
            let gone: Vec<_> = gone.map(|id| Change::DeleteService { id }).collect();
            self.apply(&gone);
            let mut planned = planned;
            planned.minded.inherit(&before.minded, &states);
            self.adopt(&planned);
            self.mind(planned);
            done.changed += 1;
        }
        done
    }

    /// Where the virtual routers say how they are.
    fn board(&self) -> Board {
        Arc::clone(&self.shell.routers)
    }

    /// Ends and leaves everything as it is, for the daemon that comes next.
    pub async fn leave(mut self) {
        if let Some(vrrp) = self.vrrp.take() {
            let left = block_in_place(|| vrrp.leave());
            let remembered = Remembered { at: uptime(), left };
            let text = serde_json::to_string(&remembered).unwrap_or_default();
            if let Err(error) = fs::write(&self.left, text) {
                tracing::warn!(%error, "can't remember virtual routers; they will be elected anew");
            }
        }
        for minder in std::mem::take(&mut self.minders).into_values() {
            minder.task.abort();
        }
        self.end_trackers();
    }

    /// Ends: virtual routers say so and give their addresses back, services get their last notices.
    pub async fn stop(mut self) {
        if let Some(vrrp) = self.vrrp.take() {
            block_in_place(|| vrrp.stop());
        }
        if let Some(hooks) = self.hooks.take() {
            // It ends when everything is told.
            let _ = hooks.await;
        }
        for minder in std::mem::take(&mut self.minders).into_values() {
            minder.end().await;
        }
        self.end_trackers();
        if let Some((script, limit)) = &self.plan.shutdown {
            script.run(*limit).await;
        }
    }

    fn end_trackers(&mut self) {
        for task in self.trackers.drain(..) {
            task.abort();
        }
    }

    /// Who was master in the daemon before, if that was only a moment ago.
    fn resumed(&self) -> BTreeSet<String> {
        let Some(remembered) = remembered(&self.left) else {
            return BTreeSet::new();
        };
        let ago = uptime() - remembered.at;
        let instances = self.plan.vrrp.instances.iter().filter(|instance| {
            // Later somebody else takes it for down, or is about to.
            let interval = instance.router.interval.as_secs_f64();
            let limit = interval * (f64::from(instance.router.down_adverts) - 0.5);
            remembered.left.masters.contains(&instance.router.name) && (0.0..limit).contains(&ago)
        });
        instances
            .map(|instance| instance.router.name.clone())
            .collect()
    }

    fn track(&mut self) {
        self.end_trackers();
        let Some(vrrp) = &self.vrrp else { return };
        for script in self.plan.scripts.clone() {
            self.trackers.push(tokio::spawn(script.keep(vrrp.remote())));
        }
        for file in self.plan.files.clone() {
            self.trackers.push(tokio::spawn(file.keep(vrrp.remote())));
        }
    }

    fn set_timeouts(&self) {
        let [tcp, tcp_fin, udp] = self.plan.timeouts;
        if [tcp, tcp_fin, udp] != [0; 3] {
            self.apply(&[Change::SetTimeouts { tcp, tcp_fin, udp }]);
        }
    }

    /// Makes the services, or changes those that are there; real servers that are not planned go.
    fn adopt(&self, planned: &PlannedService) {
        let views = self.shell.balancer.services().unwrap_or_default();
        let known: HashMap<ServiceId, &ServiceView> =
            views.iter().map(|view| (view.service.id, view)).collect();
        let mut changes = Vec::new();
        for placed in &planned.placed {
            let id = placed.service.id;
            let service = placed.service.clone();
            let Some(known) = known.get(&id) else {
                changes.push(Change::AddService { service });
                continue;
            };
            if known.service != service {
                changes.push(Change::EditService { service });
            }
            for ServerView { server, .. } in &known.servers {
                let (address, port) = (server.address, server.port);
                let mut wanted = placed.servers.iter().chain(&placed.sorry);
                if !wanted.any(|server| (server.address, server.port) == (address, port)) {
                    changes.push(Change::DeleteServer { id, address, port });
                }
            }
        }
        self.apply(&changes);
    }

    fn mind(&mut self, planned: PlannedService) {
        let (stop, stopped) = watch::channel(());
        let hand = Arc::new(ServiceHand {
            shell: Arc::clone(&self.shell),
            planned: planned.clone(),
            fifos: Arc::clone(&self.fifos),
        });
        let minded = planned.minded.clone();
        let task = tokio::spawn(minded.keep(hand, async move {
            let mut stopped = stopped;
            let _ = stopped.changed().await;
        }));
        let minder = Minder {
            stop,
            task,
            planned,
        };
        self.minders.insert(key(&minder.planned), minder);
    }

    fn apply(&self, changes: &[Change]) {
        for refusal in self.shell.balancer.apply(changes, OnRefusal::GoOn) {
            tracing::error!(error = %refusal.error, change = ?changes.get(refusal.index), "refused");
        }
    }
}

impl Minder {
    async fn end(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

/// What a service is known by.
fn key(planned: &PlannedService) -> String {
    format!("{:?} {:?}", planned.origin.target, planned.origin.protocol)
}

/// Seconds since the machine started, suspended time included.
fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Carries out what the health of a service wants.
struct ServiceHand<P> {
    shell: Arc<Shell<P>>,
    planned: PlannedService,
    fifos: Arc<Mutex<Vec<OpenFifo>>>,
}

impl<P: Plane + Send + Sync + 'static> Hand for ServiceHand<P> {
    fn place(&self, placing: Placing) {
        for placed in &self.planned.placed {
            self.place_in(placed, placing);
        }
    }

    fn notify(&self, notice: HealthNotice) {
        tracing::info!("{notice}");
        let line = format!("{notice}\n");
        for fifo in self
            .fifos
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter_mut()
        {
            fifo.write(&line);
        }
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
    }
}

impl<P: Plane> ServiceHand<P> {
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
