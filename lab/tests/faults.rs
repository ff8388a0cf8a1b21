//! Every fault fails as told, is cured by its cure, and fails again when the cure is undone.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::{Fault, REFUSED, TIMED_OUT, faults, find, quirks, stories};
use pointsman_lab::lab::{self, Program};
use pointsman_lab::process::wait_until;
use pointsman_lab::{namespace, tag};
use pointsman_linux::packet::Capture;
use pointsman_path::catalogue::Code;
use pointsman_path::snapshot::Origin;
use pointsman_path::topology::{Role, Topology};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman-lab");

/// Labs at once: most of their time they wait for requests that nobody answers.
const AT_ONCE: usize = 6;

fn skipped() -> bool {
    let mut reason = lab::why_not();
    for program in [
        "ebtables",
        "iptables",
        "nft",
        "ethtool",
        "sysctl",
        "conntrack",
        "tcpdump",
        "nstat",
    ] {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if found.is_err() {
            reason.get_or_insert(format!("fault labs need the program {program}"));
        }
    }
    if let Some(reason) = &reason {
        eprintln!("skipped: {reason}");
    }
    reason.is_some()
}

fn build(name: &str) -> FaultLab {
    FaultLab::build_working(find(name).unwrap(), &Program::new(PROGRAM), None, false).unwrap()
}

/// Does something with each of many faults, several at a time, and tells all that went wrong.
fn with_each(mut faults: Vec<Fault>, work: impl Fn(Fault) -> Result<(), String> + Sync) {
    // The guest's kernel has what this one has not.
    faults.retain(|fault| {
        let missing = fault.missing();
        if !missing.is_empty() {
            eprintln!("{} needs {}", fault.name, missing.join(" and "));
        }
        missing.is_empty()
    });
    let left = Mutex::new(faults);
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(fault) = left.lock().unwrap().pop() else {
                        return;
                    };
                    let name = fault.name;
                    let start = Instant::now();
                    let result = work(fault);
                    eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f32());
                    if let Err(error) = result {
                        wrong.lock().unwrap().push(format!("{name}: {error}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn fails_is_cured_and_fails_again(fault: Fault) -> Result<(), String> {
    let at = |step: &'static str| move |error| format!("{step}: {error}");
    let program = Program::new(PROGRAM);
    let mut lab = FaultLab::build_working(fault, &program, None, false).map_err(at("building"))?;
    lab.expect_answer().map_err(at("as planned"))?;
    lab.break_all().map_err(at("breaking"))?;
    lab.expect_failure().map_err(at("broken"))?;
    // It fails for the reason told, not for another.
    let causes = lab.fault().blockers.clone();
    if let [blocker] = &causes[..]
        && let Some(witness) = blocker.witness
    {
        let heard = lab.hear(&witness).map_err(at("witness"))?;
        if !witness.is_borne_by(&heard) {
            return Err(format!("{witness:?} says only\n{heard}"));
        }
    }
    for blocker in &causes {
        let guilty = &blocker.guilty;
        if guilty.rule.starts_with("-A ") {
            let save = |program| lab.check(guilty.node, program).map_err(at("saved rules"));
            let saved = save("ebtables-save")? + &save("iptables-save")?;
            // Names of protocols are there if the machine knows them.
            let plain = |line: &str| line.replace("vrrp", "112").replace("ipencap", "4");
            let rule = plain(&guilty.rule);
            if !saved.lines().any(|line| plain(line) == rule) {
                return Err(format!("no {:?} in\n{saved}", guilty.rule));
            }
        }
    }
    let tempting: Vec<_> = causes.iter().flat_map(|one| one.tempting.clone()).collect();
    if !tempting.is_empty() {
        lab.carry_out(&tempting).map_err(at("tempting"))?;
        lab.expect_any_failure().map_err(at("tempted"))?;
    }
    let blockers = causes.len();
    for number in 0..blockers {
        lab.cure(number).map_err(at("curing"))?;
        if number + 1 < blockers {
            lab.expect_any_failure().map_err(at("half cured"))?;
        }
    }
    lab.expect_answer().map_err(at("cured"))?;
    // Each alone is enough to stop every request.
    for number in 0..blockers {
        lab.undo(number).map_err(at("undoing"))?;
        match blockers {
            1 => lab.expect_failure(),
            _ => lab.expect_any_failure(),
        }
        .map_err(at("undone"))?;
        lab.cure(number).map_err(at("curing again"))?;
        lab.expect_answer().map_err(at("cured again"))?;
    }
    Ok(())
}

#[test]
fn every_fault_is_cured_by_its_cure_and_comes_back_without() {
    if skipped() {
        return;
    }
    with_each(
        [faults(), stories()].concat(),
        fails_is_cured_and_fails_again,
    );
}

#[test]
fn healthy_labs_answer_however_suspicious_they_look() {
    if skipped() {
        return;
    }
    let quirks = quirks();
    assert!(quirks.len() >= 10);
    with_each(quirks, |fault| {
        assert!(fault.is_healthy());
        let program = Program::new(PROGRAM);
        let lab = FaultLab::build(fault, &program, None);
        lab.and_then(|mut lab| lab.expect_answer())
            .map(drop)
            .map_err(|error| error.to_string())
    });
}

#[test]
fn the_catalogue_is_whole() {
    let codes: BTreeSet<_> = faults().iter().flat_map(Fault::codes).collect();
    assert!(codes.len() >= 30, "{} codes", codes.len());
    let mut names = BTreeSet::new();
    for fault in [faults(), stories(), quirks()].concat() {
        assert!(names.insert(fault.name), "{} is there twice", fault.name);
        assert_eq!(find(&fault.name.to_lowercase()).unwrap().name, fault.name);
        assert!([TIMED_OUT, REFUSED].contains(&fault.exit));
        for blocker in &fault.blockers {
            let guilty = &blocker.guilty;
            if let Some(witness) = blocker.witness {
                let place = &fault.site.nodes;
                assert!(
                    place.iter().any(|node| node.name == witness.node),
                    "{witness:?}"
                );
            }
            let node = fault
                .site
                .nodes
                .iter()
                .find(|node| node.name == guilty.node);
            let node = node.unwrap_or_else(|| panic!("{}: no {}", fault.name, guilty.node));
            let port = fault
                .site
                .cables
                .iter()
                .flatten()
                .any(|end| end.node == node.name && end.port == guilty.port);
            // Devices that appear with the node, or that its processes make.
            let device = ["lo", "decap0"].contains(&guilty.port);
            let nested = fault.name == "HAIRPIN";
            assert!(port || device || nested, "{}: {guilty:?}", fault.name);
            assert!(!guilty.rule.is_empty());
        }
    }
    for fault in faults() {
        assert_eq!(fault.codes(), [fault.name]);
    }
    for code in codes {
        assert!(
            code.parse::<Code>().is_ok(),
            "the doctor does not know {code}"
        );
    }
}

/// A number that a tool printed behind a word.
fn number_after(text: &str, word: &str) -> u64 {
    let place = text
        .find(word)
        .unwrap_or_else(|| panic!("no {word:?} in\n{text}"));
    let digits: String = text[place + word.len()..]
        .chars()
        .skip_while(|character| !character.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

/// How often a rule of a chain dropped.
fn dropped(lab: &FaultLab, host: &str, chain: &str) -> u64 {
    let text = lab
        .check(host, &format!("ebtables -t nat -L {chain} --Lc"))
        .unwrap();
    number_after(&text, "-j DROP")
}

/// What interfaces of nodes send and get while `work` runs, each as tcpdump shows it.
fn captured(
    lab: &mut FaultLab,
    points: &[(&str, &str)],
    work: impl FnOnce(&mut FaultLab),
) -> Vec<String> {
    let captures: Vec<_> = points
        .iter()
        .map(|(node, device)| {
            let open = || Capture::open(*device);
            namespace::run_in(&lab.namespace(node), open)
                .unwrap()
                .unwrap()
        })
        .collect();
    work(lab);
    // The kernel holds every frame until it is read: none can be missed.
    captures.into_iter().map(shown).collect()
}

fn shown(mut capture: Capture) -> String {
    // The file format of libpcap, version 2.4, for Ethernet.
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    while let Some(frame) = capture.next(Duration::ZERO).unwrap() {
        let length = frame.bytes.len() as u32;
        for word in [0, 0, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&frame.bytes);
    }
    let mut tcpdump = Command::new("tcpdump");
    tcpdump.args(["-n", "-e", "-r", "-", "tcp or (vlan and tcp)"]);
    let output = thread::scope(|scope| {
        let child = tcpdump
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let mut pipe = child.stdin.take().unwrap();
        scope.spawn(move || pipe.write_all(&file).unwrap());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_story_of_kvm() {
    if skipped() {
        return;
    }
    let mut lab = build("kvm");
    lab.break_all().unwrap();
    let points = [
        ("director", "eth0"),
        ("host1", "vnet0"),
        ("host1", "eth0"),
        ("host2", "eth0"),
    ];
    let frames = captured(&mut lab, &points, |lab| {
        lab.expect_failure().unwrap();
    });
    // Director to real server; the client's address is still the source.
    let rewritten = "02:00:00:00:05:00 > 02:00:00:00:07:00";
    assert!(frames[0].contains(rewritten), "{}", frames[0]);
    assert!(frames[1].contains(rewritten), "{}", frames[1]);
    assert!(!frames[2].contains(rewritten), "{}", frames[2]);
    assert!(!frames[3].contains(rewritten), "{}", frames[3]);
    assert!(frames[2].contains("192.0.2.10"), "{}", frames[2]);
    let sent = frames[1].lines().filter(|line| line.contains(rewritten));
    let chain = "I-vnet0-ipv4-ip";
    assert_eq!(dropped(&lab, "host1", chain), sent.count() as u64);
    // The tempting cure: the source is the client's, not the VIP's.
    let vip = lab.fault().vip();
    let tempting = format!(
        "ebtables -t nat -I {chain} 1 -p IPv4 --ip-src {} -j RETURN",
        vip.ip()
    );
    lab.check("host1", &tempting).unwrap();
    lab.expect_failure().unwrap();
    // The right one leads to the second blocker.
    assert_eq!(dropped(&lab, "host2", chain), 0);
    lab.cure(0).unwrap();
    lab.expect_failure().unwrap();
    assert!(dropped(&lab, "host2", chain) > 0);
    lab.cure(1).unwrap();
    assert_eq!(lab.expect_answer().unwrap().text, "rs1");
}

#[test]
fn the_story_of_openstack() {
    if skipped() {
        return;
    }
    let mut lab = build("openstack");
    lab.break_all().unwrap();
    lab.expect_failure().unwrap();
    let vip = lab.fault().vip().ip().to_string();
    let entry = |lab: &FaultLab| {
        let command = format!("ip neighbour show {vip} dev lan1");
        lab.check("gateway", &command).unwrap()
    };
    assert!(!entry(&lab).contains("lladdr"), "{}", entry(&lab));
    let chain = |name: &str| format!("I-tap0678bf1d-41-{name}");
    wait_until("no ARP was dropped", Duration::from_secs(10), || {
        lab.expect_any_failure()?;
        Ok(dropped(&lab, "host1", &chain("arp-ip")) > 0)
    })
    .unwrap();
    assert_eq!(dropped(&lab, "host1", &chain("ipv4-ip")), 0);
    // ARP is open, and IP still is not.
    lab.cure(0).unwrap();
    wait_until("the VIP was not learned", Duration::from_secs(10), || {
        lab.expect_any_failure()?;
        Ok(entry(&lab).contains("lladdr 02:00:00:00:05:00"))
    })
    .unwrap();
    lab.expect_any_failure().unwrap();
    assert!(dropped(&lab, "host1", &chain("ipv4-ip")) > 0);
    lab.cure(1).unwrap();
    assert_eq!(lab.expect_answer().unwrap().text, "rs1");
}

#[test]
fn the_story_of_arp_and_reverse_paths() {
    if skipped() {
        return;
    }
    // Another answers for the VIP, and the director gets nothing.
    for name in ["ARP_FLUX_RS", "ARP_ANNOUNCE_RS"] {
        let mut lab = build(name);
        lab.break_all().unwrap();
        let points = [("director", "eth0"), ("rs2", "eth0")];
        // It may take more than one request until the gateway believes it.
        lab.expect_failure().unwrap();
        let frames = captured(&mut lab, &points, |lab| {
            lab.expect_failure().unwrap();
        });
        assert_eq!(frames[0].trim(), "", "{name}: the director got frames");
        assert!(frames[1].contains("Flags [R"), "{}", frames[1]);
        let entry = lab.check("gateway", "ip neighbour show 198.51.100.208");
        let mac = "02:00:00:00:08:00";
        assert!(entry.unwrap().contains(mac), "{name}");
    }
    let counter = |lab: &FaultLab, name: &str| {
        number_after(
            &lab.check("rs1", &format!("nstat -asz {name}")).unwrap(),
            name,
        )
    };
    let mut lab = build("RS_RPFILTER");
    lab.break_all().unwrap();
    assert_eq!(counter(&lab, "TcpExtIPReversePathFilter"), 0);
    lab.expect_failure().unwrap();
    assert!(counter(&lab, "TcpExtIPReversePathFilter") > 0);

    let mut lab = build("RS_VIP_NETMASK");
    lab.break_all().unwrap();
    lab.expect_failure().unwrap();
    let route = lab.check("rs1", "ip route get 198.51.100.10").unwrap();
    assert!(route.starts_with("local 198.51.100.10 dev lo"), "{route}");
}

#[test]
fn the_story_of_harvester() {
    if skipped() {
        return;
    }
    let mut lab = build("harvester");
    lab.break_all().unwrap();
    let points = [("rs1", "eth0"), ("gateway", "lan1"), ("host", "mgmt0")];
    let frames = captured(&mut lab, &points, |lab| {
        lab.expect_failure().unwrap();
    });
    let answer = |frames: &str, source: &str| {
        let line = frames.lines().find(|line| line.contains("Flags [S.]"));
        let line = line.unwrap_or_else(|| panic!("no SYN/ACK in\n{frames}"));
        assert!(
            line.contains(&format!("{source}.80 > 172.16.0.57.")),
            "{line}"
        );
        let port = line.split(" > 172.16.0.57.").nth(1).unwrap();
        port.split(':').next().unwrap().parse::<u16>().unwrap()
    };
    // The guest answers to the port that masquerading chose; off the bridge comes the client's own,
    // from the service's address.
    let translated = answer(&frames[0], "172.16.178.178");
    let original = answer(&frames[1], "10.43.113.238");
    assert_ne!(translated, original);
    assert_eq!(answer(&frames[2], "10.43.113.238"), original);
    assert!(frames[2].contains("Flags [R]"), "{}", frames[2]);
    let entries = lab.check("host", "conntrack -L").unwrap();
    let entry = entries
        .lines()
        .find(|line| line.contains("dst=10.43.113.238"));
    let entry = entry.unwrap_or_else(|| panic!("{entries}"));
    assert!(
        entry.contains(&format!("sport={original} dport=80")),
        "{entry}"
    );
    assert!(entry.contains(&format!("dport={translated}")), "{entry}");
    lab.cure(0).unwrap();
    assert_eq!(lab.expect_answer().unwrap().text, "rs1");
}

fn call(words: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_kept_fault_is_broken_cured_by_hand_and_taken_down() {
    if skipped() {
        return;
    }
    let tag = format!("k{}f", std::process::id());
    let down = DownOnDrop(&tag);
    let json = call(&["fault", "RS_LOCAL_FW", "--keep", "--json", "--tag", &tag]);
    let topology = Topology::read(json.as_bytes()).unwrap();
    assert_eq!(
        topology.vip,
        Some(SocketAddr::from(([198, 51, 100, 208], 80)))
    );
    // Nothing in it says what is wrong.
    assert!(
        !json.contains("RS_LOCAL_FW") && !json.contains("DROP"),
        "{json}"
    );
    let netns = |name: &str| match &topology.node(name).unwrap().at {
        Origin::Netns(name) => name.clone(),
        other => panic!("{other:?}"),
    };
    let way = topology.way("client", "rs1").unwrap();
    let names: Vec<_> = way.iter().map(|stop| stop.node.name.as_str()).collect();
    assert_eq!(names, ["client", "gateway", "switch", "host2", "rs1"]);
    assert!(call(&["list"]).contains(&format!("{tag:12} fault RS_LOCAL_FW")));

    let inside = |namespace: &str, line: &str| {
        let output = Command::new("ip")
            .args(["netns", "exec", namespace, "sh", "-c", line])
            .output()
            .unwrap();
        output.status.code()
    };
    let ask = "curl -s -m 1 http://198.51.100.208/";
    assert_eq!(inside(&netns("client"), ask), Some(TIMED_OUT));
    let catalogue = call(&["fault", "--list", "--json"]);
    let catalogue: Value = serde_json::from_str(&catalogue).unwrap();
    let entry = catalogue.as_array().unwrap().iter();
    let entry = entry.clone().find(|entry| entry["name"] == "RS_LOCAL_FW");
    let blocker = &entry.unwrap()["blockers"][0];
    for (steps, exit) in [("cure", 0), ("undo", TIMED_OUT)] {
        for step in blocker[steps].as_array().unwrap() {
            let namespace = netns(step["node"].as_str().unwrap());
            assert_eq!(inside(&namespace, step["do"].as_str().unwrap()), Some(0));
        }
        assert_eq!(inside(&netns("client"), ask), Some(exit), "{steps}");
    }
    drop(down);
    is_gone(&tag);
}

#[test]
fn a_halted_server_stays_halted_in_a_kept_fault() {
    if skipped() {
        return;
    }
    let tag = format!("k{}h", std::process::id());
    let down = DownOnDrop(&tag);
    call(&["fault", "RS_BACKLOG", "--keep", "--tag", &tag]);
    let names = tag::namespaces_of(&tag).unwrap();
    let server = names.iter().find(|name| name.ends_with("-rs1")).unwrap();
    let output = Command::new("ip")
        .args(["netns", "pids", server])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let processes: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(processes.len(), 1, "{text}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", processes[0])).unwrap();
    assert!(status.contains("State:\tT (stopped)"), "{status}");
    drop(down);
    is_gone(&tag);
}

/// Takes a lab down that a test leaves behind by failing.
struct DownOnDrop<'a>(&'a str);

impl Drop for DownOnDrop<'_> {
    fn drop(&mut self) {
        if let Err(error) = tag::take_down(self.0) {
            eprintln!("{error}");
        }
    }
}

fn is_gone(tag: &str) {
    assert_eq!(tag::namespaces_of(tag).unwrap(), Vec::<String>::new());
    assert!(!tag::pin_dir(tag).exists());
    let prefix = format!("pm-{tag}-");
    for entry in std::fs::read_dir(std::env::temp_dir()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(&prefix), "{name} is left");
    }
}

#[test]
fn a_signal_takes_a_fault_down() {
    if skipped() {
        return;
    }
    let tag = format!("s{}f", std::process::id());
    let mut child = Command::new(PROGRAM)
        .args(["fault", "RS_VIP_MISSING", "--tag", &tag])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until(
        "the director did not begin",
        Duration::from_secs(20),
        || Ok(tag::pin_dir(&tag).exists()),
    )
    .unwrap();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    is_gone(&tag);
}

#[test]
fn a_fault_lab_with_a_wrong_name_says_so() {
    for (words, complaint) in [
        (&["fault", "NO_SUCH"][..], "no fault is called \"NO_SUCH\""),
        (
            &["fault", "KVM", "--cured"],
            "--cured and --shown go with --keep",
        ),
        (&["fault"], "the code of a fault is missing"),
    ] {
        let output = Command::new(PROGRAM).args(words).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(complaint), "{said}");
    }
    let shown = call(&["fault", "KVM", "--json", "--tag", "x1"]);
    assert!(shown.contains("pmx1-host2"), "{shown}");
    let parts = find("KVM").unwrap().site.nodes;
    assert_eq!(
        parts.iter().filter(|node| node.role == Role::Host).count(),
        2
    );
}
