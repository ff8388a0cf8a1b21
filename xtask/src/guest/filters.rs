//! What `nwfilter apply` enforces, on a kernel that tracks connections on bridges.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{GuestCommand, run};
use crate::workspace::{self, cargo};

/// What the tests of the library read.
const RECORDINGS: &str = "crates/filter/tests/golden/verdicts.json";
/// What would load on demand, which takes its time here.
const MODULES: &[&str] = &[
    "bridge",
    "br_netfilter",
    "nf_conntrack_bridge",
    "veth",
    "nf_tables",
];

/// Compares the kernel with the judge, frame by frame; then lets the program enforce.
pub(crate) fn compare() -> Result<()> {
    let kernel = build("pointsman-filter", "kernel")?;
    let enforce = build("pointsman", "enforce")?;
    let program = workspace::target().join("debug/pointsman");
    let program = program.display().to_string();
    let mut command = GuestCommand::new("sh");
    command.args = [
        "-ec",
        "\"$0\" --test-threads 1 enforce::; \"$1\" --test-threads 1 state",
        &kernel,
        &enforce,
    ]
    .map(str::to_owned)
    .into();
    command.with = ["nft", "ip", "ebtables-restore"].map(str::to_owned).into();
    command.with.extend([kernel, enforce, program]);
    let recordings = workspace::root().join(RECORDINGS);
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

/// Builds a test, and gives its path.
fn build(package: &str, test: &str) -> Result<String> {
    let output = cargo()
        .args(["test", "--quiet", "--package", package, "--test", test])
        .args(["--no-run", "--message-format", "json"])
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "{test} of {package} does not build"
    );
    let built = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == test)
        .find_map(|message| message["executable"].as_str().map(str::to_owned))
        .with_context(|| format!("cargo does not say where {test} is"))?;
    ensure!(Path::new(&built).exists(), "{built} was not built");
    Ok(built)
}
