//! The state file: what survives a stop, a kill, and a boot; and what is refused.

#[path = "support/host.rs"]
#[allow(dead_code)]
mod host;

use std::{fs, net::UdpSocket, path::Path};

use host::{Daemon, Host, can_run, eventually};
use nix::sys::signal::Signal;
use pointsman_daemon::state::SavedState;
use pointsman_datapath::{Datapath, Options, Origin};
use pointsman_director::{control::Mirror, record::settings_flag};

/// A host with a state file.
struct Keeper {
    host: Host,
    state: String,
}

impl Keeper {
    fn new() -> Self {
        let host = Host::new();
        let state = host.file("state/state.json").display().to_string();
        Self { host, state }
    }

    fn run(&self, arguments: &[&str]) -> Daemon {
        let all = [&["--state", &self.state], arguments].concat();
        self.host.run(&all)
    }

    fn configure(&self) {
        for line in [
            "-A -t 10.9.0.100:80 -s wrr",
            "-a -t 10.9.0.100:80 -r 10.9.0.2 -w 3",
            "-a -t 10.9.0.100:80 -r 10.9.0.3:8080 -m -x 9 -y 4",
            "-A -u [fd09::100]:53 -s rr",
            "-a -u [fd09::100]:53 -r 10.9.0.2:53 -i",
            "--set 0 7 8",
        ] {
            self.host.ipvsadm(line);
        }
    }

    /// What an operator sees of the configuration.
    fn seen(&self) -> String {
        [
            "ipvsadm -Ln",
            "ipvsadm -S -n",
            "ipvsadm -L --timeout",
            "setting",
        ]
        .map(|command| self.host.call(command).out)
        .concat()
    }

    fn saved(&self) -> Option<SavedState> {
        SavedState::decode(&fs::read(&self.state).ok()?).ok()
    }

    /// Waits until the file says what `content` wants.
    fn wait_saved(&self, content: impl Fn(&SavedState) -> bool) {
        let wanted = |saved: &Option<SavedState>| saved.as_ref().is_some_and(&content);
        eventually(|| self.saved(), wanted);
    }

    /// What a reboot does to the data plane.
    fn reboot(&self) {
        let pins = self.host.pin_dir.display();
        assert_eq!(self.host.call(&format!("detach --pin-dir {pins}")).code, 0);
    }

    fn status(&self) -> String {
        self.host.call("status").out
    }
}

#[test]
fn services_settings_and_timeouts_survive_stop_and_reboot() {
    if !can_run() {
        return;
    }
    let keeper = Keeper::new();
    let daemon = keeper.run(&[]);
    let empty = keeper.seen();
    keeper.configure();
    keeper.host.call("setting sloppy_tcp=1 amemthresh=77");
    let before = keeper.seen();
    assert_ne!(before, empty);
    assert!(daemon.end(Signal::SIGTERM).success());
    assert!(!keeper.host.pin_dir.exists(), "detached");

    let daemon = keeper.run(&[]);
    assert!(daemon.said.last().expect("lines").contains("a fresh start"));
    assert_eq!(keeper.seen(), before);
    // Killed within the time that it takes to write, and with what it was just writing.
    keeper.host.ipvsadm("-D -u [fd09::100]:53");
    keeper.wait_saved(|saved| saved.services.len() == 1);
    let before = keeper.seen();
    daemon.end(Signal::SIGKILL);
    keeper.reboot();
    fs::write(format!("{}.new", keeper.state), "{\n\"format\": \"poin").expect("write");

    // The command line wins for its run, and is not remembered.
    let daemon = keeper.run(&["--sloppy-tcp", "0"]);
    let expected = before.replace("sloppy_tcp = 1", "sloppy_tcp = 0");
    assert_eq!(keeper.seen(), expected);
    assert!(daemon.end(Signal::SIGTERM).success());
    let daemon = keeper.run(&[]);
    assert_eq!(keeper.seen(), before);
    let names = fs::read_dir(Path::new(&keeper.state).parent().expect("in a directory"));
    let names = names
        .expect("readable")
        .map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["state.json", "state.json.lock"]);
    assert!(daemon.end(Signal::SIGTERM).success());

    let _daemon = keeper.host.run(&["--no-state"]);
    assert_eq!(keeper.seen(), empty);
    assert!(keeper.status().contains("state        not kept"));
}

#[test]
fn sync_daemons_are_started_again() {
    if !can_run() {
        return;
    }
    let keeper = Keeper::new();
    let daemons = || keeper.host.call("ipvsadm -L --daemon").out;
    let daemon = keeper.run(&[]);
    keeper
        .host
        .ipvsadm("--start-daemon backup --mcast-interface eth0 --syncid 42 --mcast-ttl 3");
    let line = "backup sync daemon (mcast=eth0, syncid=42, maxlen=1472, group=224.0.0.81, port=8848, ttl=3)\n";
    assert_eq!(daemons(), line);
    assert!(daemon.end(Signal::SIGTERM).success());
    let daemon = keeper.run(&[]);
    assert_eq!(daemons(), line);
    keeper.wait_saved(|saved| saved.sync.len() == 1);
    keeper.host.ipvsadm("--stop-daemon backup");
    keeper.wait_saved(|saved| saved.sync.is_empty());
    daemon.end(Signal::SIGKILL);
    keeper.reboot();
    let _daemon = keeper.run(&[]);
    assert_eq!(daemons(), "");
}

/// Incoming packets of the only service in a list of statistics.
fn packets_of_service(stats: &str) -> Option<&str> {
    stats.lines().nth(3)?.split_whitespace().nth(3)
}

#[test]
fn zeroed_counters_and_those_of_removed_servers_outlive_a_kill() {
    if !can_run() {
        return;
    }
    let keeper = Keeper::new();
    let daemon = keeper.run(&[]);
    let host = &keeper.host;
    host.ipvsadm("-A -u 10.9.0.1:5353 -s rr");
    host.ipvsadm("-a -u 10.9.0.1:5353 -r 10.9.0.2");
    eventually(|| host.next_hop("10.9.0.2"), |hop| hop.starts_with("eth0"));
    let send = |count: usize| {
        host.server
            .run_in(|| {
                let socket = UdpSocket::bind("10.9.0.2:0").expect("bind");
                for _ in 0..count {
                    socket.send_to(b"?", "10.9.0.1:5353").expect("send");
                }
            })
            .expect("a thread");
    };
    let packets = |count: &str| {
        eventually(
            || host.call("ipvsadm -Ln --stats").out,
            |stats| packets_of_service(stats) == Some(count),
        )
    };
    send(5);
    packets("5");
    host.ipvsadm("-Z");
    send(3);
    packets("3");
    // Its counts stay with the service.
    host.ipvsadm("-d -u 10.9.0.1:5353 -r 10.9.0.2");
    host.ipvsadm("-a -u 10.9.0.1:5353 -r 10.9.0.3");
    keeper.wait_saved(|saved| {
        saved.ledger.services.len() == 1
            && saved.services[0].servers[0].address.to_string() == "10.9.0.3"
    });
    let before = host.call("ipvsadm -Ln --stats").out;
    daemon.end(Signal::SIGKILL);
    // Maps that were taken over know better than the file: this change is in them alone.
    let daemon = keeper.run(&[]);
    assert!(daemon.said.last().expect("lines").contains("taken over"));
    assert_eq!(host.call("ipvsadm -Ln --stats").out, before);
    daemon.end(Signal::SIGKILL);
    keeper.reboot();
    let _daemon = keeper.run(&[]);
    let after = host.call("ipvsadm -Ln --stats").out;
    assert_eq!(
        packets_of_service(&after),
        Some("0"),
        "another data plane: {after}"
    );
}

#[test]
fn a_damaged_file_is_kept_aside_and_nothing_of_it_is_used() {
    if !can_run() {
        return;
    }
    let keeper = Keeper::new();
    let daemon = keeper.run(&[]);
    let empty = keeper.seen();
    keeper.configure();
    keeper.host.call("setting sloppy_tcp=1");
    assert!(daemon.end(Signal::SIGTERM).success());
    let whole = fs::read(&keeper.state).expect("written");
    let saved = SavedState::decode(&whole).expect("whole");

    // Cut short; and whole, but with a service that the director refuses behind some that it takes.
    let mut twice = saved.clone();
    twice.services.push(saved.services[0].clone());
    let cases = [
        (whole[..whole.len() / 2].to_vec(), "EOF while parsing"),
        (twice.encode(), "TCP 10.9.0.100:80: Service already exists"),
    ];
    for (number, (bytes, words)) in (1..).zip(cases) {
        fs::write(&keeper.state, &bytes).expect("write");
        let daemon = keeper.run(&[]);
        assert_eq!(keeper.seen(), empty);
        let status = keeper.status();
        assert!(
            status.contains("DAMAGED") && status.contains(words),
            "{status}"
        );
        let aside = format!("{}.damaged-{number}", keeper.state);
        assert!(
            status.contains(&format!("set aside    {aside}")),
            "{status}"
        );
        assert_eq!(fs::read(&aside).expect("kept"), bytes);
        // Life goes on, with a file of its own.
        keeper.host.ipvsadm("-A -t 10.9.0.101:80");
        keeper.wait_saved(|saved| saved.services.len() == 1);
        assert!(daemon.end(Signal::SIGTERM).success());
    }

    // No room is no damage: the file stays, and the start fails.
    fs::write(&keeper.state, &whole).expect("write");
    let pins = keeper.host.pin_dir.display();
    let run = format!("run --pin-dir {pins} --state {} --services 1", keeper.state);
    let said = keeper.host.call(&run);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(
        said.err.contains("see `pointsman run --services`"),
        "{}",
        said.err
    );
    assert_eq!(fs::read(&keeper.state).expect("there"), whole);
    assert!(!keeper.host.pin_dir.exists(), "nothing is left");
}

#[test]
fn a_start_that_was_cut_short_is_not_taken_over() {
    if !can_run() {
        return;
    }
    let keeper = Keeper::new();
    let daemon = keeper.run(&[]);
    keeper.configure();
    keeper.wait_saved(|saved| {
        saved.services.len() == 2 && saved.timeouts.is_some_and(|t| t.udp == 8)
    });
    let before = keeper.seen();
    daemon.end(Signal::SIGKILL);
    // As if it had died while it wrote its first services.
    let options = Options {
        pin_dir: keeper.host.pin_dir.clone(),
        ..Options::default()
    };
    let (datapath, origin) = Datapath::open(&options).expect("pins");
    assert_eq!(origin, Origin::TakenOver);
    let mut settings = datapath.settings().expect("readable");
    assert_ne!(settings.flags & settings_flag::CONFIGURED, 0);
    settings.flags &= !settings_flag::CONFIGURED;
    datapath.mirror().set_settings(&settings).expect("writable");
    let records = datapath.records().expect("readable");
    datapath
        .mirror()
        .remove_service(&records.services[0].0)
        .expect("there");
    drop(datapath);

    let daemon = keeper.run(&[]);
    assert!(daemon.said.last().expect("lines").contains("a fresh start"));
    assert_eq!(keeper.seen(), before);
}
