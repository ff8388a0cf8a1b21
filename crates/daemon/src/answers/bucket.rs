//! A token bucket.

use std::time::Duration;

/// Lets a rate pass, and short bursts above it. Time is passed in, since any fixed moment.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// Tokens a second.
    rate: u32,
    burst: u32,
    /// Billionths of a token.
    tokens: u64,
    last: Duration,
}

const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// A full bucket of `burst` tokens that gains `rate` a second.
    pub fn new(rate: u32, burst: u32) -> Self {
        Self {
            rate,
            burst,
            tokens: u64::from(burst) * TOKEN,
            last: Duration::ZERO,
        }
    }

    /// Whether there is a token.
    pub fn has(&mut self, now: Duration) -> bool {
        let passed = now.saturating_sub(self.last);
        self.last = self.last.max(now);
        let gained = u64::try_from(passed.as_nanos())
            .unwrap_or(u64::MAX)
            .saturating_mul(self.rate.into());
        let full = u64::from(self.burst) * TOKEN;
        self.tokens = self.tokens.saturating_add(gained).min(full);
        self.tokens >= TOKEN
    }

    /// Takes a token; false when there is none.
    pub fn take(&mut self, now: Duration) -> bool {
        let has = self.has(now);
        if has {
            self.tokens -= TOKEN;
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate() {
        let mut bucket = Bucket::new(1000, 50);
        let start = Duration::from_secs(7);
        assert_eq!((0..80).filter(|_| bucket.take(start)).count(), 50);
        let later = start + Duration::from_millis(10);
        assert_eq!((0..80).filter(|_| bucket.take(later)).count(), 10);
        assert!(!bucket.take(start), "time that goes back gains nothing");
        let much_later = later + Duration::from_secs(1 << 40);
        assert_eq!((0..80).filter(|_| bucket.take(much_later)).count(), 50);
    }
}
