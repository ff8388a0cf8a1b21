//! What a director receives, sends and drops is captured at the director itself, under XDP too; and it
//! costs the director little.

#[path = "support/balance.rs"]
#[allow(dead_code)]
mod balance;
#[path = "support/capturing.rs"]
mod capturing;

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use balance::{Hook, PATIENCE, add, build, direct, method, service};
use capturing::{Capturing, spaces, to_service};
use nix::sys::signal::{Signal, kill};
use pointsman_lab::address::{Family, vip};
use pointsman_lab::director::Director;
use pointsman_lab::lab::Lab;
use pointsman_lab::topology::{Kind, Options, Role};
use serde_json::Value;

/// A service on port 80 by the lab's method, with one real server.
fn start(kind: Kind, hook: Hook) -> Option<Lab> {
    let options = Options {
        real_servers: 1,
        ..hook.options()
    };
    build(kind, &options, &[80])
}

fn serve<'a>(lab: &'a Lab, kind: Kind, hook: Hook) -> Director<'a> {
    let director = direct(lab, hook, &[]);
    let at = service(Family::V4, 80);
    add(&director, lab, ("-t", at, "rr"), Family::V4, |_| {
        method(kind).to_owned()
    });
    director.wait_resolved().unwrap();
    director
}

/// The hops of a packet at the director: point, way, source and destination MAC, note.
fn at_director<'a>(lab: &Lab, packet: &'a Value) -> Vec<[&'a str; 5]> {
    let own = format!("{}/", lab.namespace(Role::Director));
    let hops = packet["hops"].as_array().unwrap();
    hops.iter()
        .filter(|hop| hop["point"].as_str().unwrap().starts_with(&own))
        .map(|hop| {
            let text = |value: &'a Value| value.as_str().unwrap_or_default();
            [
                text(&hop["point"]).strip_prefix(&own).unwrap(),
                text(&hop["way"]),
                text(&hop["macs"][0]),
                text(&hop["macs"][1]),
                text(&hop["note"]),
            ]
        })
        .collect()
}

fn mac(lab: &Lab, role: Role, device: &str) -> String {
    let node = lab.topology().node(role).unwrap();
    let leg = node.legs.iter().find(|leg| leg.name == device).unwrap();
    leg.mac.to_string()
}

/// One request through a director; the hops of its first packet at the director.
fn request(kind: Kind, hook: Hook, point_in: &str, point_out: &str, egress: &str) {
    let Some(lab) = start(kind, hook) else { return };
    let director = serve(&lab, kind, hook);
    let at = service(Family::V4, 80);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("all.pcapng");
    let server = lab.topology().real_server(1, Family::V4).to_string();
    let words = [
        "--vip",
        &at.to_string(),
        "--server",
        &server,
        "--json",
        "--out",
    ];
    let place = ["--netns", &spaces(&lab)];
    let file = file.to_str().unwrap();
    let capturing = Capturing::start(&[&place[..], &words, &[file]].concat());
    assert_eq!(lab.client().name(at).unwrap(), "rs1");
    let json = capturing.json();
    let packets = to_service(&json)["packets"].as_array().unwrap();
    let reason = match kind {
        Kind::Nat => "director: masquerade",
        _ => "director: direct",
    };
    let [ingress, egress] = ["eth0", egress].map(|device| mac(&lab, Role::Director, device));
    let server = mac(&lab, Role::RealServer(1), "eth0");
    let mut requests = 0;
    for packet in packets {
        assert_eq!(packet["first_missing"], Value::Null, "{packet:#}");
        let hops = at_director(&lab, packet);
        if packet["direction"] != "request" {
            let wanted = if kind == Kind::Nat { 2 } else { 0 };
            assert_eq!(hops.len(), wanted, "{packet:#}");
            let told = hops.iter().all(|hop| hop[4] == "director: reply");
            assert!(told, "{hops:?}");
            continue;
        }
        requests += 1;
        let [came, went] = hops[..] else {
            panic!("{hops:?} in {packet:#}");
        };
        assert_eq!([came[0], came[1], came[3]], [point_in, "in", &ingress]);
        assert_eq!([went[0], went[1]], [point_out, "out"]);
        assert_eq!([went[2], went[3]], [&egress, &server]);
        assert_eq!([came[4], went[4]], [reason, reason], "{packet:#}");
    }
    assert!(requests >= 3, "{packets:#?}");
    // Nothing is recorded any more, and the file has it all.
    let (read, vip) = (["capture", "--read", file, "--vip"], at.to_string());
    let words = [&read[..], &[&vip, "--json"]].concat();
    let output = Command::new(pointsman_lab::director::program().unwrap())
        .args(words)
        .output()
        .unwrap();
    let again: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &to_service(&again)["packets"][0];
    assert_eq!(at_director(&lab, first).len(), 2, "{first:#}");
    drop(director);
}

#[test]
fn what_xdp_receives_and_sends_is_seen_at_the_director() {
    let point = "eth0 (director)";
    request(Kind::OneLeg, Hook::Xdp, point, point, "eth0");
}

#[test]
fn what_xdp_sends_out_of_another_device_is_seen_there() {
    let [from, to] = ["eth0 (director)", "eth1 (director)"];
    request(Kind::TwoBridge, Hook::Xdp, from, to, "eth1");
}

#[test]
fn what_xdp_translates_is_seen_at_the_director_in_both_directions() {
    let [from, to] = ["eth0 (director)", "eth1 (director)"];
    request(Kind::Nat, Hook::Xdp, from, to, "eth1");
}

#[test]
fn what_tcx_handles_is_seen_once_with_the_directors_word() {
    request(Kind::OneLeg, Hook::Tcx, "eth0", "eth0", "eth0");
}

/// A service without real servers: SYNs are dropped at the director.
#[test]
fn what_the_director_drops_is_last_seen_there_with_the_reason() {
    for (hook, point) in [(Hook::Xdp, "eth0 (director)"), (Hook::Tcx, "eth0")] {
        let Some(lab) = start(Kind::OneLeg, hook) else {
            return;
        };
        let director = direct(&lab, hook, &[]);
        let at = service(Family::V4, 80);
        director.ipvsadm(&format!("-A -t {at} -s rr")).unwrap();
        let place = ["--netns", &spaces(&lab), "--vip", &at.to_string()];
        let capturing = Capturing::start(&[&place[..], &["--json"]].concat());
        let limit = Duration::from_millis(2500);
        lab.client().limit(limit).name(at).unwrap_err();
        let json = capturing.json();
        let packets = to_service(&json)["packets"].as_array().unwrap();
        let syn = packets.iter().find(|one| one["direction"] == "request");
        let syn = syn.unwrap();
        let hops = at_director(&lab, syn);
        let [hop] = hops[..] else {
            panic!("{hops:?} in {syn:#}");
        };
        assert_eq!([hop[0], hop[1]], [point, "in"]);
        assert_eq!(hop[4], "director: dropped, no-destination");
        assert_eq!(
            syn["hops"].as_array().unwrap().last().unwrap()["note"],
            hop[4]
        );
        assert_eq!(syn["delivered"], false);
        assert_eq!(syn["first_missing"], Value::Null, "{syn:#}");
        // For people.
        let capturing = Capturing::start(&place);
        lab.client().limit(limit).name(at).unwrap_err();
        let (text, said, _) = capturing.end(Signal::SIGTERM);
        let end = format!(
            "dropped at {}/{point}: no-destination",
            lab.namespace(Role::Director)
        );
        assert!(text.contains(&end), "{text} {said}");
        drop(director);
    }
}

/// Whoever captures and is killed leaves a director that goes on, and that others can capture at soon.
#[test]
fn one_capture_at_a_time_hears_the_director() {
    let Some(lab) = start(Kind::OneLeg, Hook::Xdp) else {
        return;
    };
    let director = serve(&lab, Kind::OneLeg, Hook::Xdp);
    let at = SocketAddr::new(vip(Family::V4), 80);
    let place = ["--netns", &spaces(&lab), "--vip", &at.to_string(), "--json"];
    let first = Capturing::start(&place);
    let second = Capturing::start(&place);
    assert_eq!(lab.client().name(at).unwrap(), "rs1");
    let (_, said, code) = second.end(Signal::SIGINT);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("another capture records there"), "{said}");
    assert_eq!(
        at_director(&lab, &to_service(&first.json())["packets"][0]).len(),
        2
    );
    let third = Capturing::start(&place);
    third.end(Signal::SIGKILL);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        assert_eq!(lab.client().name(at).unwrap(), "rs1");
        let capturing = Capturing::start(&place);
        assert_eq!(lab.client().name(at).unwrap(), "rs1");
        let (out, said, _) = capturing.end(Signal::SIGINT);
        let json: Value = serde_json::from_str(&out).unwrap();
        if at_director(&lab, &to_service(&json)["packets"][0]).len() == 2 {
            break;
        }
        assert!(said.contains("another capture records there"), "{said}");
        assert!(Instant::now() < deadline, "{said}");
    }
    drop(director);
}

/// A capture that can't keep up costs records, which are counted, and no frames.
#[test]
fn a_flood_loses_records_and_no_frames() {
    const TURNS: usize = 40;
    const FRAMES: usize = 40;
    let Some(lab) = start(Kind::OneLeg, Hook::Xdp) else {
        return;
    };
    let director = direct(&lab, Hook::Xdp, &[]);
    let at = service(Family::V4, 80);
    add(&director, &lab, ("-u", at, "rr"), Family::V4, |_| {
        "-g".to_owned()
    });
    director.wait_resolved().unwrap();
    // Neighbours are known before: what waits for ARP is dropped beyond a few.
    lab.client().udp(at, b"first").unwrap();
    let place = ["--netns", &lab.namespace(Role::Director), "--json"];
    let capturing = Capturing::start(&place);
    // While it sleeps, more comes than the director keeps for it.
    kill(capturing.id(), Signal::SIGSTOP).unwrap();
    let answers = lab.run_in(Role::Client, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answers = 0;
        for _ in 0..TURNS {
            // No more at once than a veth keeps.
            for _ in 0..FRAMES {
                socket.send_to(&[7; 1000], at).unwrap();
            }
            for _ in 0..FRAMES {
                answers += usize::from(socket.recv(&mut [0; 2000]).is_ok());
            }
        }
        answers
    });
    assert_eq!(answers.unwrap(), TURNS * FRAMES);
    kill(capturing.id(), Signal::SIGCONT).unwrap();
    let json = capturing.json();
    let points = json["points"].as_array().unwrap();
    let told = points.iter().find(|point| point["source"] == "director");
    let lost = told.unwrap()["lost"].as_u64().unwrap();
    assert!(lost > 100, "{lost} lost");
    let remarks = json["remarks"].to_string();
    let remark = format!("eth0 (director) lost {lost} frames");
    assert!(remarks.contains(&remark), "{remarks}");
    drop(director);
}
