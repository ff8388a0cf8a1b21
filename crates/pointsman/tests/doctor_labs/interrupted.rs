//! A doctor that is ended by a signal, at moments when it has most to leave behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::find;
use pointsman_linux::netns::NetNs;

use super::marks::Marks;
use super::{Outcome, PROGRAM, Scene, skipped, words};

/// How long the doctor may take to come to a moment, and its programs to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the signal comes.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// While it captures.
    Watching,
    /// While it tries fixes in a twin.
    Trying,
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) -> Outcome {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            return Err(format!("{what} did not come"));
        }
        thread::yield_now();
    }
    Ok(())
}

/// Network namespaces of a process and of those that it began.
fn namespaces_below(pid: u32) -> BTreeSet<u64> {
    let parent = |of: &str| -> Option<u32> {
        let stat = fs::read_to_string(format!("/proc/{of}/stat")).ok()?;
        stat.rsplit(')')
            .next()?
            .split_whitespace()
            .nth(1)?
            .parse()
            .ok()
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    let names = all.filter_map(|entry| entry.file_name().into_string().ok());
    let children = names.filter(|name| parent(name) == Some(pid));
    children
        .filter_map(|child| Some(fs::metadata(format!("/proc/{child}/ns/net")).ok()?.ino()))
        .collect()
}

fn is_watching(lab: &FaultLab) -> bool {
    let host = NetNs::open(&lab.namespace("host1")).unwrap();
    let sockets = host.run_in(|| fs::read_to_string("/proc/thread-self/net/packet").unwrap());
    sockets.unwrap().lines().count() > 1
}

/// Processes that are in the lab's namespaces.
fn processes(lab: &FaultLab) -> BTreeSet<String> {
    let pids = lab.namespaces().into_iter().flat_map(|namespace| {
        let output = Command::new("ip")
            .args(["netns", "pids", &namespace])
            .output();
        let text = output.map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    });
    pids.collect()
}

fn ask(scene: &Scene) -> Outcome<Child> {
    Command::new(PROGRAM)
        .args(["doctor", "vip", &scene.vip, "--from", &scene.client])
        .args(["--netns", &scene.pattern])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(words)
}

#[test]
fn an_interrupted_doctor_leaves_nothing() {
    if skipped() {
        return;
    }
    let scene = Scene::build(find("KVM").unwrap()).unwrap();
    let lab = &scene.lab;
    let (marks, known) = (Marks::of(lab), processes(lab));
    let named = NetNs::list().unwrap().into_iter();
    let own = named.filter_map(|name| NetNs::open(&name).ok()?.id().ok());
    let mut namespaces: BTreeSet<u64> = own.collect();
    namespaces.insert(NetNs::current().unwrap().id().unwrap());
    for (signal, moment) in [
        (Signal::SIGINT, Moment::Watching),
        (Signal::SIGTERM, Moment::Trying),
        (Signal::SIGKILL, Moment::Watching),
        (Signal::SIGKILL, Moment::Trying),
    ] {
        let mut child = ask(&scene).unwrap();
        let came = wait("the moment", || match moment {
            Moment::Watching => is_watching(lab),
            // A program of it is in a namespace that nobody named.
            Moment::Trying => !namespaces_below(child.id()).is_subset(&namespaces),
        });
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
        let status = child.wait().unwrap();
        came.unwrap();
        assert!(!status.success(), "{signal} while {moment:?}: {status}");
        // What it had begun in the lab ends by itself.
        wait("the end", || processes(lab) == known && !is_watching(lab)).unwrap();
        if let Err(left) = marks.compare(&Marks::of(lab)) {
            panic!("{signal} while {moment:?}: {left}");
        }
    }
    // And the next one is none the worse for it.
    let (report, _) = scene.ask(&["--netns", &scene.pattern]).unwrap();
    assert_eq!(report.cause.unwrap().code.name(), "HOST_IP_SPOOF_DIR");
}
