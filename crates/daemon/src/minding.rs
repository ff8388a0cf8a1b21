//! Virtual services that are minded: their checks at work, and what follows from them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pointsman_ha::health::{
    Checker, CheckerConfig, HealthNotice, HealthOutput, ServiceConfig, ServiceHealth, Target,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::chance;
use crate::checks::{Check, Failure, Found};

/// A virtual service, and the checks of its real servers.
#[derive(Debug, Clone)]
pub struct Minded {
    /// What is enough, and who there is.
    pub service: ServiceConfig,
    /// The checks of each real server, in the order of [`ServiceConfig::servers`].
    pub checks: Vec<Vec<TimedCheck>>,
    /// Whether each check is up, while it is minded.
    states: States,
}

/// Whether each check of each real server is up.
type States = Arc<Mutex<Vec<Vec<bool>>>>;

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
    /// Tells scripts and FIFOs.
    fn notify(&self, notice: HealthNotice);
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
    up: Option<bool>,
    found: Option<Found>,
}

/// The weight of a real server, and what each of its checks adds to it.
struct Weight {
    configured: i64,
    parts: Vec<i64>,
}

impl Minded {
    /// A virtual service that nobody minds yet.
    pub fn new(service: ServiceConfig, checks: Vec<Vec<TimedCheck>>) -> Self {
        let states = service.servers.iter().map(|server| server.checkers.clone());
        Self {
            states: Arc::new(Mutex::new(states.collect())),
            service,
            checks,
        }
    }

    /// Whether each check of each real server is up now.
    pub fn states(&self) -> Vec<Vec<bool>> {
        self.states
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begins with what is known of real servers that were minded before by the same checks.
    pub fn inherit(&mut self, before: &Self, states: &[Vec<bool>]) {
        for (at, server) in self.service.servers.iter_mut().enumerate() {
            let mut known = before.service.servers.iter();
            let Some(old) = known.position(|old| old.name == server.name) else {
                continue;
            };
            let Some(state) = states.get(old) else {
                continue;
            };
            if before.checks.get(old) == self.checks.get(at) && state.len() == server.checkers.len()
            {
                server.checkers.clone_from(state);
            }
        }
        let states = self
            .service
            .servers
            .iter()
            .map(|server| server.checkers.clone());
        self.states = Arc::new(Mutex::new(states.collect()));
    }

    /// Minds the virtual service until `stop` completes.
    pub async fn keep(self, hand: Arc<dyn Hand>, stop: impl Future<Output = ()>) {
        let configured: Vec<_> = self
            .service
            .servers
            .iter()
            .map(|s| s.weight.into())
            .collect();
        let mut health = ServiceHealth::new(self.service);
        pass_on(&mut health, &*hand);
        let epoch = Instant::now();
        let (sender, receiver) = unbounded_channel();
        let mut tasks = JoinSet::new();
        let mut weights = Vec::new();
        let known = self.states;
        let begun = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (server, checks) in self.checks.into_iter().enumerate() {
            weights.push(Weight {
                configured: configured.get(server).copied().unwrap_or(0),
                parts: vec![0; checks.len()],
            });
            for (checker, check) in checks.into_iter().enumerate() {
                let sender = sender.clone();
                let up = begun.get(server).and_then(|all| all.get(checker)).copied();
                tasks.spawn(check.keep(epoch, up, server, checker, sender));
            }
        }
        tokio::select! {
            () = stop => {}
            () = heed(&mut health, &mut weights, &known, receiver, &*hand) => {}
        }
        health.stop();
        pass_on(&mut health, &*hand);
    }
}

/// Takes what the checks say. Ends when there is no check.
async fn heed(
    health: &mut ServiceHealth,
    weights: &mut [Weight],
    states: &States,
    mut sayings: UnboundedReceiver<Saying>,
    hand: &dyn Hand,
) {
    while let Some(saying) = sayings.recv().await {
        let weight = saying.found.and_then(|found| found.weight);
        if let Some(weight) = weight
            && let Some(known) = weights.get_mut(saying.server)
        {
            // It replaces the configured weight.
            known.parts[saying.checker] = i64::from(weight) - known.configured;
            let sum = known.parts.iter().sum();
            health.handle_weight(saying.server, sum);
        }
        if let Some(up) = saying.up {
            let mut states = states.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(state) = states
                .get_mut(saying.server)
                .and_then(|all| all.get_mut(saying.checker))
            {
                *state = up;
            }
            drop(states);
            health.handle_checker(saying.server, saying.checker, up);
        }
        pass_on(health, hand);
    }
    std::future::pending().await
}

fn pass_on(health: &mut ServiceHealth, hand: &dyn Hand) {
    while let Some(output) = health.poll_output() {
        match output {
            HealthOutput::Add(target, weight) => hand.place(Placing::Add(target, weight)),
            HealthOutput::Weigh(target, weight) => hand.place(Placing::Weigh(target, weight)),
            HealthOutput::Remove(target) => hand.place(Placing::Remove(target)),
            HealthOutput::Notify(notice) => hand.notify(notice),
        }
    }
}

impl TimedCheck {
    /// Makes the check again and again.
    async fn keep(
        self,
        epoch: Instant,
        up: Option<bool>,
        server: usize,
        checker: usize,
        sayings: UnboundedSender<Saying>,
    ) {
        let timing = CheckerConfig {
            alpha: up.map_or(self.timing.alpha, |up| !up),
            ..self.timing
        };
        let mut state = Checker::new(timing, (chance::bits() >> 32) as u32, Duration::ZERO);
        loop {
            let Some(due) = state.poll_timeout() else {
                return;
            };
            sleep_until(epoch + due).await;
            if !state.handle_timeout(epoch.elapsed()) {
                continue;
            }
            let made = self.check.make().await;
            let up = state.handle_outcome(made.is_ok(), epoch.elapsed());
            self.log(&made, up, server);
            let saying = Saying {
                server,
                checker,
                up,
                found: made.ok(),
            };
            if sayings.send(saying).is_err() {
                return;
            }
        }
    }

    fn log(&self, made: &Result<Found, Failure>, up: Option<bool>, server: usize) {
        match (made, up) {
            (Ok(_), Some(true)) => tracing::info!(server, "the check succeeds again"),
            (Err(failure), Some(_)) => tracing::warn!(server, %failure, "the check failed"),
            (Err(failure), None) if self.log_all => {
                tracing::info!(server, %failure, "the check failed, which does not count yet");
            }
            _ => {}
        }
    }
}
