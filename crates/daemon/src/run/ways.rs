//! Listens to the kernel and to changes, and has next hops looked at.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use pointsman_linux::netlink::Monitor;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Notify, watch},
    task::block_in_place,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};

use super::ended;
use crate::{api::Shell, hops::Keeper, plane::Plane};

/// How soon to try again what failed.
const AGAIN: Duration = Duration::from_secs(1);
/// How often neighbours are asked for that the kernel does not keep resolved on its own.
const PROBE: Duration = Duration::from_secs(15);

/// The keeper of next hops and what wakes it.
pub(super) struct Ways<P> {
    monitor: AsyncFd<Monitor>,
    keeper: Keeper,
    shell: Arc<Shell<P>>,
    unresolved: Arc<Notify>,
}

impl<P: Plane> Ways<P> {
    pub(super) fn new(
        monitor: Monitor,
        keeper: Keeper,
        shell: Arc<Shell<P>>,
        unresolved: Arc<Notify>,
    ) -> Result<Self> {
        // SAFETY: the monitor keeps its descriptor for as long as it lives.
        let monitor = unsafe { AsyncFd::register_with_interest(monitor, Interest::READABLE) };
        Ok(Self {
            monitor: monitor.context("watching routes and neighbours")?,
            keeper,
            shell,
            unresolved,
        })
    }

    /// Keeps next hops true until the daemon stops; then gives the keeper back.
    pub(super) async fn keep(mut self, stopped: watch::Receiver<()>) -> Keeper {
        let stop = ended(stopped);
        tokio::pin!(stop);
        let mut probe = interval_at(Instant::now() + PROBE, PROBE);
        probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = false;
        loop {
            let mut look = true;
            tokio::select! {
                () = &mut stop => return self.keeper,
                () = self.shell.balancer.changed.notified() => {}
                () = self.unresolved.notified() => {
                    block_in_place(|| self.keeper.ask_unresolved(std::time::Instant::now()));
                    look = false;
                }
                _ = probe.tick() => {
                    block_in_place(|| self.keeper.probe());
                    look = false;
                }
                () = sleep(AGAIN), if failed => {}
                ready = self.monitor.readable_mut() => {
                    match ready {
                        Ok(mut ready) => ready.clear_ready(),
                        Err(error) => {
                            tracing::error!(%error, "can't watch routes and neighbours");
                            return self.keeper;
                        }
                    }
                    look = false;
                }
            }
            // Whatever woke us: a burst of events is one look.
            look |= self.drain();
            if look {
                let report = block_in_place(|| self.keeper.update(&self.shell.balancer));
                failed = report.incomplete;
                tracing::debug!(?report, "looked at next hops");
            }
        }
    }

    /// Takes note of every event there is; true when one matters.
    fn drain(&mut self) -> bool {
        let mut matters = false;
        loop {
            match self.monitor.get_mut().next(Duration::ZERO) {
                Ok(Some(event)) => matters |= self.keeper.note(event),
                Ok(None) => return matters,
                Err(error) => {
                    tracing::error!(%error, "can't read events about routes and neighbours");
                    return true;
                }
            }
        }
    }
}
