//! The real keepalived, as one host of a segment.

use std::fs;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_linux::netns::NetNs;
use tempfile::TempDir;

/// keepalived at work; stopped when dropped.
pub struct Keepalived {
    child: Child,
    folder: TempDir,
}

impl Keepalived {
    /// Starts it in a namespace with this configuration.
    pub fn start(namespace: &NetNs, configuration: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("conf"), configuration).expect("write the configuration");
        let log = fs::File::create(path("log")).expect("a log");
        let child = namespace
            .command("keepalived")
            .args([
                "--dont-fork",
                "--log-console",
                "--no-syslog",
                "--log-detail",
                "--vrrp",
            ])
            .arg("--use-file")
            .arg(path("conf"))
            .arg("--pid")
            .arg(path("pid"))
            .arg("--vrrp_pid")
            .arg(path("vpid"))
            .arg("--checkers_pid")
            .arg(path("cpid"))
            .arg("--bfd_pid")
            .arg(path("bpid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second descriptor"))
            .stderr(log)
            .spawn()
            .expect("keepalived; `cargo xtask setup` installs it");
        Self { child, folder }
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).expect("its log")
    }

    /// Its processes: the parent, and the one that does the work.
    #[allow(dead_code)]
    pub fn processes(&self) -> Vec<u32> {
        let working = fs::read_to_string(self.folder.path().join("vpid")).expect("its number");
        vec![self.child.id(), working.trim().parse().expect("a number")]
    }

    /// Has it take another configuration.
    #[allow(dead_code)]
    pub fn reload(&self, configuration: &str) {
        fs::write(self.folder.path().join("conf"), configuration).expect("write the configuration");
        let id = i32::try_from(self.child.id()).expect("a process number");
        kill(Pid::from_raw(id), Signal::SIGHUP).expect("tell it");
    }

    /// The process of its BFD sessions, once it is there.
    #[allow(dead_code)]
    pub fn bfd_process(&self) -> Option<Pid> {
        let number = fs::read_to_string(self.folder.path().join("bpid")).ok()?;
        Some(Pid::from_raw(number.trim().parse().ok()?))
    }

    /// Stops it as its service does, and waits for its end.
    pub fn stop(&mut self) {
        let id = i32::try_from(self.child.id()).expect("a process number");
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        let _ = self.child.wait();
    }

    /// Asserts that it took every advertisement it got.
    pub fn assert_content(&self) {
        let log = self.log();
        for word in [
            "invalid",
            "Invalid",
            "wrong",
            "bogus",
            "mismatch",
            "ignoring",
            "unexpected",
            "not present",
        ] {
            let line = log.lines().find(|line| line.contains(word));
            assert!(line.is_none(), "keepalived says {line:?} in\n{log}");
        }
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        self.stop();
    }
}
