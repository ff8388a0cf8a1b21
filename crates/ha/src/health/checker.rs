//! One check of one real server.

use std::time::Duration;

/// When a check is made, and how many failures count; the defaults are those of keepalived's TCP_CHECK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckerConfig {
    /// Time from the end of a check to the next; `delay_loop`.
    pub delay_loop: Duration,
    /// Tries more before a real server that is up is taken for down; `retry`.
    pub retry: u32,
    /// Time before such a try; `delay_before_retry`.
    pub delay_before_retry: Duration,
    /// First checks are spread over this time; `warmup`.
    pub warmup: Duration,
    /// True when it is taken for failed until it succeeds; `alpha`.
    pub alpha: bool,
}

impl Default for CheckerConfig {
    fn default() -> Self {
        Self {
            delay_loop: Duration::from_secs(60),
            retry: 1,
            delay_before_retry: Duration::from_secs(1),
            warmup: Duration::from_secs(60),
            alpha: false,
        }
    }
}

/// The first check is made no earlier, as in keepalived.
const FIRST: Duration = Duration::from_secs(1);

/// When one check is due, and whether it is failed.
#[derive(Debug)]
pub struct Checker {
    config: CheckerConfig,
    up: bool,
    /// False until the first check has ended; it has no retries.
    tried: bool,
    /// Failures in a row while up.
    failures: u32,
    /// When the next check begins; none while one is under way.
    due: Option<Duration>,
}

impl Checker {
    /// A checker whose first check is due one second and `chance` of 2^32 of the warmup after now.
    pub fn new(config: CheckerConfig, chance: u32, now: Duration) -> Self {
        let spread = (config.warmup.as_nanos() * u128::from(chance)) >> 32;
        let spread = Duration::from_nanos(u64::try_from(spread).unwrap_or(u64::MAX));
        Self {
            config,
            up: !config.alpha,
            tried: false,
            failures: 0,
            due: Some(now + FIRST + spread),
        }
    }

    /// A checker that was at work before, and is up or failed: its first failure is not the first of all.
    pub fn resume(
        config: CheckerConfig,
        up: bool,
        tried: bool,
        chance: u32,
        now: Duration,
    ) -> Self {
        Self {
            up,
            tried,
            ..Self::new(config, chance, now)
        }
    }

    /// True once a check has ended.
    pub fn is_tried(&self) -> bool {
        self.tried
    }

    /// False while it is failed.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// When [`Self::handle_timeout`] is to be called; none while a check is under way.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due
    }

    /// True when a check has to begin now; its outcome goes to [`Self::handle_outcome`].
    #[must_use]
    pub fn handle_timeout(&mut self, now: Duration) -> bool {
        let begins = self.due.is_some_and(|due| due <= now);
        if begins {
            self.due = None;
        }
        begins
    }

    /// Takes the outcome of the check under way; says whether it is up if that changed.
    pub fn handle_outcome(&mut self, success: bool, now: Duration) -> Option<bool> {
        let first = !std::mem::replace(&mut self.tried, true);
        self.due = Some(now + self.config.delay_loop);
        if success {
            self.failures = 0;
            return (!std::mem::replace(&mut self.up, true)).then_some(true);
        }
        if !self.up {
            return None;
        }
        self.failures += 1;
        if !first && self.failures <= self.config.retry {
            self.due = Some(now + self.config.delay_before_retry);
            return None;
        }
        self.failures = 0;
        self.up = false;
        Some(false)
    }
}
