//! A program that can't take over what another one left says so, and leaves everything as it is.

#[path = "support/manager.rs"]
#[allow(dead_code)]
mod manager;
#[path = "../../daemon/tests/vrrp/segment.rs"]
#[allow(dead_code)]
mod segment;
#[path = "steady/talk.rs"]
mod talk;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_director::record::LAYOUT;
use pointsman_linux::bpffs;

use manager::Manager;
use segment::{Segment, ip, sysctl};
use talk::{Echo, Talk};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const VIP: &str = "10.77.0.100";
/// The owner of the address: master at once.
const ROUTER: &str = "vrrp_instance VI_1 {\n interface eth0\n virtual_router_id 51\n priority 255\n \
                      virtual_ipaddress {\n  10.77.0.100/32\n }\n}\n";
/// Hosts of the segment.
const DIRECTOR: usize = 0;
const SERVER: usize = 1;
const CLIENT: usize = 2;

/// A director that keeps services in a file and forwards while no daemon runs.
struct Stage {
    folder: tempfile::TempDir,
    pins: PathBuf,
    manager: Manager,
    daemon: Option<Child>,
    segment: Segment,
}

impl Stage {
    fn new() -> Option<Self> {
        let segment = Segment::new(3)?;
        bpffs::mount("/sys/fs/bpf").expect("mount a bpffs");
        let server = &segment.hosts[SERVER];
        sysctl(server, "net/ipv4/conf/all/arp_ignore=1");
        sysctl(server, "net/ipv4/conf/all/arp_announce=2");
        ip(server, &format!("address add {VIP}/32 dev lo"));
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("keepalived.conf"), ROUTER).expect("write");
        Some(Self {
            manager: Manager::new(folder.path()),
            pins: PathBuf::from(format!("/sys/fs/bpf/pmu-{}", std::process::id())),
            folder,
            daemon: None,
            segment,
        })
    }

    fn program(&self, words: &str) -> Command {
        let mut command = self.segment.hosts[DIRECTOR].command(PROGRAM);
        command.env("POINTSMAN_SOCKET", self.folder.path().join("api.sock"));
        command.args(words.split_whitespace()).stdin(Stdio::null());
        command
    }

    fn run(&self) -> Command {
        let mut command = self.program("run --keep --interface eth0 --connections 1024");
        let at = |name: &str| self.folder.path().join(name);
        command
            .args(["--servers", "64", "--state"])
            .arg(at("state"));
        command.arg("--keepalived").arg(at("keepalived.conf"));
        command.arg("--pin-dir").arg(&self.pins);
        self.manager.attend(&mut command, None);
        command
    }

    /// Starts the daemon; what it says when it is ready.
    fn start(&mut self) -> String {
        self.manager.forget();
        let mut command = self.run();
        let daemon = command.stdout(Stdio::null()).spawn();
        self.daemon = Some(daemon.expect("start the daemon"));
        let said = self.manager.wait_for("READY=1");
        self.segment
            .wait_for_owner(DIRECTOR, &[DIRECTOR, CLIENT], VIP);
        said
    }

    fn stop(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon");
        let id = Pid::from_raw(daemon.id().cast_signed());
        kill(id, Signal::SIGTERM).expect("signal the daemon");
        assert!(daemon.wait().expect("its end").success());
    }

    /// What a daemon says that does not start.
    fn refusal(&self) -> String {
        let output = self.run().output().expect("run it");
        assert_eq!(output.status.code(), Some(1));
        assert!(self.segment.has(DIRECTOR, VIP), "the address stays");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn call(&self, words: &str) -> String {
        let output = self.program(words).output().expect("run it");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn talk(&self) -> Talk {
        let to = SocketAddr::new(VIP.parse().expect("an address"), 80);
        Talk::start(&self.segment.hosts[CLIENT], to, 5)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        let pins = self.pins.display().to_string();
        let _ = self.program("detach --pin-dir").arg(pins).status();
    }
}

#[test]
fn tables_of_another_layout_are_refused_and_go_on() {
    let Some(mut stage) = Stage::new() else {
        return;
    };
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 80));
    let _echo = Echo::start(&stage.segment.hosts[SERVER], everywhere);
    stage.start();
    stage.call(&format!("ipvsadm -A -t {VIP}:80 -s wrr"));
    stage.call(&format!("ipvsadm -a -t {VIP}:80 -r 10.77.0.2 -g -w 7"));
    let services = stage.call("ipvsadm -Sn");
    let talk = stage.talk();
    stage.stop();

    let ours = stage.pins.join(format!("layout-{LAYOUT}"));
    let other = stage.pins.join("layout-999");
    fs::rename(&ours, &other).expect("rename");
    let said = stage.refusal();
    let why = format!("holds state of layout 999, this program has layout {LAYOUT}");
    assert!(
        said.contains(&why) && said.contains("pointsman detach"),
        "{said}"
    );
    talk.wait_for_words(2);
    fs::rename(&other, &ours).expect("rename");

    // The program of before goes on with them, and is still master.
    let said = stage.start();
    assert!(
        said.contains("services and connections taken over"),
        "{said}"
    );
    assert_eq!(stage.call("ipvsadm -Sn"), services);
    talk.wait_for_words(2);
    stage.stop();

    // Of a program that has fewer maps.
    fs::remove_file(ours.join("LOCALITY")).expect("remove");
    let said = stage.refusal();
    assert!(said.contains("in use without the map LOCALITY"), "{said}");
    talk.wait_for_words(2);
    let (_, broken) = talk.stop();
    assert_eq!(broken, [""; 0]);

    // Without connections, but with services.
    let pins = stage.pins.display().to_string();
    stage.call(&format!("detach --pin-dir {pins}"));
    let said = stage.start();
    assert!(said.contains("a fresh start"), "{said}");
    assert_eq!(stage.call("ipvsadm -Sn"), services);
    stage.talk().stop();
}
