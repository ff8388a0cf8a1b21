//! What the service manager is told: ready, reading again, alive, stopping.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

use crate::api::Shell;
use crate::plane::Plane;
use crate::vrrp::Remote;

/// Tells the service manager that the daemon is at work, each time only after everything was asked that
/// might hang: the thread of the virtual routers, and the director.
pub(super) struct Pulse<P> {
    shell: Arc<Shell<P>>,
    /// None when the service manager does not wait for it.
    ticks: Option<Interval>,
}

impl<P: Plane + Send + Sync + 'static> Pulse<P> {
    /// Twice in the time after which the service manager takes the daemon for hung (`WATCHDOG_USEC`).
    pub(super) fn new(shell: Arc<Shell<P>>) -> Self {
        let ticks = sd_notify::watchdog_enabled().map(|limit| {
            let mut ticks = interval((limit / 2).max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self { shell, ticks }
    }

    /// Completes when it is time for [`Self::beat`].
    pub(super) async fn due(&mut self) {
        match &mut self.ticks {
            Some(ticks) => {
                ticks.tick().await;
            }
            None => std::future::pending().await,
        }
    }

    /// Says that the daemon is at work, if it is.
    pub(super) async fn beat(&self, routers: Option<&Remote>) {
        let limit = self.ticks.as_ref().map_or(Duration::MAX, Interval::period);
        let routers = async {
            match routers {
                Some(routers) => routers.ask_states().await.is_ok(),
                None => true,
            }
        };
        let shell = Arc::clone(&self.shell);
        let director = spawn_blocking(move || shell.balancer.timeouts());
        match timeout(limit, async { (routers.await, director.await.is_ok()) }).await {
            Ok((true, true)) => tell(&[NotifyState::Watchdog]),
            Ok((routers, director)) => {
                tracing::error!(routers, director, "something has ended that should not");
            }
            Err(_) => tracing::error!("something hangs; the service manager is told nothing"),
        }
    }
}

/// Everything is in place, or is again.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is read again.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::error!(%error, "can't tell the service manager the time"),
    }
}

/// The end has begun.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "can't tell the service manager");
    }
}
