//! Shows the load balancer at work, in network namespaces of this machine.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::setup::{self, Purpose};
use crate::workspace::{self, run};

/// The verb `demo`; what follows goes to `pointsman-lab demo`.
pub(crate) fn main(args: &[String]) -> Result<ExitCode> {
    setup::prepare(Purpose::Demo)?;
    run(workspace::cargo().args([
        "build",
        "--package",
        "pointsman",
        "--package",
        "pointsman-lab",
        "--bins",
    ]))?;
    let program = workspace::target().join("debug/pointsman-lab");
    let status = workspace::as_root(&program)?
        .arg("demo")
        .args(args)
        .status()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
