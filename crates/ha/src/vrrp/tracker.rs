//! What moves a virtual router's priority, or forbids it to be master.

use pointsman_wire::vrrp::OWNER;

/// Something tracked, as one virtual router sees it: `track_interface`, `track_script`, `track_file`,
/// `track_process`, a virtual service's quorum.
///
/// Who reads it counts rises and falls; here come the outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracker {
    /// Name under which its readings come.
    pub name: String,
    /// Added to the priority while it is up if positive, taken from it while it is down if negative,
    /// multiplied with a file's number. 0: while it is down (a file: not 0), the router is in fault.
    pub weight: i32,
    /// Turns the weight's sign around; with weight 0, up and down.
    pub reverse: bool,
}

/// What a tracker found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// The interface is up, the script succeeded, the process runs, the quorum is there.
    Up,
    /// It is not.
    Down,
    /// The number in a file.
    Number(i32),
}

/// What one reading means.
pub(super) enum Effect {
    /// Nothing read yet, and the router has to wait for it.
    Wait,
    /// The router can't be master.
    Fault,
    /// Added to the priority.
    Add(i64),
}

/// At and below this sum a weighted file is a fault, as in keepalived.
const FILE_FAULT: i64 = -254;

impl Tracker {
    /// A tracker that is a fault while down.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            weight: 0,
            reverse: false,
        }
    }

    /// The same with a weight.
    #[must_use]
    pub fn weight(mut self, weight: i32) -> Self {
        self.weight = weight;
        self
    }

    pub(super) fn effect(&self, reading: Option<Reading>) -> Effect {
        let weight = if self.reverse {
            -i64::from(self.weight)
        } else {
            i64::from(self.weight)
        };
        let fault_if = |fault: bool| {
            if fault { Effect::Fault } else { Effect::Add(0) }
        };
        match reading {
            None if weight == 0 => Effect::Wait,
            None => Effect::Add(0),
            Some(Reading::Number(number)) if weight == 0 => fault_if((number != 0) != self.reverse),
            Some(Reading::Number(number)) => match weight * i64::from(number) {
                sum if sum <= FILE_FAULT => Effect::Fault,
                sum => Effect::Add(sum),
            },
            Some(level) if weight == 0 => fault_if((level == Reading::Down) != self.reverse),
            // `reverse` turns the sign, not which reading counts.
            Some(Reading::Up) if self.weight > 0 => Effect::Add(weight),
            Some(Reading::Down) if self.weight < 0 => Effect::Add(weight),
            Some(_) => Effect::Add(0),
        }
    }
}

/// The priority that trackers leave: 1 to 254, unless the router owns the addresses.
pub(super) fn effective_priority(base: u8, sum: i64) -> u8 {
    if base == OWNER {
        return OWNER;
    }
    (i64::from(base) + sum).clamp(1, i64::from(OWNER) - 1) as u8
}
