//! Measures 10 000 services, 1 000 000 connections and 1 000 checks a second, as root.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::workspace::{self, run};

/// The verb `scale`.
pub(crate) fn main(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        return Err(crate::Usage("usage: cargo xtask scale".into()).into());
    }
    setup::prepare(Purpose::Build)?;
    // The test is the small one of `cargo xtask test`, with other numbers and limits.
    let mut cargo = workspace::cargo();
    cargo
        .args([
            "test",
            "--release",
            "--package",
            "pointsman",
            "--test",
            "scale",
        ])
        .args(["--", "--nocapture", "--test-threads=1"])
        .env("POINTSMAN_SCALE", "full");
    workspace::run_tests_as_root(&mut cargo);
    run(&mut cargo)
}
