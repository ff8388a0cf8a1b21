//! `pointsman doctor vrrp`: do virtual routers agree who is master, and does the segment believe it?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use pointsman_linux::netns::NetNs;
use pointsman_path::bundle::Bundle;
use pointsman_path::finding::Finding;
use pointsman_path::observation::Recording;
use pointsman_path::question::Wish;
use pointsman_path::report::Unobserved;
use pointsman_path::snapshot::{Origin, Snapshot};
use pointsman_path::vrrp::{self, Asked, Scene, Speaker};
use serde_json::json;

use super::inquiry::Inquiry;
use super::station::Station;
use super::watch::Watch;
use super::{check, harmless, trial};
use crate::capture;
use crate::collect::{self, Node, NodeFlags};
use crate::far::Ssh;

pub(crate) const LONG_ABOUT: &str = "\
Say whether virtual routers agree who is master, and whether the segment believes it

Listens for some seconds at every interface to VRRP, ARP and neighbor discovery, reads how everything is \
set up, and asks the segment who has the virtual addresses. Says why there are two masters (a filter, \
a bridge that does not pass the group on, other versions, ids, passwords, intervals, addresses, checksums, \
peers), where a master's address is not \
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
    let is_live = flags.bundles.is_empty() && flags.read.is_empty();
    let (mut seen, mut stations) = if is_live {
        live(flags)?
    } else {
        let (recording, failures) = capture::read(&flags.read);
        let seen = Seen {
            bundle: collect::read(&flags.bundles)?,
            recording,
            failures,
            ..Seen::default()
        };
        (seen, Vec::new())
    };
    seen.recording
        .observations
        .retain(|frame| vrrp::is_about_routers(&frame.bytes));
    let speakers = vrrp::speakers(&seen.recording);
    if is_live && !flags.no_probe {
        seen.asked = ask(&seen, &speakers, &mut stations);
    }
    drop(stations);
    let mut findings = vrrp::examine(Scene {
        bundle: &seen.bundle,
        recording: &seen.recording,
        speakers: &speakers,
        asked: &seen.asked,
    });
    let mut untried = Vec::new();
    trial::all(&mut findings, &seen.bundle, None, &mut untried);
    let told = |one: Unobserved| format!("{}: {}", one.what, one.because);
    seen.failures.extend(untried.into_iter().map(told));
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

/// Listens, and reads the nodes meanwhile; the stations at hosts can still ask.
fn live(flags: &VrrpFlags) -> Result<(Seen, Vec<Station>)> {
    let nodes = flags.nodes.nodes()?;
    // What they are called is known when they have been read.
    let unread = nodes.iter().map(|node| Snapshot {
        node: match node {
            Node::Here => hostname(),
            Node::Netns(name) | Node::Host(name) => name.clone(),
        },
        origin: match node {
            Node::Here => Origin::Here,
            Node::Netns(name) => Origin::Netns(name.clone()),
            Node::Host(host) => Origin::Host(host.clone()),
        },
        ..Snapshot::default()
    });
    let unread = Bundle {
        nodes: unread.collect(),
    };
    let ssh = Ssh {
        program: flags.nodes.ssh.as_os_str(),
        sudo: flags.nodes.sudo,
    };
    let mut unobserved = Vec::new();
    let watch = Watch::listen(&unread, &flags.interface, Some(ssh), &mut unobserved);
    let began = Instant::now();
    let nodes = nodes.into_iter().map(|node| (node, None)).collect();
    let (bundle, mut failures) = collect::collect(&flags.nodes, nodes, &Wish::default());
    let limit = Duration::from_secs(flags.seconds);
    thread::sleep(limit.saturating_sub(began.elapsed()));
    let (mut recording, mut stations) = watch.heard(&mut unobserved)?;
    let name = |called: &str| {
        let mut unread = unread.nodes.iter();
        let origin = &unread.find(|node| node.node == called)?.origin;
        let mut read = bundle.nodes.iter();
        Some(read.find(|node| node.origin == *origin)?.node.clone())
    };
    for point in &mut recording.points {
        let peer = point.peer.as_mut().map(|(node, _)| node);
        for called in std::iter::once(&mut point.node).chain(peer) {
            if let Some(name) = name(called) {
                *called = name;
            }
        }
    }
    for station in &mut stations {
        if let Some(name) = name(station.node()) {
            station.rename(name);
        }
    }
    let told = |one: Unobserved| format!("{}: {}", one.what, one.because);
    failures.extend(unobserved.into_iter().map(told));
    let seen = Seen {
        bundle,
        recording,
        asked: Vec::new(),
        failures,
    };
    Ok((seen, stations))
}

fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Asks for each virtual address, from nodes that hear its master and are not it.
fn ask(seen: &Seen, speakers: &[Speaker], stations: &mut [Station]) -> Vec<Asked> {
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
                let Some(own) = asker(node, &point.device, *address, speaker) else {
                    continue;
                };
                let inquiry = Inquiry {
                    device: point.device.clone(),
                    own,
                    address: *address,
                };
                let station = stations.iter_mut().find(|one| one.node() == node.node);
                let answers = match (&node.origin, station) {
                    (Origin::Here, _) => inquiry.ask(None),
                    (Origin::Netns(name), _) => NetNs::open(name)
                        .map_err(Into::into)
                        .and_then(|netns| inquiry.ask(Some(&netns))),
                    (Origin::Host(_), Some(station)) => station.ask(&inquiry),
                    (Origin::Host(_), None) => continue,
                };
                // Where nobody can be asked nobody is known not to answer.
                if let Ok(answers) = answers {
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
