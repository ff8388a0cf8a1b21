//! What counts only after it has lasted.

use std::time::Duration;

/// A condition that counts when it has held, or not held, for a while without a break. What it is at
/// first counts at once.
#[derive(Debug, Clone)]
pub struct Lasting {
    rise: Duration,
    fall: Duration,
    up: Option<bool>,
    /// Since when it has been otherwise than counts.
    since: Option<Duration>,
}

impl Lasting {
    /// Rises after it has held for `rise`, falls after it has not for `fall`.
    pub fn new(rise: Duration, fall: Duration) -> Self {
        Self {
            rise,
            fall,
            up: None,
            since: None,
        }
    }

    /// True when it counts as held, none before anything was told.
    pub fn is_up(&self) -> Option<bool> {
        self.up
    }

    /// Tells whether it holds at a moment; says what counts if that changed.
    pub fn handle(&mut self, holds: bool, now: Duration) -> Option<bool> {
        let since = match self.up {
            None => {
                self.up = Some(holds);
                return self.up;
            }
            Some(up) if up == holds => {
                self.since = None;
                return None;
            }
            Some(_) => *self.since.get_or_insert(now),
        };
        let least = if holds { self.rise } else { self.fall };
        if now.saturating_sub(since) < least {
            return None;
        }
        self.since = None;
        self.up = Some(holds);
        self.up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_last_does_not_count() {
        let second = Duration::from_secs;
        let mut state = Lasting::new(second(2), second(5));
        assert_eq!(state.handle(false, second(0)), Some(false));
        assert_eq!(state.handle(true, second(1)), None);
        assert_eq!(state.handle(true, second(2)), None);
        assert_eq!(state.handle(false, second(3)), None);
        assert_eq!(state.handle(true, second(4)), None);
        assert_eq!(state.handle(true, second(5)), None);
        assert_eq!(state.handle(true, second(6)), Some(true));
        assert_eq!(state.handle(false, second(7)), None);
        assert_eq!(state.handle(false, second(11)), None);
        assert_eq!(state.handle(false, second(12)), Some(false));
        assert_eq!(state.is_up(), Some(false));
        let mut hasty = Lasting::new(second(0), second(0));
        assert_eq!(hasty.handle(true, second(1)), Some(true));
        assert_eq!(hasty.handle(false, second(1)), Some(false));
    }
}
