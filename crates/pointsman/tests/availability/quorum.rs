//! A virtual router that tracks the quorum of a virtual service, beside keepalived.

use std::fs;
use std::net::TcpListener;

use nix::sys::signal::Signal;

use super::host::{Host, can_run, eventually};
use super::keepalived::Keepalived;
use super::{VIP, replace};

const CONFIGURATION: &str = "global_defs {
    vrrp_version 3
}
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 120
    advert_int 0.5
    virtual_ipaddress {
        10.9.0.100/32
    }
    track_virtual_server {
        10.9.0.100 80 tcp weight -30
    }
}
virtual_server 10.9.0.100 80 {
    delay_loop 0.1
    lb_algo rr
    lb_kind DR
    protocol TCP
    alpha
    real_server 10.9.0.2 80 {
        TCP_CHECK {
            connect_timeout 1
            delay_before_retry 0.1
            warmup 0
        }
    }
}
";

const THEIRS: &str = "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    version 3
    priority 100
    advert_int 0.5
    virtual_ipaddress {
        10.9.0.100/32
    }
}
";

#[test]
fn a_master_without_a_quorum_yields_to_keepalived_and_comes_back_with_it() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let listen = || host.server.run_in(|| TcpListener::bind("10.9.0.2:80"));
    let listener = listen().expect("enter").expect("listen");
    let file = host.file("keepalived.conf");
    fs::write(&file, CONFIGURATION).expect("write");
    let path = file.display().to_string();
    let mut daemon = host.run(&["--keep", "--keepalived", &path]);
    let status = || host.call("status").out;
    eventually(status, |text| {
        text.contains("VI_1 MASTER on eth0, id 51, priority 120")
    });
    let theirs = Keepalived::start(&host.server, THEIRS);
    let is_theirs = || {
        let mut ip = host.server.command("ip");
        let output = ip.args(["-o", "address"]).output().expect("ip");
        String::from_utf8_lossy(&output.stdout).contains(VIP)
    };
    drop(listener);
    let yielded = |text: &String| text.contains("VI_1 BACKUP on eth0, id 51, priority 90");
    eventually(status, yielded);
    eventually(is_theirs, |theirs| *theirs);
    assert!(!host.state().contains(VIP));
    // A reload that changes something else, and a restart: it knows at once, and stays backup.
    replace(&file, &CONFIGURATION.replace("weight -30", "weight -40"));
    daemon.signal(Signal::SIGHUP);
    eventually(status, |text| {
        text.contains("VI_1 BACKUP on eth0, id 51, priority 80")
    });
    replace(&file, CONFIGURATION);
    daemon.signal(Signal::SIGHUP);
    eventually(status, yielded);
    assert!(daemon.end(Signal::SIGTERM).success());
    daemon = host.run(&["--keep", "--keepalived", &path]);
    eventually(status, yielded);
    assert!(is_theirs());
    let elections = theirs.log().matches("Entering MASTER STATE").count();
    assert_eq!(elections, 1, "{}", theirs.log());
    // And back again, with the real server.
    let listener = listen().expect("enter").expect("listen again");
    eventually(status, |text| {
        text.contains("VI_1 MASTER on eth0, id 51, priority 120")
    });
    eventually(is_theirs, |theirs| !*theirs);
    assert!(host.state().contains(VIP));
    theirs.assert_content();
    // Without a weight it is in fault without the quorum.
    replace(&file, &CONFIGURATION.replace(" weight -30", ""));
    daemon.signal(Signal::SIGHUP);
    drop(listener);
    eventually(status, |text| text.contains("VI_1 FAULT"));
    eventually(is_theirs, |theirs| *theirs);
    assert!(daemon.end(Signal::SIGTERM).success());
}
