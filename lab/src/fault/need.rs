//! Whether this machine has what a fault lab needs.

use std::sync::OnceLock;

use pointsman_linux::netns::NetNs;

use super::site::Need;
use crate::error::Result;
use crate::namespace;
use crate::tag::fresh_tag;

impl Need {
    /// What is missing, if it is.
    pub fn missing(self) -> Option<&'static str> {
        match self {
            Self::Vlans => {
                static THERE: OnceLock<bool> = OnceLock::new();
                let there = THERE.get_or_init(|| {
                    tried(
                        "link add dev lower type veth peer name upper\n\
                         link add dev bridge type bridge vlan_filtering 1\n\
                         link add link lower name lower.2 type vlan id 2\n",
                    )
                });
                (!there).then_some("a kernel with VLANs")
            }
            Self::KernelIpvs => {
                static THERE: OnceLock<bool> = OnceLock::new();
                let there = THERE.get_or_init(|| {
                    // Listing loads the module where there is one.
                    std::process::Command::new("ipvsadm")
                        .arg("-Ln")
                        .output()
                        .is_ok_and(|output| output.status.success())
                });
                (!there).then_some("the kernel's IPVS and ipvsadm")
            }
            Self::Keepalived => {
                let paths = std::env::var_os("PATH").unwrap_or_default();
                let there = std::env::split_paths(&paths)
                    .any(|directory| directory.join("keepalived").is_file());
                (!there).then_some("keepalived")
            }
        }
    }
}

/// Whether these lines for `ip -batch` work, in a namespace that goes at once.
fn tried(lines: &str) -> bool {
    let name = format!("pm{}-client", fresh_tag());
    let made = || -> Result<()> {
        let _namespace = NetNs::create(&name)?.delete_on_drop();
        namespace::ip(&["-n", &name, "-batch", "-"], Some(lines)).map(drop)
    };
    made().is_ok()
}
