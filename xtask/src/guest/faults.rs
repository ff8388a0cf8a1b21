//! Faults that need what newer kernels without modules lack: VLANs in bridges, the kernel's IPVS.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{GuestCommand, run};
use crate::workspace::{self, cargo};

/// Faults that are built in the guest.
const CODES: &[&str] = &[
    "BR_NF_DESNAT",
    "VLAN_MISMATCH",
    "NAT_NO_FORWARD",
    "IPVS_CT_OFF",
    "DIR_INPUT_DROP",
    "DIR_FORWARD_DROP",
    "DIR_INVALID_DROP",
];

/// Arguments: the program, then the codes. Each is built, broken, cured and broken again; then the doctor
/// is asked, and its first fix typed as printed. At last the witness of the first: a connection that the
/// host's own tracking believes half open.
const JOB: &str = r#"
mkdir -p /tmp /var/run/netns
echo 2 >/proc/sys/net/core/fb_tunnels_only_for_init_net
echo "kernel: $(uname -r)"
program=$0
for code; do
    "$program" lab fault "$code" --keep --shown --tag asked >/tmp/log 2>&1 ||
        { cat /tmp/log; exit 1; }
    echo "$code: fails, is cured, fails again"
    "$program" lab fault "$code" --json --tag asked >/tmp/topology
    value() { sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}\$/\1/p" /tmp/topology | head -n 1; }
    vip=$(value vip)
    "$program" doctor vip "$vip" --topology /tmp/topology >/tmp/answer 2>&1 || true
    grep -q "^FAULT  $code (" /tmp/answer || { cat /tmp/topology /tmp/answer; exit 1; }
    # What the shell of which node is told first.
    sed -n '/^Fix/,/^[A-Z]/p' /tmp/answer | awk '/^ +[a-z0-9]+# / { print; told = 1; next } told { exit }' >/tmp/fix
    while read -r node command; do
        ip netns exec "pmasked-${node%#}" sh -c "$command" </dev/null || { cat /tmp/answer; exit 1; }
    done </tmp/fix
    ip netns exec "pmasked-$(value asker)" curl --silent --show-error --retry 3 --retry-all-errors \
        --max-time 5 "http://$vip/" >/dev/null || { cat /tmp/answer; exit 1; }
    echo "$code: $(head -n 1 /tmp/answer | cut -c 1-40), and its fix mends it"
    "$program" lab down asked
done
"$program" lab fault "$1" --keep --tag kept >/tmp/log 2>&1 || { cat /tmp/log; exit 1; }
ip netns exec pmkept-host curl --silent --max-time 3 http://10.43.113.238/ && exit 1
ip netns exec pmkept-host conntrack -L 2>/dev/null | grep 'SYN_RECV.*dst=10.43.113.238' ||
    { echo "no connection in SYN_RECV"; exit 1; }
"$program" lab down kept
"#;

/// Devices and tables that would load on demand, which takes its time here.
const MODULES: &[&str] = &[
    "bridge",
    "br_netfilter",
    "veth",
    "8021q",
    "ip_vs",
    "nf_tables",
];

/// Where iptables finds its extensions.
const EXTENSIONS: &str = "/usr/lib/x86_64-linux-gnu/xtables";

/// Builds every fault of the list in the guest, cures it and undoes the cure.
pub(crate) fn build_all() -> Result<()> {
    workspace::run(cargo().args(["build", "--quiet", "--package", "pointsman", "--bins"]))?;
    let program = workspace::target().join("debug/pointsman");
    let program = program.display().to_string();
    let mut command = GuestCommand::new("sh");
    command.args = vec!["-ec".to_owned(), JOB.to_owned(), program.clone()];
    command
        .args
        .extend(CODES.iter().map(|code| (*code).to_owned()));
    command.with = [
        "ipvsadm",
        "ip",
        "bridge",
        "tc",
        "iptables",
        "iptables-restore",
    ]
    .into_iter()
    .chain([
        "iptables-save",
        "sysctl",
        "nstat",
        "conntrack",
        "curl",
        "ping",
        "ss",
        "grep",
        "nft",
        "ethtool",
        "ebtables-save",
        "ip6tables-save",
    ])
    .map(str::to_owned)
    .chain([program])
    .collect();
    command
        .files
        .push((EXTENSIONS.into(), Path::new(EXTENSIONS).to_owned()));
    command.modules = MODULES.iter().map(|module| (*module).to_owned()).collect();
    command.memory_mib = 2048;
    // Some seconds for each where nothing else runs.
    command.timeout = Duration::from_secs(900);
    let output = run(&command)?;
    ensure!(
        output.status == 0,
        "a fault does not behave in the guest as told; `cargo xtask guest-test --packets 0 --seeds 0` \
         builds them again"
    );
    Ok(())
}
