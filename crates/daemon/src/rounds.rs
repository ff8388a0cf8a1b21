//! How the work goes that the daemon does again and again.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// What is done again and again.
#[derive(Debug, Default)]
pub struct Rounds {
    /// Connections ended whose time was over.
    pub sweeps: Journal,
    /// Rates estimated.
    pub estimates: Journal,
}

/// How one kind of work went.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Entry>);

/// What is known of one kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry {
    /// How often it was done.
    pub rounds: u64,
    /// What it did, all rounds together.
    pub done: u64,
    /// When it was last done.
    pub last: Option<SystemTime>,
    /// How long that took.
    pub took: Duration,
}

impl Journal {
    /// Notes a round that started at `start` and did so much.
    pub fn note(&self, start: Instant, done: u64) {
        let mut entry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entry.rounds += 1;
        entry.done += done;
        entry.last = Some(SystemTime::now());
        entry.took = start.elapsed();
    }

    /// What is known.
    pub fn entry(&self) -> Entry {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
