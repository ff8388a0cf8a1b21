//! How many outcomes in a row count.

/// A script (`vrrp_script`) that rises after so many successes and falls after so many failures in a row.
/// Its first outcome counts at once.
#[derive(Debug, Clone)]
pub struct RiseFall {
    rise: u32,
    fall: u32,
    up: Option<bool>,
    /// True until the first outcome.
    fresh: bool,
    /// Outcomes in a row against what it is.
    against: u32,
}

impl RiseFall {
    /// Rises after `rise` successes, falls after `fall` failures, both at least 1; is down from the
    /// start if `init_fail`, else unknown.
    pub fn new(rise: u32, fall: u32, init_fail: bool) -> Self {
        Self {
            rise: rise.max(1),
            fall: fall.max(1),
            up: init_fail.then_some(false),
            fresh: true,
            against: 0,
        }
    }

    /// True when up, none while unknown.
    pub fn is_up(&self) -> Option<bool> {
        self.up
    }

    /// Takes an outcome; says whether it is up if that changed.
    pub fn handle_outcome(&mut self, success: bool) -> Option<bool> {
        let first = std::mem::replace(&mut self.fresh, false);
        if self.up == Some(success) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let wanted = if success { self.rise } else { self.fall };
        if !first && self.against < wanted {
            return None;
        }
        self.against = 0;
        self.up = Some(success);
        self.up
    }
}
