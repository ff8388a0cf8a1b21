//! What `nwfilter apply` enforces, on a kernel that tracks connections on bridges.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{GuestCommand, run};
use crate::workspace::{self, cargo};

const PACKAGE: &str = "pointsman-filter";
const TEST: &str = "kernel";
/// What the test reads, in the package.
const RECORDINGS: &str = "tests/golden/verdicts.json";
/// What would load on demand, which takes its time here.
const MODULES: &[&str] = &[
    "bridge",
    "br_netfilter",
    "nf_conntrack_bridge",
    "veth",
    "nf_tables",
];

/// Compares the kernel with the judge, frame by frame.
pub(crate) fn compare() -> Result<()> {
    let program = build()?;
    let recordings = workspace::root().join("crates/filter").join(RECORDINGS);
    let mut command = GuestCommand::new(&program);
    command.args = ["--test-threads", "1", "enforce::"]
        .map(str::to_owned)
        .into();
    command.with = ["nft", "ip", "ebtables-restore"].map(str::to_owned).into();
    command.files.push((recordings.clone(), recordings));
    command.modules = MODULES.iter().map(|module| (*module).to_owned()).collect();
    // A minute where nothing else runs.
    command.timeout = Duration::from_secs(600);
    let output = run(&command)?;
    ensure!(
        output.status == 0,
        "what is enforced in the guest is not what the judge says; `cargo xtask guest-test --packets 0 \
         --seeds 0 --faults 0` compares them again"
    );
    Ok(())
}

/// Builds the test, and gives its path.
fn build() -> Result<String> {
    let output = cargo()
        .args(["test", "--quiet", "--package", PACKAGE, "--test", TEST])
        .args(["--no-run", "--message-format", "json"])
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "{TEST} of {PACKAGE} does not build"
    );
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == TEST)
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .with_context(|| format!("cargo does not say where {TEST} is"))?;
    ensure!(Path::new(&built).exists(), "{built} was not built");
    Ok(built)
}
