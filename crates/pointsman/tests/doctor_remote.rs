//! The doctor and `collect` at hosts that a real ssh reaches: the hosts are namespaces with a server
//! each.

#[path = "../../daemon/tests/vrrp/keepalived.rs"]
#[allow(dead_code)]
mod keepalived;
#[path = "../../daemon/tests/vrrp/segment.rs"]
#[allow(dead_code)]
mod segment;

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use keepalived::Keepalived;
use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::find;
use pointsman_lab::fault::site::End;
use pointsman_lab::lab::{self, Program};
use pointsman_linux::netns::NetNs;
use pointsman_path::bundle::Bundle;
use pointsman_path::diagnosis::Outcome;
use pointsman_path::finding::{Confidence, Finding};
use pointsman_path::report::Report;
use pointsman_path::snapshot::Origin;
use pointsman_path::topology::{Node, Peer, Port, Protocol, Role, SCHEMA, Topology};
use segment::Segment;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");

fn skipped() -> bool {
    let there = |program: &str| Command::new(program).arg("-V").output().is_ok();
    let reason = lab::why_not().or_else(|| {
        let missing = ["ssh", "dropbear"].into_iter().find(|name| !there(name))?;
        Some(format!("{missing} is not installed"))
    });
    if let Some(reason) = &reason {
        println!("skipped: {reason}");
    }
    reason.is_some()
}

fn run(program: &str, words: &[&str]) -> Output {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    output
}

/// Hosts that ssh reaches: namespaces, each with a server that sees a home and a `/tmp` of its own.
struct Hosts {
    folder: TempDir,
    servers: Vec<Child>,
}

impl Hosts {
    fn new(namespaces: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut hosts = Self {
            folder,
            servers: Vec::new(),
        };
        for name in ["there", "home", "home/.ssh"] {
            fs::create_dir(hosts.folder.path().join(name)).unwrap();
        }
        for name in ["home", "home/.ssh"] {
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(hosts.folder.path().join(name), private).unwrap();
        }
        let at = |name: &str| hosts.at(name);
        run("dropbearkey", &["-t", "ed25519", "-f", &at("home/host")]);
        run(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-f", &at("key")],
        );
        fs::copy(at("key.pub"), at("home/.ssh/authorized_keys")).unwrap();
        let configuration = format!(
            "Host *\n  User root\n  Port 2222\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n  \
             BatchMode yes\n",
            at("key")
        );
        fs::write(at("config"), configuration).unwrap();
        // As ssh does, and from where the host's own address is reached.
        hosts.program(
            "ssh",
            &format!(
                "while [ \"$1\" != -- ]; do shift; done\nhost=${{2#*@}}\nshift 2\n\
                 exec ip netns exec $host ssh -F {} 127.0.0.1 \"$@\"",
                at("config")
            ),
        );
        for namespace in namespaces {
            hosts.serve(namespace);
        }
        hosts
    }

    fn serve(&mut self, namespace: &str) {
        let script = format!(
            "mount --bind {} /root && mount --bind {} /tmp && cd / && \
             exec ip netns exec {namespace} dropbear -F -E -s -p 127.0.0.1:2222 -r /root/host",
            self.at("home"),
            self.at("there")
        );
        let server = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script])
            .stderr(File::create(self.at("log")).unwrap())
            .spawn()
            .unwrap();
        self.servers.push(server);
        let netns = NetNs::open(namespace).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let reached = || TcpStream::connect(("127.0.0.1", 2222)).is_ok();
        while !netns.run_in(reached).unwrap() {
            let log = fs::read_to_string(self.at("log"));
            assert!(Instant::now() < deadline, "no ssh server: {log:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Writes a program for the shell.
    fn program(&self, name: &str, script: &str) -> String {
        let path = self.at(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// What is called instead of ssh.
    fn ssh(&self) -> String {
        self.at("ssh")
    }

    /// What was left in `/tmp` there.
    fn left(&self) -> usize {
        fs::read_dir(self.at("there")).unwrap().count()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// The program without what debuggers read, so that copies of it are small.
fn small_program(folder: &Path) -> String {
    let small = folder.join("pointsman");
    let stripped = Command::new("strip")
        .args(["-o", small.to_str().unwrap(), PROGRAM])
        .status();
    if stripped.is_ok_and(|status| status.success()) {
        return small.to_str().unwrap().to_owned();
    }
    PROGRAM.to_owned()
}

fn build(name: &str) -> FaultLab {
    let program = Program::new(PROGRAM).behind(&["lab"]);
    FaultLab::build(find(name).unwrap(), &program, None).unwrap()
}

/// What an operator would write of a lab: nodes, and the cables that nobody could see who came by ssh.
fn topology_of(lab: &FaultLab, far: &[&str]) -> String {
    let site = &lab.fault().site;
    let node = |name: &str, role: Role| {
        let namespace = lab.namespace(name);
        let at = match far.contains(&name) {
            true => Origin::Host(format!("root@{namespace}")),
            false => Origin::Netns(namespace),
        };
        let cables = site.cables.iter();
        let cables = cables.flat_map(|[one, other]| [(one, other), (other, one)]);
        let port = |(own, other): (&End, &End)| Port {
            name: own.port.clone(),
            mac: None,
            bridge: own.bridge.map(str::to_owned),
            peer: Some(Peer {
                node: other.node.to_owned(),
                port: other.port.clone(),
            }),
        };
        Node {
            addresses: Vec::new(),
            name: name.to_owned(),
            role,
            at,
            ports: cables
                .filter(|(own, _)| own.node == name)
                .map(port)
                .collect(),
        }
    };
    let topology = Topology {
        schema: SCHEMA.to_owned(),
        vip: None,
        protocol: Protocol::Tcp,
        client: Some(site.client.into()),
        asker: None,
        nodes: site
            .nodes
            .iter()
            .map(|one| node(one.name, one.role))
            .collect(),
    };
    topology.write()
}

#[test]
fn probes_frames_and_drops_come_from_hosts_that_ssh_reaches() {
    if skipped() {
        return;
    }
    let lab = build("HOST_IP_SPOOF_DIR");
    // Two hosts by ssh, the others beside: what each saw is one story.
    let far = ["client", "host1"].map(|node| lab.namespace(node));
    let hosts = Hosts::new(&[&far[0], &far[1]]);
    let (ssh, program) = (hosts.ssh(), small_program(hosts.folder.path()));
    let topology = hosts.at("topology.json");
    fs::write(&topology, topology_of(&lab, &["client", "host1"])).unwrap();
    let output = Command::new(&program)
        .args(["doctor", "vip", "198.51.100.208:80", "--json"])
        .args(["--ssh", &ssh, "--topology", &topology])
        .output()
        .unwrap();
    let report: Report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let Some(cause) = &report.cause else {
        panic!("no cause: {}", report.text());
    };
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(cause.code.name(), "HOST_IP_SPOOF_DIR", "{report:#?}");
    assert_eq!(cause.node, "host1");
    assert_eq!(cause.confidence, Confidence::Proved, "{report:#?}");
    assert_eq!(report.outcomes, vec![Outcome::TimedOut; 7]);
    assert_eq!(cause.fixes[0].tested.map(|tested| tested.after), Some(7));
    // Nothing is left on the hosts.
    assert_eq!(hosts.left(), 0);
}

#[test]
fn a_namespace_of_a_host_is_a_node() {
    if skipped() {
        return;
    }
    let lab = build("RS_RPFILTER");
    let (client, server) = (lab.namespace("client"), lab.namespace("rs1"));
    let hosts = Hosts::new(&[&client]);
    let ssh = hosts.ssh();
    let place = format!("root@{client}/{server}");
    let collected = run(
        PROGRAM,
        &[
            "collect", "--ssh", &ssh, "--host", &place, "--netns", &server,
        ],
    );
    let bundle = Bundle::read(&collected.stdout).unwrap();
    let [near, far] = bundle.nodes.as_slice() else {
        panic!("{} nodes", bundle.nodes.len());
    };
    let (near, far) = match far.origin {
        Origin::Host(_) => (near, far),
        _ => (far, near),
    };
    assert_eq!(far.origin, Origin::Host(place));
    assert!(far.node.starts_with(&server), "{}", far.node);
    let links = |node: &pointsman_path::snapshot::Snapshot| {
        let links = node.links.iter().map(|link| link.name.clone());
        links.collect::<Vec<_>>()
    };
    assert_eq!(links(far), links(near));
    assert_eq!(
        far.greater("eth0", "rp_filter"),
        near.greater("eth0", "rp_filter")
    );
}

#[test]
fn hosts_that_give_no_station_are_named() {
    if skipped() {
        return;
    }
    let lab = build("direct");
    let client = lab.namespace("client");
    let hosts = Hosts::new(&[&client]);
    // Questions are answered, but no copy of the program runs there.
    let lame = hosts.program(
        "lame",
        &format!(
            "case \"$*\" in *mktemp*) exit 1;; esac\nexec {} \"$@\"",
            hosts.ssh()
        ),
    );
    let mut words = ["doctor", "vip", "198.51.100.208:80", "--from", "192.0.2.10"].to_vec();
    words.extend(["--ssh", &lame, "--json", "--host", &client]);
    let near = lab.namespaces();
    for name in near.iter().filter(|name| **name != client) {
        words.extend(["--netns", name]);
    }
    let output = Command::new(PROGRAM).args(&words).output().unwrap();
    let report: Report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let missing: Vec<&str> = report
        .not_observed
        .iter()
        .map(|one| one.what.as_str())
        .collect();
    let named = |what: &str| missing.iter().any(|one| one.starts_with(what));
    assert!(named("frames and drops at "), "{missing:?}");
    assert!(named("answers to probes"), "{missing:?}");
    assert!(report.outcomes.is_empty());
}

/// A place that ssh reaches, as it is named.
fn by_ssh(namespace: &NetNs) -> [String; 2] {
    let name = namespace.name().unwrap();
    ["--host".to_owned(), format!("root@{name}")]
}

fn beside(namespace: &NetNs) -> [String; 2] {
    ["--netns".to_owned(), namespace.name().unwrap().to_owned()]
}

/// What `doctor vrrp` finds.
fn vrrp_findings(program: &str, ssh: &str, nodes: &[[String; 2]]) -> Vec<Finding> {
    let output = Command::new(program)
        .args(["doctor", "vrrp", "--json", "--seconds", "2", "--ssh", ssh])
        .args(nodes.iter().flatten())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {complaint}"));
    let missing = document["not_reached"].as_array().unwrap();
    assert!(missing.is_empty(), "{missing:?} {complaint}");
    serde_json::from_value(document["findings"].clone()).unwrap()
}

#[test]
fn virtual_routers_are_heard_and_asked_at_hosts_that_ssh_reaches() {
    if skipped() {
        return;
    }
    let segment = Segment::new(3).unwrap();
    let [first, second, client] = segment.hosts.as_slice() else {
        unreachable!()
    };
    let rule = "FORWARD -i port1 -p IPv4 --ip-proto 112 -j DROP";
    segment::run(&segment.bridge, "ebtables", &format!("-A {rule}"));
    let start = |host: &NetNs, priority: u8| {
        let text = format!(
            "vrrp_instance VI_1 {{\ninterface eth0\nvirtual_router_id 51\nversion 3\nadvert_int 0.1\n\
             priority {priority}\nvirtual_ipaddress {{\n10.77.0.100\n}}\n}}\n"
        );
        Keepalived::start(host, &text)
    };
    let _routers = (start(first, 150), start(second, 100));
    segment::wait("two masters", || {
        segment.has(0, "10.77.0.100") && segment.has(1, "10.77.0.100")
    });
    let far: Vec<&str> = segment
        .hosts
        .iter()
        .map(|host| host.name().unwrap())
        .collect();
    let hosts = Hosts::new(&far);
    let (ssh, program) = (hosts.ssh(), small_program(hosts.folder.path()));
    // Frames of both routers come by ssh, and what the bridge does in between from beside.
    let nodes = [by_ssh(first), by_ssh(second), beside(&segment.bridge)];
    let found = vrrp_findings(&program, &ssh, &nodes);
    let split = found.first().expect("a finding");
    assert_eq!(split.code.name(), "VRRP_SPLIT", "{found:#?}");
    assert_eq!(split.link.as_deref(), Some("port1"), "{found:#?}");
    assert_eq!(split.confidence, Confidence::Proved, "{found:#?}");
    // Who asks the segment is there too.
    segment::run(&segment.bridge, "ebtables", &format!("-D {rule}"));
    let arp = "-A FORWARD -i port1 -p ARP --arp-ip-src 10.77.0.100 -j DROP";
    segment::run(&segment.bridge, "ebtables", arp);
    segment.wait_for_owner(0, &[0, 1], "10.77.0.100");
    let nodes = [by_ssh(client), beside(&segment.bridge)];
    let found = vrrp_findings(&program, &ssh, &nodes);
    let first = found.first().expect("a finding");
    assert_eq!(first.code.name(), "VIP_NOT_BELIEVED", "{found:#?}");
    assert!(first.words.contains("port1"), "{found:#?}");
    assert_eq!(hosts.left(), 0);
}
