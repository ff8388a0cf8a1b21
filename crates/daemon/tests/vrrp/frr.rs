//! FRR's vrrpd, as one host of a segment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_linux::netns::NetNs;
use tempfile::TempDir;

use super::segment::{ip, wait};

/// zebra and vrrpd at work; stopped when dropped.
pub struct Frr {
    zebra: Child,
    vrrpd: Child,
    folder: TempDir,
}

impl Frr {
    /// Whether `cargo xtask setup` has unpacked it.
    pub fn is_there() -> bool {
        let there = root().join("usr/lib/frr/vrrpd").is_file();
        if !there {
            eprintln!("skipped: no FRR; `cargo xtask setup` fetches it");
        }
        there
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
        // Its programs insist on a group of their own.
        let groups = fs::read_to_string("/etc/group").expect("groups");
        fs::write(path("group"), groups + "frrvty:x:64999:root\n").expect("write");
        fs::write(path("zebra.conf"), "").expect("write");
        let lines: String = lines
            .iter()
            .map(|line| format!(" vrrp 51 {line}\n"))
            .collect();
        let text = format!(
            "log file {}\ninterface eth0\n{lines}",
            path("log").display()
        );
        fs::write(path("vrrpd.conf"), text).expect("write");
        let zebra = run(namespace, folder.path(), "zebra");
        wait("zebra's socket", || path("zserv.api").exists());
        let vrrpd = run(namespace, folder.path(), "vrrpd");
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

fn run(namespace: &NetNs, folder: &Path, program: &str) -> Child {
    let binary = root().join("usr/lib/frr").join(program);
    let group = folder.join("group");
    let script = format!(
        "mount --bind {} /etc/group && exec \"$0\" \"$@\"",
        group.display()
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
