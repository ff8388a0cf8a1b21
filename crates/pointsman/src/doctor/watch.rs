//! Watching probes: captures at all interfaces, and what kernels drop.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use pointsman_datapath::drops::{Drops, Seen};
use pointsman_lab::recorder::observation;
use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::{Captures, Options};
use pointsman_path::bundle::Bundle;
use pointsman_path::capture_filter::Wanted;
use pointsman_path::diagnosis::KernelDrop;
use pointsman_path::observation::{Observation, Recording};
use pointsman_path::report::Unobserved;
use pointsman_path::snapshot::{Origin, Snapshot};

use super::sightings;
use super::station::{Errand, Station};
use crate::capture::points::{self, Opened, Place};
use crate::far::Ssh;

/// What is missing where captures can't be had.
pub(super) const FRAMES_UNSEEN: &str = "frames";
/// What is missing where kernels can't be watched.
pub(super) const DROPS_UNSEEN: &str = "packets that kernels drop";
/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// How long frames may take to be seen everywhere.
const SETTLE: Duration = Duration::from_millis(60);
/// Most frames that are kept.
const FRAMES: usize = 200_000;
/// Most frames of one loss of a device that are counted.
const FRAMES_LOST: u32 = 100;
/// Bytes of unread frames of each interface.
const BUFFER: usize = 2 << 20;

/// A watch over all nodes of a bundle.
pub(super) struct Watch {
    captures: Option<(Arc<AtomicBool>, JoinHandle<Result<Recording>>)>,
    drops: Option<Drops>,
    owners: HashMap<u32, String>,
    nodes: Bundle,
    stations: Vec<Station>,
}

impl Watch {
    /// Begins to watch what is about an address; what can't be watched is told.
    ///
    /// Hosts are watched by stations, if it is told how to reach them.
    pub(super) fn begin(
        bundle: &Bundle,
        wanted: &Wanted,
        address: IpAddr,
        ssh: Option<Ssh<'_>>,
        unobserved: &mut Vec<Unobserved>,
    ) -> Self {
        // First, for they take longest to begin.
        let stations = ssh.map_or_else(Vec::new, |ssh| {
            let errand = Errand::Service {
                address,
                ends: wanted.ends.clone(),
                clients: wanted.clients.clone(),
            };
            Station::send(bundle, &errand, ssh, unobserved)
        });
        let is_near = |node: &Snapshot| !matches!(node.origin, Origin::Host(_));
        if !bundle.nodes.iter().any(is_near) {
            return Self {
                captures: None,
                drops: None,
                owners: HashMap::new(),
                nodes: Bundle::default(),
                stations,
            };
        }
        let mut missing = |what: &str, error: anyhow::Error| {
            unobserved.push(Unobserved {
                what: what.to_owned(),
                because: format!("{error:#}"),
            });
        };
        let options = Options {
            buffer_bytes: BUFFER,
            ..Options::default()
        };
        let opened =
            open(bundle, &[], wanted, &options).map_err(|error| missing(FRAMES_UNSEEN, error));
        for failure in opened.iter().flat_map(|opened| &opened.directors.failures) {
            missing(
                "the director's own records",
                anyhow::anyhow!(failure.clone()),
            );
        }
        let captures = opened
            .ok()
            .map(spawn)
            .transpose()
            .map_err(|error| missing(FRAMES_UNSEEN, error))
            .ok()
            .flatten();
        // What captures can't show, tracepoints may.
        let watch = match captures {
            Some(_) => Drops::watch(address),
            None => Drops::watch_all(address),
        };
        let drops = watch
            .map_err(|error| missing(DROPS_UNSEEN, error.into()))
            .ok();
        for tracepoint in drops.iter().flat_map(Drops::missing) {
            let what = format!("what the tracepoint {tracepoint} tells");
            missing(
                &what,
                anyhow::anyhow!("this kernel does not let it be used"),
            );
        }
        Self {
            captures,
            drops,
            owners: owners(bundle),
            nodes: bundle.clone(),
            stations,
        }
    }

    /// Begins to listen to virtual routers and neighbors; this host's own interfaces can be named.
    pub(super) fn listen(
        bundle: &Bundle,
        interfaces: &[String],
        ssh: Option<Ssh<'_>>,
        unobserved: &mut Vec<Unobserved>,
    ) -> Self {
        let stations = ssh.map_or_else(Vec::new, |ssh| {
            Station::send(bundle, &Errand::Routers, ssh, unobserved)
        });
        let is_near = |node: &Snapshot| !matches!(node.origin, Origin::Host(_));
        let options = Options {
            buffer_bytes: BUFFER,
            snaplen: Some(512),
            filter: router_filter(),
            ..Options::default()
        };
        // What directors do is no matter: they leave VRRP to the kernel.
        let begin = || open(bundle, interfaces, &Wanted::default(), &options).and_then(spawn);
        let captures = match bundle.nodes.iter().any(is_near).then(begin).transpose() {
            Ok(captures) => captures,
            Err(error) => {
                unobserved.push(Unobserved {
                    what: FRAMES_UNSEEN.to_owned(),
                    because: format!("{error:#}"),
                });
                None
            }
        };
        Self {
            captures,
            drops: None,
            owners: HashMap::new(),
            nodes: Bundle::default(),
            stations,
        }
    }

    /// Listens no longer: what was heard, and the stations, which can still ask.
    pub(super) fn heard(
        mut self,
        unobserved: &mut Vec<Unobserved>,
    ) -> Result<(Recording, Vec<Station>)> {
        let mut stations = std::mem::take(&mut self.stations);
        let mut far = thread::scope(|scope| {
            let threads = stations.iter_mut().map(|station| {
                let node = station.node().to_owned();
                (node, scope.spawn(|| station.report()))
            });
            let threads: Vec<_> = threads.collect();
            let threads = threads.into_iter();
            let ended = threads.filter_map(|(node, thread)| Some((node, thread.join().ok()?)));
            ended.collect::<Vec<_>>()
        });
        let (mut recording, _) = self.end(unobserved)?;
        for (node, report) in far.drain(..) {
            match report {
                Ok((more, _)) => recording.append(more),
                Err(error) => unobserved.push(Unobserved {
                    what: format!("frames at {node}"),
                    because: format!("{error:#}"),
                }),
            }
        }
        Ok((recording, stations))
    }

    /// The station at a node.
    pub(super) fn station(&mut self, node: &str) -> Option<&mut Station> {
        let mut stations = self.stations.iter_mut();
        stations.find(|station| station.node() == node)
    }

    /// Ends it: what was seen.
    pub(super) fn end(
        mut self,
        unobserved: &mut Vec<Unobserved>,
    ) -> Result<(Recording, Vec<KernelDrop>)> {
        thread::sleep(SETTLE);
        let mut recording = match self.captures.take() {
            Some((stop, thread)) => {
                stop.store(true, Ordering::Relaxed);
                thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("the capture ended by itself"))??
            }
            None => Recording::default(),
        };
        let (mut found, mut passed) = (Vec::new(), Vec::new());
        while let Some(seen) = self.drops.as_mut().and_then(Drops::next_seen) {
            let drop = match seen {
                Seen::Dropped(drop) => drop,
                Seen::Passed(one) => {
                    passed.push(one);
                    continue;
                }
            };
            let told = KernelDrop {
                node: self.owners.get(&drop.netns).cloned().unwrap_or_default(),
                device: drop.device,
                reason: drop.reason,
                location: drop.location,
                protocol: drop.protocol,
                packet: drop.packet,
            };
            found.extend(std::iter::repeat_n(
                told,
                drop.count.min(FRAMES_LOST) as usize,
            ));
        }
        if !passed.is_empty() {
            recording = sightings::recording(&self.nodes, &self.owners, passed);
        }
        // All end at once, so that none sees much more than the others.
        let ends: Vec<_> = thread::scope(|scope| {
            let stations = self.stations.drain(..);
            let threads: Vec<_> = stations
                .map(|station| {
                    let node = station.node().to_owned();
                    (node, scope.spawn(|| station.end()))
                })
                .collect();
            let threads = threads.into_iter();
            threads
                .filter_map(|(node, thread)| Some((node, thread.join().ok()?)))
                .collect()
        });
        for (node, end) in ends {
            match end {
                Ok((more, drops)) => {
                    recording.append(more);
                    found.extend(drops);
                }
                Err(error) => unobserved.push(Unobserved {
                    what: format!("frames and drops at {node}"),
                    because: format!("{error:#}"),
                }),
            }
        }
        Ok((recording, found))
    }
}

/// Nodes by the number of their namespace.
fn owners(bundle: &Bundle) -> HashMap<u32, String> {
    let id = |origin: &Origin| match origin {
        Origin::Here => NetNs::current().ok()?.id().ok(),
        Origin::Netns(name) => NetNs::open(name).ok()?.id().ok(),
        Origin::Host(_) => None,
    };
    let nodes = bundle.nodes.iter();
    nodes
        .filter_map(|node| Some((u32::try_from(id(&node.origin)?).ok()?, node.node.clone())))
        .collect()
}

fn open(
    bundle: &Bundle,
    interfaces: &[String],
    wanted: &Wanted,
    options: &Options,
) -> Result<Opened> {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut places = Vec::new();
    let mut host = "here".to_owned();
    for node in &bundle.nodes {
        let netns = match &node.origin {
            Origin::Here => {
                host.clone_from(&node.node);
                None
            }
            Origin::Netns(name) => {
                names.insert(name.clone(), node.node.clone());
                Some(name.clone())
            }
            Origin::Host(_) => continue,
        };
        let devices = match netns {
            None => interfaces.to_vec(),
            Some(_) => Vec::new(),
        };
        places.push(Place { netns, devices });
    }
    anyhow::ensure!(!places.is_empty(), "no node is on this machine");
    let mut opened = points::open(&places, &host, wanted, options)?;
    let rename = |name: &mut String| {
        if let Some(node) = names.get(name) {
            name.clone_from(node);
        }
    };
    for point in &mut opened.points {
        rename(&mut point.node);
        if let Some((node, _)) = &mut point.peer {
            rename(node);
        }
    }
    Ok(opened)
}

fn spawn(opened: Opened) -> Result<(Arc<AtomicBool>, JoinHandle<Result<Recording>>)> {
    let stop = Arc::new(AtomicBool::new(false));
    let ended = Arc::clone(&stop);
    let thread = thread::Builder::new()
        .name("capture".to_owned())
        .spawn(move || record(opened, &ended))
        .context("cannot start a thread")?;
    Ok((stop, thread))
}

fn record(opened: Opened, stop: &AtomicBool) -> Result<Recording> {
    let mut captures = Captures::new(opened.captures);
    let mut directors = opened.directors;
    let mut recording = Recording {
        points: opened.points,
        observations: Vec::new(),
    };
    loop {
        let ending = stop.load(Ordering::Relaxed);
        let timeout = if ending { Duration::ZERO } else { LOOK };
        let mut take = |observation: Observation| {
            if recording.observations.len() < FRAMES {
                recording.observations.push(observation);
            }
        };
        let mut more = captures.read(timeout, directors.descriptors(), |point, frame| {
            take(observation(point, frame));
        })?;
        more |= directors.read(take);
        if ending && !more {
            break;
        }
    }
    let lost = captures.dropped().into_iter().enumerate();
    for (point, lost) in lost.chain(directors.lost()) {
        recording.points[point].lost = lost;
    }
    recording.join_records();
    Ok(recording)
}

/// Keeps VRRP, ARP and neighbor discovery; of a VLAN's frames too, for the kernel takes their tag out.
fn router_filter() -> Vec<libc::sock_filter> {
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
