//! FRR's vrrpd, as one host of a segment.

use std::fs;
use std::process::Child;

use pointsman_linux::netns::NetNs;
use tempfile::TempDir;

use super::frr;
use super::segment::ip;

/// zebra and vrrpd at work; stopped when dropped.
pub struct Frr {
    zebra: Child,
    vrrpd: Child,
    folder: TempDir,
}

impl Frr {
    /// Whether `cargo xtask setup` has unpacked it.
    pub fn is_there() -> bool {
        frr::is_there("vrrpd")
    }

    /// Starts it in a namespace as virtual router 51, with lines for its interface. The address waits on
    /// an interface with the virtual link-layer address, as FRR wants it.
    pub fn start(namespace: &NetNs, lines: &[String], addresses: &[&str], v6: bool) -> Self {
        let (name, family) = if v6 { ("vrrp6-51", 2) } else { ("vrrp4-51", 1) };
        ip(
            namespace,
            &format!(
                "link add {name} link eth0 address 00:00:5e:00:0{family}:33 type macvlan mode bridge"
            ),
        );
        for address in addresses {
            let quiet = if v6 { "nodad" } else { "" };
            ip(
                namespace,
                &format!("address add {address} dev {name} {quiet}"),
            );
        }
        ip(namespace, &format!("link set {name} up"));
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let lines: String = lines
            .iter()
            .map(|line| format!(" vrrp 51 {line}\n"))
            .collect();
        let text = format!(
            "log file {}\ninterface eth0\n{lines}",
            path("log").display()
        );
        fs::write(path("vrrpd.conf"), text).expect("write");
        let zebra = frr::zebra(namespace, folder.path());
        let vrrpd = frr::run(namespace, folder.path(), "vrrpd", &[]);
        Self {
            zebra,
            vrrpd,
            folder,
        }
    }

    /// What it has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Stops it as its service does, and waits for its end.
    pub fn stop(&mut self) {
        for child in [&mut self.vrrpd, &mut self.zebra] {
            frr::stop(child);
        }
    }
}

impl Drop for Frr {
    fn drop(&mut self) {
        self.stop();
    }
}
