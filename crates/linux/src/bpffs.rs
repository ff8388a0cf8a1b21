//! The BPF file system, where pinned maps and links outlive their program.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as mount_call, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Why a call on a BPF file system failed.
#[derive(Debug, thiserror::Error)]
#[error("{call} {}: {source}", .path.display())]
pub struct Error {
    /// The call.
    pub call: &'static str,
    /// The directory.
    pub path: PathBuf,
    /// What it returned.
    pub source: io::Error,
}

impl Error {
    /// The errno behind this error.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    fn new(call: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self {
            call,
            path: path.to_owned(),
            source: source.into(),
        }
    }
}

/// Whether a path lies on a BPF file system; one that does not exist does not.
pub fn is_bpffs(path: impl AsRef<Path>) -> Result<bool, Error> {
    let path = path.as_ref();
    match statfs(path) {
        Ok(found) => Ok(found.filesystem_type() == BPF_FS_MAGIC),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(Error::new("statfs", path, errno)),
    }
}

/// Mounts a BPF file system for root alone, making the directory where it is missing.
///
/// Where one is mounted already, nothing changes and the answer is false.
pub fn mount(path: impl AsRef<Path>) -> Result<bool, Error> {
    let path = path.as_ref();
    if is_bpffs(path)? {
        return Ok(false);
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::new("mkdir", path, source))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME;
    mount_call(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| Error::new("mount -t bpf", path, errno))?;
    Ok(true)
}

/// Takes a BPF file system away; pins in it are gone, and what only they held.
pub fn unmount(path: impl AsRef<Path>) -> Result<(), Error> {
    let path = path.as_ref();
    umount2(path, MntFlags::empty()).map_err(|errno| Error::new("umount", path, errno))
}
