//! The unix socket of the API: only root may use it, and only one daemon may listen.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// Why the daemon could not listen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else listens.
    #[error("another pointsman runs already on {path}; stop it, or choose another --socket")]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// A call failed.
    #[error("{call} {path}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// The file it was about.
        path: PathBuf,
        /// What it returned.
        source: io::Error,
    },
}

/// A lock that only one process can have, as long as it lives.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

/// Locks `path`, making the file and its directory; `None` when another process has it.
pub fn lock(path: &Path) -> Result<Option<Lock>, Error> {
    let failed = |call, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Call { call, path, source }
    };
    if let Some(directory) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)
            .map_err(failed("mkdir", directory))?;
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(locked) => Ok(Some(Lock(locked))),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(failed("flock", path)(errno.into())),
    }
}

/// The lock file of a socket.
pub fn lock_file(socket: &Path) -> PathBuf {
    socket.with_extension("lock")
}

/// A listening socket that only its owner may connect to; its file goes when this is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    _lock: Lock,
}

impl Socket {
    /// Listens at `path`, in place of what an earlier daemon left there.
    pub fn listen(path: &Path) -> Result<(Self, UnixListener), Error> {
        let taken = || Error::Taken {
            path: path.to_owned(),
        };
        let lock = lock(&lock_file(path))?.ok_or_else(taken)?;
        let failed = |call| {
            let path = path.to_owned();
            move |source| Error::Call { call, path, source }
        };
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("unlink")(error));
            }
            _ => {}
        }
        // Nobody may connect between bind and chmod: the file appears under its name afterwards.
        let fresh = path.with_extension("new-sock");
        let _ = fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(failed("bind"))?;
        fs::set_permissions(&fresh, Permissions::from_mode(0o600)).map_err(failed("chmod"))?;
        fs::rename(&fresh, path).map_err(failed("rename"))?;
        listener
            .set_nonblocking(true)
            .map_err(failed("set nonblocking"))?;
        let socket = Self {
            path: path.to_owned(),
            _lock: lock,
        };
        Ok((socket, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The lock file stays: who waits for it must not lock one that nobody else can find.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_one_listens_and_what_a_dead_one_left_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/api.sock");
        let (socket, _listener) = Socket::listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(Socket::listen(&path), Err(Error::Taken { .. })));
        drop(socket);
        assert!(!path.exists());
        // A daemon that was killed leaves its socket without a lock.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_socket, _listener) = Socket::listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }
}
