//! What has to be done now and then: connections ended, removed servers forgotten.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use pointsman_director::{Reason, control::LOCALITY_INTERVAL};
use tokio::{sync::watch, task::block_in_place, time::sleep};

use super::ended;
use crate::{api::Shell, plane::Plane};

const SECOND: Duration = Duration::from_secs(1);
/// One part in this many of a processor's time goes into sweeping.
const SHARE: u32 = 20;
/// How long the connection table has to be calm before it no longer counts as full.
const CALM: Duration = Duration::from_secs(60);

/// How often caches of destinations are looked at.
const CACHES: Duration = Duration::from_secs(LOCALITY_INTERVAL);

/// Sweeps until the daemon stops.
pub(super) async fn keep<P: Plane>(shell: Arc<Shell<P>>, stopped: watch::Receiver<()>) {
    let mut fullness = Fullness::default();
    let stop = ended(stopped);
    tokio::pin!(stop);
    let mut pause = SECOND;
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = sleep(pause) => {}
        }
        pause = block_in_place(|| round(&shell, &mut fullness));
        if looked.elapsed() >= CACHES {
            looked = Instant::now();
            match block_in_place(|| shell.balancer.expire_localities()) {
                Ok(0) => {}
                Ok(forgotten) => tracing::debug!(forgotten, "cached destinations forgotten"),
                Err(error) => tracing::error!(%error, "can't forget cached destinations"),
            }
        }
    }
}

/// One round; returns how long to wait for the next.
fn round<P: Plane>(shell: &Shell<P>, fullness: &mut Fullness) -> Duration {
    let balancer = &shell.balancer;
    let start = Instant::now();
    match balancer.sweep() {
        Ok(ended) => {
            shell.rounds.sweeps.note(start, u64::from(ended));
            if ended != 0 {
                tracing::debug!(ended, "connections ended");
            }
        }
        Err(error) => tracing::error!(%error, "can't end connections"),
    }
    let pause = pause_after(start.elapsed());
    if let Err(error) = balancer.collect_removed() {
        tracing::error!(%error, "can't forget removed real servers");
    }
    if let Ok(verdicts) = balancer.verdicts() {
        let refused = verdicts
            .iter()
            .filter(|(reason, _)| matches!(reason, Reason::TableFull | Reason::Stateless))
            .map(|(_, count)| count)
            .sum();
        let full = fullness.look(refused, Instant::now());
        match balancer.set_table_full(full) {
            Ok(true) if full => tracing::warn!(
                "the connection table is full: hash schedulers forward without connections; \
                 `--connections` makes it larger"
            ),
            Ok(true) => tracing::info!("the connection table is no longer full"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "can't tell the programs about the full table"),
        }
    }
    pause
}

fn pause_after(sweep: Duration) -> Duration {
    SECOND.max(sweep * SHARE)
}

/// Whether the connection table is full, by packets that found it so.
#[derive(Debug, Default)]
struct Fullness {
    refused: Option<u64>,
    since: Option<Instant>,
}

impl Fullness {
    fn look(&mut self, refused: u64, now: Instant) -> bool {
        // What a daemon before has seen is no news.
        if self.refused.is_some_and(|before| before != refused) {
            self.since = Some(now);
        }
        self.refused = Some(refused);
        self.since
            .is_some_and(|since| now.duration_since(since) < CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeping_takes_a_twentieth_at_most() {
        assert_eq!(pause_after(Duration::from_millis(3)), SECOND);
        assert_eq!(pause_after(Duration::from_millis(300)), SECOND * 6);
    }

    #[test]
    fn the_table_is_full_until_it_was_calm_for_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut fullness = Fullness::default();
        assert!(!fullness.look(7, at(0)), "old counts say nothing");
        assert!(!fullness.look(7, at(1)));
        assert!(fullness.look(8, at(2)));
        assert!(fullness.look(8, at(61)));
        assert!(!fullness.look(8, at(62)));
    }
}
