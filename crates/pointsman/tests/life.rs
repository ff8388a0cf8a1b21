//! The daemon's life: started, stopped, killed, taken over; next hops; answers.

#[path = "support/host.rs"]
#[allow(dead_code)]
mod host;

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpStream, UdpSocket},
};

use host::{Host, PATIENCE, SERVER_MAC, can_run, eventually, ip};
use nix::sys::signal::Signal;
use pointsman_linux::packet::Capture;
use pointsman_wire::{Mac, build::arp_reply};

#[test]
fn a_normal_stop_leaves_the_host_as_found() {
    if !can_run() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let host = Host::new();
        // An ordinary neighbour that was there before stays, and stays ordinary.
        host.ip(&format!(
            "neigh add 10.9.0.2 lladdr {SERVER_MAC} dev eth0 nud stale"
        ));
        let before = host.state();
        let daemon = host.run(&["--interface", "eth0"]);
        assert!(
            daemon.said[0].starts_with("eth0: tcx ("),
            "{:?}",
            daemon.said
        );
        host.ipvsadm("-A -t 10.9.0.1:80");
        host.ipvsadm("-a -t 10.9.0.1:80 -r 10.9.0.2");
        host.ipvsadm("-a -t 10.9.0.1:80 -r 10.9.0.3");
        host.ipvsadm("-A -t [fd09::1]:80");
        host.ipvsadm("-a -t [fd09::1]:80 -r fd09::2");
        eventually(
            || host.neighbours(),
            |found| found.matches("managed").count() == 3,
        );
        assert_ne!(host.state(), before);
        assert!(daemon.end(signal).success());
        let after = host.state();
        assert!(before == after, "{}", difference(&before, &after));
    }
}

/// The lines that are in one text only.
fn difference(before: &str, after: &str) -> String {
    let only = |these: &str, those: &str, sign: &str| {
        let missing = these
            .lines()
            .filter(|line| !those.lines().any(|l| l == *line));
        missing
            .map(|line| format!("{sign}{line}\n"))
            .collect::<String>()
    };
    only(before, after, "-") + &only(after, before, "+")
}

#[test]
fn a_killed_daemon_is_succeeded() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    // The real server never asks for the director, which would make it a neighbour.
    let known = "neigh add 10.9.0.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent";
    ip(&host.server, known);
    let before = host.state();
    let daemon = host.run(&[]);
    host.ipvsadm("-A -u 10.9.0.1:5353 -s rr");
    host.ipvsadm("-a -u 10.9.0.1:5353 -r 10.9.0.2 -w 9");
    host.ipvsadm("--set 7 0 0");
    eventually(|| host.next_hop("10.9.0.2"), |hop| hop.contains(SERVER_MAC));
    daemon.end(Signal::SIGKILL);
    // Nobody is there, and packets flow.
    host.server
        .run_in(|| {
            let socket = UdpSocket::bind("10.9.0.2:0").expect("bind");
            for _ in 0..3 {
                socket.send_to(b"?", "10.9.0.1:5353").expect("send");
            }
        })
        .expect("a thread");

    let daemon = host.run(&[]);
    assert!(daemon.said.last().expect("lines").contains("taken over"));
    let row = "UDP  10.9.0.1:5353                       1        3        0       87        0\n";
    let stats = eventually(
        || host.call("ipvsadm -Ln --stats").out,
        |stats| stats.contains(row),
    );
    assert!(stats.contains("  -> 10.9.0.2:5353 "), "{stats}");
    let connections = host.call("ipvsadm -Lnc").out;
    assert!(
        connections.contains("UDP         10.9.0.2:"),
        "{connections}"
    );
    assert_eq!(
        host.call("ipvsadm -L --timeout").out,
        "Timeout (tcp tcpfin udp): 7 120 300\n"
    );
    assert_eq!(host.next_hop("10.9.0.2"), format!("eth0 {SERVER_MAC}"));
    host.ipvsadm("-D -u 10.9.0.1:5353");

    // And a stop after a kill still finds everything.
    assert!(daemon.end(Signal::SIGTERM).success());
    let after = host.state();
    assert!(before == after, "{}", difference(&before, &after));
}

#[test]
fn detach_removes_what_a_killed_daemon_left() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let before = host.state();
    let daemon = host.run(&[]);
    host.ipvsadm("-A -t 10.9.0.1:80 -s rr");
    host.ipvsadm("-a -t 10.9.0.1:80 -r 10.9.0.2");
    eventually(|| host.next_hop("10.9.0.2"), |hop| hop.contains(SERVER_MAC));
    let detach = format!("detach --pin-dir {}", host.pin_dir.display());
    let said = host.call(&detach);
    assert_eq!(said.code, 1, "not under a running daemon");
    assert!(said.err.contains("stop it first"), "{}", said.err);
    daemon.end(Signal::SIGKILL);
    let said = host.call(&detach);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(
        said.out.starts_with("removed 1 link, 0 qdiscs, "),
        "{}",
        said.out
    );
    assert!(said.out.ends_with("and 1 neighbour\n"), "{}", said.out);
    let after = host.state();
    assert!(before == after, "{}", difference(&before, &after));
}

#[test]
fn with_keep_forwarding_stays() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let daemon = host.run(&["--keep"]);
    host.ipvsadm("-A -t 10.9.0.1:80 -s rr");
    assert!(daemon.end(Signal::SIGTERM).success());
    assert!(host.pin_dir.exists());
    let daemon = host.run(&[]);
    assert_eq!(host.call("ipvsadm -Sn").out, "-A -t 10.9.0.1:80 -s rr\n");
    assert!(daemon.end(Signal::SIGTERM).success());
    assert!(!host.pin_dir.exists());
}

#[test]
fn only_one_daemon_runs_and_a_failed_start_leaves_nothing() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let before = host.state();
    let run = format!("run --pin-dir {}", host.pin_dir.display());
    let said = host.call(&format!("{run} --interface nosuch"));
    assert_eq!(said.code, 1);
    assert!(
        said.err.starts_with("pointsman: interface nosuch: "),
        "{}",
        said.err
    );
    let after = host.state();
    assert!(before == after, "{}", difference(&before, &after));

    let _daemon = host.run(&[]);
    let said = host.call(&run);
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("another pointsman runs already"),
        "{}",
        said.err
    );
    let elsewhere = tempfile::tempdir().expect("a directory");
    let socket = elsewhere.path().join("api.sock");
    let said = host.call(&format!("{run} --socket {}", socket.display()));
    assert_eq!(said.code, 1);
    assert!(
        said.err.contains("another pointsman works with"),
        "{}",
        said.err
    );
    assert_eq!(host.call("ipvsadm -Ln").code, 0, "the first one goes on");
}

#[test]
fn next_hops_follow_links_and_neighbours() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&[]);
    host.ipvsadm("-A -t 10.9.0.1:80");
    host.ipvsadm("-a -t 10.9.0.1:80 -r 10.9.0.2");
    host.ipvsadm("-a -t 10.9.0.1:80 -r 10.8.0.2 -i");
    host.ipvsadm("-a -t 10.9.0.1:80 -r 10.9.0.1");
    eventually(
        || host.next_hop("10.9.0.2"),
        |hop| *hop == format!("eth0 {SERVER_MAC}"),
    );
    eventually(
        || host.next_hop("10.8.0.2"),
        |hop| hop == "unresolved: no route to it",
    );
    eventually(|| host.next_hop("10.9.0.1"), |hop| hop == "this host");

    // A route appears, and goes.
    host.ip("route add 10.8.0.0/24 via 10.9.0.2");
    eventually(
        || host.next_hop("10.8.0.2"),
        |hop| *hop == format!("eth0 {SERVER_MAC} via 10.9.0.2"),
    );
    host.ip("route del 10.8.0.0/24");
    eventually(
        || host.next_hop("10.8.0.2"),
        |hop| hop == "unresolved: no route to it",
    );

    // The real server moves to another device, which announces itself.
    let moved = Mac([2, 0, 0, 0, 0, 0x77]);
    ip(&host.server, "link set eth0 address 02:00:00:00:00:77");
    let address = Ipv4Addr::new(10, 9, 0, 2);
    let announcement = arp_reply(moved, address, Mac::BROADCAST, address);
    let port = {
        let _inside = host.server.enter().expect("enter");
        Capture::open("eth0").expect("open eth0")
    };
    eventually(
        || {
            // The kernel believes no second change within a second: announce until it does.
            port.send(&announcement).expect("send");
            host.next_hop("10.9.0.2")
        },
        |hop| hop == "eth0 02:00:00:00:00:77",
    );

    // The director's own device gets another address, and goes down and up.
    host.ip("link set eth0 down");
    eventually(
        || host.next_hop("10.9.0.2"),
        |hop| hop.starts_with("unresolved"),
    );
    host.ip("link set eth0 address 02:00:00:00:00:11");
    host.ip("link set eth0 up");
    eventually(
        || host.next_hop("10.9.0.2"),
        |hop| hop == "eth0 02:00:00:00:00:77",
    );
}

#[test]
fn clients_of_a_service_without_servers_are_refused_at_once() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&[]);
    host.ipvsadm("-A -t 10.9.0.1:80");
    host.ipvsadm("-A -t [fd09::1]:80");
    for target in ["10.9.0.1:80", "[fd09::1]:80"] {
        let target = target.parse().expect("an address");
        let connected = host
            .server
            .run_in(|| TcpStream::connect_timeout(&target, PATIENCE))
            .expect("a thread");
        let error = connected.expect_err("nobody serves");
        assert_eq!(
            error.kind(),
            ErrorKind::ConnectionRefused,
            "{target}: {error}"
        );
    }
    let verdicts = host.call("verdicts").out;
    let line = verdicts
        .lines()
        .find(|line| line.contains("no-destination"));
    assert!(line.is_some(), "{verdicts}");
    let status = host.call("status").out;
    assert!(status.contains("ICMP errors  "), "{status}");
    assert!(!status.contains("ICMP errors  0 sent"), "{status}");
}

#[test]
fn settings_are_shown_and_changed() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let _daemon = host.run(&["--drop_entry", "1", "--sloppy-tcp", "--amemthresh", "0"]);
    let said = host.call("setting sloppy_tcp net.ipv4.vs.drop_entry");
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, "sloppy_tcp = 1\ndrop_entry = 1\n")
    );
    // More pages than any host has: memory counts as short until this is taken back.
    let said = host.call("setting amemthresh=2147483647 expire_nodest_conn=1");
    let changed = "expire_nodest_conn = 1\namemthresh = 2147483647\n";
    assert_eq!((said.code, said.out.as_str()), (0, changed));
    let mode = || host.call("setting drop_entry").out;
    eventually(mode, |mode| mode == "drop_entry = 2\n");
    host.call("setting amemthresh=0");
    eventually(mode, |mode| mode == "drop_entry = 1\n");
    let all = host.call("setting").out;
    assert!(
        all.starts_with("conn_reuse_mode = 1\nsloppy_tcp = 1\n"),
        "{all}"
    );
    for (arguments, words) in [
        ("setting fly=1", "there is no setting \"fly\""),
        (
            "setting sloppy_tcp=2",
            "sloppy_tcp is a number from 0 to 1, not \"2\"",
        ),
    ] {
        let said = host.call(arguments);
        assert_eq!(said.code, 2);
        assert!(said.err.contains(words), "{}", said.err);
    }
}
