//! A host's router: `pointsman run --keepalived` or keepalived, with the same configuration.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_linux::bpffs;
use pointsman_linux::netns::NetNs;
use tempfile::TempDir;

use super::keepalived::Keepalived;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pointsman,
    Keepalived,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pointsman => "Pointsman",
            Self::Keepalived => "keepalived",
        }
    }

    /// Starts it in a namespace.
    pub fn start(self, namespace: &NetNs, configuration: &str) -> Rival {
        match self {
            Self::Pointsman => Rival::Pointsman(Pointsman::start(namespace, configuration)),
            Self::Keepalived => Rival::Keepalived(Keepalived::start(namespace, configuration)),
        }
    }
}

/// A router at work; ended when dropped.
pub enum Rival {
    Pointsman(Pointsman),
    Keepalived(Keepalived),
}

impl Rival {
    /// Stops it as its service does; comes back when it is gone.
    pub fn stop(&mut self) {
        match self {
            Self::Pointsman(ours) => ours.stop(),
            Self::Keepalived(theirs) => theirs.stop(),
        }
    }

    /// Stops all its processes where they are, as a hypervisor stops a guest, or lets them go on.
    pub fn freeze(&self, signal: Signal) {
        let processes = match self {
            Self::Pointsman(ours) => vec![ours.child.id()],
            Self::Keepalived(theirs) => theirs.processes(),
        };
        for process in processes {
            let process = Pid::from_raw(process.cast_signed());
            kill(process, signal).expect("signal it");
        }
    }
}

/// `pointsman run --keepalived` at work.
pub struct Pointsman {
    child: Child,
    folder: TempDir,
    pins: PathBuf,
}

impl Pointsman {
    /// Starts it and waits until it is ready.
    pub fn start(namespace: &NetNs, configuration: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        bpffs::mount("/sys/fs/bpf").expect("mount a bpffs");
        let folder = tempfile::tempdir().expect("a folder");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pins = format!("/sys/fs/bpf/pmf-{}-{number}", std::process::id());
        let file = folder.path().join("keepalived.conf");
        std::fs::write(&file, configuration).expect("write the configuration");
        let mut command = namespace.command(PROGRAM);
        command
            .args(["run", "--no-state", "--connections", "1024"])
            .args(["--servers", "64", "--pin-dir", &pins, "--keepalived"])
            .arg(file)
            .env("POINTSMAN_SOCKET", folder.path().join("api.sock"))
            .stdout(Stdio::piped());
        if std::env::var_os("POINTSMAN_LOG").is_none() {
            command.env("POINTSMAN_LOG", "error");
        }
        let mut child = command.spawn().expect("start pointsman");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.starts_with("ready")));
        let this = Self {
            child,
            folder,
            pins: pins.into(),
        };
        assert!(ready, "it ended instead of being ready");
        this
    }

    /// Asks it something: the program with these words.
    pub fn ask(&self, words: &str) -> String {
        let output = Command::new(PROGRAM)
            .args(words.split_whitespace())
            .env("POINTSMAN_SOCKET", self.folder.path().join("api.sock"))
            .output()
            .expect("ask it");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn stop(&mut self) {
        let process = Pid::from_raw(self.child.id().cast_signed());
        let _ = kill(process, Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

impl Drop for Pointsman {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.pins.exists() {
            let detach = Command::new(PROGRAM)
                .args(["detach", "--pin-dir"])
                .arg(&self.pins)
                .output();
            if !detach.is_ok_and(|output| output.status.success()) {
                eprintln!("pins stay behind in {}", self.pins.display());
            }
        }
    }
}
