//! What the doctor writes to files: the page as a browser shows it, the frames as tshark reads them, and
//! nobody's name where that was asked.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};

use pointsman_lab::fault::fault_lab::FaultLab;
use pointsman_lab::fault::find;
use pointsman_lab::lab::{self, Program};
use pointsman_path::finding::Finding;
use pointsman_path::report::Report;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pointsman");
const VIP: &str = "198.51.100.208:80";
const CLIENT: &str = "192.0.2.10";
/// Seconds that a browser may take.
const PATIENCE: &str = "90";

fn skipped() -> bool {
    if let Some(reason) = lab::why_not() {
        eprintln!("skipped: {reason}");
        return true;
    }
    false
}

fn build(name: &str) -> FaultLab {
    let program = Program::new(PROGRAM).behind(&["lab"]);
    let mut lab = FaultLab::build(find(name).unwrap(), &program, None).unwrap();
    let before = lab.fault().before.clone();
    lab.carry_out(&before).unwrap();
    lab
}

fn doctor(arguments: &[&str]) -> Output {
    let words = [&["doctor", "vip", VIP, "--from", CLIENT], arguments].concat();
    Command::new(PROGRAM).args(words).output().unwrap()
}

/// A document after a browser has laid it out in a window of this size, without any network; none if
/// there is no browser.
fn shown(document: &str, [width, height]: [u32; 2]) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    fs::write(&file, document).unwrap();
    let output = Command::new("timeout")
        .args(["--kill-after=5", PATIENCE, "unshare", "--net", "chromium"])
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .args([
            "--no-first-run",
            "--disable-extensions",
            "--hide-scrollbars",
        ])
        .arg(format!(
            "--user-data-dir={}",
            folder.path().join("profile").display()
        ))
        .arg(format!("--window-size={width},{height}"))
        .arg(format!("file://{}", file.display()))
        .env("HOME", folder.path())
        .output()
        .unwrap();
    if output.status.code() == Some(127) {
        eprintln!("skipped: the Debian package chromium is not installed");
        return None;
    }
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// What a browser measured of a document in a window.
#[derive(Debug, PartialEq)]
struct Measure {
    width: u32,
    /// What it would need.
    needed: u32,
    /// Elements that reach beyond.
    wide: u32,
    fetched: u32,
    /// Pairs of labels in the drawing that lie over each other.
    overlaps: u32,
}

/// A page that shows documents in frames of these sizes and measures them.
fn measuring(documents: &[(&str, [u32; 2])]) -> String {
    let script = r#"<script>
        const measure = frame => {
            const page = frame.contentDocument;
            const width = page.documentElement.clientWidth;
            const inside = element => element.closest('pre, .scroll') !== null;
            const wide = [...page.body.querySelectorAll('*')].filter(element =>
                element.getBoundingClientRect().right > width + 1 && !inside(element.parentElement));
            const texts = [...page.querySelectorAll('svg text')].map(text => text.getBoundingClientRect());
            const meet = (a, b) => a.left < b.right - 1 && b.left < a.right - 1
                && a.top < b.bottom - 3 && b.top < a.bottom - 3;
            let overlaps = 0;
            texts.forEach((a, at) => texts.slice(at + 1).forEach(b => overlaps += meet(a, b) ? 1 : 0));
            const result = document.createElement('p');
            result.textContent = ['MEASURED', width, page.documentElement.scrollWidth, wide.length,
                frame.contentWindow.performance.getEntriesByType('resource').length, overlaps, 'END'].join(' ');
            document.body.append(result);
        };
        </script>"#;
    let frames = documents.iter().map(|(document, [width, height])| {
        let within = document.replace('&', "&amp;").replace('"', "&quot;");
        format!(
            "<iframe onload=\"measure(this)\" scrolling=\"no\" \
             style=\"border:0;width:{width}px;height:{height}px\" srcdoc=\"{within}\"></iframe>"
        )
    });
    let frames: String = frames.collect();
    format!("<!DOCTYPE html><html><body>{script}{frames}</body></html>")
}

/// What a measuring page shows, in any order.
fn measured(dom: &str) -> Vec<Measure> {
    let results = dom.split("<p>MEASURED ").skip(1);
    let numbers = results.filter_map(|rest| rest.split_once(" END"));
    numbers
        .map(|(numbers, _)| {
            let numbers: Vec<u32> = numbers.split(' ').map(|n| n.parse().unwrap()).collect();
            let [width, needed, wide, fetched, overlaps] = numbers[..] else {
                panic!("{numbers:?}");
            };
            Measure {
                width,
                needed,
                wide,
                fetched,
                overlaps,
            }
        })
        .collect()
}

/// A document fits on a desktop and on a phone, and nothing is fetched.
fn fits(document: &str) {
    // One that does not, to see that this is noticed.
    let misfit = document.replace("</body>", "<p style=\"width:2000px\">wide</p></body>");
    let all = [
        (document, [1200, 900]),
        (document, [390, 844]),
        (&*misfit, [500, 900]),
    ];
    let Some(dom) = shown(&measuring(&all), [1400, 1000]) else {
        return;
    };
    let mut measures = measured(&dom);
    measures.sort_by_key(|measure| measure.width);
    let fitting = |width| Measure {
        width,
        needed: width,
        wide: 0,
        fetched: 0,
        overlaps: 0,
    };
    let [phone, misfit, desktop] = &measures[..] else {
        panic!("{measures:?}");
    };
    assert_eq!((phone, desktop), (&fitting(390), &fitting(1200)));
    assert!(misfit.needed > 1990 && misfit.wide == 1, "{misfit:?}");
}

/// What tshark says of every frame: these fields.
fn tshark(file: &Path, fields: &[&str]) -> Option<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command
        .args(["-n", "-T", "fields", "-E", "separator=|", "-r"])
        .arg(file);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: tshark is not installed");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text
        .lines()
        .map(|line| line.split('|').map(str::to_owned).collect());
    Some(lines.collect())
}

#[test]
fn a_page_tells_verdict_hop_and_fix_and_needs_no_network() {
    if skipped() {
        return;
    }
    let lab = build("KVM");
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (page, frames) = (file("kvm.html"), file("kvm.pcapng"));
    let pattern = format!("{}*", lab.namespace(""));
    let output = doctor(&[
        "--netns", &pattern, "--json", "--html", &page, "--pcapng", &frames,
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    drop(lab);
    let html = fs::read_to_string(&page).unwrap();
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(left.len(), 2, "{left:?}");

    // All there without a browser too: the verdict, both blockers, the fix that helps and the one that does not.
    let cause = report.cause.as_ref().unwrap();
    assert!(html.contains(&cause.words) && html.contains(&cause.fixes[0].commands[0]));
    for words in [
        "<span class=\"badge\">Fault</span>",
        "HOST_IP_SPOOF_DIR",
        "2 HOST_IP_SPOOF_RS",
        "never seen at eth0",
        "class=\"way request\"",
        "class=\"way ahead\"",
        "tried: 7 of 7 pass in a twin, 0 before",
        "does not help: 0 of 7 pass in a twin",
        "The rule that decides",
        "undo",
    ] {
        assert!(html.contains(words), "{words}");
    }
    if let Some(dom) = shown(&html, [1200, 900]) {
        assert!(
            dom.contains("HOST_IP_SPOOF_DIR")
                && dom.contains("<svg")
                && dom.contains("never seen at eth0")
        );
        assert!(dom.contains(&cause.fixes[0].commands[0]));
    }
    fits(&html);

    has_frames_with_remarks(Path::new(&frames), cause);
    redacted_files_are_refused_or_redacted(&report);
}

fn has_frames_with_remarks(file: &Path, cause: &Finding) {
    let Some(lines) = tshark(
        file,
        &["frame.interface_name", "frame.comment", "tcp.dstport"],
    ) else {
        return;
    };
    let places: std::collections::BTreeSet<&String> = lines.iter().map(|line| &line[0]).collect();
    for node in [
        "client/eth0",
        "gateway/lan0",
        "switch/h1",
        "host1/vnet0",
        "director/eth0",
    ] {
        assert!(
            places.iter().any(|place| place.ends_with(node)),
            "{node}: {places:?}"
        );
    }
    let about: Vec<&Vec<String>> = lines
        .iter()
        .filter(|line| line[1].contains("finding 1: HOST_IP_SPOOF_DIR (proved)"))
        .collect();
    assert!(!about.is_empty());
    for line in about {
        assert!(
            line[0].ends_with("host1/vnet0") && line[1].contains("first missing at"),
            "{line:?}"
        );
        assert!(
            line[1].contains(&cause.words) && line[1].contains("hop "),
            "{line:?}"
        );
    }
    // The verdict is the whole file's.
    let bytes = fs::read(file).unwrap();
    let head = String::from_utf8_lossy(&bytes[..600]);
    assert!(head.contains("FAULT  HOST_IP_SPOOF_DIR (proved)"), "{head}");
}

fn redacted_files_are_refused_or_redacted(report: &Report) {
    let output = doctor(&["--pcapng", "/nowhere/x.pcapng", "--redact"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("--pcapng can't be redacted"), "{said}");
    for (words, expected) in [
        (
            &["--html", "/nowhere/x.html"][..],
            "there is no folder /nowhere",
        ),
        (&["--html", "/tmp"], "it is a folder"),
        (
            &["--pcapng", "x", "--bundle", "y"],
            "from bundles nothing is",
        ),
    ] {
        let output = doctor(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
    assert!(!report.redacted);
}

#[test]
fn a_redacted_report_names_nobody() {
    if skipped() {
        return;
    }
    let mut lab = build("KVM");
    // Bridges learn who is behind their ports.
    lab.expect_any_failure().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (bundle, page) = (file("bundle.json"), file("page.html"));
    let pattern = format!("{}*", lab.namespace(""));
    let collected = Command::new(PROGRAM)
        .args(["collect", "--netns", &pattern, "--out", &bundle])
        .output()
        .unwrap();
    assert!(collected.status.success(), "{collected:?}");
    // Hosts that ssh reached, with addresses of the public.
    let prefix = lab.namespace("");
    drop(lab);
    let text = fs::read_to_string(&bundle).unwrap();
    let text = text
        .replace("198.51.100.", "93.184.216.")
        .replace(CLIENT, "9.9.9.9");
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    for node in value["nodes"].as_array_mut().unwrap() {
        let name = node["node"].as_str().unwrap().replace(&prefix, "secret-");
        node["origin"] = serde_json::json!({"host": format!("alice@{name}.example.org")});
        node["node"] = name.into();
        for link in node["links"].as_array_mut().unwrap() {
            if link["name"].as_str().unwrap().starts_with("vnet") {
                link["kind"] = "tun".into();
            }
        }
    }
    fs::write(&bundle, serde_json::to_string(&value).unwrap()).unwrap();

    let ask = |arguments: &[&str]| {
        let words = [
            "doctor",
            "vip",
            "93.184.216.208:80",
            "--from",
            "9.9.9.9",
            "--bundle",
            &bundle,
        ];
        let output = Command::new(PROGRAM)
            .args(words)
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let open = ask(&["--json"]);
    for secret in [
        "secret-host1",
        "93.184.216.208",
        "9.9.9.9",
        "02:00:00:00:05:00",
    ] {
        assert!(open.contains(secret), "{secret} is what is to be covered");
    }
    let json = ask(&["--json", "--redact", "--html", &page]);
    let report: Report = serde_json::from_str(&json).unwrap();
    for text in [json, ask(&["--redact"]), fs::read_to_string(&page).unwrap()] {
        for secret in [
            "secret-",
            "alice",
            "example.org",
            "93.184.216.",
            "9.9.9.9",
            "02:00:00:00:05:00",
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    // It is still one story: who is called something is called so everywhere.
    assert!(report.redacted);
    let vip = report.question.service.ip().to_string();
    let all = || report.cause.iter().chain(&report.also);
    let spoof = all()
        .find(|one| one.code.name() == "HOST_IP_SPOOF_RS")
        .unwrap();
    assert!(spoof.fixes[0].commands[0].contains(&vip), "{spoof:#?}");
    assert!(
        report
            .topology
            .as_ref()
            .unwrap()
            .node(&spoof.node)
            .is_some()
    );
    assert!(spoof.words.starts_with(&spoof.node), "{spoof:#?}");
}
