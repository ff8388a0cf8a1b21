//! The kernel's IPVS and Pointsman on the same scenarios, made by chance, in the same guest.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{GuestCommand, run};
use crate::workspace::{self, cargo};

/// Scenarios by their seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seeds {
    /// The first.
    pub(crate) first: u64,
    /// How many.
    pub(crate) number: u64,
}

/// Arguments: the program, the first seed, the number of seeds.
///
/// A slow guest may take a minute longer for one of the two, which the times of connections show.
const JOB: &str = r#"
mkdir -p /tmp /var/run/netns
# A tunnel module would put a device that is down into every namespace made later.
echo 2 >/proc/sys/net/core/fb_tunnels_only_for_init_net
ipvsadm -Ln >/dev/null
"$0" lab generate --first "$1" --seeds "$2" /tmp/scenarios
echo "kernel: $(uname -r), $(ipvsadm --version)"
"$0" lab oracle --director kernel --jobs 3 --record /tmp/kernel /tmp/scenarios >/tmp/log ||
    { cat /tmp/log; exit 1; }
echo "Pointsman, compared with the kernel:"
"$0" lab oracle --director pointsman --jobs 3 --slack 120 --recordings /tmp/kernel /tmp/scenarios
"#;

/// Devices and tables that would load on demand; asked for by many at once, some would not get them.
const MODULES: &[&str] = &["bridge", "veth", "tun", "ip_vs", "nf_tables"];

/// Where iptables finds its extensions.
const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/xtables";

/// Runs the scenarios of these seeds with both directors; prints every deviation, and fails with one.
///
/// All of it is repeated once after a deviation: an emulated machine on a busy one may lose a packet or be late,
/// and then not do so again, while the same packets make the same director do the same.
pub(crate) fn compare(seeds: Seeds) -> Result<()> {
    workspace::run(cargo().args(["build", "--quiet", "--package", "pointsman", "--bins"]))?;
    let program = workspace::target().join("debug/pointsman");
    let program = program.display().to_string();
    let mut command = GuestCommand::new("sh");
    command.args = vec![
        "-ec".to_owned(),
        JOB.to_owned(),
        program.clone(),
        seeds.first.to_string(),
        seeds.number.to_string(),
    ];
    command.with = ["ipvsadm", "ip", "iptables", "ip6tables"]
        .into_iter()
        .chain(["iptables-save", "ip6tables-save"])
        .map(str::to_owned)
        .chain([program])
        .collect();
    command
        .files
        .push((EXTENSIONS.into(), Path::new(EXTENSIONS).to_owned()));
    command.modules = MODULES.iter().map(|module| (*module).to_owned()).collect();
    command.memory_mib = 2048;
    // Some seconds for each where nothing else runs.
    command.timeout = Duration::from_secs(600 + 60 * seeds.number);
    let mut output = run(&command)?;
    if output.status != 0 {
        workspace::say("a deviation: everything once more, to tell it from chance");
        output = run(&command)?;
    }
    ensure!(
        output.status == 0,
        "Pointsman deviates from the kernel; `cargo xtask guest-test --packets 0 --first SEED \
         --seeds 1` runs one seed again"
    );
    Ok(())
}
