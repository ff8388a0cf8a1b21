//! FIFOs that are told what happens, and the programs that read them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::child::{Kept, Script};

/// A FIFO, and the script that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fifo {
    /// Its path; it is made if nothing is there.
    pub path: PathBuf,
    /// Begun with the path as its last argument (`notify_fifo_script`).
    pub reader: Option<Script>,
}

/// FIFOs that are open, each path once, whoever writes to it.
///
/// A reload opens what is new and shares what stays: a FIFO that was made here goes with the last who
/// has it.
#[derive(Debug, Clone, Default)]
pub struct Fifos(Vec<Arc<OpenFifo>>);

/// A FIFO that is open for writing.
#[derive(Debug)]
pub struct OpenFifo {
    path: PathBuf,
    /// It was not there before, and goes at the end.
    made: bool,
    end: Mutex<WritingEnd>,
}

#[derive(Debug)]
struct WritingEnd {
    file: File,
    script: Option<Script>,
    /// It ends with this.
    reader: Option<Kept>,
}

impl Fifos {
    /// Opens FIFOs and begins their readers, but for those that `before` has: they stay as they are until
    /// [`Self::settle`]. With an error nothing has changed.
    pub fn open<'a>(wanted: impl IntoIterator<Item = &'a Fifo>, before: &Self) -> io::Result<Self> {
        let mut open: Vec<Arc<OpenFifo>> = Vec::new();
        for fifo in wanted {
            let is_it = |known: &&Arc<OpenFifo>| known.path == fifo.path;
            if open.iter().any(|known| is_it(&known)) {
                continue;
            }
            open.push(match before.0.iter().find(is_it) {
                Some(known) => Arc::clone(known),
                None => Arc::new(OpenFifo::open(fifo)?),
            });
        }
        Ok(Self(open))
    }

    /// Has each read by whom it is to be read now: readers that stay are left alone.
    pub fn settle<'a>(&self, wanted: impl IntoIterator<Item = &'a Fifo>) {
        for fifo in wanted {
            let found = self.0.iter().find(|known| known.path == fifo.path);
            if let Some(known) = found {
                known.read_by(fifo.reader.as_ref());
            }
        }
    }

    /// Those with these paths.
    pub fn only(&self, wanted: &[Fifo]) -> Self {
        let known = self.0.iter();
        let wanted = known.filter(|known| wanted.iter().any(|fifo| fifo.path == known.path));
        Self(wanted.map(Arc::clone).collect())
    }

    /// Writes a line to each; what nobody has room for is lost, and logged.
    pub fn write(&self, line: &str) {
        for fifo in &self.0 {
            fifo.write(line);
        }
    }
}

impl OpenFifo {
    fn open(fifo: &Fifo) -> io::Result<Self> {
        let at = |error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", fifo.path.display()))
        };
        let made = make(&fifo.path).map_err(at)?;
        // Also for reading: that does not wait for a reader, and lines wait for one that comes later.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&fifo.path)
            .map_err(at)?;
        let open = Self {
            path: fifo.path.clone(),
            made,
            end: Mutex::new(WritingEnd {
                file,
                script: fifo.reader.clone(),
                reader: None,
            }),
        };
        open.end().reader = match &fifo.reader {
            Some(script) => Some(open.begin(script).map_err(at)?),
            None => None,
        };
        Ok(open)
    }

    fn end(&self) -> MutexGuard<'_, WritingEnd> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, script: &Script) -> io::Result<Kept> {
        script.keep(&[self.path.display().to_string()])
    }

    fn read_by(&self, script: Option<&Script>) {
        let mut end = self.end();
        if end.script.as_ref() == script {
            return;
        }
        end.script = script.cloned();
        end.reader = script.and_then(|script| match self.begin(script) {
            Ok(reader) => Some(reader),
            Err(error) => {
                tracing::error!(fifo = %self.path.display(), %error, "can't begin its reader");
                None
            }
        });
    }

    fn write(&self, line: &str) {
        if let Err(error) = self.end().file.write_all(line.as_bytes()) {
            let path = self.path.display();
            tracing::warn!(fifo = %path, %error, "nobody reads it; lost: {}", line.trim_end());
        }
    }
}

impl Drop for OpenFifo {
    fn drop(&mut self) {
        if self.made {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes a FIFO; false when there is one.
fn make(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(found) if found.file_type().is_fifo() => Ok(false),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "something else than a FIFO is there",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            mkfifo(path, Mode::from_bits_truncate(0o600))?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn fifo(folder: &tempfile::TempDir, name: &str) -> Fifo {
        Fifo {
            path: folder.path().join(name),
            reader: None,
        }
    }

    #[test]
    fn a_fifo_that_stays_is_the_same_and_goes_with_the_last_who_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (fifo(&folder, "one"), fifo(&folder, "other"));
        let before = Fifos::open([&one, &one], &Fifos::default()).expect("open");
        assert_eq!(before.0.len(), 1);
        let mut reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&one.path)
            .expect("open to read");
        let after = Fifos::open([&one, &other], &before).expect("open");
        drop(before);
        assert!(one.path.exists(), "somebody has it still");
        after.write("line\n");
        let mut line = [0; 5];
        reader.read_exact(&mut line).expect("the line is there");
        assert_eq!(&line, b"line\n");
        let last = Fifos::open([&other], &after).expect("open");
        drop(after);
        assert!(!one.path.exists() && other.path.exists());
        drop(last);
        assert!(!other.path.exists());
    }

    #[test]
    fn what_cannot_be_opened_leaves_everything_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (fifo(&folder, "one"), fifo(&folder, "other"));
        let blocked = fifo(&folder, "file");
        std::fs::write(&blocked.path, "text").expect("write");
        let before = Fifos::open([&one], &Fifos::default()).expect("open");
        let error = Fifos::open([&one, &other, &blocked], &before).expect_err("no FIFO");
        assert!(
            error.to_string().contains("file: something else"),
            "{error}"
        );
        assert!(!other.path.exists(), "made in vain");
        assert!(one.path.exists() && blocked.path.exists());
        // What was there before stays at the end.
        mkfifo(&other.path, Mode::from_bits_truncate(0o600)).expect("make");
        drop(Fifos::open([&other], &before).expect("open"));
        assert!(other.path.exists());
    }
}
