//! Scenarios in which Pointsman is meant to differ; COMPATIBILITY.md says so, too.

use crate::oracle::compare::Deviation;

/// A scenario that differs, how, and why.
pub struct Exception {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// What happens here: numbers of steps, and what each gives. Any other deviation is one.
    pub steps: &'static [(usize, &'static str)],
    /// Why it is right to differ.
    pub reason: &'static str,
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[Exception {
    scenario: "69-twos",
    steps: &[(1, "ok"), (2, "TCP 10.99.0.1:80 twos")],
    reason: "the scheduler twos is not in Debian's kernel 6.1, and Pointsman has it",
}];

/// The exception for a scenario.
pub fn of(scenario: &str) -> Option<&'static Exception> {
    EXCEPTIONS
        .iter()
        .find(|exception| exception.scenario == scenario)
}

impl Exception {
    /// Whether a deviation is as it is meant to be.
    pub fn covers(&self, deviation: &Deviation) -> bool {
        self.steps.contains(&(deviation.step, &deviation.got))
    }
}
