//! Looks every second whether memory is short, as IPVS does.

use std::{sync::Arc, time::Duration};

use pointsman_director::setting::Setting;
use pointsman_linux::memory::available_pages;
use tokio::{
    sync::watch,
    task::block_in_place,
    time::{MissedTickBehavior, interval},
};

use super::ended;
use crate::{api::Shell, balancer::Balancer, plane::Plane};

/// How often memory is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Looks until the daemon stops.
pub(super) async fn keep<P: Plane>(shell: Arc<Shell<P>>, stopped: watch::Receiver<()>) {
    let stop = ended(stopped);
    tokio::pin!(stop);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => {}
        }
        block_in_place(|| look(&shell.balancer));
    }
}

fn look<P: Plane>(balancer: &Balancer<P>) {
    let available = match available_pages() {
        Ok(available) => available,
        Err(error) => {
            tracing::error!(%error, "can't see how much memory is free");
            return;
        }
    };
    let threshold = u64::from(balancer.setting(Setting::Amemthresh));
    match balancer.follow_memory(available < threshold) {
        Ok(Some(true)) => tracing::warn!(
            available,
            threshold,
            "memory is short: half-open and little used connections are ended at random (drop_entry)"
        ),
        Ok(Some(false)) => tracing::info!(available, threshold, "memory is no longer short"),
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "can't tell the programs about short memory"),
    }
}
