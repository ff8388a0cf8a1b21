//! A virtual router that is held to the RFC accepts nothing at its address, but for what is balanced.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use pointsman_linux::netns::NetNs;
use pointsman_linux::sysctl;

use super::host::{Host, can_run, eventually, ip};
use super::{VIP, replace};

const CONFIGURATION: &str = "global_defs {
    vrrp_strict
    vrrp_version 3
    nftables_counters
}
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 150
    advert_int 0.1
    virtual_ipaddress {
        10.9.0.100/32
    }
}
virtual_server 10.9.0.100 80 {
    lb_algo rr
    lb_kind NAT
    protocol TCP
    real_server 10.9.0.2 80 {
    }
}
";

#[test]
fn a_strict_master_serves_what_it_balances_and_accepts_nothing_else() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let name = format!("pmd-{}-strict", std::process::id());
    let client = NetNs::create(&name).expect("a namespace").delete_on_drop();
    host.ip(&format!(
        "link add eth1 type veth peer name eth0 netns {name}"
    ));
    host.ip("address add 10.10.0.1/24 dev eth1");
    host.ip("link set eth1 up");
    ip(&client, "address add 10.10.0.2/24 dev eth0");
    ip(&client, "link set eth0 up");
    ip(&client, "route add default via 10.10.0.1");
    ip(&host.server, "route add default via 10.9.0.1");
    let forward = || sysctl::write("net.ipv4.ip_forward", "1");
    host.director
        .run_in(forward)
        .expect("enter")
        .expect("a setting");
    let listen = |address: &'static str| move || TcpListener::bind(address).expect("listen");
    let listener = host.server.run_in(listen("10.9.0.2:80")).expect("enter");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(b"served"));
        }
    });
    // A program of the director's own host, at every address.
    let _own = host.director.run_in(listen("0.0.0.0:81")).expect("enter");
    let file = host.file("keepalived.conf");
    fs::write(&file, CONFIGURATION).expect("write");
    let path = file.display().to_string();
    let daemon = host.run(&["--keep", "--keepalived", &path]);
    eventually(|| host.state(), |state| state.contains(VIP));

    let connect = |address: &str, patience: u64| {
        let address: SocketAddr = address.parse().expect("an address");
        let patience = Duration::from_millis(patience);
        let connect = move || TcpStream::connect_timeout(&address, patience);
        client.run_in(connect).expect("enter")
    };
    let served = || {
        let mut said = String::new();
        let read = |mut stream: TcpStream| {
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.read_to_string(&mut said)
        };
        match connect("10.9.0.100:80", 1000).and_then(read) {
            Ok(_) => said,
            Err(error) => error.to_string(),
        }
    };
    eventually(served, |said| said == "served");
    connect("10.10.0.1:81", 5000).expect("the host itself is there");
    assert!(
        connect("10.9.0.100:81", 500).is_err(),
        "the virtual address is not"
    );
    let rules = || {
        let mut nft = host.director.command("nft");
        let output = nft.args(["list", "ruleset"]).stderr(Stdio::null()).output();
        String::from_utf8(output.expect("nft").stdout).expect("text")
    };
    let drops = |rules: &str| rules.contains("table ip pointsman_vrrp") && rules.contains(VIP);
    let listed = rules();
    assert!(drops(&listed), "{listed}");
    assert!(
        !listed.contains("counter packets 0 bytes 0 drop\n\t}\n\n\tchain out"),
        "{listed}"
    );

    // Who goes on finds it in force; a reload takes it away; what is left goes with `detach`.
    assert!(daemon.end(Signal::SIGTERM).success());
    assert!(drops(&rules()), "left as it is");
    let daemon = host.run(&["--keep", "--keepalived", &path]);
    eventually(served, |said| said == "served");
    assert!(drops(&rules()));
    replace(&file, &CONFIGURATION.replace("vrrp_strict", ""));
    daemon.signal(Signal::SIGHUP);
    eventually(rules, |rules| rules.is_empty());
    connect("10.9.0.100:81", 5000).expect("it accepts");
    replace(&file, CONFIGURATION);
    daemon.signal(Signal::SIGHUP);
    eventually(rules, |rules| drops(rules));
    assert!(daemon.end(Signal::SIGTERM).success());
    host.call(&format!("detach --pin-dir {}", host.pin_dir.display()));
    assert_eq!(rules(), "");

    // A killed daemon leaves it, and the next takes it away.
    let daemon = host.run(&["--keepalived", &path]);
    eventually(rules, |rules| drops(rules));
    assert!(daemon.end(Signal::SIGKILL).code().is_none());
    assert!(drops(&rules()));
    replace(&file, &CONFIGURATION.replace("vrrp_strict", ""));
    let daemon = host.run(&["--keepalived", &path]);
    assert_eq!(rules(), "");
    assert!(daemon.end(Signal::SIGTERM).success());
}
