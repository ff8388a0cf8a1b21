//! Measures how long a client is without a virtual address when its master goes, as root.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::workspace::{self, run};

/// The verb `failover`.
pub(crate) fn main(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        return Err(crate::Usage("usage: cargo xtask failover".into()).into());
    }
    setup::prepare(Purpose::Test)?;
    // The test is the short one of `cargo xtask test`, with more runs and pairs, and firm limits.
    let mut cargo = workspace::cargo();
    cargo
        .args(["test", "--package", "pointsman", "--test", "failover"])
        .args(["a_client_waits", "--", "--nocapture"])
        .env("POINTSMAN_FAILOVER", "full");
    workspace::run_tests_as_root(&mut cargo);
    run(&mut cargo)
}
