//! Where to capture on this machine: interfaces of network namespaces.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use pointsman_linux::netlink::Netlink;
use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::{Capture, Options};
use pointsman_path::capture_filter::Wanted;
use pointsman_path::observation::{Point, Xdp};
use pointsman_wire::Mac;

use super::records::{self, Directors, Found};

/// Link layers that carry Ethernet headers; a loopback's are zeros.
const WITH_HEADER: [u16; 2] = [libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK];

/// A namespace, and which of its devices are wanted; all that are up when none is named.
#[derive(Debug)]
pub(crate) struct Place {
    /// Its name; none for the one that this process is in.
    pub(crate) netns: Option<String>,
    /// Devices by name.
    pub(crate) devices: Vec<String>,
}

/// What is known of a device for finding the other end of its cable.
struct Cable {
    own: u32,
    other: u32,
    /// Whether the other end is in the same namespace.
    here: bool,
}

/// What is open and known at a device.
type At = (Point, Capture, Option<Cable>, Found);

/// Captures that are open, and directors that are recorded.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// All points, those of the captures first and in their order.
    pub(crate) points: Vec<Point>,
    /// The captures.
    pub(crate) captures: Vec<Capture>,
    /// The directors at some of these devices.
    pub(crate) directors: Directors,
}

/// Opens a capture at every device wanted.
pub(crate) fn open(
    places: &[Place],
    host: &str,
    wanted: &Wanted,
    options: &Options,
) -> Result<Opened> {
    let mut points = Vec::new();
    let mut captures = Vec::new();
    let mut cables = Vec::new();
    let mut found = Vec::new();
    for place in places {
        let open = || open_in(place, host, wanted, options);
        let opened = match &place.netns {
            Some(name) => NetNs::open(name)?.run_in(open)?,
            None => open(),
        };
        let opened = opened.with_context(|| match &place.netns {
            Some(name) => format!("namespace {name}"),
            None => "this namespace".to_owned(),
        })?;
        let mut here = Vec::new();
        for (point, capture, cable, programs) in opened {
            here.push((points.len(), programs));
            points.push(point);
            captures.push(capture);
            cables.push(cable);
        }
        found.push(here);
    }
    join_cables(&mut points, &cables);
    if points.is_empty() {
        bail!("no interface is up there; name one with --point [NETNS:]DEV");
    }
    let mut directors = Directors::new(wanted);
    for here in found {
        directors.begin(here, wanted, options.snaplen, &mut points);
    }
    Ok(Opened {
        points,
        captures,
        directors,
    })
}

fn open_in(place: &Place, host: &str, wanted: &Wanted, options: &Options) -> Result<Vec<At>> {
    let mut netlink = Netlink::new()?;
    let links = netlink.links()?;
    let addresses: Vec<IpAddr> = netlink.addresses()?.iter().map(|own| own.address).collect();
    let names: HashMap<u32, (&str, Option<&str>)> = links
        .iter()
        .map(|link| (link.index, (link.name.as_str(), link.kind.as_deref())))
        .collect();
    for name in &place.devices {
        if !links.iter().any(|link| link.name == *name) {
            bail!("no interface {name:?}; `ip link` shows them");
        }
    }
    let mut opened = Vec::new();
    for link in &links {
        let named = place.devices.contains(&link.name);
        if !named && (!place.devices.is_empty() || !link.up) {
            continue;
        }
        let bare = !WITH_HEADER.contains(&link.hardware);
        let options = Options {
            filter: if options.filter.is_empty() {
                instructions(wanted, bare)
            } else {
                options.filter.clone()
            },
            ..options.clone()
        };
        let capture = match Capture::open_with(link.index, &options) {
            Ok(capture) => capture,
            Err(error) if error.errno() == Some(libc::EPERM) => {
                bail!("captures need root (CAP_NET_RAW); --read FILE reads capture files without");
            }
            Err(error) => return Err(error).with_context(|| link.name.clone()),
        };
        let is_loopback = link.hardware == libc::ARPHRD_LOOPBACK;
        let bridge = link.master.and_then(|master| names.get(&master));
        let point = Point {
            node: place.netns.clone().unwrap_or_else(|| host.to_owned()),
            host: host.to_owned(),
            netns: place.netns.clone(),
            device: link.name.clone(),
            bare,
            mac: link.mac.filter(|_| !is_loopback).map(Mac),
            addresses: addresses.clone(),
            bridge: bridge
                .filter(|(_, kind)| *kind == Some("bridge"))
                .map(|(name, _)| (*name).to_owned()),
            xdp: link.xdp.map(|(id, native)| Xdp {
                id: id.into(),
                native,
            }),
            promiscuous: options.promiscuous,
            ..Point::default()
        };
        let is_cable = link.kind.as_deref() == Some("veth");
        let cable = link.lower.filter(|_| is_cable).map(|other| Cable {
            own: link.index,
            other,
            here: link.lower_netns.is_none(),
        });
        opened.push((point, capture, cable, records::find(link)));
    }
    Ok(opened)
}

/// Finds both ends of cables: each names the other's number.
fn join_cables(points: &mut [Point], cables: &[Option<Cable>]) {
    let ends: Vec<(String, String)> = points
        .iter()
        .map(|point| (point.node.clone(), point.device.clone()))
        .collect();
    for (at, cable) in cables.iter().enumerate() {
        let Some(cable) = cable else { continue };
        let mut others = cables.iter().enumerate().filter(|(other_at, other)| {
            other.as_ref().is_some_and(|other| {
                *other_at != at
                    && (other.own, other.other) == (cable.other, cable.own)
                    && other.here == cable.here
                    && (ends[*other_at].0 == ends[at].0) == cable.here
            })
        });
        // Numbers are not unique among namespaces: two candidates tell nothing.
        if let (Some((other, _)), None) = (others.next(), others.next()) {
            points[at].peer = Some(ends[other].clone());
        }
    }
}

fn instructions(wanted: &Wanted, bare: bool) -> Vec<libc::sock_filter> {
    let program = wanted.program(bare);
    let instruction = |(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k };
    program.into_iter().map(instruction).collect()
}
