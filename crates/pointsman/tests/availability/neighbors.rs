//! BFD sessions: what depends on them follows, through reloads and restarts.

use std::fs;
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_daemon::client::Client;

use super::host::{Host, can_run, eventually};
use super::{VIP, listed, replace};

/// The real keepalived in the real server's namespace, with a session alone; ended when dropped.
struct Peer {
    child: Child,
    pids: std::path::PathBuf,
}

impl Peer {
    fn start(host: &Host) -> Self {
        let text = "bfd_instance B {\n neighbor_ip 10.9.0.1\n min_rx 200\n min_tx 200\n multiplier 10\n}\n";
        let file = host.file("peer.conf");
        fs::write(&file, text).expect("write");
        let pids = host.file("bfd.pid");
        let child = host
            .server
            .command("keepalived")
            .args(["--dont-fork", "--log-console", "--no-syslog", "--use-file"])
            .arg(file)
            .arg("--pid")
            .arg(host.file("main.pid"))
            .arg("--bfd_pid")
            .arg(&pids)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("keepalived; `cargo xtask setup` installs it");
        Self { child, pids }
    }

    /// Sends a signal to the process that speaks BFD.
    fn signal(&self, signal: Signal) {
        let number = fs::read_to_string(&self.pids).expect("its number");
        let number = number.trim().parse().expect("a number");
        kill(Pid::from_raw(number), signal).expect("signal");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let id = i32::try_from(self.child.id()).expect("a process number");
        let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A neighbor that may be silent for 2 s, and itself for 20 s, which a restart on a busy machine needs.
fn configuration(weight: u32) -> String {
    format!(
        "bfd_instance B {{
    neighbor_ip 10.9.0.2
    source_ip 10.9.0.1
    min_rx 200
    min_tx 200
    multiplier 100
}}
vrrp_instance VI_1 {{
    interface eth0
    virtual_router_id 51
    priority 150
    virtual_ipaddress {{
        {VIP}/32
    }}
    track_bfd {{
        B weight -50
    }}
}}
virtual_server {VIP} 80 {{
    lb_algo wrr
    lb_kind DR
    protocol TCP
    real_server 10.9.0.2 80 {{
        weight {weight}
        BFD_CHECK {{
            name B
            alpha
        }}
    }}
}}
"
    )
}

#[test]
fn real_servers_and_priorities_follow_bfd_through_reload_and_restart() {
    if !can_run() {
        return;
    }
    let host = Host::new();
    let file = host.file("keepalived.conf");
    fs::write(&file, configuration(7)).expect("write");
    let path = file.display().to_string();
    let arguments = ["--keep", "--keepalived", &path];
    let daemon = host.run(&arguments);
    let service = format!("-A -t {VIP}:80 -s wrr\n");
    let server = |weight| format!("{service}-a -t {VIP}:80 -r 10.9.0.2:80 -g -w {weight}\n");
    let status = || host.call("status").out;
    eventually(status, |text| {
        text.contains("priority 100") && text.contains("B Down with 10.9.0.2")
    });
    assert_eq!(listed(&host), service, "alpha: it has to be heard first");
    let peer = Peer::start(&host);
    eventually(|| listed(&host), |text| *text == server(7));
    eventually(status, |text| {
        text.contains("priority 150") && text.contains("B Up with 10.9.0.2")
    });
    // What changes beside it leaves the session as it is.
    let slower = configuration(8).replace("min_tx 200", "min_tx 300");
    replace(&file, &slower);
    daemon.signal(Signal::SIGHUP);
    eventually(|| listed(&host), |text| *text == server(8));
    // The next daemon goes on where this one ends.
    assert!(daemon.end(Signal::SIGTERM).success());
    let daemon = host.run(&arguments);
    assert_eq!(listed(&host), server(8), "nobody was told of a fall");
    eventually(status, |text| {
        text.contains("priority 150") && text.contains("B Up with 10.9.0.2")
    });
    assert_eq!(listed(&host), server(8));
    let mut client = Client::connect(&host.socket()).expect("connect");
    let sessions = client.status().expect("status").bfd.sessions;
    assert_eq!((sessions.len(), sessions[0].downs), (1, 0));
    // The other end hangs: only its silence tells.
    peer.signal(Signal::SIGSTOP);
    eventually(|| listed(&host), |text| *text == service);
    eventually(status, |text| {
        text.contains("priority 100")
            && text.contains("B Down with 10.9.0.2, Control Detection Time Expired")
    });
    peer.signal(Signal::SIGCONT);
    eventually(|| listed(&host), |text| *text == server(8));
    eventually(status, |text| text.contains("priority 150"));
    assert!(daemon.end(Signal::SIGTERM).success());
    let said = host.call(&format!("detach --pin-dir {}", host.pin_dir.display()));
    assert_eq!(said.code, 0, "{said:?}");
}
