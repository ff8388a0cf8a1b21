//! Reloads and restarts a daemon under much traffic and counts what is lost, as root.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::workspace::{self, run};

/// The verb `steady`.
pub(crate) fn main(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        return Err(crate::Usage("usage: cargo xtask steady".into()).into());
    }
    setup::prepare(Purpose::Test)?;
    // The test is the short one of `cargo xtask test`, with more of everything.
    let mut cargo = workspace::cargo();
    cargo
        .args(["test", "--package", "pointsman", "--test", "steady"])
        .args(["--", "--nocapture"])
        .env("POINTSMAN_STEADY", "full");
    workspace::run_tests_as_root(&mut cargo);
    run(&mut cargo)
}
