//! Virtual services that are minded: their checks at work, and what follows from them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pointsman_ha::health::{
    Checker, CheckerConfig, HealthNotice, HealthOutput, ServiceConfig, ServiceHealth, Stood, Target,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::bfd::Levels;
use crate::chance;
use crate::checks::{Check, Failure, Found};
use crate::presence::Awake;

/// A virtual service, and the checks of its real servers.
#[derive(Debug, Clone)]
pub struct Minded {
    /// What is enough, and who there is.
    pub service: ServiceConfig,
    /// The checks of each real server, in the order of [`ServiceConfig::servers`].
    pub checks: Vec<Vec<TimedCheck>>,
    /// True for real servers of which it is told when they are up from the start (`rs_init_notifies`).
    pub told: Vec<bool>,
    /// Checks rest while this sleeps, if there is one (`ha_suspend`).
    pub awake: Option<Awake>,
    /// Which BFD sessions are up, for checks that depend on them.
    pub levels: Option<Levels>,
    /// What is known, while it is minded.
    known: Arc<Mutex<Known>>,
}

/// What is known of a virtual service that is minded; a reload and the next daemon go on with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Whether there were enough real servers.
    pub enough: bool,
    /// Whether the sorry server served.
    #[serde(default)]
    pub sorry: bool,
    /// The checks of real servers, by their names.
    pub servers: BTreeMap<String, Vec<KnownCheck>>,
}

/// What is known of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownCheck {
    /// False when it failed.
    pub up: bool,
    /// True once it was made.
    pub tried: bool,
    /// What it adds to the configured weight.
    pub part: i64,
    /// Why it failed the last time, if it did.
    #[serde(default)]
    pub failure: Option<String>,
}

/// A check, and when it is made.
#[derive(Debug, Clone, PartialEq)]
pub struct TimedCheck {
    /// When, and how many failures count.
    pub timing: CheckerConfig,
    /// What.
    pub check: Check,
    /// True when failures are logged that do not count yet (`log_all_failures`).
    pub log_all: bool,
}

/// What is done about a virtual service.
pub trait Hand: Send + Sync + 'static {
    /// Adds, weighs or removes a real server.
    fn place(&self, change: Placing);
    /// What was there before and is not among these is gone: everything that is wanted at the start has
    /// been placed.
    fn settle(&self, _present: &[Target]) {}
    /// Whether there are enough real servers: at the start, and when that changes.
    fn quorum(&self, _enough: bool) {}
    /// Tells scripts and FIFOs.
    fn notify(&self, notice: HealthNotice);
    /// Tells people of a check that fails or succeeds now, after all that follows from it.
    fn tell(&self, _news: &CheckNews<'_>) {}
}

/// A check that fails or succeeds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckNews<'a> {
    /// The real server's position.
    pub server: usize,
    /// The check's position among those of the real server.
    pub checker: usize,
    /// Whether it succeeds.
    pub succeeds: bool,
    /// Why it does not.
    pub failure: &'a str,
    /// Whether the real server is up.
    pub up: bool,
    /// True when this check made the real server go or come back.
    pub turned: bool,
}

/// What becomes of a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placing {
    /// It is added with this weight.
    Add(Target, u32),
    /// It gets this weight.
    Weigh(Target, u32),
    /// It is removed.
    Remove(Target),
}

/// What one check says.
struct Saying {
    server: usize,
    checker: usize,
    up: bool,
    /// Why it failed.
    failure: Option<String>,
    found: Option<Found>,
}

impl Minded {
    /// A virtual service that nobody minds yet.
    pub fn new(service: ServiceConfig, checks: Vec<Vec<TimedCheck>>) -> Self {
        let known = service.servers.iter().map(|server| {
            let checks = server.checkers.iter().map(|up| KnownCheck {
                up: *up,
                tried: false,
                part: 0,
                failure: None,
            });
            (server.name.clone(), checks.collect())
        });
        Self {
            known: Arc::new(Mutex::new(Known {
                enough: false,
                sorry: false,
                servers: known.collect(),
            })),
            told: vec![false; service.servers.len()],
            awake: None,
            levels: None,
            service,
            checks,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    /// Begins with what is known of real servers that were minded before by the same checks.
    pub fn inherit(&mut self, before: &Self) {
        let mut known = before.known();
        known.servers.retain(|name, _| {
            let at = |minded: &Self| minded.service.servers.iter().position(|s| s.name == *name);
            let checks = at(before).map(|at| before.checks.get(at));
            checks.is_some() && checks == at(self).map(|at| self.checks.get(at))
        });
        self.recall(&known);
        for (server, told) in self.service.servers.iter().zip(&mut self.told) {
            let mut others = before.service.servers.iter();
            *told &= others.all(|other| other.name != server.name);
        }
    }

    /// Begins with what a daemon before knew of real servers that have as many checks.
    pub fn recall(&mut self, known: &Known) {
        let mut now = self.lock().clone();
        (now.enough, now.sorry) = (known.enough, known.sorry);
        for (server, told) in self.service.servers.iter_mut().zip(&mut self.told) {
            let Some(checks) = known.servers.get(&server.name) else {
                continue;
            };
            if checks.len() == server.checkers.len() {
                server.checkers = checks.iter().map(|check| check.up).collect();
                now.servers.insert(server.name.clone(), checks.clone());
                *told = false;
            }
        }
        // What others share of before stays as it was.
        self.known = Arc::new(Mutex::new(now));
    }

    /// Minds the virtual service until `stop` completes. Dropped before that, it leaves everything to
    /// whoever minds it next.
    pub async fn keep(self, hand: Arc<dyn Hand>, stop: impl Future<Output = ()>) {
        let begun = self.known();
        let names: Vec<String> = self
            .service
            .servers
            .iter()
            .map(|server| server.name.clone())
            .collect();
        let configured: Vec<i64> = self
            .service
            .servers
            .iter()
            .map(|server| server.weight.into())
            .collect();
        let checks_of = |name: &String| begun.servers.get(name).map_or(&[][..], |all| all);
        let parts: Vec<i64> = names
            .iter()
            .map(|name| checks_of(name).iter().map(|check| check.part).sum())
            .collect();
        let stood = Stood {
            enough: begun.enough,
            sorry: begun.sorry,
        };
        let mut health = ServiceHealth::resume(self.service, &parts, stood);
        for at in (0..names.len()).filter(|at| self.told.get(*at) == Some(&true)) {
            health.tell_up(at);
        }
        hand.settle(&pass_on(&mut health, &*hand));
        let epoch = Instant::now();
        let (sender, receiver) = unbounded_channel();
        let mut tasks = JoinSet::new();
        for (server, checks) in self.checks.into_iter().enumerate() {
            for (checker, check) in checks.into_iter().enumerate() {
                let known = names.get(server).map(&checks_of);
                let known = known.and_then(|checks| checks.get(checker)).cloned();
                let awake = self.awake.clone();
                let at = (server, checker);
                if let Check::Bfd(session) = check.check {
                    let levels = self.levels.clone();
                    tasks.spawn(follow(session, levels, at, awake, sender.clone()));
                    continue;
                }
                let name = names.get(server).cloned().unwrap_or_default();
                let task = check.keep(epoch, known, at, name, awake, sender.clone());
                tasks.spawn(task);
            }
        }
        let mut memory = Memory {
            names,
            configured,
            known: self.known,
        };
        memory.stands(&health);
        hand.quorum(health.has_quorum());
        tokio::select! {
            () = stop => {}
            () = heed(&mut health, &mut memory, receiver, &*hand) => {}
        }
        health.stop();
        pass_on(&mut health, &*hand);
    }
}

/// What a virtual service is remembered by while it is minded.
struct Memory {
    names: Vec<String>,
    /// The weights that real servers have without checks.
    configured: Vec<i64>,
    known: Arc<Mutex<Known>>,
}

impl Memory {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how the service stands.
    fn stands(&self, health: &ServiceHealth) {
        let mut known = self.known();
        (known.enough, known.sorry) = (health.has_quorum(), health.is_sorry());
    }

    /// Whether a check succeeded so far.
    fn is_up(&self, saying: &Saying) -> Option<bool> {
        let known = self.known();
        let checks = known.servers.get(self.names.get(saying.server)?)?;
        Some(checks.get(saying.checker)?.up)
    }

    /// Notes what a check says; returns what all of that real server add to its weight.
    fn note(&mut self, saying: &Saying) -> Option<i64> {
        let name = self.names.get(saying.server)?;
        let configured = self.configured.get(saying.server)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let checks = known.servers.get_mut(name)?;
        let check = checks.get_mut(saying.checker)?;
        check.tried = true;
        check.up = saying.up;
        check.failure.clone_from(&saying.failure);
        let found = saying.found?;
        check.part = match (found.weight, found.added) {
            // It replaces the configured weight.
            (Some(weight), _) => i64::from(weight) - configured,
            (None, added) => added?,
        };
        Some(checks.iter().map(|check| check.part).sum())
    }
}

/// Takes what the checks say. Ends when there is no check.
async fn heed(
    health: &mut ServiceHealth,
    memory: &mut Memory,
    mut sayings: UnboundedReceiver<Saying>,
    hand: &dyn Hand,
) {
    while let Some(saying) = sayings.recv().await {
        let (server, checker) = (saying.server, saying.checker);
        let before = memory.is_up(&saying);
        let was_enough = health.has_quorum();
        if let Some(sum) = memory.note(&saying) {
            health.handle_weight(server, sum);
        }
        let was_up = health.is_up(server);
        health.handle_checker(server, checker, saying.up);
        memory.stands(health);
        pass_on(health, hand);
        if was_enough != health.has_quorum() {
            hand.quorum(health.has_quorum());
        }
        if before.is_some_and(|before| before != saying.up) {
            let up = health.is_up(server);
            hand.tell(&CheckNews {
                server,
                checker,
                succeeds: saying.up,
                failure: saying.failure.as_deref().unwrap_or_default(),
                up,
                turned: up != was_up,
            });
        }
    }
    std::future::pending().await
}

/// Does what the health wants; tells who was added and is there.
fn pass_on(health: &mut ServiceHealth, hand: &dyn Hand) -> Vec<Target> {
    let mut present = Vec::new();
    while let Some(output) = health.poll_output() {
        match output {
            HealthOutput::Add(target, weight) => {
                present.push(target);
                hand.place(Placing::Add(target, weight));
            }
            HealthOutput::Weigh(target, weight) => hand.place(Placing::Weigh(target, weight)),
            HealthOutput::Remove(target) => {
                present.retain(|one| *one != target);
                hand.place(Placing::Remove(target));
            }
            HealthOutput::Notify(notice) => hand.notify(notice),
        }
    }
    present
}

/// Says what becomes of a BFD session; one that is not there is down.
async fn follow(
    session: String,
    levels: Option<Levels>,
    (server, checker): (usize, usize),
    mut awake: Option<Awake>,
    sayings: UnboundedSender<Saying>,
) {
    let Some(mut levels) = levels else {
        return;
    };
    let mut last = None;
    loop {
        if let Some(awake) = &mut awake
            && !awake.wait().await
        {
            return;
        }
        let up = levels.borrow_and_update().get(&session) == Some(&true);
        if last.replace(up) != Some(up) {
            tracing::info!(server, %session, up, "a check follows its BFD session");
            let saying = Saying {
                server,
                checker,
                up,
                found: None,
                failure: None,
            };
            if sayings.send(saying).is_err() {
                return;
            }
        }
        if levels.changed().await.is_err() {
            return;
        }
    }
}

impl TimedCheck {
    /// Makes the check again and again.
    async fn keep(
        self,
        epoch: Instant,
        known: Option<KnownCheck>,
        (server, checker): (usize, usize),
        name: String,
        mut awake: Option<Awake>,
        sayings: UnboundedSender<Saying>,
    ) {
        let (up, tried) = match known {
            Some(known) => (known.up, known.tried),
            None => (!self.timing.alpha, false),
        };
        let chance = (chance::bits() >> 32) as u32;
        let mut state = Checker::resume(self.timing, up, tried, chance, Duration::ZERO);
        self.check.prepare().await;
        loop {
            let Some(due) = state.poll_timeout() else {
                return;
            };
            sleep_until(epoch + due).await;
            if let Some(awake) = &mut awake
                && !awake.wait().await
            {
                return;
            }
            if !state.handle_timeout(epoch.elapsed()) {
                continue;
            }
            let made = self.check.make().await;
            let changed = state.handle_outcome(made.is_ok(), epoch.elapsed());
            self.log(&made, changed, &name);
            let saying = Saying {
                server,
                checker,
                up: state.is_up(),
                failure: made.as_ref().err().map(ToString::to_string),
                found: made.ok(),
            };
            if sayings.send(saying).is_err() {
                return;
            }
        }
    }

    /// Says what changed; `server` is the real server's name.
    fn log(&self, made: &Result<Found, Failure>, up: Option<bool>, server: &str) {
        let check = self.check.keyword();
        match (made, up) {
            (Ok(_), Some(true)) => tracing::info!("{check} of {server} succeeds again"),
            (Err(failure), Some(_)) => tracing::warn!("{check} of {server} failed: {failure}"),
            (Err(failure), None) if self.log_all => {
                tracing::info!("{check} of {server} failed, which does not count yet: {failure}");
            }
            _ => {}
        }
    }
}
