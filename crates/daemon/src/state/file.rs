//! The state file on disk: replaced as a whole, or moved aside, never changed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use crate::socket::{self, Lock};

/// Why the state file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Another daemon keeps its state there.
    #[error(
        "another pointsman keeps its state in {0}; stop it, or choose another --state or --no-state"
    )]
    Taken(PathBuf),
    /// The lock could not be had.
    #[error(transparent)]
    Lock(#[from] socket::Error),
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

/// A state file that only this process uses.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
    _lock: Lock,
}

impl StateFile {
    /// The file at `path`, which need not exist; its directory is made.
    ///
    /// # Errors
    ///
    /// When another daemon uses it, or the directory can't be made.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        // A bare name is in the current directory.
        let path = std::path::absolute(path).map_err(failed("find", path))?;
        if let Some(directory) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(failed("mkdir", directory))?;
        }
        let lock = socket::lock(&beside(&path, "lock"))?;
        let lock = lock.ok_or_else(|| FileError::Taken(path.clone()))?;
        // What a daemon wrote that died before it was done.
        let _ = fs::remove_file(beside(&path, "new"));
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes, if it exists.
    ///
    /// # Errors
    ///
    /// When it can't be read.
    pub fn read(&self) -> Result<Option<Vec<u8>>, FileError> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &self.path)(error)),
        }
    }

    /// Replaces it; whatever happens meanwhile, the old bytes or the new ones are there.
    ///
    /// # Errors
    ///
    /// When that fails; then the old bytes are there.
    pub fn write(&self, bytes: &[u8]) -> Result<(), FileError> {
        let fresh = beside(&self.path, "new");
        let written = || -> io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)
        };
        written().map_err(|source| {
            let _ = fs::remove_file(&fresh);
            failed("write", &self.path)(source)
        })?;
        self.sync_directory()
    }

    /// Moves it to a name of its own, `FILE.damaged-N`, that nothing had before.
    ///
    /// # Errors
    ///
    /// When it can't be moved; then it is where it was.
    pub fn set_aside(&self) -> Result<PathBuf, FileError> {
        for number in 1_u32.. {
            let aside = beside(&self.path, &format!("damaged-{number}"));
            // Unlike a rename this replaces nothing.
            match fs::hard_link(&self.path, &aside) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                linked => linked.map_err(failed("link", &aside))?,
            }
            fs::remove_file(&self.path).map_err(failed("unlink", &self.path))?;
            self.sync_directory()?;
            return Ok(aside);
        }
        Err(failed("link", &self.path)(
            io::ErrorKind::AlreadyExists.into(),
        ))
    }

    /// Files that were set aside earlier.
    ///
    /// # Errors
    ///
    /// When the directory can't be read.
    pub fn aside(&self) -> Result<Vec<String>, FileError> {
        let directory = self.directory();
        let prefix = beside(&self.path, "damaged-");
        let is_aside = |path: &PathBuf| {
            let (path, prefix) = (path.as_os_str(), prefix.as_os_str());
            path.as_encoded_bytes()
                .starts_with(prefix.as_encoded_bytes())
        };
        let entries = fs::read_dir(directory).map_err(failed("list", directory))?;
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let mut aside: Vec<String> = paths
            .filter(is_aside)
            .map(|path| path.display().to_string())
            .collect();
        aside.sort();
        Ok(aside)
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    fn sync_directory(&self) -> Result<(), FileError> {
        let directory = self.directory();
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(failed("fsync", directory))
    }
}

/// `path` with a dot and `more`.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(more);
    name.into()
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError::Call { call, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_replaced_and_moved_aside_without_overwriting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/state.json");
        let file = StateFile::open(&path).unwrap();
        assert_eq!(file.read().unwrap(), None);
        for bytes in [b"first".as_slice(), b"second, longer"] {
            file.write(bytes).unwrap();
            assert_eq!(file.read().unwrap().as_deref(), Some(bytes));
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let first = file.set_aside().unwrap();
        assert_eq!(first, directory.path().join("deep/state.json.damaged-1"));
        file.write(b"third").unwrap();
        let second = file.set_aside().unwrap();
        assert_eq!(fs::read(first).unwrap(), b"second, longer");
        assert_eq!(fs::read(second).unwrap(), b"third");
        assert_eq!(file.read().unwrap(), None);
        let names: Vec<_> = file.aside().unwrap();
        assert_eq!(names.len(), 2);
        assert!(names[1].ends_with("deep/state.json.damaged-2"), "{names:?}");
    }

    #[test]
    fn only_one_uses_it_and_what_a_dead_one_left_unfinished_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        fs::write(&path, b"whole").unwrap();
        let unfinished = directory.path().join("state.json.new");
        fs::write(&unfinished, b"ha").unwrap();
        let file = StateFile::open(&path).unwrap();
        assert!(!unfinished.exists());
        assert_eq!(file.read().unwrap().as_deref(), Some(b"whole".as_slice()));
        assert!(matches!(
            StateFile::open(&path),
            Err(FileError::Taken(taken)) if taken == path
        ));
        drop(file);
        assert!(StateFile::open(&path).is_ok());
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let file = StateFile::open(&path).unwrap();
        file.write(b"good").unwrap();
        // A directory in the way of the temporary file.
        fs::create_dir(directory.path().join("state.json.new")).unwrap();
        assert!(file.write(b"better").is_err());
        assert_eq!(file.read().unwrap().as_deref(), Some(b"good".as_slice()));
    }
}
