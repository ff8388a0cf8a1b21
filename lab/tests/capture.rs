//! `pointsman capture` as people call it, on labs: the ladder names hops and rewrites, gaps are where
//! frames die, nothing stays behind.

#[path = "support/balance.rs"]
#[allow(dead_code)]
mod balance;
#[path = "support/capturing.rs"]
mod capturing;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use balance::{Hook, add, build, direct, method, service};
use capturing::{Capturing, spaces, to_service};
use nix::sys::signal::{Signal, kill};
use pointsman_lab::address::{Family, vip};
use pointsman_lab::director;
use pointsman_lab::lab::Lab;
use pointsman_lab::topology::{Kind, Options, Role};
use serde_json::Value;

fn program(arguments: &[&str]) -> Output {
    Command::new(director::program().unwrap())
        .args(arguments)
        .output()
        .unwrap()
}

/// Everything that changed on the way of a packet, as `what`.
fn changed(packet: &Value) -> Vec<&str> {
    let hops = packet["hops"].as_array().unwrap();
    hops.iter()
        .flat_map(|hop| hop["changed"].as_array().unwrap())
        .filter_map(|change| change["what"].as_str())
        .collect()
}

/// One request through a director, captured everywhere.
fn exercise(kind: Kind, hook: Hook, rewrite: &str) {
    let options = Options {
        real_servers: 1,
        ..hook.options()
    };
    let Some(lab) = build(kind, &options, &[80]) else {
        return;
    };
    let director = direct(&lab, hook, &[]);
    let at = service(Family::V4, 80);
    let words = |_| method(kind).to_owned();
    add(&director, &lab, ("-t", at, "rr"), Family::V4, words);
    director.wait_resolved().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.pcapng");
    let server = lab.topology().real_server(1, Family::V4).to_string();
    let capturing = Capturing::start(&[
        "--netns",
        &spaces(&lab),
        "--vip",
        &at.to_string(),
        "--server",
        &server,
        "--json",
        "--out",
        file.to_str().unwrap(),
    ]);
    assert_eq!(lab.client().name(at).unwrap(), "rs1");
    let json = capturing.json();
    let conversation = to_service(&json);
    let rs = lab.namespace(Role::RealServer(1));
    assert_eq!(conversation["server"], rs.as_str(), "{conversation:#}");
    let packets = conversation["packets"].as_array().unwrap();
    let syn = &packets[0];
    assert_eq!(
        (&syn["direction"], &syn["delivered"]),
        (&"request".into(), &true.into())
    );
    let changes = changed(syn);
    assert!(
        changes.contains(&rewrite) && changes.contains(&"destination MAC"),
        "{changes:?}"
    );
    let client = format!("{}/eth0", lab.namespace(Role::Client));
    assert_eq!(syn["hops"][0]["point"], client.as_str());
    for packet in packets {
        assert_eq!(packet["first_missing"], Value::Null, "{packet:#}");
        let answer = packet["direction"] == "answer";
        assert!(!answer || packet["delivered"] == true, "{packet:#}");
    }
    // XDP takes frames before captures see them; the director tells of its own, so nothing is hidden.
    let hidden = json["remarks"].to_string();
    let told = format!("{}/", lab.namespace(Role::Director));
    assert!(!hidden.contains(&told), "{hidden}");
    check_file(&file, &client, &rs);
    drop(director);
}

/// Other programs read the file; so do we, with the same outcome.
fn check_file(file: &Path, client: &str, server: &str) {
    let path = file.to_str().unwrap();
    let fields = [
        "frame.interface_name",
        "frame.interface_description",
        "frame.comment",
    ];
    let mut command = Command::new("tshark");
    command.args(["-n", "-T", "fields", "-E", "separator=|", "-r", path]);
    for field in fields {
        command.args(["-e", field]);
    }
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: tshark is not installed");
        }
        output => {
            let output = output.unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            let first = text
                .lines()
                .find(|line| line.contains("packet 1 of TCP"))
                .unwrap();
            assert!(first.starts_with(&format!("{client}|")), "{first}");
            assert!(
                first.contains("namespace: pm") && first.contains("hop 1 of"),
                "{first}"
            );
            let at_server = |line: &&str| {
                line.starts_with(&format!("{server}/")) && line.contains("verdict: delivered")
            };
            assert!(text.lines().any(|line| at_server(&line)), "{text}");
        }
    }
    let vip = vip(Family::V4).to_string();
    let output = program(&["capture", "--read", path, "--vip", &vip, "--json"]);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(to_service(&json)["server"], server);
    // A file that ends early gives what it has, and says so.
    let bytes = fs::read(file).unwrap();
    fs::write(file, &bytes[..bytes.len() * 3 / 4]).unwrap();
    let output = program(&["capture", "--read", path, "--vip", &vip]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("in the middle of a block") && said.contains("were read before"),
        "{said}"
    );
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        shown.contains("request") && shown.contains("[S]"),
        "{shown}"
    );
}

#[test]
fn direct_routing_by_tcx_is_seen_hop_by_hop() {
    exercise(Kind::TwoBridge, Hook::Tcx, "source MAC");
}

#[test]
fn direct_routing_by_xdp_is_seen_around_the_director() {
    exercise(Kind::OneLeg, Hook::Xdp, "source MAC");
}

#[test]
fn a_tunnel_is_seen_to_begin_and_end() {
    exercise(Kind::Tunnel, Hook::Tcx, "tunnel");
}

#[test]
fn masquerade_is_one_conversation() {
    exercise(Kind::Nat, Hook::Tcx, "destination");
}

#[test]
fn frames_that_die_on_a_bridge_are_missing_at_its_other_port() {
    let Some(lab) = build(Kind::OneLeg, &Options::default(), &[80]) else {
        return;
    };
    let at = service(Family::V4, 80);
    lab.client().ping(at.ip()).unwrap();
    let rules = format!(
        "table bridge eats {{ chain forward {{ type filter hook forward priority 0; \
         ether type ip ip daddr {} tcp dport 80 drop; }}; }}",
        at.ip()
    );
    lab.check(Role::Switch, Command::new("nft").arg(&rules))
        .unwrap();
    let arguments = ["--netns", &spaces(&lab), "--vip", &at.to_string()];
    let capturing = Capturing::start(&[&arguments[..], &["--json"]].concat());
    let limit = Duration::from_millis(2500);
    assert!(lab.client().limit(limit).name(at).is_err());
    let json = capturing.json();
    let packets = to_service(&json)["packets"].as_array().unwrap();
    let missing = format!("{}/director0", lab.namespace(Role::Switch));
    for packet in packets {
        assert_eq!(packet["first_missing"], missing.as_str(), "{packet:#}");
        assert_eq!(packet["delivered"], false);
    }
    // The client tries again after a second.
    assert!(packets.len() >= 2, "{packets:#?}");
    assert_eq!(packets[1]["repeat"]["kind"], "retransmission");
    assert_eq!(packets[1]["repeat"]["of"], 0);
    // For people.
    let capturing = Capturing::start(&arguments);
    assert!(lab.client().limit(limit).name(at).is_err());
    let (text, said, code) = capturing.end(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        text.contains("seen: [S] x") && text.contains(" retransmitted"),
        "{text}"
    );
    assert!(
        text.contains(&format!("{missing}  first missing; last seen at")),
        "{text}"
    );
}

fn promiscuity(lab: &Lab) -> String {
    let mut show = Command::new("ip");
    let text = lab
        .check(Role::Client, show.args(["-d", "link", "show", "eth0"]))
        .unwrap();
    let (_, rest) = text.split_once("promiscuity ").unwrap();
    rest.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn devices_are_promiscuous_only_when_asked_and_only_meanwhile() {
    let Some(lab) = build(Kind::OneLeg, &Options::default(), &[80]) else {
        return;
    };
    let netns = lab.namespace(Role::Client);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let capturing = Capturing::start(&["--netns", &netns]);
        assert_eq!(promiscuity(&lab), "0");
        capturing.end(signal);
        let capturing = Capturing::start(&["--netns", &netns, "--promisc"]);
        assert_eq!(promiscuity(&lab), "1");
        let (text, said, _) = capturing.end(signal);
        assert_eq!(promiscuity(&lab), "0", "{signal}");
        assert!(said.contains("promiscuous meanwhile"), "{said}");
        let told = text.contains("was promiscuous for this capture");
        assert_eq!(told, signal != Signal::SIGKILL, "{text}");
    }
}

#[test]
fn frames_lost_in_a_flood_are_counted() {
    let Some(lab) = build(Kind::OneLeg, &Options::default(), &[80]) else {
        return;
    };
    let netns = lab.namespace(Role::Client);
    let capturing = Capturing::start(&["--point", &format!("{netns}:lo"), "--json"]);
    // While it sleeps, more comes than the kernel keeps for it.
    kill(capturing.id(), Signal::SIGSTOP).unwrap();
    lab.run_in(Role::Client, || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..1500 {
            // Nobody listens, and that does not matter.
            let _ = socket.send_to(&[7; 60_000], "127.0.0.1:9");
        }
    })
    .unwrap();
    kill(capturing.id(), Signal::SIGCONT).unwrap();
    let json = capturing.json();
    let lost = json["points"][0]["lost"].as_u64().unwrap();
    assert!(lost > 100, "{lost} lost");
    let remarks = json["remarks"].to_string();
    assert!(
        remarks.contains(&format!("lost {lost} frames: a gap there proves nothing")),
        "{remarks}"
    );
}

/// A stand-in for ssh: the host is a network namespace here.
fn ssh(folder: &Path) -> String {
    let path = folder.join("ssh");
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nhost=$2\nshift 2\n\
         TMPDIR={}; export TMPDIR\nexec nsenter --net=/run/netns/$host sh -c \"$*\"\n",
        folder.join("there").display()
    );
    fs::create_dir(folder.join("there")).unwrap();
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn hosts_that_ssh_reaches_are_points_too_and_keep_nothing() {
    let Some(lab) = build(Kind::OneLeg, &Options::default(), &[80]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let ssh = ssh(folder.path());
    let (client, server) = (
        lab.namespace(Role::Client),
        lab.namespace(Role::RealServer(1)),
    );
    let at = std::net::SocketAddr::new(lab.topology().real_server(1, Family::V4), 80);
    let tcpdump = Command::new("tcpdump").arg("--version").output().is_ok();
    for more in [&[][..], &["--tcpdump", "eth0"]] {
        if !more.is_empty() && !tcpdump {
            println!("skipped: tcpdump is not installed");
            continue;
        }
        let hosts = ["--ssh", &ssh, "--host", &client, "--host", &server];
        let of_service = ["--vip", &at.to_string(), "--json"];
        let capturing = Capturing::start(&[&hosts[..], &of_service, more].concat());
        // The copy is there while it is needed.
        let there = || fs::read_dir(folder.path().join("there")).unwrap().count();
        assert_eq!(there(), if more.is_empty() { 2 } else { 0 });
        assert_eq!(lab.client().name(at).unwrap(), "rs1");
        let json = capturing.json();
        assert_eq!(there(), 0);
        let all = json["conversations"].as_array().unwrap();
        let found = all
            .iter()
            .find(|one| one["service"] == at.to_string().as_str());
        let found = found.unwrap_or_else(|| panic!("nothing to {at}: {json:#}"));
        let hops = found["packets"][0]["hops"].as_array().unwrap();
        let points: Vec<&str> = hops
            .iter()
            .filter_map(|hop| hop["point"].as_str())
            .collect();
        assert_eq!(
            points,
            [format!("{client}/eth0"), format!("{server}/eth0")],
            "{found:#}"
        );
    }
}

#[test]
fn what_can_not_be_captured_is_said() {
    let Some(_) = pointsman_lab::lab::why_not().map_or(Some(()), |reason| {
        println!("skipped: {reason}");
        None
    }) else {
        return;
    };
    for (arguments, code, words) in [
        (
            &["capture", "--netns", "pm-none"][..],
            1,
            "no network namespace",
        ),
        (
            &["capture", "--point", "nothere0"],
            1,
            "no interface \"nothere0\"",
        ),
        (&["capture", "--host", "-oProxyCommand=x"], 2, ""),
        (&["capture", "--host=-oProxyCommand=x"], 1, "is no host"),
        (&["capture", "--vip", "example"], 2, "write an address"),
        (
            &["capture", "--read", "/nonexistent/x.pcap"],
            1,
            "cannot read",
        ),
        (
            &["capture", "--read", "/proc/self/status"],
            1,
            "not a capture file",
        ),
        (
            &["capture", "--here", "--read", "x"],
            2,
            "cannot be used with",
        ),
        (
            &["capture", "--host", "h", "--ssh", "/bin/false"],
            1,
            "ends at byte 0 in the middle of its header",
        ),
    ] {
        let output = program(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
}
