//! Debian's libvirt, unpacked beside the build: its own filters, and a daemon for tests.
//!
//! Nothing is installed: a package would start its daemon, and that would make a bridge of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::{self, find, run, say};

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
    if find("apt-get").is_none() || find("dpkg-deb").is_none() {
        bail!("without apt-get, install libvirt's network filters by other means");
    }
    say("downloading libvirt: tests compare what it installs with what we compile of its filters");
    let folder = unpacked();
    let archives = folder.with_extension("archives");
    std::fs::create_dir_all(archives.join("partial"))?;
    std::fs::create_dir_all(&folder)?;
    run(Command::new("apt-get")
        .args(["--quiet=2", "--yes", "--no-install-recommends"])
        // Only files of our own are written.
        .args(["--option", "Debug::NoLocking=1"])
        .args(["--option", "APT::Sandbox::User=root"])
        .arg("--option")
        .arg(format!("Dir::Cache::archives={}", archives.display()))
        .args(["--download-only", "--reinstall", "install"])
        .args(PACKAGES)
        .stdin(Stdio::null()))
    .context("if the lists are old, run `apt-get update`")?;
    for entry in std::fs::read_dir(&archives)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            unpack(&path, &folder)?;
        }
    }
    std::fs::remove_dir_all(&archives)?;
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

fn unpack(package: &Path, folder: &Path) -> Result<()> {
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(package)
        .arg(folder))?;
    // Where `/lib` is a link, a folder of that name would hide all libraries.
    let lib = folder.join("lib");
    if lib.is_dir() {
        std::fs::create_dir_all(folder.join("usr/lib"))?;
        run(Command::new("cp")
            .arg("--archive")
            .arg(lib.join("."))
            .arg(folder.join("usr/lib")))?;
        std::fs::remove_dir_all(lib)?;
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
