//! Measures what a packet costs, as root.

use anyhow::Result;

use crate::setup::{self, Purpose};
use crate::workspace::{self, run};

/// The verb `bench`.
pub(crate) fn main(args: &[String]) -> Result<()> {
    let json = match args {
        [] => None,
        [word, file] if word == "--json" => Some(std::path::absolute(file)?),
        _ => return Err(crate::Usage("usage: cargo xtask bench [--json FILE]".into()).into()),
    };
    setup::prepare(Purpose::Build)?;
    run(workspace::cargo().args([
        "build",
        "--release",
        "--package",
        "pointsman-datapath",
        "--example",
        "bench",
    ]))?;
    let program = workspace::target().join("release/examples/bench");
    run(workspace::as_root(program)?.args(json))
}
