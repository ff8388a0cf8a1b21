//! Debian packages unpacked beside the build, without being installed.
//!
//! An installed package would start its daemons, and add users and groups.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::workspace::{find, run};

/// Downloads the packages, with those that they need and the machine lacks, and unpacks them.
pub(crate) fn fetch(packages: &[&str], folder: &Path) -> Result<()> {
    if find("apt-get").is_none() || find("dpkg-deb").is_none() {
        bail!(
            "without apt-get, install {} by other means",
            packages.join(", ")
        );
    }
    let archives = folder.with_extension("archives");
    std::fs::create_dir_all(archives.join("partial"))?;
    std::fs::create_dir_all(folder)?;
    run(Command::new("apt-get")
        .args(["--quiet=2", "--yes", "--no-install-recommends"])
        // Only files of our own are written.
        .args(["--option", "Debug::NoLocking=1"])
        .args(["--option", "APT::Sandbox::User=root"])
        .arg("--option")
        .arg(format!("Dir::Cache::archives={}", archives.display()))
        .args(["--download-only", "--reinstall", "install"])
        .args(packages)
        .stdin(Stdio::null()))
    .context("if the lists are old, run `apt-get update`")?;
    for entry in std::fs::read_dir(&archives)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            unpack(&path, folder)?;
        }
    }
    std::fs::remove_dir_all(&archives)?;
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
