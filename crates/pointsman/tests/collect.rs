//! `pointsman collect` on namespaces made for it: what it reads, what it leaves, whom it trusts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use pointsman_linux::netns::{NetNs, Temporary};
use pointsman_path::bundle::Bundle;
use pointsman_path::snapshot::{Part, Snapshot};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

fn can_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// A namespace that `script` has set up.
fn namespace(name: &str, script: &str) -> Temporary {
    let name = format!("pmc{name}-{}", std::process::id());
    let netns = NetNs::create(&name).unwrap().delete_on_drop();
    inside(&netns, script);
    netns
}

fn inside(netns: &NetNs, script: &str) -> String {
    let output = netns
        .command("sh")
        .args(["-e", "-c", script])
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {complaint}");
    String::from_utf8(output.stdout).unwrap()
}

fn collect(arguments: &[&str]) -> Output {
    let words = [&["collect"], arguments].concat();
    Command::new(PROGRAM).args(words).output().unwrap()
}

fn snapshot(output: &Output) -> Snapshot {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    Bundle::read(&output.stdout).unwrap().nodes.remove(0)
}

#[test]
fn a_namespace_is_described_and_left_as_it_was() {
    if !can_run() {
        return;
    }
    let netns = namespace(
        "one",
        "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6
         echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
         ip link set lo up
         ip link add br0 type bridge
         ip link add v0 type veth peer name v1
         ip link set v0 master br0
         bridge link set dev v0 hairpin on
         ip address add 192.0.2.7/24 dev v1
         ip link set v1 up; ip link set v0 up; ip link set br0 up
         ip route add 198.51.100.0/24 via 192.0.2.1 advmss 1400
         ip rule add from 192.0.2.7 lookup 100
         ip neighbour add 192.0.2.9 lladdr 02:00:00:00:00:09 dev v1
         echo 1 > /proc/sys/net/ipv4/conf/v1/arp_ignore
         ebtables-nft -t nat -A PREROUTING -i v0 -j DROP
         nft add table inet own",
    );
    let name = netns.name().unwrap();
    // The kernel tells that a cable is plugged in some time after it is.
    inside(
        &netns,
        "for i in $(seq 300); do
             [ $(ip -oneline link show up | grep -c 'state UP') = 3 ] && exit 0
             sleep 0.1
         done; ip link; exit 1",
    );
    let look = "ip -details address show | grep -v valid_lft | grep -v tentative | sed \"s,[a-z_]*timer *[0-9.]*,,g\"; ip route show table all; nft list ruleset; \
                cat /proc/net/ip_tables_names; ip -details link show v1 | grep promiscuity";
    let before = inside(&netns, look);
    let found = snapshot(&collect(&["--netns", name]));
    assert_eq!(inside(&netns, look), before);

    assert_eq!(found.node, name);
    assert!(found.link("v0").unwrap().port.as_ref().unwrap().hairpin);
    assert_eq!(found.link("v0").unwrap().master.as_deref(), Some("br0"));
    let (link, address) = found.owner_of("192.0.2.7".parse().unwrap()).unwrap();
    assert_eq!((link.name.as_str(), address.prefix.length), ("v1", 24));
    let route = found.route_to("198.51.100.1".parse().unwrap()).unwrap();
    assert_eq!(route.advertised_segment, Some(1400));
    assert!(
        found
            .routing_rules
            .iter()
            .any(|rule| rule.table.as_deref() == Some("100"))
    );
    assert_eq!(found.neighbours[0].states, ["PERMANENT"]);
    assert_eq!(found.greater("v1", "arp_ignore"), Some(1));
    let own = found.link("v0").unwrap().mac;
    assert!(
        found
            .forwarding
            .iter()
            .any(|entry| entry.mac == own && !entry.is_learned())
    );
    assert!(
        found.rules.ebtables[0]
            .text
            .contains("-A PREROUTING -i v0 -j DROP")
    );
    assert!(found.rules.iptables.is_empty() && found.has(Part::Iptables));
    assert!(found.counters.contains_key("TcpExtIPReversePathFilter"));
    assert!(found.offloads["v1"]["tx-checksumming"]);
}

#[test]
fn names_of_interfaces_run_nothing() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let netns = namespace(
        "two",
        "ip link add '$(touch${0}x)' type bridge; ip link add ';id>x;' type bridge",
    );
    let name = netns.name().unwrap();
    let ssh = false_ssh(folder.path(), &netns);
    let here = Command::new(PROGRAM)
        .current_dir(folder.path())
        .args(["collect", "--netns", name])
        .output()
        .unwrap();
    let there = Command::new(PROGRAM)
        .current_dir(folder.path())
        .args(["collect", "--ssh", &ssh, "--host", "user@host"])
        .output()
        .unwrap();
    for output in [here, there] {
        let found = snapshot(&output);
        assert!(found.link("$(touch${0}x)").is_some() && found.link(";id>x;").is_some());
    }
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["ssh"]);
}

/// A program that does as ssh does, and comes out in a namespace.
fn false_ssh(folder: &Path, netns: &NetNs) -> String {
    let path = folder.join("ssh");
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift 2\n\
         echo Welcome; echo Notice >&2\nexec nsenter --net={} sh -c \"$*\"\n",
        netns.path().display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn ssh_tells_the_same_as_being_there() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let netns = namespace(
        "three",
        "ip link add v0 type veth peer name v1; ip address add 192.0.2.3/24 dev v0",
    );
    let ssh = false_ssh(folder.path(), &netns);
    let there = snapshot(&collect(&["--ssh", &ssh, "--host", "user@host"]));
    let here = snapshot(&collect(&["--netns", netns.name().unwrap()]));
    assert_eq!(there.links, here.links);
    assert_eq!(there.routes, here.routes);
    assert_eq!(there.sysctls, here.sysctls);
    assert_eq!(there.rules, here.rules);
}

#[test]
fn nodes_that_cannot_be_reached_are_named() {
    for (arguments, said) in [
        (&["--netns", "pm-no-such"][..], "pm-no-such"),
        (
            &["--netns", "pm-no-such-*"],
            "no network namespace is called",
        ),
        (&["--host=-oProxyCommand=id"], "is no host"),
        (
            &["--ssh", "/bin/false", "--host", "user@host"],
            "/bin/false user@host",
        ),
        (
            &["--ssh", "/no/such/program", "--host", "user@host"],
            "/no/such/program",
        ),
    ] {
        let output = collect(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains(said), "{arguments:?}: {complaint}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
    assert_eq!(collect(&["--vip", "here"]).status.code(), Some(2));
}

#[test]
fn a_redacted_bundle_names_nobody() {
    if !can_run() {
        return;
    }
    let netns = namespace(
        "four",
        "ip link add v0 address 52:54:00:aa:bb:cc type veth peer name v1
         ip address add 8.8.4.4/24 dev v0; ip link set v0 up; ip link set v1 up
         ip route add 9.9.9.0/24 via 8.8.4.1",
    );
    let folder = tempfile::tempdir().unwrap();
    let out = format!("{}/", folder.path().join("bundle").display());
    let name = netns.name().unwrap();
    let output = collect(&["--netns", name, "--redact", "--out", &out]);
    assert!(output.status.success() && output.stdout.is_empty());
    let text = fs::read_to_string(format!("{out}{name}.json")).unwrap();
    for secret in ["8.8.4.", "9.9.9.", "aa:bb:cc"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let snapshot = Snapshot::read(text.as_bytes()).unwrap();
    let gateway = snapshot.routes.iter().find_map(|route| route.via).unwrap();
    let mut addresses = snapshot.links.iter().flat_map(|link| &link.addresses);
    assert!(
        addresses.any(|own| own.prefix.contains(gateway)),
        "{gateway}"
    );
}
