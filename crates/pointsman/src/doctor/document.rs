//! Files that the doctor writes: whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Refuses a place where nothing can be written, before anything is sent.
pub(super) fn check(path: &Path) -> Result<()> {
    let folder = folder(path);
    if path.is_dir() {
        bail!("cannot write {}: it is a folder", path.display());
    }
    if !folder.is_dir() {
        bail!(
            "cannot write {}: there is no folder {}",
            path.display(),
            folder.display()
        );
    }
    Ok(())
}

/// Writes a file: whatever happens meanwhile, what was there before or all of this is there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let is_special = fs::metadata(path).is_ok_and(|known| !known.is_file());
    let written = if is_special {
        // A pipe or a terminal can't be replaced.
        fs::write(path, bytes)
    } else {
        replace(path, bytes)
    };
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = folder(path).join(format!(".pointsman-{}.new", std::process::id()));
    let written = || {
        let mut file = File::create_new(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    written().inspect_err(|error| {
        // Another's is left alone.
        if error.kind() != io::ErrorKind::AlreadyExists {
            let _ = fs::remove_file(&fresh);
        }
    })
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
