//! `vip_check`: a real server that has not got the virtual address serves nobody.

use std::fs;
use std::net::TcpListener;

use nix::sys::signal::Signal;
use pointsman_linux::sysctl;

use super::host::{Host, can_run, eventually, ip};
use super::{VIP, listed};

const CONFIGURATION: &str = "global_defs {
    script_user root
}
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 255
    virtual_ipaddress {
        10.9.0.100/32
    }
}
virtual_server 10.9.0.100 80 {
    delay_loop 0.1
    lb_algo rr
    lb_kind DR
    protocol TCP
    real_server 10.9.0.2 80 {
        TCP_CHECK {
            connect_timeout 0.5
            delay_before_retry 0.1
            warmup 0
            vip_check
        }
    }
}
";

#[test]
fn a_server_without_the_virtual_address_is_out_of_the_pool_and_back_with_it() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    // Packets for others come back to the director, who has the address.
    let forward = || sysctl::write("net.ipv4.ip_forward", "1");
    let set = host.server.run_in(forward).expect("enter");
    set.expect("a setting");
    let listen = || host.server.run_in(|| TcpListener::bind("0.0.0.0:80"));
    let listener = listen().expect("enter").expect("listen");
    let file = host.file("keepalived.conf");
    fs::write(&file, CONFIGURATION).expect("write");
    let path = file.display().to_string();
    let daemon = host.run(&["--keepalived", &path]);
    eventually(|| host.state(), |state| state.contains(VIP));
    let service = format!("-A -t {VIP}:80 -s rr\n");
    let server = format!("{service}-a -t {VIP}:80 -r 10.9.0.2:80 -g -w 1\n");
    // It listens, and would be up by its own address.
    eventually(|| listed(&host), |text| *text == service);
    let status = || host.call("status").out;
    let named = |text: &String| {
        let mut lines = text.lines();
        let checks = "checks       [10.9.0.100]:tcp:80: 0 of 1 real servers up, no quorum";
        lines.any(|line| line == checks)
            && lines.any(|line| line.starts_with("DOWN         [10.9.0.2]:tcp:80: TCP_CHECK: "))
    };
    eventually(status, named);
    ip(&host.server, &format!("address add {VIP}/32 dev lo"));
    eventually(|| listed(&host), |text| *text == server);
    eventually(status, |text| {
        text.contains(": 1 of 1 real servers up\n") && !text.contains("DOWN")
    });
    drop(listener);
    eventually(|| listed(&host), |text| *text == service);
    let _listener = listen().expect("enter").expect("listen again");
    eventually(|| listed(&host), |text| *text == server);
    ip(&host.server, &format!("address delete {VIP}/32 dev lo"));
    eventually(|| listed(&host), |text| *text == service);
    assert!(daemon.end(Signal::SIGTERM).success());
}
