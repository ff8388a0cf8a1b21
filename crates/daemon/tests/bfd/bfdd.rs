//! FRR's bfdd, as one host of a segment.

use std::fs;
use std::net::IpAddr;
use std::process::Child;

use pointsman_linux::netns::NetNs;
use tempfile::TempDir;

use super::frr;

/// zebra and bfdd at work; stopped when dropped.
pub struct Frr {
    children: Vec<Child>,
    _folder: TempDir,
}

impl Frr {
    /// Whether `cargo xtask setup` has unpacked it.
    pub fn is_there() -> bool {
        frr::is_there("bfdd")
    }

    /// Starts it in a namespace with sessions to these neighbors, each from an address: 200 ms, 3 may be lost.
    pub fn start(namespace: &NetNs, sessions: &[(IpAddr, IpAddr)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let peers = sessions.iter().map(|(neighbor, source)| {
            format!(
                " peer {neighbor} local-address {source} interface eth0\n  receive-interval 200\n  \
                 transmit-interval 200\n  detect-multiplier 3\n  no shutdown\n"
            )
        });
        let text = format!("bfd\n{}", peers.collect::<String>());
        fs::write(path("bfdd.conf"), text).expect("write");
        let zebra = frr::zebra(namespace, folder.path());
        let control = path("bfdd.sock").display().to_string();
        let bfdd = frr::run(namespace, folder.path(), "bfdd", &["--bfdctl", &control]);
        Self {
            children: vec![bfdd, zebra],
            _folder: folder,
        }
    }

    /// Stops it as its service does, and waits for its end.
    pub fn stop(&mut self) {
        for mut child in self.children.drain(..) {
            frr::stop(&mut child);
        }
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        self.stop();
    }
}
