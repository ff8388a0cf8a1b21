//! Sync daemons that follow a virtual router: a master while it is master, else a backup.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use pointsman_config::keepalived::Configuration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::api::Shell;
use crate::plane::Plane;
use crate::sync::{self, Owner, Request, Role};
use crate::vrrp::Board;

/// How often the virtual router is looked at; a sweep of connections takes longer to come.
const STEP: Duration = Duration::from_millis(200);
/// Looks until one that failed is tried again.
const AGAIN: u32 = 25;

/// `lvs_sync_daemon` as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synchronised {
    /// The virtual router that is followed; without one both daemons run.
    instance: Option<String>,
    /// Either daemon but for its role.
    request: Request,
}

impl Synchronised {
    /// What a configuration says.
    pub(super) fn new(configuration: &Configuration) -> Option<Self> {
        let asked = configuration.global.synchronisation.as_ref()?;
        let mut instances = configuration.instances.iter();
        let followed = instances.find(|one| Some(&one.name) == asked.instance.as_ref());
        let vrid = followed.map_or(0, |instance| instance.vrid);
        Some(Self {
            instance: asked.instance.clone(),
            request: Request {
                role: Role::Backup,
                interface: asked.interface.clone(),
                sync_id: asked.id.unwrap_or(vrid),
                max_length: asked.max_length,
                group: asked.group,
                port: asked.port,
                ttl: asked.ttl,
            },
        })
    }

    /// Which daemons are to run now.
    fn roles(&self, board: &Board) -> &'static [Role] {
        let Some(name) = &self.instance else {
            return &[Role::Master, Role::Backup];
        };
        let routers = board.lock().unwrap_or_else(PoisonError::into_inner);
        match routers.iter().find(|router| router.name == *name) {
            Some(router) if router.state == "MASTER" => &[Role::Master],
            _ => &[Role::Backup],
        }
    }
}

/// Has the right daemons run.
pub(super) struct Follower {
    planned: Synchronised,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Follower {
    pub(super) fn start<P: Plane>(planned: &Synchronised, shell: &Arc<Shell<P>>) -> Self {
        let (stop, stopped) = watch::channel(());
        Self {
            planned: planned.clone(),
            stop,
            task: tokio::spawn(follow(planned.clone(), Arc::clone(shell), stopped)),
        }
    }

    pub(super) fn planned(&self) -> &Synchronised {
        &self.planned
    }

    /// Ends, and the daemons with it.
    pub(super) async fn end<P: Plane>(self, shell: &Shell<P>) {
        drop(self.stop);
        let _ = self.task.await;
        for role in [Role::Master, Role::Backup] {
            let _ = sync::stop(shell, role, Some(Owner::Configuration)).await;
        }
    }
}

async fn follow<P: Plane>(
    planned: Synchronised,
    shell: Arc<Shell<P>>,
    mut stopped: watch::Receiver<()>,
) {
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut now: &[Role] = &[];
    let mut rest = 0;
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = steps.tick() => {}
        }
        let wanted = planned.roles(&shell.routers);
        rest = u32::saturating_sub(rest, 1);
        if wanted == now || rest > 0 {
            continue;
        }
        for role in now.iter().filter(|role| !wanted.contains(role)) {
            let _ = sync::stop(&shell, *role, Some(Owner::Configuration)).await;
        }
        let mut failed = false;
        for role in wanted.iter().filter(|role| !now.contains(role)) {
            let request = Request {
                role: *role,
                ..planned.request.clone()
            };
            let interface = &planned.request.interface;
            if let Err(error) = sync::start(&shell, request, Owner::Configuration) {
                tracing::error!(%error, interface, "can't start the {} sync daemon", role.name());
                failed = true;
            }
        }
        if failed {
            for role in wanted {
                let _ = sync::stop(&shell, *role, Some(Owner::Configuration)).await;
            }
            now = &[];
            rest = AGAIN;
        } else {
            now = wanted;
        }
    }
}
