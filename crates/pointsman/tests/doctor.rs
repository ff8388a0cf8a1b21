//! `pointsman doctor check` in fault labs: the right code at the right node, nothing where nothing is
//! wrong, and fixes that end what they are for.

use std::fs;
use std::io::Write;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use pointsman_lab::director::Director;
use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::{Fault, faults, quirks, show, stories};
use pointsman_lab::lab::{self, Program};
use pointsman_lab::topology::{Kind, Options};
use pointsman_path::catalogue::Code;
use pointsman_path::finding::Finding;
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
/// Labs at once.
const AT_ONCE: usize = 4;
/// Faults that no configuration tells: what a program does, or what only a packet shows.
const UNTOLD: &[&str] = &["UDP_SRC_RIP", "BR_NF_FULL_UNNAT", "HARVESTER"];

fn program() -> Program {
    Program::new(PROGRAM).behind(&["lab"])
}

fn skipped() -> bool {
    if let Some(reason) = lab::why_not() {
        eprintln!("skipped: {reason}");
        return true;
    }
    false
}

fn doctor(arguments: &[&str]) -> Output {
    let words = [&["doctor", "check"], arguments].concat();
    Command::new(PROGRAM).args(words).output().unwrap()
}

/// What is found in a lab, and the exit code.
fn examine(lab: &FaultLab) -> (Vec<Finding>, Option<i32>) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let topology = show::topology(lab.fault(), lab.tag());
    file.write_all(topology.write().as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let output = doctor(&["--json", "--topology", path]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let document: Value = serde_json::from_slice(&output.stdout).expect(&complaint);
    let findings = serde_json::from_value(document["findings"].clone()).unwrap();
    (findings, output.status.code())
}

/// Does something with many labs, several at a time, and tells all that went wrong.
fn with_each(faults: Vec<Fault>, work: impl Fn(Fault) -> Result<(), String> + Sync) {
    let left = Mutex::new(faults);
    let wrong = Mutex::new(Vec::new());
    let one = || {
        loop {
            let next = left.lock().unwrap().pop();
            let Some(fault) = next else { return };
            let name = fault.name;
            if let Err(error) = work(fault) {
                wrong.lock().unwrap().push(format!("{name}: {error}"));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(one);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn words(findings: &[Finding]) -> String {
    let one =
        |finding: &Finding| format!("{} at {}: {}", finding.code, finding.node, finding.words);
    findings.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Carries the first fix of a finding out in its node.
fn mend(lab: &FaultLab, finding: &Finding) -> Result<bool, String> {
    let Some(fix) = finding.fixes.first() else {
        return Ok(false);
    };
    let commands = &fix.commands;
    if commands.is_empty()
        || commands
            .iter()
            .any(|command| command.starts_with("modprobe"))
    {
        return Ok(false);
    }
    let node = fix.node.as_ref().unwrap_or(&finding.node);
    let own = commands.iter().map(|command| (node, command));
    let then = fix.afterwards.iter();
    let then = then.map(|step| (&step.node, &step.command));
    for (node, command) in own.chain(then) {
        let socket = lab.director().map(|director| director.socket());
        let command = command
            .replace("ipvsadm ", &format!("{PROGRAM} ipvsadm "))
            .replace("pointsman setting", &format!("{PROGRAM} setting"));
        let output = Command::new("ip")
            .args(["netns", "exec", &lab.namespace(node), "sh", "-c", &command])
            .env(
                "POINTSMAN_SOCKET",
                socket.unwrap_or(std::path::Path::new("/nowhere")),
            )
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(format!(
                "{command}: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
    }
    Ok(true)
}

/// Faults are found where they are; what the doctor advises ends the finding.
#[test]
fn every_fault_that_configuration_tells_is_found_and_its_fix_ends_it() {
    if skipped() {
        return;
    }
    let mut all = [faults(), stories()].concat();
    all.retain(|fault| {
        let missing = fault.missing();
        if !missing.is_empty() {
            eprintln!("{} needs {}", fault.name, missing.join(" and "));
        }
        missing.is_empty() && !UNTOLD.contains(&fault.name)
    });
    assert!(all.len() >= 35, "{} faults", all.len());
    with_each(all, |fault| {
        let blockers: Vec<(&str, &str)> = fault
            .blockers
            .iter()
            .map(|blocker| (blocker.code, blocker.guilty.node))
            .collect();
        let mut lab =
            FaultLab::build(fault, &program(), None).map_err(|error| error.to_string())?;
        let name = lab.fault().name;
        if ["ARP_FLUX_RS", "VRRP_SPLIT"].contains(&name) {
            // A witness: the gateway has learned the wrong one.
            let _ = lab.ask(Duration::from_secs(1));
        }
        // A backup takes a moment to be master, too.
        let deadline = Instant::now() + Duration::from_secs(10);
        let (findings, code) = loop {
            let found = examine(&lab);
            let is_there = |code: &str| found.0.iter().any(|own| own.code.name() == code);
            let all = blockers.iter().all(|(code, _)| is_there(code));
            if all || name != "VRRP_SPLIT" || Instant::now() > deadline {
                break found;
            }
        };
        if code != Some(1) {
            return Err(format!("exit code {code:?}: {}", words(&findings)));
        }
        for (code, node) in blockers {
            let code: Code = code.parse().map_err(|_| format!("no code {code}"))?;
            let own = findings
                .iter()
                .find(|finding| finding.code == code && finding.node == node);
            let Some(own) = own else {
                return Err(format!("no {code} at {node}, but {}", words(&findings)));
            };
            if own.evidence.is_empty()
                || own
                    .evidence
                    .iter()
                    .any(|evidence| evidence.command.is_empty())
            {
                return Err(format!("{code} without evidence"));
            }
            if mend(&lab, own)? {
                let (left, _) = examine(&lab);
                if left
                    .iter()
                    .any(|finding| finding.code == code && finding.node == node)
                {
                    return Err(format!("mended, and still {}", words(&left)));
                }
            }
        }
        Ok(())
    });
}

/// Labs that only look suspicious.
#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    if skipped() {
        return;
    }
    with_each(quirks(), |fault| {
        let lab = FaultLab::build(fault, &program(), None).map_err(|error| error.to_string())?;
        match examine(&lab) {
            (_, Some(0)) => Ok(()),
            (findings, code) => Err(format!("exit code {code:?}: {}", words(&findings))),
        }
    });
}

/// The four healthy topologies, with no hint but their namespaces.
#[test]
fn healthy_topologies_are_healthy() {
    if skipped() {
        return;
    }
    for (kind, flag) in [
        (Kind::TwoBridge, "-g"),
        (Kind::OneLeg, "-g"),
        (Kind::Tunnel, "-i"),
        (Kind::Nat, "-m"),
    ] {
        let options = Options {
            real_servers: 2,
            ..Options::default()
        };
        let (lab, _) = pointsman_lab::command::up(kind, &options, &program(), false).unwrap();
        let director = Director::start(&lab, &[]).unwrap();
        for (service, family) in [
            ("192.168.7.33:80", pointsman_lab::address::Family::V4),
            ("[fd00:7::33]:80", pointsman_lab::address::Family::V6),
        ] {
            director.ipvsadm(&format!("-A -t {service} -s rr")).unwrap();
            for server in lab.topology().real_servers(family) {
                let server = match server {
                    std::net::IpAddr::V4(server) => server.to_string(),
                    std::net::IpAddr::V6(server) => format!("[{server}]:80"),
                };
                director
                    .ipvsadm(&format!("-a -t {service} -r {server} {flag}"))
                    .unwrap();
            }
        }
        let netns = format!("pm{}-*", lab.tag());
        let begun = Instant::now();
        let output = doctor(&["--netns", &netns]);
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{kind}: {:?}",
            begun.elapsed()
        );
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{kind}: {text}");
        assert!(
            text.contains("192.168.7.33:80") && text.contains("nothing wrong"),
            "{text}"
        );
        // The service is what was asked about.
        let output = doctor(&["--netns", &netns, "--vip", "192.168.7.33:443", "--json"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stdout).contains("NO_SERVICE_MATCH"));
        director.stop().unwrap();
    }
}

/// A bundle says the same as the hosts that it was made of, redacted or not, and soon.
#[test]
fn a_bundle_tells_what_the_hosts_told() {
    if skipped() {
        return;
    }
    let fault = pointsman_lab::fault::find("KVM").unwrap();
    let lab = FaultLab::build(fault, &program(), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let netns = format!("pm{}-*", lab.tag());
    for redacted in [false, true] {
        let file = folder.path().join(format!("{redacted}.json"));
        let mut collect = Command::new(PROGRAM);
        collect
            .args(["collect", "--netns", &netns, "--out"])
            .arg(&file);
        if redacted {
            collect.arg("--redact");
        }
        assert!(collect.output().unwrap().status.success());
        let begun = Instant::now();
        let output = doctor(&["--json", "--bundle", file.to_str().unwrap()]);
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings: Vec<Finding> = serde_json::from_value(document["findings"].clone()).unwrap();
        for code in [Code::HostIpSpoofDirector, Code::HostIpSpoofServer] {
            assert!(
                findings.iter().any(|finding| finding.code == code),
                "{code}: {}",
                words(&findings)
            );
        }
        let owner = findings[0].owner.as_deref().unwrap_or_default();
        assert!(owner.contains("no-ip-spoofing"), "{owner}");
    }
}

#[test]
fn what_cannot_be_answered_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let healthy = r#"{"schema": "pointsman.snapshot/1", "node": "n"}"#;
    for (arguments, said) in [
        (["--bundle", "/no/such/file"], "/no/such/file"),
        (["--bundle", &file("a", "{")], "damaged"),
        (
            [
                "--bundle",
                &file("b", r#"{"schema": "pointsman.snapshot/9"}"#),
            ],
            "newer program",
        ),
        (["--bundle", &file("c", healthy)], "add the director"),
        (
            ["--bundle", folder.path().to_str().unwrap()],
            "no file *.json",
        ),
        (["--topology", &file("d", "[]")], "d"),
        (["--role", "rs1=king"], "is no role"),
        (["--vip", "here"], "write an address"),
        (["--netns", "pm-no-such"], "pm-no-such"),
    ] {
        let output = doctor(&arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains(said), "{arguments:?}: {complaint}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn names_cannot_steer_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    let node = "n\\u001b[2J";
    let text = format!(
        r#"{{"schema": "pointsman.snapshot/1", "node": "{node}", "parts": ["links"],
            "services": [{{"balancer": "kernel", "servers": [], "service": {{"scheduler": "rr",
                "id": {{"kind": "address", "protocol": "tcp", "address": "192.0.2.1", "port": 80}}}}}}]}}"#
    );
    fs::write(&path, text).unwrap();
    let output = doctor(&["--bundle", path.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("NO_RS_AVAILABLE") && text.contains("n?[2J"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn every_code_is_explained() {
    let explain = |words: &[&str]| {
        let output = Command::new(PROGRAM)
            .args([&["doctor", "--explain"], words].concat())
            .output()
            .unwrap();
        (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            output.status.code(),
        )
    };
    let (list, _) = explain(&[]);
    assert_eq!(list.lines().count(), 88);
    let (text, code) = explain(&["rs-vip-netmask"]);
    assert!(
        text.starts_with("RS_VIP_NETMASK: ") && text.contains("What mends it"),
        "{text}"
    );
    assert_eq!(code, Some(0));
    assert_eq!(explain(&["NOTHING"]).1, Some(2));
}
