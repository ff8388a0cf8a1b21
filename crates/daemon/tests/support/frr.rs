//! FRR's programs, as `cargo xtask setup` unpacks them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_linux::netns::NetNs;

use super::segment::wait;

/// Whether `cargo xtask setup` has unpacked this program.
pub fn is_there(program: &str) -> bool {
    let there = root().join("usr/lib/frr").join(program).is_file();
    if !there {
        eprintln!("skipped: no FRR; `cargo xtask setup` fetches it");
    }
    there
}

/// Writes what every program of it needs into the folder, and starts zebra there.
pub fn zebra(namespace: &NetNs, folder: &Path) -> Child {
    // Its programs insist on a group of their own.
    let groups = fs::read_to_string("/etc/group").expect("groups");
    fs::write(folder.join("group"), groups + "frrvty:x:64999:root\n").expect("write");
    fs::write(folder.join("zebra.conf"), "").expect("write");
    let zebra = run(namespace, folder, "zebra", &[]);
    wait("zebra's socket", || folder.join("zserv.api").exists());
    zebra
}

/// Stops a program as its service does, and waits for its end.
pub fn stop(child: &mut Child) {
    let id = i32::try_from(child.id()).expect("a process number");
    let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
    let _ = child.wait();
}

/// Starts one of its programs with the `PROGRAM.conf` of the folder.
pub fn run(namespace: &NetNs, folder: &Path, program: &str, more: &[&str]) -> Child {
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
