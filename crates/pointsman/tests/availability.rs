//! `pointsman run --keepalived`: virtual routers, services and checks of a keepalived.conf.

#[path = "support/host.rs"]
#[allow(dead_code)]
mod host;
#[path = "availability/host_items.rs"]
mod host_items;
#[path = "../../daemon/tests/vrrp/keepalived.rs"]
#[allow(dead_code)]
mod keepalived;
#[path = "availability/mails.rs"]
mod mails;
#[path = "availability/neighbors.rs"]
mod neighbors;
#[path = "availability/quorum.rs"]
mod quorum;
#[path = "availability/strict.rs"]
mod strict;
#[path = "availability/tracking.rs"]
mod tracking;
#[path = "availability/vip_check.rs"]
mod vip_check;

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use host::{Host, can_run, eventually};
use nix::sys::signal::Signal;

const VIP: &str = "10.9.0.100";

/// A virtual router with scripts, a service with a check, and what `more` adds.
fn configuration(host: &Host, interval: &str, more: &str) -> String {
    let notes = host.file("notes").display().to_string();
    format!(
        "global_defs {{
    script_user root
    vrrp_version 3
}}
vrrp_instance VI_1 {{
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int {interval}
    virtual_ipaddress {{
        {VIP}/32
    }}
    notify \"/bin/sh -c 'echo \\\"$*\\\" >> {notes}' notify\"
}}
virtual_server {VIP} 80 {{
    delay_loop 0.2
    lb_algo rr
    lb_kind DR
    protocol TCP
    quorum_down \"/bin/sh -c 'echo quorum down >> {notes}'\"
    real_server 10.9.0.2 80 {{
        weight 3
        TCP_CHECK {{
            connect_timeout 1
            delay_before_retry 0.1
            warmup 0
        }}
    }}
}}
{more}"
    )
}

/// Puts another text in a file's place, as a whole.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).expect("write");
    fs::rename(&new, file).expect("rename");
}

fn listed(host: &Host) -> String {
    host.call("ipvsadm -Sn").out
}

#[test]
fn a_configuration_runs_is_reloaded_and_ends() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let listen = || {
        host.server
            .run_in(|| TcpListener::bind("10.9.0.2:80"))
            .expect("enter")
    };
    let listener = listen().expect("listen");
    let file = host.file("keepalived.conf");
    fs::write(&file, configuration(&host, "0.1", "")).expect("write");
    let path = file.display().to_string();
    let daemon = host.run(&["--keepalived", &path]);
    let service = format!("-A -t {VIP}:80 -s rr\n");
    let server = format!("-a -t {VIP}:80 -r 10.9.0.2:80 -g -w 3\n");
    // Without alpha a real server is taken for good until a check fails.
    assert_eq!(listed(&host), format!("{service}{server}"));
    eventually(
        || host.call("status").out,
        |text| text.contains("VI_1 MASTER on eth0, id 51, priority 150"),
    );
    assert!(host.state().contains(VIP));
    let notes = || fs::read_to_string(host.file("notes")).unwrap_or_default();
    eventually(notes, |notes| notes.contains("INSTANCE VI_1 MASTER 150"));
    // The real server goes and comes back.
    drop(listener);
    eventually(|| listed(&host), |text| *text == service);
    eventually(notes, |notes| notes.contains("quorum down"));
    let _listener = listen().expect("listen again");
    eventually(
        || listed(&host),
        |text| *text == format!("{service}{server}"),
    );
    // A file that can't be used changes nothing.
    replace(
        &file,
        &configuration(&host, "0.1", "virtual_servr 10.9.0.101 80 {\n}\n"),
    );
    daemon.signal(Signal::SIGHUP);
    replace(&file, "");
    daemon.signal(Signal::SIGHUP);
    let more = "virtual_server 10.9.0.101 80 {\n protocol UDP\n lb_algo wlc\n lb_kind TUN\n \
                real_server 10.9.0.2 80 {\n }\n}\n";
    replace(&file, &configuration(&host, "0.1", more));
    daemon.signal(Signal::SIGHUP);
    let second =
        "-A -u 10.9.0.101:80 -s wlc\n-a -u 10.9.0.101:80 -r 10.9.0.2:80 -i -w 1 --tun-type ipip\n";
    eventually(
        || listed(&host),
        |text| *text == format!("{service}{server}{second}"),
    );
    replace(&file, &configuration(&host, "0.1", ""));
    daemon.signal(Signal::SIGHUP);
    eventually(
        || listed(&host),
        |text| *text == format!("{service}{server}"),
    );
    assert!(host.state().contains(VIP));
    let elections = notes().matches(" BACKUP ").count();
    assert_eq!(elections, 1, "a reload elects nobody: {}", notes());
    assert!(daemon.end(Signal::SIGTERM).success());
    // The script outlives the daemon.
    eventually(notes, |notes| notes.contains("INSTANCE VI_1 STOP 150"));
    // Neighbours that checks have found stay for a while.
    let after = host.state();
    assert!(!after.contains(VIP) && after.contains("# pins: false"));
}

#[test]
fn a_restart_keeps_the_address_and_the_connection_table() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let file = host.file("keepalived.conf");
    // An owner needs no election, and long intervals leave a busy machine time to restart.
    let text = configuration(&host, "10", "").replace("priority 150", "priority 255");
    fs::write(&file, text).expect("write");
    let path = file.display().to_string();
    let arguments = ["--keep", "--keepalived", &path];
    let daemon = host.run(&arguments);
    let is_master = |text: &String| text.contains("VI_1 MASTER");
    eventually(|| host.call("status").out, is_master);
    assert!(daemon.end(Signal::SIGTERM).success());
    assert!(host.state().contains(VIP), "left as it is");
    let daemon = host.run(&arguments);
    let notes = fs::read_to_string(host.file("notes")).expect("notes");
    assert!(!notes.contains("STOP"), "{notes}");
    assert!(!notes.contains("BACKUP"), "nobody is elected: {notes}");
    eventually(|| host.call("status").out, is_master);
    // What is left for good is given back by `detach`.
    assert!(daemon.end(Signal::SIGTERM).success());
    assert!(host.state().contains(VIP));
    let said = host.call(&format!("detach --pin-dir {}", host.pin_dir.display()));
    assert!(
        said.out.contains("gave back 1 virtual address\n"),
        "{said:?}"
    );
    assert!(!host.state().contains(VIP));
    // And what a killed daemon left, by the next one.
    let daemon = host.run(&arguments[1..]);
    eventually(|| host.call("status").out, is_master);
    assert!(daemon.end(Signal::SIGKILL).code().is_none());
    assert!(host.state().contains(VIP));
    let daemon = host.run(&arguments[1..]);
    assert!(daemon.end(Signal::SIGTERM).success());
    assert!(!host.state().contains(VIP));
}

#[test]
fn what_cannot_be_done_is_told_before_anything_is_done() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let file = host.file("keepalived.conf");
    let path = file.display().to_string();
    for (text, says) in [
        (
            "vrrp_instance V {\n  nosuch 1\n}\n",
            "keepalived.conf:2:3: error:",
        ),
        (
            "vrrp_instance V {\n interface eth0\n virtual_router_id 1\n use_ipvlan\n \
             virtual_ipaddress {\n 10.9.0.9\n }\n}\n",
            "keepalived.conf:4:2: unsupported:",
        ),
        (
            "global_defs {\n script_user nobody_of_that_name\n}\nvrrp_instance V {\n interface eth0\n \
             virtual_router_id 1\n virtual_ipaddress {\n 10.9.0.9\n }\n}\n",
            "no user nobody_of_that_name",
        ),
    ] {
        fs::write(&file, text).expect("write");
        let pins = host.pin_dir.display();
        let said = host.call(&format!(
            "run --pin-dir {pins} --no-state --keepalived {path}"
        ));
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(says), "{said:?}");
    }
    let said = host.call(&format!("run --keepalived {path}.missing"));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("cannot read"), "{said:?}");
    let after = host.state();
    assert!(!after.contains("10.9.0.9") && after.contains("# pins: false"));
}

#[test]
fn services_that_are_not_configured_go_where_that_is_wanted() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let state = host.file("state.json").display().to_string();
    let by_hand = "-A -t 10.9.0.77:80 -s rr\n";
    let daemon = host.run(&["--state", &state]);
    host.ipvsadm("-A -t 10.9.0.77:80 -s rr");
    assert!(daemon.end(Signal::SIGTERM).success());
    let file = host.file("keepalived.conf");
    let path = file.display().to_string();
    let run = |globals: &str| {
        let text = format!(
            "global_defs {{\n {globals}\n}}\nvirtual_server 10.9.0.101 80 {{\n protocol UDP\n lb_algo wlc\n \
             lb_kind TUN\n real_server 10.9.0.2 80 {{\n }}\n}}\n"
        );
        fs::write(&file, text).expect("write");
        let daemon = host.run(&["--keepalived", &path, "--state", &state]);
        let listed = listed(&host);
        assert!(daemon.end(Signal::SIGTERM).success());
        listed
    };
    // It is remembered over stops, whatever is configured beside it, until a start flushes.
    assert!(run("rs_init_notifies").contains(by_hand));
    let flushed = run("lvs_flush");
    assert!(
        !flushed.contains(by_hand) && flushed.contains("-A -u 10.9.0.101:80"),
        "{flushed}"
    );
    assert!(!run("rs_init_notifies").contains(by_hand));
}
