//! When the segment is told where the addresses are.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// How often announcements (gratuitous ARP, unsolicited neighbor advertisements) are sent; the
/// defaults are keepalived's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnnounceConfig {
    /// Rounds over all addresses when master, and again after [`Self::delay`]; `garp_master_repeat`.
    pub repeat: u32,
    /// Time to the second burst, none if zero; `garp_master_delay`.
    pub delay: Duration,
    /// Time between bursts while master, none if zero; `garp_master_refresh`.
    pub refresh: Duration,
    /// Rounds of such a burst; `garp_master_refresh_repeat`.
    pub refresh_repeat: u32,
    /// Rounds after an advertisement of lower priority; `garp_lower_prio_repeat`.
    pub lower_repeat: u32,
    /// Time to the second such burst, none if zero; `garp_lower_prio_delay`.
    pub lower_delay: Duration,
    /// Time between two announcements, `garp_interval` or `gna_interval`.
    pub spacing: Duration,
}

impl Default for AnnounceConfig {
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Duration::ZERO,
            refresh_repeat: 1,
            lower_repeat: 5,
            lower_delay: Duration::from_secs(5),
            spacing: Duration::ZERO,
        }
    }
}

/// The announcements still to be made.
#[derive(Debug, Clone, Default)]
pub(super) struct Announcer {
    queue: VecDeque<IpAddr>,
    /// When the queue's first is due.
    next: Duration,
    /// When the second burst is due, and its rounds.
    again: Option<(Duration, u32)>,
    refresh: Option<Duration>,
}

impl Announcer {
    /// Starts over: the router became master, or came back from a pause as master.
    pub(super) fn begin(&mut self, config: &AnnounceConfig, addresses: &[IpAddr], now: Duration) {
        self.burst(config.repeat, addresses, now);
        self.again = second(config.delay, config.repeat, now);
        self.refresh = (!config.refresh.is_zero()).then(|| now + config.refresh);
    }

    /// Somebody with lower priority advertised.
    pub(super) fn lower(&mut self, config: &AnnounceConfig, addresses: &[IpAddr], now: Duration) {
        if config.lower_repeat == 0 {
            return;
        }
        self.burst(config.lower_repeat, addresses, now);
        let again = second(config.lower_delay, config.lower_repeat, now);
        self.again = again.or(self.again);
    }

    /// Announces these once, besides what is under way.
    pub(super) fn once(&mut self, rounds: u32, addresses: &[IpAddr], now: Duration) {
        if self.queue.is_empty() {
            self.next = now;
        }
        for _ in 0..rounds {
            self.queue.extend(addresses);
        }
    }

    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }

    /// Takes out what is due.
    pub(super) fn due(
        &mut self,
        config: &AnnounceConfig,
        addresses: &[IpAddr],
        now: Duration,
    ) -> Vec<IpAddr> {
        if let Some((at, rounds)) = self.again
            && at <= now
        {
            self.again = None;
            self.burst(rounds, addresses, now);
        }
        if let Some(at) = self.refresh
            && at <= now
        {
            self.refresh = Some(now + config.refresh);
            self.burst(config.refresh_repeat, addresses, now);
        }
        if config.spacing.is_zero() {
            return self.queue.drain(..).collect();
        }
        if self.next > now {
            return Vec::new();
        }
        self.next = now + config.spacing;
        self.queue.pop_front().into_iter().collect()
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let next = (!self.queue.is_empty()).then_some(self.next);
        let again = self.again.map(|(at, _)| at);
        [next, again, self.refresh].into_iter().flatten().min()
    }

    /// Replaces what is left of an earlier burst: it would say the same.
    fn burst(&mut self, rounds: u32, addresses: &[IpAddr], now: Duration) {
        if self.queue.is_empty() {
            self.next = self.next.max(now);
        }
        self.queue.clear();
        for _ in 0..rounds {
            self.queue.extend(addresses);
        }
    }
}

fn second(delay: Duration, rounds: u32, now: Duration) -> Option<(Duration, u32)> {
    (!delay.is_zero() && rounds > 0).then(|| (now + delay, rounds))
}
