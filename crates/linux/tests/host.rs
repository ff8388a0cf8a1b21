//! Kernel parameters, device offloads and the BPF file system.

use std::fs;

use pointsman_linux::bpffs;
use pointsman_linux::offload::{self, Device, Offload};
use pointsman_linux::sysctl;

#[path = "support/pair.rs"]
mod pair;
use pair::{Pair, ip, is_root, namespace};

#[test]
fn parameters_are_those_of_the_threads_namespace() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    let key = "net.ipv4.ip_forward";
    let outside = sysctl::read(key).expect("read");
    {
        let _inside = namespace.enter().expect("enter");
        for value in ["1", "0", "1"] {
            sysctl::write(key, value).expect("write");
            assert_eq!(sysctl::read(key).expect("read"), value);
        }
    }
    assert_eq!(sysctl::read(key).expect("read"), outside);
}

#[test]
fn an_interface_name_may_have_a_dot() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    ip(&namespace, "link add a.b type veth peer name c");
    let _inside = namespace.enter().expect("enter");
    sysctl::write("net.ipv4.conf.a/b.rp_filter", "2").expect("write");
    assert_eq!(
        sysctl::read("net/ipv4/conf/a.b/rp_filter").expect("read"),
        "2"
    );
    assert_ne!(
        sysctl::read("net.ipv4.conf.c.rp_filter").expect("read"),
        "2"
    );
}

#[test]
fn errors_name_the_parameter() {
    if !is_root() {
        return;
    }
    let error = sysctl::read("net.ipv4.no_such_thing").expect_err("missing");
    assert!(matches!(error, sysctl::Error::Missing { .. }));
    assert!(
        error.to_string().contains("net.ipv4.no_such_thing"),
        "{error}"
    );
    let error = sysctl::read("net.ipv4").expect_err("a directory");
    assert_eq!(error.errno(), Some(libc::EISDIR));
    let namespace = namespace();
    let _inside = namespace.enter().expect("enter");
    let error = sysctl::write("net.ipv4.ip_forward", "maybe").expect_err("no number");
    assert_eq!(error.errno(), Some(libc::EINVAL));
    assert!(
        error
            .to_string()
            .contains("net.ipv4.ip_forward to \"maybe\""),
        "{error}"
    );
}

#[test]
fn offloads_are_read_and_switched() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let _inside = pair.left.enter().expect("enter");
    let device = Device::open("veth0").expect("open");
    assert_eq!(device.driver().expect("driver"), "veth");
    let features = device.features().expect("features");
    assert!(
        features
            .get("tx-checksum-ip-generic")
            .expect("known")
            .changeable
    );
    // A veth's own default: the kernel is free to leave checksums and segments undone.
    for offload in [Offload::TxChecksum, Offload::Tso, Offload::Gso] {
        assert!(features.is_active(offload), "{offload:?}");
    }
    for offload in [
        Offload::Tso,
        Offload::Gso,
        Offload::Gro,
        Offload::TxChecksum,
        Offload::RxChecksum,
    ] {
        let is_active = || device.features().expect("features").is_active(offload);
        // veth can't verify checksums less than it does: what is fixed says so.
        match device.set(offload, false) {
            Ok(()) => assert!(!is_active(), "{offload:?}"),
            Err(offload::Error::Fixed { .. }) => {
                assert!(is_active(), "{offload:?}");
                continue;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(
        !device
            .features()
            .expect("features")
            .is_active(Offload::TxChecksum)
    );
    device.set(Offload::TxChecksum, true).expect("switch on");
    assert!(
        device
            .features()
            .expect("features")
            .is_active(Offload::TxChecksum)
    );
}

#[test]
fn what_ethtool_can_not_do_is_an_error() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    let _inside = namespace.enter().expect("enter");
    let missing = Device::open("nothing").expect("open");
    let error = missing.features().expect_err("no such device");
    assert_eq!(error.errno(), Some(libc::ENODEV));
    assert!(error.to_string().contains("nothing"), "{error}");
    assert!(matches!(
        Device::open("a-name-longer-than-15"),
        Err(offload::Error::BadName { .. })
    ));
    // TSO needs checksums; on loopback, checksums are fixed.
    let loopback = Device::open("lo").expect("open");
    let error = loopback.set(Offload::TxChecksum, false).expect_err("fixed");
    assert!(matches!(error, offload::Error::Fixed { .. }), "{error}");
}

#[test]
fn a_bpf_file_system_is_mounted_once_and_found() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = directory.path().join("bpf");
    assert!(!bpffs::is_bpffs(&path).expect("missing"));
    assert!(!bpffs::is_bpffs(directory.path()).expect("ordinary"));
    assert!(bpffs::mount(&path).expect("mount"));
    let outcome = std::panic::catch_unwind(|| {
        assert!(bpffs::is_bpffs(&path).expect("mounted"));
        assert!(!bpffs::mount(&path).expect("again"), "already there");
        fs::create_dir(path.join("maps")).expect("a directory for pins");
        assert!(bpffs::is_bpffs(path.join("maps")).expect("below"));
    });
    bpffs::unmount(&path).expect("unmount");
    assert!(outcome.is_ok());
    assert!(!bpffs::is_bpffs(&path).expect("gone"));
    assert!(bpffs::unmount(&path).is_err());
}
