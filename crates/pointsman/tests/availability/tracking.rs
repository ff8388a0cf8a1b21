//! What is tracked beside scripts: numbers in files, and processes.

use std::fs;
use std::process::{Child, Command};

use nix::sys::signal::Signal;

use super::host::{Host, can_run, eventually};
use super::{VIP, listed};

/// A process, ended when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn numbers_in_files_weigh_servers_and_processes_make_masters() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let name = format!("pmt{}", std::process::id());
    let program = host.file(&name);
    // By another process: a child of a test beside this one would have the file open for writing.
    let copied = Command::new("cp").arg("/bin/sleep").arg(&program).status();
    assert!(copied.expect("run cp").success());
    let load = host.file("load");
    let text = format!(
        "global_defs {{
    script_user root
}}
track_file load {{
    file {}
    init_file 2
}}
vrrp_track_process work {{
    process {name}
    terminate_delay 0.2
}}
vrrp_instance VI_1 {{
    interface eth0
    virtual_router_id 51
    priority 255
    virtual_ipaddress {{
        {VIP}/32
    }}
    track_process {{
        work
    }}
}}
virtual_server {VIP} 80 {{
    lb_algo wrr
    lb_kind DR
    protocol TCP
    real_server 10.9.0.2 80 {{
        weight 10
        FILE_CHECK {{
            track_file load
            weight -3
        }}
    }}
}}
",
        load.display()
    );
    let file = host.file("keepalived.conf");
    fs::write(&file, text).expect("write");
    let path = file.display().to_string();
    let daemon = host.run(&["--keepalived", &path]);
    let service = format!("-A -t {VIP}:80 -s wrr\n");
    let server = |weight| format!("{service}-a -t {VIP}:80 -r 10.9.0.2:80 -g -w {weight}\n");
    let status = || host.call("status").out;
    eventually(status, |text| text.contains("VI_1 FAULT"));
    eventually(|| listed(&host), |text| *text == server(4));
    fs::write(&load, "-1\n").expect("write");
    eventually(|| listed(&host), |text| *text == server(13));
    fs::write(&load, "7\n").expect("write");
    eventually(|| listed(&host), |text| *text == server(0));
    fs::write(&load, "2147483647\n").expect("write");
    eventually(|| listed(&host), |text| *text == service);
    fs::write(&load, "0\n").expect("write");
    eventually(|| listed(&host), |text| *text == server(10));

    let begun = Command::new(&program).arg("600").spawn().expect("begin");
    let process = Process(begun);
    eventually(status, |text| text.contains("VI_1 MASTER"));
    drop(process);
    eventually(status, |text| text.contains("VI_1 FAULT"));
    assert!(!host.state().contains(VIP));
    assert!(daemon.end(Signal::SIGTERM).success());
}
