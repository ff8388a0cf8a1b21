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
/// The shortest time between two sweeps: a fiftieth of the shortest timeout that matters, that of
/// CLOSE.
const STEP: Duration = Duration::from_millis(200);
/// One part in this many of a processor's time, at most, goes into sweeping: of a million connections
/// none is late by more than two seconds.
const SHARE: u32 = 8;
/// How long the connection table has to be calm before it no longer counts as full.
const CALM: Duration = Duration::from_secs(60);

/// How often caches of destinations are looked at.
const CACHES: Duration = Duration::from_secs(LOCALITY_INTERVAL);

/// Sweeps until the daemon stops.
pub(super) async fn keep<P: Plane>(shell: Arc<Shell<P>>, stopped: watch::Receiver<()>) {
    let mut fullness = Fullness::default();
    let stop = ended(stopped);
    tokio::pin!(stop);
    let mut pause = STEP;
    let mut seconds = Seconds::default();
    let mut looked = Instant::now();
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = sleep(pause) => {}
        }
        pause = block_in_place(|| round(&shell, &mut fullness, &mut seconds));
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
fn round<P: Plane>(shell: &Shell<P>, fullness: &mut Fullness, seconds: &mut Seconds) -> Duration {
    let balancer = &shell.balancer;
    let start = Instant::now();
    let second = seconds.look(start);
    match balancer.sweep(second) {
        Ok(ended) => {
            shell.rounds.sweeps.note(start, u64::from(ended));
            if ended != 0 {
                tracing::debug!(ended, "connections ended");
            }
        }
        Err(error) => tracing::error!(%error, "can't end connections"),
    }
    let pause = pause_after(start.elapsed());
    if !second {
        return pause;
    }
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
    STEP.max(sweep * SHARE)
}

/// What is done once a second, between sweeps that are more frequent.
#[derive(Debug, Default)]
struct Seconds {
    last: Option<Instant>,
}

impl Seconds {
    /// True when a second has passed since it was last true.
    fn look(&mut self, now: Instant) -> bool {
        let passed = |last| now.duration_since(last) >= SECOND;
        if self.last.is_some_and(|last| !passed(last)) {
            return false;
        }
        self.last = Some(now);
        true
    }
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
    fn sweeping_takes_an_eighth_at_most() {
        assert_eq!(pause_after(Duration::from_millis(3)), STEP);
        assert_eq!(
            pause_after(Duration::from_millis(300)),
            Duration::from_millis(2400)
        );
    }

    #[test]
    fn a_second_passes_once() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut seconds = Seconds::default();
        let seen = [0, 200, 999, 1000, 1001, 2500, 3400, 3500].map(|time| seconds.look(at(time)));
        assert_eq!(seen, [true, false, false, true, false, true, false, true]);
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
