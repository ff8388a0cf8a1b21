//! Debian's libvirt, unpacked beside the build: its own filters, and a daemon for tests.
//!
//! Nothing is installed: a package would start its daemon, and that would make a bridge of its own.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::unpack;
use crate::workspace::{self, say};

/// The packages that are asked for; apt adds those that they need and the machine lacks.
const PACKAGES: &[&str] = &[
    "libvirt-daemon",
    "libvirt-clients",
    "libvirt-daemon-config-nwfilter",
];

/// The one driver that tests need; with others the daemon would look for networks, disks and guests.
const DRIVER: &str = "libvirt_driver_nwfilter.so";

/// Where libvirt's own filters are: installed, or unpacked by `setup`.
pub(crate) fn filters() -> Option<PathBuf> {
    [
        PathBuf::from("/usr/share/libvirt/nwfilter"),
        PathBuf::from("/etc/libvirt/nwfilter"),
        unpacked().join("usr/share/libvirt/nwfilter"),
        unpacked().join("etc/libvirt/nwfilter"),
    ]
    .into_iter()
    .find(|folder| folder.join("clean-traffic.xml").is_file())
}

/// Whether there is a daemon for tests.
pub(crate) fn has_daemon() -> bool {
    unpacked().join("usr/sbin/libvirtd").is_file()
}

/// Where packages are unpacked; `lab/tests` look there too.
fn unpacked() -> PathBuf {
    workspace::root().join("target/libvirt")
}

/// Downloads the packages and unpacks them.
pub(crate) fn fetch() -> Result<()> {
    say("downloading libvirt: tests compare what it installs with what we compile of its filters");
    let folder = unpacked();
    unpack::fetch(PACKAGES, &folder)?;
    for entry in drivers(&folder)? {
        if entry.file_name().is_none_or(|name| name != DRIVER) {
            std::fs::remove_file(entry)?;
        }
    }
    if filters().is_none() || !has_daemon() {
        bail!("the packages do not have what is expected");
    }
    Ok(())
}

/// The daemon's drivers, below the library folder of whatever architecture.
fn drivers(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut drivers = Vec::new();
    for entry in std::fs::read_dir(folder.join("usr/lib"))?.flatten() {
        let Ok(entries) = std::fs::read_dir(entry.path().join("libvirt/connection-driver")) else {
            continue;
        };
        drivers.extend(entries.flatten().map(|entry| entry.path()));
    }
    Ok(drivers)
}
