//! Static addresses, routes and rules, and those of a master, after a daemon was killed.

use std::fs;

use nix::sys::signal::Signal;

use super::host::{Host, can_run, eventually};

const STATIC: &str = "static_ipaddress {
    10.70.0.1/24 dev eth0
}
static_routes {
    10.71.0.0/24 dev eth0
}
static_rules {
    from 10.70.0.0/24 table 77 preference 200
}
";

const ROUTER: &str = "vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    priority 150
    version 3
    advert_int 0.1
    promote_secondaries
    virtual_ipaddress {
        10.9.0.100 peer 10.9.0.200
    }
    virtual_routes {
        10.72.0.0/24 dev eth0
    }
    virtual_rules {
        from 10.72.0.0/24 table 77 preference 201
    }
}
";

const PROMOTES: &str = "/proc/sys/net/ipv4/conf/eth0/promote_secondaries = ";

#[test]
fn what_a_killed_daemon_had_set_goes() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let seen = || {
        let rules = host.director.command("ip").args(["rule"]).output();
        let rules = rules.expect("ip rule").stdout;
        host.state() + &String::from_utf8_lossy(&rules)
    };
    // Where it is remembered in case that the daemon dies.
    let remembered = || {
        let file = host.socket().with_extension("vrrp");
        fs::read_to_string(file).unwrap_or_default()
    };
    let file = host.file("keepalived.conf");
    let path = file.display().to_string();
    fs::write(&file, format!("{STATIC}{ROUTER}")).expect("write");
    let daemon = host.run(&["--keepalived", &path]);
    eventually(remembered, |text| text.contains("\"preference\":201"));
    let state = seen();
    for word in [
        "10.70.0.1/24",
        "10.71.0.0/24",
        "10.9.0.200",
        "10.72.0.0/24",
        "200:\t",
        "201:\t",
    ] {
        assert!(state.contains(word), "{word}: {state}");
    }
    assert!(state.contains(&format!("{PROMOTES}1\n")));
    daemon.end(Signal::SIGKILL);
    // The next is not to have the virtual router.
    fs::write(&file, STATIC).expect("write");
    let daemon = host.run(&["--keepalived", &path]);
    let state = seen();
    for word in ["10.70.0.1/24", "10.71.0.0/24", "200:\t"] {
        assert!(state.contains(word), "{word}: {state}");
    }
    for word in ["10.9.0.200", "10.72.0.0/24", "201:\t"] {
        assert!(!state.contains(word), "{word}: {state}");
    }
    eventually(seen, |state| state.contains(&format!("{PROMOTES}0\n")));
    eventually(remembered, |text| {
        text.contains("\"preference\":200") && !text.contains("\"preference\":201")
    });
    daemon.end(Signal::SIGKILL);
    // No next.
    let said = host.call(&format!("detach --pin-dir {}", host.pin_dir.display()));
    assert_eq!(said.code, 0, "{}", said.err);
    let state = seen();
    for word in ["10.70.0.", "10.71.0.", "200:\t"] {
        assert!(!state.contains(word), "{word}: {state}");
    }
}
