//! The machines of a configuration at work.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::stat::{Mode, umask};
use pointsman_config::keepalived::model::ServiceKey;
use pointsman_director::model::{Change, ServiceId};
use tokio::sync::{mpsc::unbounded_channel, watch};
use tokio::task::{JoinHandle, block_in_place};

use super::hand::{ServiceHand, SharedFifos};
use super::memory::Memory;
use super::quorums::Quorums;
use super::synchronisation::Follower;
use super::trackers::Trackers;
use super::{Plan, PlannedService, Resumption};
use crate::api::Shell;
use crate::balancer::OnRefusal;
use crate::bfd::{Bfd, LeftSessions, LevelSender};
use crate::child::{Outcome, Script};
use crate::fifo::Fifos;
use crate::mail::{FAREWELL, Mailer};
use crate::minding::Known;
use crate::plane::Plane;
use crate::presence::Presence;
use crate::vrrp::hooks::Hooks;
use crate::vrrp::{Board, Left, Remote, Vrrp};

/// Virtual routers and checks at work.
pub struct Availability<P> {
    pub(super) shell: Arc<Shell<P>>,
    pub(super) plan: Plan,
    pub(super) vrrp: Option<Vrrp>,
    pub(super) hooks: Option<JoinHandle<()>>,
    pub(super) trackers: Trackers,
    pub(super) bfd: Option<Bfd>,
    /// Where BFD sessions tell who is up.
    pub(super) levels: LevelSender,
    pub(super) quorums: Quorums,
    pub(super) minders: HashMap<ServiceKey, Minder>,
    /// All that are open.
    pub(super) fifos: Fifos,
    /// Those that are told of services.
    pub(super) told: SharedFifos,
    pub(super) mailer: Mailer,
    /// Which addresses are here, once somebody wants to know.
    presence: Option<Presence>,
    /// The bits that files don't get where the configuration says nothing.
    umask: Mode,
    /// What was known of services when they were left.
    known: BTreeMap<String, Known>,
    /// Where virtual routers are remembered while nobody runs them.
    left: PathBuf,
    /// Remembers them there in case that the daemon dies; ends with them.
    remembering: Option<JoinHandle<()>>,
    /// Has sync daemons follow a virtual router.
    pub(super) follower: Option<Follower>,
}

/// One virtual service that is minded.
pub(super) struct Minder {
    pub(super) planned: PlannedService,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl<P: Plane + Send + Sync + 'static> Availability<P> {
    /// Begins with a plan, and with what another daemon left: checks go on with what they found. At its end
    /// it tells in the file `left` what it leaves.
    pub async fn start(
        plan: Plan,
        shell: Arc<Shell<P>>,
        left: PathBuf,
        mut resumed: Resumption,
    ) -> Result<Self> {
        let mut this = Self {
            shell,
            vrrp: None,
            hooks: None,
            trackers: Trackers::default(),
            bfd: resumed.sessions(&plan)?,
            levels: resumed.levels.clone(),
            quorums: Quorums::default(),
            minders: HashMap::new(),
            fifos: Fifos::default(),
            told: Arc::new(Mutex::new(Fifos::default())),
            mailer: Mailer::start(plan.mail.clone()),
            presence: None,
            umask: own_umask(),
            known: BTreeMap::new(),
            left,
            remembering: None,
            follower: None,
            plan,
        };
        this.set_umask();
        this.fifos = Fifos::open(this.plan.fifos(), &Fifos::default()).context("opening FIFOs")?;
        this.told = Arc::new(Mutex::new(this.fifos.only(&this.plan.service_fifos)));
        run_timed("startup_script", this.plan.startup.as_ref()).await;
        if this.plan.flush {
            this.flush();
        }
        this.set_timeouts();
        let mut plan = this.plan.clone();
        this.suspend(&mut plan)?;
        for mut planned in plan.services {
            let memory = resumed.memory.as_ref();
            let known =
                memory.and_then(|memory| memory.services.get(&planned.origin.key().to_string()));
            if let Some(known) = known {
                planned.minded.recall(known);
            }
            this.adopt(&planned);
            this.mind(planned);
        }
        this.show_minded();
        if let Some(memory) = &resumed.memory {
            memory.forget(&this.plan.vrrp);
        }
        if !this.plan.vrrp.is_empty() {
            let (vrrp, heard) = resumed.routers(&this.plan)?;
            let hooks = Hooks::new(this.plan.hooks.clone(), &this.fifos, &this.mailer);
            this.hooks = Some(tokio::spawn(hooks.keep(heard)));
            this.trackers
                .follow(&this.plan, Some(&vrrp.remote()), &this.levels.subscribe());
            this.quorums.follow(&this.plan, Some(&vrrp.remote()));
            this.adopt_routers(vrrp);
        }
        this.synchronise().await;
        Ok(this)
    }

    /// Has virtual routers as ours, and remembers what they would leave.
    pub(super) fn adopt_routers(&mut self, vrrp: Vrrp) {
        let (heir, mut wills) = unbounded_channel();
        vrrp.remote().bequeath(heir);
        let left = self.left.clone();
        self.remembering = Some(tokio::spawn(async move {
            while let Some(will) = wills.recv().await {
                // What checks have found is not known here: they begin anew, as BFD sessions do.
                let memory = Memory::new(will, BTreeMap::new(), LeftSessions::new());
                block_in_place(|| memory.write(&left));
            }
        }));
        self.vrrp = Some(vrrp);
    }

    /// Forgets virtual routers that have stopped.
    pub(super) async fn forget_routers(&mut self) {
        self.have_remembered().await;
        let _ = std::fs::remove_file(&self.left);
    }

    /// Completes when nothing is written any more about virtual routers that have ended.
    async fn have_remembered(&mut self) {
        if let Some(remembering) = self.remembering.take() {
            let _ = remembering.await;
        }
    }

    /// Has sync daemons run as planned.
    pub(super) async fn synchronise(&mut self) {
        let planned = self.plan.synchronisation.as_ref();
        if self.follower.as_ref().map(Follower::planned) == planned {
            return;
        }
        if let Some(follower) = self.follower.take() {
            follower.end(&self.shell).await;
        }
        self.follower = planned.map(|planned| Follower::start(planned, &self.shell));
    }

    /// The file that tells others of a reload, if there is one.
    pub fn reload_file(&self) -> Option<PathBuf> {
        let global = &self.plan.configuration.global;
        global.reload_file.clone().map(PathBuf::from)
    }

    /// How others talk to the virtual routers, if there are any.
    pub fn remote(&self) -> Option<Remote> {
        self.vrrp.as_ref().map(Vrrp::remote)
    }

    /// Where the virtual routers say how they are.
    pub(super) fn board(&self) -> Board {
        Arc::clone(&self.shell.routers)
    }

    /// The service that is minded and known by this.
    pub(super) fn minder(&self, key: &ServiceKey) -> Option<&PlannedService> {
        self.minders.get(key).map(|minder| &minder.planned)
    }

    /// Lets checks rest where that is wanted.
    pub(super) fn suspend(&mut self, plan: &mut Plan) -> Result<()> {
        for planned in &mut plan.services {
            let addresses = planned.addresses();
            if !planned.origin.ha_suspend || addresses.is_empty() {
                continue;
            }
            let presence = match self.presence.take() {
                Some(presence) => presence,
                None => Presence::start()?,
            };
            planned.minded.awake = Some(presence.awake(addresses));
            self.presence = Some(presence);
        }
        Ok(())
    }

    /// Ends all but the virtual routers, for the daemon that comes next, before [`Self::leave`].
    pub async fn rest(&mut self) {
        if let Some(follower) = self.follower.take() {
            follower.end(&self.shell).await;
        }
        self.trackers.end();
        for (key, minder) in std::mem::take(&mut self.minders) {
            let known = minder.hand_over().await;
            self.known.insert(key.to_string(), known);
        }
        self.mailer.finish(FAREWELL).await;
    }

    /// Ends and leaves everything as it is.
    pub async fn leave(mut self) {
        let left = match self.vrrp.take() {
            Some(vrrp) => block_in_place(|| vrrp.leave()),
            None => Left::default(),
        };
        self.have_remembered().await;
        let sessions = match self.bfd.take() {
            Some(bfd) => block_in_place(|| bfd.leave()),
            None => LeftSessions::new(),
        };
        Memory::new(left, self.known, sessions).write(&self.left);
    }

    /// Ends: virtual routers say so and give their addresses back, services get their last notices.
    pub async fn stop(&mut self) {
        self.trackers.end();
        if let Some(follower) = self.follower.take() {
            follower.end(&self.shell).await;
        }
        if let Some(vrrp) = self.vrrp.take() {
            block_in_place(|| vrrp.stop());
        }
        self.forget_routers().await;
        if let Some(hooks) = self.hooks.take() {
            // It ends when everything is told.
            let _ = hooks.await;
        }
        for minder in std::mem::take(&mut self.minders).into_values() {
            minder.end().await;
        }
        if let Some(bfd) = self.bfd.take() {
            block_in_place(|| drop(bfd));
        }
        run_timed("shutdown_script", self.plan.shutdown.as_ref()).await;
        self.mailer.finish(FAREWELL).await;
    }

    /// Removes the services that are not planned (`lvs_flush`); those that are keep their connections.
    fn flush(&self) {
        let planned = self.plan.services.iter();
        let planned: HashSet<ServiceId> = planned
            .flat_map(|one| &one.placed)
            .map(|placed| placed.service.id)
            .collect();
        let ids = self.shell.balancer.ids().into_iter();
        let others = ids.filter(|id| !planned.contains(id));
        let changes: Vec<_> = others.map(|id| Change::DeleteService { id }).collect();
        self.apply(&changes);
    }

    /// Files that are made from now on, by scripts too, get the modes that are wanted.
    pub(super) fn set_umask(&self) {
        let wanted = self.plan.configuration.global.umask;
        umask(wanted.map_or(self.umask, Mode::from_bits_truncate));
    }

    pub(super) fn set_timeouts(&self) {
        let [tcp, tcp_fin, udp] = self.plan.timeouts;
        if [tcp, tcp_fin, udp] != [0; 3] {
            self.apply(&[Change::SetTimeouts { tcp, tcp_fin, udp }]);
        }
    }

    /// Makes the services, or changes those that are there.
    fn adopt(&self, planned: &PlannedService) {
        let mut changes = Vec::new();
        for placed in &planned.placed {
            let service = placed.service.clone();
            match self.shell.balancer.service(service.id) {
                None => changes.push(Change::AddService { service }),
                Some((known, _)) if known == service => {}
                Some(_) => changes.push(Change::EditService { service }),
            }
        }
        self.apply(&changes);
    }

    /// Minds a service that is there. Real servers that do not serve from the start go.
    pub(super) fn mind(&mut self, planned: PlannedService) {
        let (stop, stopped) = watch::channel(());
        let hand = Arc::new(ServiceHand {
            shell: Arc::clone(&self.shell),
            planned: planned.clone(),
            fifos: Arc::clone(&self.told),
            mailer: self.mailer.clone(),
            quorums: self.quorums.clone(),
        });
        let mut minded = planned.minded.clone();
        minded.levels = Some(self.levels.subscribe());
        let task = tokio::spawn(minded.keep(hand, async move {
            let mut stopped = stopped;
            let _ = stopped.changed().await;
        }));
        let minder = Minder {
            stop,
            task,
            planned,
        };
        self.minders.insert(minder.planned.origin.key(), minder);
    }

    /// Has others see how the services are that are minded.
    pub(super) fn show_minded(&self) {
        let minders = self.minders.iter();
        let minded = minders.map(|(key, minder)| (key.to_string(), minder.planned.minded.clone()));
        self.shell.wards.replace(minded);
    }

    pub(super) fn apply(&self, changes: &[Change]) {
        for refusal in self.shell.balancer.apply(changes, OnRefusal::GoOn) {
            tracing::error!(error = %refusal.error, change = ?changes.get(refusal.index), "refused");
        }
    }
}

impl Minder {
    /// Ends; who wants to hear of the end is told.
    pub(super) async fn end(self) {
        drop(self.stop);
        let _ = self.task.await;
    }

    /// Ends without a word, for who minds the service next; tells what is known.
    pub(super) async fn hand_over(self) -> Known {
        self.task.abort();
        let _ = self.task.await;
        self.planned.minded.known()
    }
}

/// The mask of this process, which can be read by changing it alone.
fn own_umask() -> Mode {
    let now = umask(Mode::from_bits_truncate(0o077));
    umask(now);
    now
}

/// Runs a script of the daemon's life, if there is one, and says how it ended.
async fn run_timed(what: &str, script: Option<&(Script, Duration)>) {
    let Some((script, limit)) = script else {
        return;
    };
    match script.run(*limit).await {
        Outcome::Ended(status) if status.success() => {}
        Outcome::Ended(status) => tracing::warn!("{what} ended with {status}"),
        Outcome::TimedOut => tracing::warn!("{what} took longer than {limit:?} and was ended"),
        Outcome::Failed(error) => tracing::error!(%error, "can't run {what}"),
    }
}
