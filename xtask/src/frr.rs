//! Debian's FRR, unpacked beside the build: another implementation of VRRP and BFD for tests.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::unpack;
use crate::workspace::{self, say};

/// Whether there is one for tests.
pub(crate) fn is_there() -> bool {
    unpacked().join("usr/lib/frr/vrrpd").is_file()
}

/// Where it is unpacked; `frr.rs` below `crates/daemon/tests` looks there too.
fn unpacked() -> PathBuf {
    workspace::root().join("target/frr")
}

/// Downloads the package and unpacks it. Installed, its service would begin.
pub(crate) fn fetch() -> Result<()> {
    say("downloading FRR: its VRRP and BFD daemons meet ours in tests");
    unpack::fetch(&["frr"], &unpacked())?;
    if !is_there() {
        bail!("the package has no VRRP daemon");
    }
    Ok(())
}
