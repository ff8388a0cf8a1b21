//! Reports as documents: whatever a name holds, whatever is missing.

use pointsman_path::bundle::Bundle;
use pointsman_path::diagnosis::Outcome;
use pointsman_path::finding::{Evidence, Finding, Fix, RuleName, Step, Tested, Witness};
use pointsman_path::ladder::{Course, CourseChange, CourseEnd, CourseGap, CourseHop, Courses};
use pointsman_path::redact::redact_report;
use pointsman_path::report::{Ahead, Report, Unobserved};
use pointsman_path::topology::{Peer, Topology};
use proptest::prelude::*;
use serde_json::json;

/// As the first version wrote it.
const FIRST: &str = r#"{
    "schema": "pointsman.report/1", "tool": "pointsman 0.1.0",
    "question": {"service": "192.0.2.1:80", "protocol": "tcp", "client": null, "asker": null},
    "verdict": {"status": "unknown", "code": null, "confidence": null, "summary": "nobody can tell"},
    "sent": "", "outcomes": [], "ladder": "", "cause": null, "also": [], "not_observed": [], "changes": []
}"#;

/// A name as an attacker would choose it.
const EVIL: &str = "x\"'><script>alert(1)</script><img src=http://evil.example/>&\u{1b}[2J\u{202e}";

fn bare() -> Report {
    serde_json::from_str(FIRST).unwrap()
}

fn hop(node: &str, device: &str, way: &str) -> CourseHop {
    CourseHop {
        node: node.to_owned(),
        device: device.to_owned(),
        way: way.to_owned(),
        addresses: "198.51.100.1:1 > 192.0.2.1:80".to_owned(),
        macs: Some(["02:00:00:00:00:01", "02:00:00:00:00:02"].map(str::to_owned)),
        changed: vec![CourseChange {
            what: "TTL".to_owned(),
            before: "64".to_owned(),
            after: EVIL.to_owned(),
        }],
        notes: vec![EVIL.to_owned()],
    }
}

/// A report in which everything that comes from elsewhere is called as `name` says.
fn full(name: &str) -> Report {
    let mut report = bare();
    let topology = format!(
        r#"{{"schema": "pointsman.topology/1", "client": "198.51.100.1", "nodes": [
            {{"name": "client", "role": "client", "addresses": ["198.51.100.1"], "ports": [
                {{"name": "eth0", "peer": {{"node": {name}, "port": {name}}}}}]}},
            {{"name": {name}, "role": "director", "addresses": ["192.0.2.1"], "ports": [
                {{"name": {name}, "peer": {{"node": "client", "port": "eth0"}}}}]}}]}}"#,
        name = serde_json::to_string(name).unwrap()
    );
    report.topology = Some(serde_json::from_str(&topology).unwrap());
    let code = "HOST_IP_SPOOF_DIR".parse().unwrap();
    let mut finding = Finding::new(code, name, name).at(name);
    finding.owner = Some(name.to_owned());
    finding.rule = Some(RuleName {
        table: name.to_owned(),
        chain: name.to_owned(),
        text: name.to_owned(),
        listing: name.to_owned(),
    });
    finding.evidence.push(Evidence {
        fact: name.to_owned(),
        command: name.to_owned(),
        node: Some(name.to_owned()),
        witness: Some(Witness::Counter),
    });
    finding.fixes.push(Fix {
        words: name.to_owned(),
        node: Some(name.to_owned()),
        commands: vec![name.to_owned()],
        undo: vec![name.to_owned()],
        afterwards: vec![Step {
            node: name.to_owned(),
            command: name.to_owned(),
        }],
        tested: Some(Tested {
            before: 0,
            after: 7,
            of: 7,
            by: Witness::Twin,
        }),
    });
    report.verdict.summary = finding.words.clone();
    report.verdict.code = Some(code);
    report.verdict.confidence = Some(finding.confidence);
    report.verdict.status = pointsman_path::report::Status::Fault;
    report.also.push(finding.clone());
    report.cause = Some(finding);
    report.sent = name.to_owned();
    report.outcomes = vec![Outcome::Failed(name.to_owned())];
    report.courses = Some(Courses {
        of: name.to_owned(),
        server: Some(name.to_owned()),
        ways: vec![Course {
            forward: true,
            packets: 1,
            what: name.to_owned(),
            hops: vec![hop("client", "eth0", "out"), hop(name, name, "in")],
            gaps: vec![CourseGap {
                after: 2,
                node: name.to_owned(),
                device: name.to_owned(),
                hidden: false,
                lossy: true,
            }],
            end: CourseEnd::Lost,
        }],
        more: 0,
    });
    report.ahead = vec![Ahead {
        forward: true,
        places: vec![Peer {
            node: name.to_owned(),
            port: name.to_owned(),
        }],
    }];
    report.not_observed = vec![Unobserved {
        what: name.to_owned(),
        because: name.to_owned(),
    }];
    report.changes = vec![name.to_owned()];
    report.tool = name.to_owned();
    report
}

/// Names of elements and attributes of a document.
fn markup(html: &str) -> Vec<String> {
    let document = html.split_once("</style>").unwrap().1;
    let tags = document.split('<').skip(1);
    tags.map(|tag| {
        tag.split('>')
            .next()
            .unwrap()
            .split(['"'])
            .step_by(2)
            .collect::<Vec<_>>()
            .join("")
    })
    .collect()
}

#[test]
fn hostile_names_are_shown_and_do_nothing() {
    let (evil, plain) = (full(EVIL).html(), full("plain").html());
    // The same elements in the same order, with the same attributes: no name has become markup.
    assert_eq!(markup(&evil), markup(&plain));
    assert!(!evil.contains("<script") && !evil.contains("<img"));
    assert!(!evil.contains('\u{1b}') && !evil.contains('\u{202e}'));
    assert!(evil.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
}

#[test]
fn nothing_is_fetched() {
    let html = full("plain").html();
    for (at, _) in html.match_indices("=\"") {
        let value = html[at + 2..].split('"').next().unwrap();
        let name = html[..at].rsplit(' ').next().unwrap();
        let fetches = ["src", "href", "srcset", "action", "data"].contains(&name);
        assert!(
            !fetches || value.starts_with('#') || value == "data:,",
            "{name}={value}"
        );
    }
    assert!(!html.contains("url(") && !html.contains("@import") && !html.contains("<script"));
}

#[test]
fn what_is_missing_leaves_no_empty_box() {
    let html = bare().html();
    assert!(html.contains("nobody can tell"));
    for absent in [
        "<svg", "<figure", "<h2>", "<table", "<article", "<ol", "<ul", "<pre", "1970",
    ] {
        assert!(!html.contains(absent), "{absent}");
    }
    let html = full("plain").html();
    for present in [
        "<svg",
        "<table",
        "<article",
        "never seen at plain",
        "7 of 7 pass in a twin",
    ] {
        assert!(html.contains(present), "{present}");
    }
}

#[test]
fn nothing_is_left_of_a_name() {
    let mut report = full("db7.example");
    report.tool = String::new();
    report.ladder = "  db7.example  eth0  in\n".to_owned();
    let asked = ["ann@db7.example".to_owned()];
    let report = redact_report(&report, &Bundle::default(), &asked, 1);
    let json = serde_json::to_string(&report).unwrap();
    for text in [json, report.html(), report.text()] {
        assert!(!text.contains("db7") && text.contains("node2"), "{text}");
    }
}

#[test]
fn reports_of_the_first_version_are_read() {
    let report = bare();
    assert_eq!((report.taken, report.topology.is_none()), (0, true));
    let again: Report =
        serde_json::from_str(&serde_json::to_string(&full("plain")).unwrap()).unwrap();
    assert_eq!(again, full("plain"));
}

/// Nodes with ports whose cables lead anywhere: to each other, to themselves, to nobody, in rings.
fn any_topology() -> impl Strategy<Value = Topology> {
    let role = prop::sample::select(vec![
        "client",
        "gateway",
        "switch",
        "host",
        "director",
        "real-server",
        "other",
    ]);
    let port = (
        0..3_usize,
        prop::option::of((0..8_usize, 0..3_usize)),
        any::<bool>(),
    );
    let node = (role, prop::collection::vec(port, 0..4));
    prop::collection::vec(node, 0..8).prop_map(|nodes| {
        let nodes = nodes.iter().enumerate().map(|(at, (role, ports))| {
            let ports = ports.iter().map(|(port, peer, bridged)| {
                json!({
                    "name": format!("eth{port}"),
                    "bridge": bridged.then_some("br0"),
                    "peer": peer.map(|(node, port)| json!({"node": format!("n{node}"), "port": format!("eth{port}")})),
                })
            });
            json!({"name": format!("n{at}"), "role": role, "ports": ports.collect::<Vec<_>>()})
        });
        let nodes: Vec<_> = nodes.collect();
        serde_json::from_value(json!({"schema": "pointsman.topology/1", "nodes": nodes})).unwrap()
    })
}

fn any_course() -> impl Strategy<Value = Course> {
    let way = prop::sample::select(vec!["in", "out", "XDP out", "seen"]);
    let place = (0..9_usize, 0..3_usize, way);
    let gap = (0..6_usize, 0..9_usize, 0..3_usize, any::<bool>());
    let end = prop::sample::select(vec![
        CourseEnd::Delivered,
        CourseEnd::Lost,
        CourseEnd::Unknown,
    ]);
    let parts = (
        any::<bool>(),
        prop::collection::vec(place, 0..7),
        prop::option::of(gap),
        end,
    );
    parts.prop_map(|(forward, places, gap, end)| Course {
        forward,
        packets: 1,
        what: String::new(),
        hops: places
            .iter()
            .map(|(node, port, way)| hop(&format!("n{node}"), &format!("eth{port}"), way))
            .collect(),
        gaps: gap
            .map(|(after, node, port, hidden)| CourseGap {
                after,
                node: format!("n{node}"),
                device: format!("eth{port}"),
                hidden,
                lossy: false,
            })
            .into_iter()
            .collect(),
        end,
    })
}

/// Places and sizes of all boxes of nodes.
fn boxes(html: &str) -> Vec<[f64; 4]> {
    let boxes = html.split("<rect class=\"node ").skip(1);
    let number = |rest: &str, name: &str| -> f64 {
        let (_, value) = rest.split_once(&format!(" {name}=\"")).unwrap();
        value.split('"').next().unwrap().parse().unwrap()
    };
    boxes
        .map(|rest| ["x", "y", "width", "height"].map(|name| number(rest, name)))
        .collect()
}

proptest! {
    #[test]
    fn whatever_is_connected_is_drawn_beside_each_other(
        topology in any_topology(),
        ways in prop::collection::vec(any_course(), 0..3),
        cause in prop::option::of(0..8_usize),
    ) {
        let mut report = full("plain");
        let size = topology.nodes.len();
        report.topology = Some(topology);
        report.courses = Some(Courses { of: String::new(), server: None, ways, more: 0 });
        report.cause.as_mut().unwrap().node = cause.map_or(String::new(), |cause| format!("n{cause}"));
        let html = report.html();
        prop_assert!(!html.contains("NaN") && !html.contains("inf"));
        let boxes = boxes(&html);
        // Each node, and perhaps what nobody read.
        prop_assert!(boxes.len() <= size + 1);
        for (at, [x, y, width, height]) in boxes.iter().enumerate() {
            prop_assert!(*x >= 0.0 && *y >= 0.0 && *width > 0.0 && *height > 0.0);
            for [other_x, other_y, other_width, other_height] in &boxes[at + 1..] {
                let beside = x + width <= *other_x || other_x + other_width <= *x;
                let below = y + height <= *other_y || other_y + other_height <= *y;
                prop_assert!(beside || below, "boxes over each other");
            }
        }
    }
}
