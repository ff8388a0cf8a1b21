//! What the program does for a user without rights, and what it says that it can't.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
/// The user and group `nobody` of every system.
const NOBODY: u32 = 65534;

/// A folder with the program and a bundle, which everybody may read.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let readable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), readable.clone()).unwrap();
        // Written by another process: a child of a test beside this one would have the file open for
        // writing for a moment, and nobody could run it.
        let copied = Command::new("cp").arg(PROGRAM).arg(folder.path()).status();
        assert!(copied.unwrap().success());
        let bundle = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../path/tests/golden/direct.json"
        );
        fs::copy(bundle, folder.path().join("bundle.json")).unwrap();
        for name in ["pointsman", "bundle.json"] {
            fs::set_permissions(folder.path().join(name), readable.clone()).unwrap();
        }
        Self(folder)
    }

    /// Runs the program as `nobody`, or as whoever runs the tests if that is not root.
    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(self.0.path().join("pointsman"));
        command.args(words).current_dir(self.0.path());
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command.output().unwrap()
    }
}

#[test]
fn bundles_need_no_rights() {
    let desk = Desk::new();
    let checked = desk.run(&["doctor", "check", "--bundle", "bundle.json"]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let words = [
        "doctor",
        "vip",
        "198.51.100.208:80",
        "--bundle",
        "bundle.json",
    ];
    let answered = desk.run(&words);
    let text = String::from_utf8(answered.stdout).unwrap();
    assert_ne!(answered.status.code(), Some(1), "{text}");
    assert!(text.contains("packets, because"), "{text}");
}

#[test]
fn what_needs_root_is_said() {
    let desk = Desk::new();
    let collected = desk.run(&["collect"]);
    assert_eq!(collected.status.code(), Some(0), "{collected:?}");
    let told = String::from_utf8(collected.stderr).unwrap();
    assert!(told.contains("that needs root"), "{told}");
    let words = [
        "doctor",
        "vip",
        "127.0.0.2:9",
        "--from",
        "127.0.0.1",
        "--here",
    ];
    let answered = desk.run(&words);
    let text = String::from_utf8(answered.stdout).unwrap();
    // The question is asked, and nobody answers; who dropped what is not seen.
    assert!(text.contains("7 connections"), "{text}");
    assert!(text.contains("captures need root"), "{text}");
    let captured = desk.run(&["capture", "--here"]);
    assert_eq!(captured.status.code(), Some(1));
    let told = String::from_utf8(captured.stderr).unwrap();
    assert!(told.contains("captures need root"), "{told}");
}
