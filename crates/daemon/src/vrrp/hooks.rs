//! Scripts and FIFOs that are told what becomes of virtual routers.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pointsman_ha::vrrp::{Event, Notice, Scope};
use tokio::process::Child;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::child::Script;

/// Who is told of what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HooksConfig {
    /// The scripts of virtual routers.
    pub instances: BTreeMap<String, Scripts>,
    /// The scripts of sync groups.
    pub groups: BTreeMap<String, Scripts>,
    /// FIFOs that get a line for every notice.
    pub fifos: Vec<Fifo>,
}

/// A FIFO, and the script that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fifo {
    /// Its path; it is made if nothing is there.
    pub path: PathBuf,
    /// Begun with the path as its last argument (`vrrp_notify_fifo_script`).
    pub reader: Option<Script>,
}

/// Scripts for what may become of a virtual router or sync group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripts {
    /// `notify_master`.
    pub master: Option<Script>,
    /// `notify_backup`.
    pub backup: Option<Script>,
    /// `notify_fault`.
    pub fault: Option<Script>,
    /// `notify_stop`.
    pub stop: Option<Script>,
    /// `notify_deleted`.
    pub deleted: Option<Script>,
    /// `notify_master_rx_lower_pri`.
    pub master_rx_lower_pri: Option<Script>,
    /// `notify`: any state, told as arguments.
    pub any: Option<Script>,
}

impl Scripts {
    /// What is run for an event: the script for it, then the one for all.
    fn for_event(&self, event: Event) -> [Option<&Script>; 2] {
        let (one, state) = match event {
            Event::Master => (&self.master, true),
            Event::Backup => (&self.backup, true),
            Event::Fault => (&self.fault, true),
            Event::Stop => (&self.stop, true),
            Event::Deleted => (&self.deleted, true),
            Event::MasterRxLowerPri => (&self.master_rx_lower_pri, false),
            Event::MasterPriority | Event::BackupPriority => (&None, false),
        };
        [one.as_ref(), self.any.as_ref().filter(|_| state)]
    }
}

/// The FIFOs, open, and what was begun.
#[derive(Debug)]
pub struct Hooks {
    config: HooksConfig,
    fifos: Vec<OpenFifo>,
}

/// A FIFO that is open for writing.
#[derive(Debug)]
pub struct OpenFifo {
    path: PathBuf,
    file: File,
    made: bool,
    reader: Option<Child>,
}

impl Hooks {
    /// Opens the FIFOs and begins their readers.
    pub fn open(config: HooksConfig) -> io::Result<Self> {
        let fifos = config.fifos.iter().map(OpenFifo::open);
        Ok(Self {
            fifos: fifos.collect::<io::Result<_>>()?,
            config,
        })
    }

    /// Tells everybody, until nobody sends notices any more.
    pub async fn keep(mut self, mut notices: UnboundedReceiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            for fifo in &mut self.fifos {
                fifo.write(&format!("{notice}\n"));
            }
            let scripts = match notice.scope {
                Scope::Instance => self.config.instances.get(&notice.name),
                Scope::Group => self.config.groups.get(&notice.name),
            };
            let Some(scripts) = scripts else { continue };
            let [one, any] = scripts.for_event(notice.event);
            Script::begin_and_forget(one, &[]);
            Script::begin_and_forget(any, &notice.arguments());
        }
    }
}

impl OpenFifo {
    /// Opens it, makes it if it is not there, and begins its reader.
    pub fn open(fifo: &Fifo) -> io::Result<Self> {
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
        let path = fifo.path.display().to_string();
        let reader = match &fifo.reader {
            Some(script) => Some(script.begin(&[path]).map_err(at)?),
            None => None,
        };
        Ok(Self {
            path: fifo.path.clone(),
            file,
            made,
            reader,
        })
    }

    /// Writes a line; what nobody has room for is lost, and logged.
    pub fn write(&mut self, line: &str) {
        match self.file.write_all(line.as_bytes()) {
            Ok(()) => {}
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(fifo = %path, %error, "nobody reads it; lost: {}", line.trim_end());
            }
        }
    }
}

impl Drop for OpenFifo {
    fn drop(&mut self) {
        if let Some(reader) = &mut self.reader {
            let _ = reader.start_kill();
        }
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
