//! The checks that run no test: formatting, lints, layers, documentation.

use anyhow::{Context, Result};

use crate::layers;
use crate::setup::{self, Purpose};
use crate::workspace::{self, run, say};

/// The verb `check`.
pub(crate) fn main(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        return Err(crate::Usage("usage: cargo xtask check".into()).into());
    }
    setup::prepare(Purpose::Test)?;
    say("formatting");
    run(workspace::cargo().args(["fmt", "--all", "--check"]))
        .context("`cargo fmt --all` mends it")?;
    say("layers");
    layers::check()?;
    say("lints");
    run(workspace::cargo().args([
        "clippy",
        "--all-targets",
        "--quiet",
        "--",
        "--deny",
        "warnings",
    ]))?;
    if std::env::var_os("POINTSMAN_BPF_OBJECTS").is_none() {
        say("lints of the eBPF programs");
        run(workspace::cargo()
            .args(["clippy", "--package", "pointsman-datapath-ebpf", "--quiet"])
            .args(["--target", "bpfel-unknown-none", "--profile", "bpf"])
            .args(["-Zbuild-std=core", "--target-dir", "target/bpf"])
            .args(["--", "--deny", "warnings"])
            .env("RUSTC_BOOTSTRAP", "1")
            // As in the build script; the linker is not called.
            .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-cpu=v3")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_TARGET_DIR"))?;
    }
    say("documentation");
    run(workspace::cargo()
        .args(["doc", "--no-deps", "--quiet"])
        .env("RUSTDOCFLAGS", "--deny warnings"))
}
