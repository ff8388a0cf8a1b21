//! Scenarios in which Pointsman is meant to differ; COMPATIBILITY.md says so, too.

/// Name of a scenario, the steps that differ, and why.
pub struct Exception {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Numbers of the steps that may deviate; any other deviation is one.
    pub steps: &'static [usize],
    /// Why it is right to differ.
    pub reason: &'static str,
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[Exception {
    scenario: "69-twos",
    steps: &[1, 2],
    reason: "the scheduler twos is not in Debian's kernel 6.1, and Pointsman has it",
}];

/// The exception for a scenario.
pub fn of(scenario: &str) -> Option<&'static Exception> {
    EXCEPTIONS
        .iter()
        .find(|exception| exception.scenario == scenario)
}
