//! FRR's bfdd, as one host of a segment.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_linux::netns::NetNs;
use tempfile::TempDir;

use super::segment::wait;

/// zebra and bfdd at work; stopped when dropped.
pub struct Frr {
    children: Vec<Child>,
    _folder: TempDir,
}

impl Frr {
    /// Whether `cargo xtask setup` has unpacked it.
    pub fn is_there() -> bool {
        let there = root().join("usr/lib/frr/bfdd").is_file();
        if !there {
            eprintln!("skipped: no FRR; `cargo xtask setup` fetches it");
        }
        there
    }

    /// Starts it in a namespace with sessions to these neighbors, each from an address: 200 ms, 3 may be lost.
    pub fn start(namespace: &NetNs, sessions: &[(IpAddr, IpAddr)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        // Its programs insist on a group of their own.
        let groups = fs::read_to_string("/etc/group").expect("groups");
        fs::write(path("group"), groups + "frrvty:x:64999:root\n").expect("write");
        fs::write(path("zebra.conf"), "").expect("write");
        let peers = sessions.iter().map(|(neighbor, source)| {
            format!(
                " peer {neighbor} local-address {source} interface eth0\n  receive-interval 200\n  \
                 transmit-interval 200\n  detect-multiplier 3\n  no shutdown\n"
            )
        });
        let text = format!("bfd\n{}", peers.collect::<String>());
        fs::write(path("bfdd.conf"), text).expect("write");
        let zebra = run(namespace, folder.path(), "zebra", &[]);
        wait("zebra's socket", || path("zserv.api").exists());
        let control = path("bfdd.sock").display().to_string();
        let bfdd = run(namespace, folder.path(), "bfdd", &["--bfdctl", &control]);
        Self {
            children: vec![bfdd, zebra],
            _folder: folder,
        }
    }

    /// Stops it as its service does, and waits for its end.
    pub fn stop(&mut self) {
        for mut child in self.children.drain(..) {
            let id = i32::try_from(child.id()).expect("a process number");
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(namespace: &NetNs, folder: &Path, program: &str, more: &[&str]) -> Child {
    let binary = root().join("usr/lib/frr").join(program);
    let script = format!(
        "mount --bind {} /etc/group && exec \"$0\" \"$@\"",
        folder.join("group").display()
    );
    namespace
        .command("unshare")
        .args(["--mount", "sh", "-c", &script])
        .arg(binary)
        .args(["-u", "root", "-g", "root", "-P", "0", "-z"])
        .arg(folder.join("zserv.api"))
        .arg("-f")
        .arg(folder.join(format!("{program}.conf")))
        .arg("-i")
        .arg(folder.join(format!("{program}.pid")))
        .arg("--vty_socket")
        .arg(folder)
        .args(more)
        .env("LD_LIBRARY_PATH", libraries())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start it")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/frr")
}

/// Its libraries, below the folder of whatever architecture.
fn libraries() -> String {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root().join("usr/lib"))
        .expect("libraries")
        .flatten()
    {
        folders.push(entry.path().display().to_string());
        folders.push(entry.path().join("frr").display().to_string());
    }
    folders.join(":")
}
