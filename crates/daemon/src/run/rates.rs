//! Rates, estimated every two seconds.

use std::sync::Arc;

use pointsman_director::{estimate::PERIOD, setting::Setting};
use tokio::{
    sync::watch,
    task::block_in_place,
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::ended;
use crate::{api::Shell, plane::Plane};

/// Steps until the daemon stops.
pub(super) async fn keep<P: Plane>(shell: Arc<Shell<P>>, stopped: watch::Receiver<()>) {
    let stop = ended(stopped);
    tokio::pin!(stop);
    let mut steps = interval_at(Instant::now() + PERIOD, PERIOD);
    // A late step counts what came meanwhile; one more right behind it would see nothing.
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut estimated = true;
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = steps.tick() => {}
        }
        let wanted = shell.balancer.setting(Setting::RunEstimation) != 0;
        // Rates that nobody keeps true any more are 0, and what comes meanwhile is no burst.
        let anew = wanted != estimated;
        if wanted || anew {
            let start = std::time::Instant::now();
            match block_in_place(|| shell.balancer.estimate(anew)) {
                Ok(()) => shell.rounds.estimates.note(start, 0),
                Err(error) => tracing::error!(%error, "can't estimate rates"),
            }
        }
        estimated = wanted;
    }
}
