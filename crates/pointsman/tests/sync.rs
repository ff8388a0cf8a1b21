//! Connections that one director tells another go on there.

#[path = "../../daemon/tests/vrrp/segment.rs"]
#[allow(dead_code)]
mod segment;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_linux::bpffs;
use pointsman_linux::netns::NetNs;
use segment::{PATIENCE, Segment, ip, sysctl, wait};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const VIP: &str = "10.77.0.100";
const VIP6: &str = "fd77::100";
/// Of the segment's hosts: two directors, a client, two real servers.
const CLIENT: usize = 2;
const SERVERS: [usize; 2] = [3, 4];

/// `pointsman run` at work.
struct Director {
    child: Child,
    folder: TempDir,
    pins: PathBuf,
}

impl Director {
    /// Starts it, with a keepalived.conf if told, and waits until it is ready.
    fn start(namespace: &NetNs, configuration: Option<&str>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        bpffs::mount("/sys/fs/bpf").expect("mount a bpffs");
        let folder = tempfile::tempdir().expect("a folder");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let pins = format!("/sys/fs/bpf/pms-{}-{number}", std::process::id());
        let mut command = namespace.command(PROGRAM);
        command
            .args(["run", "--no-state", "--connections", "1024"])
            .args(["--servers", "64", "--pin-dir", &pins])
            .env("POINTSMAN_SOCKET", folder.path().join("api.sock"))
            .stdout(Stdio::piped());
        if let Some(text) = configuration {
            let file = folder.path().join("keepalived.conf");
            std::fs::write(&file, text).expect("write the configuration");
            command.arg("--keepalived").arg(file);
        }
        let mut child = command.spawn().expect("start pointsman");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.starts_with("ready")));
        let this = Self {
            child,
            folder,
            pins: pins.into(),
        };
        assert!(ready, "it ended instead of being ready");
        this
    }

    /// Gives it another keepalived.conf.
    fn reload(&self, text: &str) {
        let file = self.folder.path().join("keepalived.conf");
        std::fs::write(&file, text).expect("write the configuration");
        self.signal(Signal::SIGHUP);
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("signal it");
    }

    /// What `ipvsadm` says to these words.
    fn ipvsadm(&self, words: &str) -> String {
        let output = Command::new(PROGRAM)
            .arg("ipvsadm")
            .args(words.split_whitespace())
            .env("POINTSMAN_SOCKET", self.folder.path().join("api.sock"))
            .output()
            .expect("ask it");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ipvsadm {words}: {complaint}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The connections to a port of the virtual address that it lists.
    fn listed(&self, port: u16) -> Vec<String> {
        let end = format!("]:{port}");
        let end4 = format!("{VIP}:{port}");
        let listed = self.ipvsadm("-Lcn");
        let lines = listed.lines().skip(2);
        let to_port = lines.filter(|line| {
            let target = line.split_whitespace().nth(4).unwrap_or_default();
            target == end4 || target.ends_with(&end)
        });
        to_port.map(str::to_owned).collect()
    }

    /// Active and inactive connections of all real servers.
    fn counts(&self) -> (u32, u32) {
        let listed = self.ipvsadm("-Ln");
        let servers = listed
            .lines()
            .filter(|line| line.starts_with("  -> 1") || line.starts_with("  -> ["));
        servers.fold((0, 0), |(active, inactive), line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| words[at].parse::<u32>().expect("a number");
            (active + number(4), inactive + number(5))
        })
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let detach = Command::new(PROGRAM)
            .args(["detach", "--pin-dir"])
            .arg(&self.pins)
            .env("POINTSMAN_SOCKET", self.folder.path().join("api.sock"))
            .output();
        if !detach.is_ok_and(|output| output.status.success()) {
            eprintln!("pins stay behind in {}", self.pins.display());
        }
    }
}

/// Makes a host a real server that answers each line with its own address and the line.
fn serve(segment: &Segment, host: usize, ports: &[u16]) {
    let namespace = &segment.hosts[host];
    for setting in ["arp_ignore=1", "arp_announce=2"] {
        sysctl(namespace, &format!("net/ipv4/conf/all/{setting}"));
    }
    ip(namespace, &format!("address add {VIP}/32 dev lo"));
    ip(namespace, &format!("address add {VIP6}/128 dev lo nodad"));
    let name = format!("host{host}");
    for port in ports {
        let address: SocketAddr = format!("[::]:{port}").parse().expect("an address");
        let listener = namespace
            .run_in(|| TcpListener::bind(address))
            .expect("the namespace")
            .expect("a free port");
        let name = name.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let name = name.clone();
                std::thread::spawn(move || answer(stream, &name));
            }
        });
    }
}

fn answer(stream: TcpStream, name: &str) {
    let mut out = stream.try_clone().expect("a copy");
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        if writeln!(out, "{name} {line}").is_err() {
            return;
        }
    }
}

/// A client's connection.
struct Session {
    stream: TcpStream,
    server: String,
}

impl Session {
    fn open(segment: &Segment, address: &str, port: u16) -> Self {
        let ip: IpAddr = address.parse().expect("an address");
        let stream = segment.hosts[CLIENT]
            .run_in(|| TcpStream::connect_timeout(&SocketAddr::new(ip, port), PATIENCE))
            .expect("the namespace")
            .expect("connected");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        let mut session = Self {
            stream,
            server: String::new(),
        };
        session.server = session.ask("who");
        session
    }

    /// Sends a line; the server that answers.
    fn ask(&mut self, line: &str) -> String {
        writeln!(self.stream, "{line}").expect("sent");
        let mut answer = Vec::new();
        while answer.last() != Some(&b'\n') {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("answered");
            answer.extend(byte);
        }
        let answer = String::from_utf8(answer).expect("text");
        let (server, said) = answer.trim_end().split_once(' ').expect("a name");
        assert_eq!(said, line);
        server.to_owned()
    }

    /// As many packets as it takes to be told.
    fn talk(&mut self) {
        for word in ["one", "two", "three", "four"] {
            let server = self.ask(word);
            assert_eq!(server, self.server);
        }
    }
}

fn keepalived(priority: u8, synchronised: &str) -> String {
    let service = |port: u16, persistence: &str| {
        format!(
            "virtual_server {VIP} {port} {{\n lvs_sched rr\n lvs_method DR\n protocol TCP\n \
             {persistence}\n real_server 10.77.0.4 {port} {{\n weight 1\n }}\n \
             real_server 10.77.0.5 {port} {{\n weight 1\n }}\n}}\n"
        )
    };
    format!(
        "global_defs {{\n {synchronised}\n}}\nvrrp_instance VI_1 {{\n interface eth0\n version 3\n \
         virtual_router_id 51\n priority {priority}\n advert_int 0.2\n virtual_ipaddress {{\n \
         {VIP}/32\n }}\n}}\n{}{}",
        service(80, ""),
        service(81, "persistence_timeout 77"),
    )
}

#[test]
fn connections_and_persistence_outlive_the_director_that_had_them() {
    let Some(segment) = Segment::new(5) else {
        return;
    };
    for server in SERVERS {
        serve(&segment, server, &[80, 81]);
    }
    let line = "lvs_sync_daemon eth0 VI_1 id 7 maxlen 1000 ttl 2 group 224.0.0.99 port 9000";
    let directors: Vec<Director> = [150, 100]
        .iter()
        .zip(&segment.hosts)
        .map(|(priority, host)| Director::start(host, Some(&keepalived(*priority, line))))
        .collect();
    segment.wait_for_owner(0, &[0, 1], VIP);
    let daemons = |role: &str, length: u16| {
        format!(
            "{role} sync daemon (mcast=eth0, syncid=7, maxlen={length}, group=224.0.0.99, \
             port=9000, ttl=2)\n"
        )
    };
    let runs = |director: usize, role: &str, length: u16| {
        directors[director].ipvsadm("-L --daemon") == daemons(role, length)
    };
    wait("each to have its role", || {
        // The least that a backup takes is the kernel's.
        runs(0, "master", 1000) && runs(1, "backup", 1024)
    });

    let mut plain: Vec<Session> = (0..5).map(|_| Session::open(&segment, VIP, 80)).collect();
    let mut sticky = Session::open(&segment, VIP, 81);
    plain.iter_mut().for_each(Session::talk);
    sticky.talk();
    assert!(plain.iter().any(|one| one.server != plain[0].server));
    wait("the other to know the connections", || {
        let listed = directors[1].listed(80);
        let lasting = listed.iter().filter(|line| line.contains("ESTABLISHED"));
        lasting.count() == plain.len() && directors[1].counts() == (6, 0)
    });
    wait("the other to know the template", || {
        let listed = directors[1].listed(81);
        listed.len() == 2
            && listed
                .iter()
                .any(|line| line.contains("ASSURED     10.77.0.3:0"))
    });
    // What ends is told, too.
    drop(plain.pop());
    wait("the other to know that one ended", || {
        directors[1].counts() == (5, 1)
    });

    segment.cable(0, "down");
    wait("the second to be master", || segment.has(1, VIP));
    for session in plain.iter_mut().chain([&mut sticky]) {
        session.talk();
    }
    let again: Vec<Session> = (0..3).map(|_| Session::open(&segment, VIP, 81)).collect();
    for one in &again {
        assert_eq!(one.server, sticky.server, "the client sticks to its server");
    }
    wait("the second to tell connections", || runs(1, "master", 1000));
    assert_eq!(directors[1].counts().0, 8);

    // A reload without the line ends it, one with another begins another.
    directors[1].reload(&keepalived(100, ""));
    wait("no sync daemon", || {
        directors[1].ipvsadm("-L --daemon").is_empty()
    });
    directors[1].reload(&keepalived(100, "lvs_sync_daemon eth0"));
    let both = "master sync daemon (mcast=eth0, syncid=0, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n\
                backup sync daemon (mcast=eth0, syncid=0, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n";
    wait("both, for nobody says which", || {
        directors[1].ipvsadm("-L --daemon") == both
    });
    plain.iter_mut().for_each(Session::talk);
}

#[test]
fn messages_of_a_group_and_id_are_heard_and_wait_for_real_servers() {
    let Some(segment) = Segment::new(5) else {
        return;
    };
    for server in SERVERS {
        serve(&segment, server, &[80]);
    }
    ip(
        &segment.hosts[0],
        &format!("address add {VIP6}/128 dev eth0 nodad"),
    );
    let directors: Vec<Director> = segment.hosts[..2]
        .iter()
        .map(|host| Director::start(host, None))
        .collect();
    let service = format!("[{VIP6}]:80");
    for director in &directors {
        director.ipvsadm(&format!("-A -t {service} -s rr"));
    }
    for number in [4, 5] {
        directors[0].ipvsadm(&format!("-a -t {service} -r [fd77::{number}]:80 -g"));
    }
    let start = |director: usize, role: &str, id: u8| {
        let group = "--mcast-interface eth0 --mcast-group ff02::81 --mcast-port 9001";
        directors[director].ipvsadm(&format!("--start-daemon {role} --syncid {id} {group}"));
    };
    // Of another id nothing is heard: what comes later is not there alone by chance.
    start(1, "backup", 8);
    start(0, "master", 7);
    let mut first = Session::open(&segment, VIP6, 80);
    first.talk();
    let foreign = || {
        let mut client =
            pointsman_daemon::client::Client::connect(&directors[1].folder.path().join("api.sock"))
                .expect("connect");
        client.sync_daemons().expect("status")[0].counts.foreign
    };
    wait("a message of a foreign id", || foreign() > 0);
    assert!(directors[1].listed(80).is_empty());
    directors[1].ipvsadm("--stop-daemon backup");
    start(1, "backup", 7);

    let mut second = Session::open(&segment, VIP6, 80);
    second.talk();
    wait("the connection, which has no real server", || {
        directors[1].listed(80).len() == 1
    });
    assert_eq!(directors[1].counts(), (0, 0));
    for number in [4, 5] {
        directors[1].ipvsadm(&format!("-a -t {service} -r [fd77::{number}]:80 -g"));
    }
    wait("the connection to have its real server", || {
        directors[1].counts() == (1, 0) && directors[1].listed(80).len() == 1
    });
    // Real servers of another family can't be told of.
    let output = Command::new(PROGRAM)
        .args(["ipvsadm", "-a", "-t", &service, "-r", "10.77.0.4:80", "-i"])
        .env(
            "POINTSMAN_SOCKET",
            directors[1].folder.path().join("api.sock"),
        )
        .output()
        .expect("ask it");
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("Invalid operation. "));

    ip(
        &segment.hosts[0],
        &format!("address delete {VIP6}/128 dev eth0"),
    );
    ip(
        &segment.hosts[1],
        &format!("address add {VIP6}/128 dev eth0 nodad"),
    );
    ip(&segment.hosts[CLIENT], "-6 neighbour flush dev eth0");
    second.talk();
}
