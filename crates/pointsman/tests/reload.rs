//! Reloads that fail, change little, or come often; and what the service manager hears of it.

#[path = "support/host.rs"]
#[allow(dead_code)]
mod host;
#[path = "support/manager.rs"]
mod manager;

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use host::{Host, can_run, eventually};
use manager::Manager;

const VIP: &str = "10.9.0.100";

/// An owner of the address, master at once; `more` stands in its block.
fn owner(more: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{\n interface eth0\n virtual_router_id 51\n priority 255\n advert_int 10\n \
         virtual_ipaddress {{\n  {VIP}/32\n }}\n{more}}}\n"
    )
}

/// A service on port 80 with one real server that is checked often; `more` stands in its block.
fn service(address: &str, weight: u32, more: &str) -> String {
    format!(
        "virtual_server {address} 80 {{\n delay_loop 0.1\n lb_algo rr\n lb_kind DR\n protocol TCP\n{more} \
         real_server 10.9.0.2 80 {{\n  weight {weight}\n  TCP_CHECK {{\n   connect_timeout 5\n   \
         delay_before_retry 0.1\n   warmup 0\n  }}\n }}\n}}\n"
    )
}

/// A host whose daemon talks to a service manager.
struct Managed {
    host: Host,
    manager: Manager,
    folder: tempfile::TempDir,
    daemon: Option<Child>,
}

impl Managed {
    /// None without root, and says so.
    fn new() -> Option<Self> {
        if !can_run() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        Some(Self {
            host: Host::new(),
            manager: Manager::new(folder.path()),
            folder,
            daemon: None,
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, text: &str) {
        let file = self.file("keepalived.conf");
        let new = file.with_extension("new");
        fs::write(&new, text).expect("write");
        fs::rename(&new, &file).expect("rename");
    }

    fn start(&mut self, text: &str, more: &[&str], watchdog: Option<Duration>) {
        self.write(text);
        let mut command = self.host.program();
        command
            .args(["run", "--no-state", "--connections", "1024"])
            .arg("--keepalived")
            .arg(self.file("keepalived.conf"))
            .arg("--pin-dir")
            .arg(&self.host.pin_dir)
            .args(more)
            .stdout(Stdio::null());
        self.manager.attend(&mut command, watchdog);
        self.daemon = Some(command.spawn().expect("start the daemon"));
        self.manager.wait_for("READY=1");
    }

    fn id(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon").id()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().cast_signed()), signal).expect("signal the daemon");
    }

    fn end(&mut self, signal: Signal) {
        self.signal(signal);
        let mut daemon = self.daemon.take().expect("a daemon");
        assert!(daemon.wait().expect("its end").success());
    }

    /// Reads another configuration; what the daemon said of it when it was done.
    fn reload(&self, text: &str) -> String {
        self.write(text);
        self.manager.forget();
        self.signal(Signal::SIGHUP);
        let begun = self.manager.wait_for("RELOADING=1");
        assert!(begun.contains("\nMONOTONIC_USEC="), "{begun}");
        self.manager.wait_for("READY=1")
    }

    fn listed(&self) -> String {
        self.host.call("ipvsadm -Sn").out
    }

    fn routers(&self) -> String {
        let said = self.host.call("status").out;
        let lines = said.lines().filter(|line| line.contains(" on eth"));
        lines.map(|line| line.trim().to_owned() + "\n").collect()
    }

    fn listen(&self) -> TcpListener {
        let listener = self.host.server.run_in(|| TcpListener::bind("10.9.0.2:80"));
        listener.expect("enter").expect("listen")
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

#[test]
fn a_reload_that_fails_leaves_everything_as_it_is() {
    let Some(mut host) = Managed::new() else {
        return;
    };
    let listener = host.listen();
    let good = owner("") + &service(VIP, 3, "");
    host.start(&good, &["--servers", "4"], None);
    eventually(|| host.routers(), |said| said.contains("VI_1 MASTER"));
    let before = (host.listed(), host.routers());
    assert!(before.0.contains("-w 3"), "{before:?}");
    let blocked = host.file("blocked");
    fs::write(&blocked, "no FIFO").expect("write");
    let fifo = host.file("fifo").display().to_string();
    // Each would change much, if it were taken.
    let other = owner(" notify_master /bin/true\n").replace("255", "200")
        + &service(VIP, 7, "")
        + &service("10.9.0.101", 1, "");
    let many: String = (10..20)
        .map(|number| {
            let one = service("10.9.0.102", 1, "");
            one.replace("10.9.0.2 80", &format!("10.9.0.{number} {number}"))
                .replace("10.9.0.102 80", &format!("10.9.0.102 {number}"))
        })
        .collect();
    let fifos = format!(
        "global_defs {{\n vrrp_notify_fifo {fifo}\n lvs_notify_fifo {}\n}}\n",
        blocked.display()
    );
    for (text, says) in [
        (
            format!("includea missing.conf\n{other}"),
            "no file matches `missing.conf`",
        ),
        (
            format!("global_defs {{\n script_user nobody_of_that_name\n}}\n{other}"),
            "no user nobody_of_that_name",
        ),
        (fifos + &other, "something else than a FIFO"),
        (other.clone() + &many, "adding the real server"),
        (other.clone() + "nonsense\n", "unknown keyword `nonsense`"),
        (String::new(), "has neither"),
        (other.replace("virtual_router_id 51\n", ""), "VI_1"),
    ] {
        let said = host.reload(&text);
        assert!(said.contains("was not taken, nothing changed"), "{said}");
        assert!(said.contains(says), "{says}: {said}");
        assert_eq!((host.listed(), host.routers()), before, "{says}");
        assert!(!Path::new(&fifo).exists());
    }
    // An interface that is not there is waited for, and troubles nobody else.
    let absent = owner("")
        .replace("VI_1", "VI_2")
        .replace("eth0", "eth9")
        .replace("0.100", "0.200");
    let said = host.reload(&(good.clone() + &absent));
    assert!(said.contains("vrrp_instance VI_2 added"), "{said}");
    let routers = host.routers();
    assert!(
        routers.starts_with(&before.1) && routers.contains("VI_2 FAULT on eth9"),
        "{routers}"
    );
    let said = host.reload(&good);
    assert!(said.contains("vrrp_instance VI_2 removed"), "{said}");
    assert_eq!((host.listed(), host.routers()), before);
    // Checks go on all the same.
    drop(listener);
    eventually(|| host.listed(), |text| !text.contains("-a"));
    host.end(Signal::SIGTERM);
}

#[test]
fn what_checks_found_outlives_reload_and_restart() {
    let Some(mut host) = Managed::new() else {
        return;
    };
    let notes = host.file("notes");
    let note = |event: &str| {
        let notes = notes.display();
        format!(" {event} \"/bin/sh -c 'echo {event} >> {notes}'\"\n")
    };
    let more = note("quorum_up") + &note("quorum_down") + " omega\n";
    let keep: &[&str] = &["--servers", "64", "--keep"];
    host.start(&service(VIP, 3, &more), keep, None);
    let empty = format!("-A -t {VIP}:80 -s rr\n");
    // Nobody listens.
    eventually(|| host.listed(), |text| *text == empty);
    let told = || fs::read_to_string(&notes).unwrap_or_default();
    eventually(told, |told| told.contains("quorum_down"));
    let said = host.reload(&service(VIP, 5, &more));
    assert!(
        said.contains("real_server 10.9.0.2 80 of 10.9.0.100 80 Tcp changed"),
        "{said}"
    );
    assert_eq!(host.listed(), empty);
    host.end(Signal::SIGTERM);
    host.start(&service(VIP, 5, &more), keep, None);
    assert_eq!(host.listed(), empty);
    // It comes back with the weight that it has now.
    let _listener = host.listen();
    let served = format!("{empty}-a -t {VIP}:80 -r 10.9.0.2:80 -g -w 5\n");
    eventually(|| host.listed(), |text| *text == served);
    let said = host.reload(&service(VIP, 6, &more));
    assert!(said.contains("changed"), "{said}");
    assert_eq!(host.listed(), served.replace("-w 5", "-w 6"));
    eventually(told, |told| told.ends_with("quorum_up\n"));
    assert_eq!(
        told(),
        "quorum_up\nquorum_down\nquorum_up\n",
        "nobody is told twice"
    );
    // Other checks know nothing of what these found.
    let said = host.reload(&service(VIP, 6, &more).replace("warmup 0", "warmup 0\n   alpha on"));
    assert!(said.contains("checks of real_server 10.9.0.2 80"), "{said}");
    assert_eq!(host.listed(), empty);
    eventually(
        || host.listed(),
        |text| *text == served.replace("-w 5", "-w 6"),
    );
    host.end(Signal::SIGTERM);
}

#[test]
fn fifos_stay_open_and_are_told_what_is() {
    let Some(mut host) = Managed::new() else {
        return;
    };
    let _listener = host.listen();
    let [routers, servers] = ["routers", "servers"].map(|name| host.file(name));
    let text = |fifos: &[&str], weight: u32| {
        let fifos: String = fifos.iter().map(|line| format!(" {line}\n")).collect();
        format!(
            "global_defs {{\n{fifos}}}\n{}{}",
            owner(""),
            service(VIP, weight, "")
        )
    };
    let of_routers = format!("vrrp_notify_fifo {}", routers.display());
    let of_servers = format!("lvs_notify_fifo {}", servers.display());
    host.start(&text(&[&of_routers], 1), &["--servers", "64"], None);
    let open = |path: &Path| {
        let mut options = fs::OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        options.open(path).expect("a FIFO")
    };
    let read = |mut fifo: &fs::File| {
        let mut lines = [0; 4096];
        let length = fifo.read(&mut lines).unwrap_or(0);
        String::from_utf8_lossy(&lines[..length]).into_owned()
    };
    let of_instance = "INSTANCE \"VI_1\" MASTER 255\n";
    let first = open(&routers);
    eventually(|| read(&first), |said| said.ends_with(of_instance));
    let inode = fs::metadata(&routers).expect("a FIFO").ino();
    // Nothing is said of what stays as it is.
    host.reload(&text(&[&of_routers], 2));
    assert_eq!(read(&first), "");
    // A new one, with what comes up at the start; the old one is told what is.
    let more = [
        &*of_routers,
        &*of_servers,
        "fifo_write_vrrp_states_on_reload",
        "rs_init_notifies",
    ];
    let second = service("10.9.0.101", 1, "");
    host.reload(&(text(&more, 2) + &second));
    assert_eq!(read(&first), of_instance);
    assert_eq!(fs::metadata(&routers).expect("a FIFO").ino(), inode);
    let other = open(&servers);
    let up = "RS [10.9.0.2]:tcp:80 [10.9.0.101]:tcp:80 UP\nVS [10.9.0.101]:tcp:80 UP\n";
    let mut said = String::new();
    eventually(
        || {
            said += &read(&other);
            let mut lines: Vec<&str> = said.lines().collect();
            lines.sort_unstable();
            lines.join("\n") + "\n"
        },
        |said| said == up,
    );
    // What is no longer wanted goes, and what was made with it.
    host.reload(&text(&[&of_servers], 2));
    assert!(!routers.exists() && servers.exists());
    host.end(Signal::SIGTERM);
    assert!(!servers.exists());
}

#[test]
fn checks_rest_while_the_address_is_elsewhere() {
    let Some(mut host) = Managed::new() else {
        return;
    };
    // Nobody listens.
    let text = service(VIP, 1, " ha_suspend\n") + &service("10.9.0.101", 1, "");
    host.start(&text, &["--servers", "64"], None);
    let of = |text: &str, address: &str| text.contains(&format!("-a -t {address}:80"));
    let listed = eventually(|| host.listed(), |text| !of(text, "10.9.0.101"));
    assert!(of(&listed, VIP), "it was not checked: {listed}");
    host.host.ip(&format!("address add {VIP}/32 dev eth0"));
    eventually(|| host.listed(), |text| !of(text, VIP));
    // Again elsewhere, and a reload does not wake anybody.
    host.host.ip(&format!("address delete {VIP}/32 dev eth0"));
    let said = host.reload(&text.replacen("weight 1", "weight 2", 1));
    assert!(said.contains("changed"), "{said}");
    let _listener = host.listen();
    let listed = eventually(|| host.listed(), |text| of(text, "10.9.0.101"));
    assert!(!of(&listed, VIP), "{listed}");
    host.host.ip(&format!("address add {VIP}/32 dev eth0"));
    eventually(|| host.listed(), |text| of(text, VIP));
    host.end(Signal::SIGTERM);
}

/// Open files, threads, and processes that a process began.
fn belongings(id: u32) -> [usize; 3] {
    let count = |folder: &str| {
        let entries = fs::read_dir(format!("/proc/{id}/{folder}"));
        entries.map_or(0, Iterator::count)
    };
    let children = fs::read_dir("/proc")
        .expect("processes")
        .flatten()
        .filter(|entry| {
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let behind = stat.rsplit(')').next().unwrap_or_default();
            behind.split_whitespace().nth(1) == Some(&id.to_string())
        });
    [count("fd"), count("task"), children.count()]
}

#[test]
fn a_hundred_reloads_leave_nothing_behind() {
    let Some(mut host) = Managed::new() else {
        return;
    };
    let _listener = host.listen();
    let file = host.file("weight");
    fs::write(&file, "0\n").expect("write");
    let folder = host.folder.path().to_owned();
    let text = |turn: usize| {
        let at = |name: &str| folder.join(name).display().to_string();
        let mut text = format!(
            "global_defs {{\n script_user root\n vrrp_notify_fifo {}\n vrrp_notify_fifo_script \
             \"/bin/sh -c 'exec cat \\$0'\"\n",
            at("fifo")
        );
        if turn.is_multiple_of(2) {
            text += &format!(
                " lvs_notify_fifo {}\n lvs_notify_fifo_script \"/bin/sh -c 'sleep 1000'\"\n",
                at("other")
            );
        }
        let interval = 1 + turn % 3;
        text += &format!(
            "}}\nvrrp_script alive {{\n script /bin/true\n interval {interval}\n}}\n\
             vrrp_script slow {{\n script \"/bin/sleep 0.{interval}\"\n interval 1\n}}\n\
             track_file level {{\n file {}\n}}\n",
            file.display()
        );
        text += &owner(" track_script {\n  alive\n  slow\n }\n notify /bin/true\n");
        if turn % 4 < 2 {
            let second = owner(" track_file {\n  level weight 1\n }\n");
            let second = second.replace("VI_1", "VI_2").replace(" 51", " 52");
            text += &second.replace("0.100", "0.200").replace("255", "100");
        }
        text += &service(
            VIP,
            1 + turn as u32 % 2,
            " ha_suspend\n quorum_up /bin/true\n",
        );
        if turn.is_multiple_of(3) {
            text += "virtual_server 10.9.0.101 80 {\n delay_loop 0.1\n lb_algo rr\n lb_kind DR\n protocol \
                     UDP\n real_server 10.9.0.2 80 {\n  MISC_CHECK {\n   misc_path \"/bin/sh -c 'sleep 5'\"\n   \
                     misc_timeout 10\n   warmup 0\n  }\n }\n}\n";
        }
        text
    };
    host.start(&text(0), &["--servers", "64"], None);
    eventually(|| host.routers(), |said| said.contains("VI_1 MASTER"));
    for turn in 1..=12 {
        host.reload(&text(turn));
    }
    // Everything there is has been there, and is at its quietest after a moment.
    let quiet = || belongings(host.id());
    let mut least = quiet();
    eventually(
        || {
            let now = quiet();
            least = std::array::from_fn(|at| least[at].min(now[at]));
            host.routers()
        },
        |said| said.contains("VI_1 MASTER") && said.contains("VI_2"),
    );
    for turn in 13..=108 {
        let said = host.reload(&text(turn));
        assert!(!said.contains("not taken"), "{said}");
    }
    // As the twelfth was. Files and processes of checks come and go; threads that wait for work are few.
    let [files, threads, children] = least;
    let enough = [files + 4, threads + 8, children + 4];
    eventually(quiet, |now| {
        now.iter().zip(&enough).all(|(now, enough)| now <= enough)
    });
    let fifo = fs::metadata(host.file("fifo"));
    assert!(fifo.is_ok());
    host.end(Signal::SIGTERM);
}

/// A daemon's thread by its name.
fn thread(id: u32, name: &str) -> Pid {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).expect("threads");
    let found = tasks.flatten().find(|task| {
        let said = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        said.trim() == name
    });
    let number = found
        .expect(name)
        .file_name()
        .into_string()
        .expect("a number");
    Pid::from_raw(number.parse().expect("a number"))
}

#[test]
fn a_part_that_hangs_ends_the_signs_of_life() {
    const WATCHDOG: Duration = Duration::from_millis(1000);
    let Some(mut host) = Managed::new() else {
        return;
    };
    let text = owner("") + &service(VIP, 1, "");
    host.start(&text, &["--servers", "64"], Some(WATCHDOG));
    host.manager.wait_for("WATCHDOG=1");
    host.manager.wait_for("WATCHDOG=1");
    // The thread of the virtual routers stands still, all others go on.
    let routers = thread(host.id(), "vrrp");
    if let Err(error) = ptrace::seize(routers, ptrace::Options::empty()) {
        println!("skipped: can't stop a thread: {error}");
        return;
    }
    ptrace::interrupt(routers).expect("stop the thread");
    waitpid(routers, Some(WaitPidFlag::__WALL)).expect("it stands");
    assert!(
        host.host.call("ipvsadm -Ln").out.contains(VIP),
        "the rest goes on"
    );
    // What was on its way may come; then nothing.
    let silence = WATCHDOG * 3;
    let mut signs = 0;
    while host.manager.next(silence).is_some() {
        signs += 1;
        assert!(signs <= 2, "a hung daemon says that it is alive");
    }
    ptrace::detach(routers, None).expect("let it go on");
    host.manager.wait_for("WATCHDOG=1");
    let said = host.reload(&text.replace("weight 1", "weight 2"));
    assert!(said.contains("\nSTATUS=read "), "{said}");
    host.signal(Signal::SIGTERM);
    host.manager.wait_for("STOPPING=1");
    host.end(Signal::SIGTERM);
}
