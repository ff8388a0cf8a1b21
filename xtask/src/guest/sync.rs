//! Connection synchronisation between the kernel's IPVS and Pointsman, both ways.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{GuestCommand, run};
use crate::workspace::{self, cargo};

/// Devices and tables that would load on demand, which takes its time here.
const MODULES: &[&str] = &["bridge", "veth", "ipip", "ip_vs", "ip_vs_rr"];

/// Has connections begin at either director and go on at the other.
///
/// Once more when that fails: an emulated machine on a busy one may lose a packet.
pub(crate) fn exchange() -> Result<()> {
    workspace::run(cargo().args(["build", "--quiet", "--package", "pointsman", "--bins"]))?;
    let program = workspace::target().join("debug/pointsman");
    let program = program.display().to_string();
    let script = include_str!("sync.sh").to_owned();
    let mut command = GuestCommand::new("bash");
    command.args = ["-c".to_owned(), script, "sync".to_owned(), program.clone()].into();
    let tools = ["ipvsadm", "ip", "sysctl"].into_iter().map(str::to_owned);
    command.with = tools.chain([program]).collect();
    command.modules = MODULES.iter().map(|module| (*module).to_owned()).collect();
    // Half a minute where nothing else runs.
    command.timeout = Duration::from_secs(600);
    let mut output = run(&command)?;
    if output.status != 0 {
        workspace::say("connections did not go on: once more, to tell it from chance");
        output = run(&command)?;
    }
    ensure!(
        output.status == 0,
        "the kernel's IPVS and Pointsman do not take each other's connections"
    );
    Ok(())
}
