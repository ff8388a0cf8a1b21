//! Network namespaces: making, entering, leaving and running programs in them.

use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use pointsman_linux::netns::{Error, NETNS_DIR, NetNs};

#[path = "support/pair.rs"]
mod pair;
use pair::{is_root, namespace};

fn current() -> u64 {
    NetNs::current().expect("current").id().expect("id")
}

#[test]
fn entering_moves_this_thread_and_the_guard_moves_it_back() {
    if !is_root() {
        return;
    }
    let (outer, inner) = (namespace(), namespace());
    let home = current();
    let outer_id = outer.id().expect("id");
    assert_ne!(home, outer_id);
    {
        let _outer = outer.enter().expect("enter");
        assert_eq!(current(), outer_id);
        {
            let _inner = inner.enter().expect("enter");
            assert_eq!(current(), inner.id().expect("id"));
        }
        assert_eq!(current(), outer_id);
        assert_eq!(
            std::thread::spawn(current).join().expect("join"),
            outer_id,
            "threads inherit"
        );
    }
    assert_eq!(current(), home);

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _inside = outer.enter().expect("enter");
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(current(), home, "a panic leaves the namespace too");
}

#[test]
fn run_in_uses_another_thread_and_passes_results_and_panics_on() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    let home = current();
    let id = namespace.id().expect("id");
    assert_eq!(namespace.run_in(current).expect("run"), id);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        namespace.run_in(|| panic!("on purpose"))
    }));
    assert!(panicked.is_err());
    assert_eq!(current(), home);
}

#[test]
fn a_command_runs_inside_with_the_hosts_sys_in_place() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    let output = namespace
        .command("stat")
        .args(["-L", "-c", "%i %d", "/proc/self/ns/net", "/sys"])
        .output()
        .expect("run stat");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with(&format!("{} ", namespace.id().expect("id"))),
        "{text}"
    );
    let sys = std::fs::metadata("/sys").expect("stat /sys");
    assert_eq!(lines[1], format!("{} {}", sys.ino(), sys.dev()));
}

#[test]
fn names_are_listed_taken_once_and_gone_after_drop() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    let name = namespace.name().expect("name").to_owned();
    assert!(NetNs::list().expect("list").contains(&name));
    assert_eq!(
        NetNs::open(&name).expect("open").id().expect("id"),
        namespace.id().expect("id")
    );
    assert!(matches!(NetNs::create(&name), Err(Error::Exists { .. })));
    assert_eq!(
        NetNs::open(&name).expect("still there").name(),
        Some(name.as_str())
    );

    drop(namespace);
    assert!(!NetNs::list().expect("list").contains(&name));
    assert!(matches!(NetNs::open(&name), Err(Error::Missing { .. })));
    assert!(matches!(NetNs::delete(&name), Err(Error::Missing { .. })));
}

#[test]
fn a_process_leads_to_its_namespace() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    let mut child = namespace
        .command("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("run cat");
    let found = NetNs::from_pid(child.id()).and_then(|found| found.id());
    drop(child.stdin.take());
    child.wait().expect("wait");
    assert_eq!(found.expect("open by pid"), namespace.id().expect("id"));
}

#[test]
fn what_is_no_namespace_is_refused() {
    for name in ["", ".", "..", "a/b", "a\0b"] {
        assert!(
            matches!(NetNs::open(name), Err(Error::BadName { .. })),
            "{name:?}"
        );
    }
    assert!(matches!(
        NetNs::from_path("/dev/null"),
        Err(Error::NotNamespace { .. })
    ));
    assert!(matches!(
        NetNs::from_path("/proc/self/ns/mnt"),
        Err(Error::NotNamespace { .. })
    ));
    let missing = Path::new(NETNS_DIR).join("pmt-does-not-exist");
    let error = NetNs::from_path(&missing).expect_err("missing");
    assert!(error.to_string().contains("pmt-does-not-exist"), "{error}");
}

#[test]
fn a_namespace_without_a_name_is_reached_by_its_path() {
    if !is_root() {
        return;
    }
    let before = NetNs::list().expect("list");
    let namespace = NetNs::anonymous().expect("make one");
    let again = NetNs::from_path(namespace.path()).expect("open it");
    assert_eq!(again.id().expect("id"), namespace.id().expect("id"));
    assert_ne!(
        namespace.id().expect("id"),
        NetNs::current().expect("ours").id().expect("id")
    );
    let path = namespace.path().display().to_string();
    let made = namespace
        .command("ip")
        .args([
            "link", "add", "a0", "type", "veth", "peer", "name", "b0", "netns", &path,
        ])
        .status();
    assert!(made.expect("ip").success());
    let after = NetNs::list().expect("list");
    let new: Vec<_> = after.iter().filter(|name| !before.contains(name)).collect();
    assert!(new.iter().all(|name| name.starts_with("pm")), "{new:?}");
}
