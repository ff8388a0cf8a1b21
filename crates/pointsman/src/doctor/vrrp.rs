//! `pointsman doctor vrrp`: do virtual routers agree who is master, and does the segment believe it?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use pointsman_daemon::vrrp::inquiry;
use pointsman_lab::recorder::observation;
use pointsman_linux::netlink::Netlink;
use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::{Capture, Captures, Options};
use pointsman_path::bundle::Bundle;
use pointsman_path::capture_filter::Wanted;
use pointsman_path::finding::Finding;
use pointsman_path::observation::Recording;
use pointsman_path::question::Wish;
use pointsman_path::snapshot::{Origin, Snapshot};
use pointsman_path::vrrp::{self, Asked, Scene, Speaker};
use pointsman_wire::Mac;
use serde_json::json;

use super::{check, harmless};
use crate::capture;
use crate::capture::points::{self, Place};
use crate::collect::{self, Node, NodeFlags};

/// Bytes of unread frames of each interface.
const BUFFER: usize = 1 << 20;
/// Most frames that are kept.
const FRAMES: usize = 200_000;
/// For how long an answer is awaited, and how often is asked.
const ANSWER: Duration = Duration::from_millis(400);
const QUESTIONS: usize = 3;

pub(crate) const LONG_ABOUT: &str = "\
Say whether virtual routers agree who is master, and whether the segment believes it

Listens for some seconds at every interface to VRRP, ARP and neighbor discovery, reads how everything is \
set up, and asks the segment who has the virtual addresses. Says why there are two masters (a filter, \
other versions, ids, passwords, intervals, addresses, checksums, peers), where a master's address is not \
believed (a filter, stale neighbours, fixed entries), which virtual MACs a filter stops, and which ids \
are used twice. Any VRRP router will do: Pointsman's, keepalived's, others.

Without --netns, --host and --here it is this host that is asked. What several nodes tell is worth more: \
both routers, and the host of their bridge. --read takes capture files, --bundle what `pointsman collect` \
wrote; nothing is sent then.

Exit codes: 0 one master, and nothing wrong; 1 something found; 2 nobody can tell.

    pointsman doctor vrrp --netns 'pmdemo-*'
    pointsman doctor vrrp --here --interface br0 --seconds 10
    pointsman doctor vrrp --read router1.pcap --read router2.pcap --bundle bundle.json";

#[derive(Debug, Args)]
pub(crate) struct VrrpFlags {
    #[command(flatten)]
    nodes: NodeFlags,
    /// Capture at this interface of this host instead of all; may be repeated
    #[arg(long, value_name = "DEV")]
    interface: Vec<String>,
    /// A bundle of `pointsman collect` instead; may be repeated
    #[arg(long = "bundle", value_name = "FILE", conflicts_with_all = ["netns", "hosts", "here"])]
    bundles: Vec<PathBuf>,
    /// A capture file instead, pcap or pcapng; NAME says where it was made; may be repeated
    #[arg(long, value_name = "[NAME=]FILE", conflicts_with_all = ["netns", "hosts", "here", "interface"])]
    read: Vec<String>,
    /// For how long to listen
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Ask nobody for the virtual addresses
    #[arg(long)]
    no_probe: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What was found out.
#[derive(Default)]
struct Seen {
    bundle: Bundle,
    recording: Recording,
    asked: Vec<Asked>,
    failures: Vec<String>,
}

pub(super) fn run(flags: &VrrpFlags) -> Result<ExitCode> {
    let mut seen = if flags.bundles.is_empty() && flags.read.is_empty() {
        live(flags)?
    } else {
        let (recording, failures) = capture::read(&flags.read);
        Seen {
            bundle: collect::read(&flags.bundles)?,
            recording,
            failures,
            ..Seen::default()
        }
    };
    seen.recording
        .observations
        .retain(|frame| vrrp::is_about_routers(&frame.bytes));
    let speakers = vrrp::speakers(&seen.recording);
    if flags.bundles.is_empty() && flags.read.is_empty() && !flags.no_probe {
        seen.asked = ask(&seen, &speakers);
    }
    let findings = vrrp::examine(Scene {
        bundle: &seen.bundle,
        recording: &seen.recording,
        speakers: &speakers,
        asked: &seen.asked,
    });
    if findings.is_empty() && speakers.is_empty() {
        let failures = match seen.failures.is_empty() {
            true => String::new(),
            false => format!(" ({})", seen.failures.join("; ")),
        };
        bail!(
            "nobody advertises a virtual router here{failures}: look at the routers themselves, or \
             longer (--seconds)"
        );
    }
    let text = if flags.json {
        as_json(&seen, &speakers, &findings)?
    } else {
        as_text(&seen, &speakers, &findings)
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::from(u8::from(!findings.is_empty())))
}

/// Listens, and reads the nodes meanwhile.
fn live(flags: &VrrpFlags) -> Result<Seen> {
    let nodes = flags.nodes.nodes()?;
    let mut places = Vec::new();
    let mut failures = Vec::new();
    for node in &nodes {
        match node {
            Node::Here => places.push(Place {
                netns: None,
                devices: flags.interface.clone(),
            }),
            Node::Netns(name) => places.push(Place {
                netns: Some(name.clone()),
                devices: Vec::new(),
            }),
            Node::Host(host) => failures.push(format!(
                "frames at {host}: capture there with `pointsman capture --host`, and --read the file"
            )),
        }
    }
    let began = Instant::now();
    let limit = Duration::from_secs(flags.seconds);
    let options = Options {
        buffer_bytes: BUFFER,
        snaplen: Some(512),
        filter: filter(),
        ..Options::default()
    };
    let host = hostname();
    // What directors do is no matter: they leave VRRP to the kernel.
    let opened = points::open(&places, &host, &Wanted::default(), &options)?;
    let (points, captures) = (opened.points, opened.captures);
    thread::scope(|scope| {
        let listening = scope.spawn(move || {
            let mut recording = Recording {
                points,
                observations: Vec::new(),
            };
            let mut captures = Captures::new(captures);
            while began.elapsed() < limit {
                let left = limit.saturating_sub(began.elapsed());
                captures.read(left, None, |point, frame| {
                    if recording.observations.len() < FRAMES {
                        recording.observations.push(observation(point, frame));
                    }
                })?;
            }
            anyhow::Ok(recording)
        });
        let nodes = nodes.iter().map(|node| (node.clone(), None)).collect();
        let (bundle, unreached) = collect::collect(&flags.nodes, nodes, &Wish::default());
        failures.extend(unreached);
        let recording = listening
            .join()
            .map_err(|_| anyhow::anyhow!("the capture ended by itself"))?
            .context("capturing")?;
        let mut seen = Seen {
            bundle,
            recording,
            asked: Vec::new(),
            failures,
        };
        // This host's points are called as the node is.
        let here = seen.bundle.nodes.iter();
        let mut here = here.filter(|node| node.origin == Origin::Here);
        if let Some(name) = here.next().map(|node| node.node.clone()) {
            for point in &mut seen.recording.points {
                if point.netns.is_none() {
                    point.node.clone_from(&name);
                }
            }
        }
        Ok(seen)
    })
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Keeps VRRP, ARP and neighbor discovery; of a VLAN's frames too, for the kernel takes their tag out.
fn filter() -> Vec<libc::sock_filter> {
    let load = |size: u32, at: u32| (libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at);
    let equal = |value, yes, no| (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, value);
    let verdict = |length| (libc::BPF_RET | libc::BPF_K, 0, 0, length);
    [
        load(libc::BPF_H, 12),
        equal(0x0806, 8, 0),
        equal(0x0800, 0, 2),
        load(libc::BPF_B, 23),
        equal(112, 5, 6),
        equal(0x86dd, 0, 5),
        load(libc::BPF_B, 20),
        equal(112, 2, 0),
        equal(58, 0, 2),
        // Echoes and errors are sorted out later.
        verdict(u32::MAX),
        verdict(u32::MAX),
        verdict(0),
    ]
    .map(|(code, jt, jf, k)| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    })
    .to_vec()
}

/// Asks for each virtual address, from nodes that hear its master and are not it.
fn ask(seen: &Seen, speakers: &[Speaker]) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut done = BTreeSet::new();
    for speaker in speakers.iter().filter(|speaker| !speaker.stopped) {
        for at in &speaker.points {
            let point = &seen.recording.points[*at];
            let Some(node) = seen.bundle.node(&point.node) else {
                continue;
            };
            for address in speaker.addresses() {
                if !done.insert((node.node.clone(), *address)) {
                    continue;
                }
                if let Some(own) = asker(node, &point.device, *address, speaker)
                    && let Some(answers) = answers(node, &point.device, own, *address)
                {
                    asked.push(Asked {
                        node: node.node.clone(),
                        address: *address,
                        answers,
                    });
                }
            }
        }
    }
    asked
}

/// The address of a node's interface from which it can ask, unless it has the virtual address.
fn asker(node: &Snapshot, device: &str, address: IpAddr, speaker: &Speaker) -> Option<IpAddr> {
    if node.owner_of(address).is_some() || node.owner_of(speaker.source).is_some() {
        return None;
    }
    let link = node.link(device).filter(|link| link.port.is_none())?;
    let mut own = link.addresses.iter().filter(|own| {
        let local = own.prefix.address;
        match local {
            IpAddr::V4(_) => address.is_ipv4(),
            IpAddr::V6(local) => address.is_ipv6() && local.is_unicast_link_local(),
        }
    });
    own.next().map(|own| own.prefix.address)
}

/// Who answers at an interface; nothing if nobody can be asked there.
fn answers(node: &Snapshot, device: &str, own: IpAddr, address: IpAddr) -> Option<Vec<Mac>> {
    let inside = || -> Option<Vec<Mac>> {
        let link = Netlink::new().ok()?.link_by_name(device).ok()?;
        let mac = Mac(link.mac?);
        let options = Options {
            buffer_bytes: BUFFER,
            filter: inquiry::answers(),
            ..Options::default()
        };
        let mut capture = Capture::open_with(link.index, &options).ok()?;
        let mut found = Vec::new();
        for _ in 0..QUESTIONS {
            capture.send(&inquiry::question(mac, own, address)).ok()?;
            let until = Instant::now() + ANSWER;
            while let Ok(Some(frame)) =
                capture.next(until.saturating_duration_since(Instant::now()))
            {
                if let Some((from, to, mac)) = inquiry::answer(&frame.bytes)
                    && (from, to) == (address, own)
                    && !found.contains(&mac)
                {
                    found.push(mac);
                }
            }
        }
        Some(found)
    };
    match &node.origin {
        Origin::Here => inside(),
        Origin::Netns(name) => NetNs::open(name).ok()?.run_in(inside).ok()?,
        Origin::Host(_) => None,
    }
}

fn line(speaker: &Speaker) -> String {
    let addresses: Vec<String> = speaker
        .addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    let (version, priority) = speaker
        .advert()
        .map_or((0, 0), |advert| (advert.form.version(), advert.priority));
    format!(
        "virtual router {} ({}): {} at {}, version {version}, priority {priority}, every {} ms{}",
        speaker.vrid,
        addresses.join(" "),
        speaker.source,
        speaker.last.mac,
        speaker.interval().as_millis(),
        if speaker.stopped { ", stopped" } else { "" }
    )
}

fn as_text(seen: &Seen, speakers: &[Speaker], findings: &[Finding]) -> String {
    let mut text = String::new();
    for speaker in speakers {
        let _ = writeln!(text, "{}", line(speaker));
    }
    let _ = match findings.len() {
        0 => writeln!(text, "nothing wrong with who is master"),
        1 => writeln!(text, "1 finding"),
        count => writeln!(text, "{count} findings"),
    };
    for finding in findings {
        check::tell(&mut text, finding);
    }
    text += &check::looked_at(&seen.bundle, &seen.failures);
    if !findings.is_empty() {
        text += check::EXPLAIN;
    }
    harmless(&text)
}

fn as_json(seen: &Seen, speakers: &[Speaker], findings: &[Finding]) -> Result<String> {
    let routers: Vec<_> = speakers
        .iter()
        .map(|speaker| {
            json!({
                "source": speaker.source,
                "mac": speaker.last.mac.to_string(),
                "vrid": speaker.vrid,
                "version": speaker.advert().map(|advert| advert.form.version()),
                "priority": speaker.advert().map(|advert| advert.priority),
                "interval_ms": speaker.interval().as_millis() as u64,
                "addresses": speaker.addresses(),
                "destination": speaker.last.destination,
                "advertisements": speaker.times.len(),
                "stopped": speaker.stopped,
            })
        })
        .collect();
    let document = json!({
        "schema": "pointsman.vrrp/1",
        "routers": routers,
        "asked": seen.asked,
        "findings": findings,
        "not_reached": seen.failures,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}
