//! The director of a lab goes with it, however that ends.

#[path = "support/balance.rs"]
#[allow(dead_code)]
mod balance;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use balance::{PATIENCE, PROGRAM, build};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_lab::director::{Director, PROGRAM_VARIABLE};
use pointsman_lab::process::wait_until;
use pointsman_lab::topology::{Kind, Options};
use pointsman_lab::{lab, tag};

#[test]
fn a_panic_detaches_and_unpins() {
    let Some(lab) = build(Kind::OneLeg, &Options::default(), &[80]) else {
        return;
    };
    let pins = tag::pin_dir(lab.tag());
    let result = std::panic::catch_unwind(|| {
        let _director = Director::start(&lab, &[]).unwrap();
        assert!(pins.exists());
        panic!("on purpose");
    });
    assert_eq!(result.unwrap_err().downcast_ref(), Some(&"on purpose"));
    assert!(!pins.exists());
    // Nothing is in the way of another.
    Director::start(&lab, &[]).unwrap().stop().unwrap();
}

/// Starts the demonstration and waits until its first director is there.
fn demo() -> (Child, String) {
    let demo = Command::new(PROGRAM)
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let tag = format!("t{}x0", demo.id());
    let pins = tag::pin_dir(&tag);
    wait_until("the demonstration did not begin", PATIENCE, || {
        Ok(pins.join("links").exists() || pins.exists())
    })
    .unwrap();
    (demo, tag)
}

#[test]
fn signals_take_director_and_lab_down() {
    if lab::why_not().is_some() {
        return;
    }
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let (mut demo, tag) = demo();
        kill(Pid::from_raw(demo.id().cast_signed()), signal).unwrap();
        assert_eq!(demo.wait().unwrap().code(), Some(code));
        assert_eq!(tag::namespaces_of(&tag).unwrap(), [""; 0]);
        assert!(!tag::pin_dir(&tag).exists(), "{tag}: pins are left");
    }
}

#[test]
fn what_a_killed_lab_left_is_taken_down_with_its_pins() {
    if lab::why_not().is_some() {
        return;
    }
    let (mut demo, tag) = demo();
    demo.kill().unwrap();
    demo.wait().unwrap();
    assert!(tag::stale_tags().unwrap().contains(&tag));
    tag::take_down(&tag).unwrap();
    assert!(!tag::pin_dir(&tag).exists());
    let what = format!("namespaces of {tag} are left");
    wait_until(&what, Duration::from_secs(5), || {
        Ok(tag::namespaces_of(&tag)?.is_empty())
    })
    .unwrap();
}

#[test]
fn without_the_program_it_is_said_how_to_build_it() {
    if lab::why_not().is_some() {
        return;
    }
    let nowhere = tempfile::tempdir().unwrap();
    let lonely = nowhere.path().join("lonely/pointsman-lab");
    std::fs::create_dir(lonely.parent().unwrap()).unwrap();
    std::fs::copy(PROGRAM, &lonely).unwrap();
    for (named, words) in [
        (None, "cargo build -p pointsman"),
        (Some("/nowhere/pointsman"), "names /nowhere/pointsman"),
    ] {
        let mut command = Command::new(&lonely);
        command.arg("demo").env_remove(PROGRAM_VARIABLE);
        if let Some(named) = named {
            command.env(PROGRAM_VARIABLE, Path::new(named));
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains(words), "{complaint}");
    }
}
