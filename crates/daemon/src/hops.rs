//! Next hops of real servers, kept true.
//!
//! [`World`] is what the kernel says of routes, links and neighbours; [`plan`] derives from it where
//! frames to a real server go, and is pure. [`Keeper`] asks the kernel, listens to it, and has the
//! neighbours that next hops need resolved and kept resolved.

mod keeper;
mod neighbours;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::IpAddr,
};

use pointsman_director::{
    control::HopRequest,
    model::ForwardingMethod,
    record::{NextHop, hop_flag},
};
use pointsman_linux::netlink::{Link, Route};
use pointsman_wire::Mac;

pub use keeper::{Keeper, Report, own_address};
pub use neighbours::Neighbours;

/// A neighbour: the interface's number, and the address.
pub type NeighbourKey = (u32, IpAddr);

/// What the kernel says of the ways out of this host.
#[derive(Debug, Default)]
pub struct World {
    /// Interfaces by number.
    pub links: HashMap<u32, Link>,
    /// Ways to the addresses asked for.
    pub routes: HashMap<IpAddr, Route>,
    /// Neighbours whose link-layer address may be used.
    pub neighbours: HashMap<NeighbourKey, [u8; 6]>,
    /// Neighbours that the kernel asked for in vain.
    pub failed: HashSet<NeighbourKey>,
}

/// Where frames to a real server go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// For its record.
    pub hop: NextHop,
    /// The address whose link-layer address the hop needs: a router's, or the server's own.
    pub gateway: IpAddr,
    /// Outer source of a tunnel.
    pub source: Option<IpAddr>,
    /// The neighbour that has to be kept resolved.
    pub neighbour: Option<NeighbourKey>,
    /// What stands in the way.
    pub obstacle: Option<Obstacle>,
}

/// Why frames to a real server can't leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// The kernel has no way to the address.
    NoRoute,
    /// The interface of the route does not exist any more.
    NoLink(u32),
    /// The interface is down.
    Down(u32),
    /// The interface has no Ethernet address.
    NotEthernet(u32),
    /// The route leads to everybody or to a group.
    NotUnicast,
    /// The tunnel has no source address.
    NoSource,
    /// The neighbour is being asked for.
    Asking(NeighbourKey),
    /// The neighbour was asked for in vain; the kernel goes on asking.
    NoNeighbour(NeighbourKey),
}

/// Where frames for `request` go in this world; `None` while its route was not asked for.
pub fn plan(request: &HopRequest, world: &World) -> Option<Way> {
    let route = world.routes.get(&request.address)?;
    let mut way = Way {
        hop: NextHop::default(),
        gateway: request.address,
        source: None,
        neighbour: None,
        obstacle: None,
    };
    way.obstacle = fill(&mut way, request, route, world).err();
    Some(way)
}

fn fill(way: &mut Way, request: &HopRequest, route: &Route, world: &World) -> Result<(), Obstacle> {
    if route.is_local() {
        way.hop.flags = hop_flag::LOCAL;
        return Ok(());
    }
    if route.is_unreachable() {
        return Err(Obstacle::NoRoute);
    }
    if route.kind != pointsman_linux::netlink::RouteKind::Unicast {
        return Err(Obstacle::NotUnicast);
    }
    let index = route.out_index.ok_or(Obstacle::NoRoute)?;
    let link = world.links.get(&index).ok_or(Obstacle::NoLink(index))?;
    if !link.up {
        return Err(Obstacle::Down(index));
    }
    way.gateway = route.gateway.unwrap_or(request.address);
    if request.method == ForwardingMethod::Tunnel {
        way.source = Some(route.source.ok_or(Obstacle::NoSource)?);
    }
    let mac = link.mac.ok_or(Obstacle::NotEthernet(index))?;
    let neighbour = (index, way.gateway);
    way.neighbour = Some(neighbour);
    let (ifindex, vlan) = device(link, world);
    way.hop = NextHop {
        ifindex,
        mtu: route.mtu.unwrap_or(u32::MAX).min(link.mtu),
        destination: Mac::default(),
        source: Mac(mac),
        vlan,
        flags: 0,
    };
    match world.neighbours.get(&neighbour) {
        Some(destination) => {
            way.hop.destination = Mac(*destination);
            way.hop.flags = hop_flag::RESOLVED;
            Ok(())
        }
        None => {
            if vlan != 0 {
                // The kernel would look for the neighbour on the interface below.
                way.hop.ifindex = 0;
            }
            Err(match world.failed.contains(&neighbour) {
                true => Obstacle::NoNeighbour(neighbour),
                false => Obstacle::Asking(neighbour),
            })
        }
    }
}

/// The device to send on and the tag to send with: a VLAN interface is its lower one and a tag,
/// because no driver's XDP knows VLAN interfaces.
fn device(link: &Link, world: &World) -> (u32, u16) {
    let lower = link
        .lower
        .filter(|_| link.lower_netns.is_none())
        .and_then(|lower| world.links.get(&lower))
        // A tag within a tag is for the VLAN interfaces themselves.
        .filter(|lower| lower.vlan_id.is_none());
    match (link.vlan_id, lower) {
        (Some(id), Some(lower)) => (lower.index, id),
        _ => (link.index, 0),
    }
}

impl World {
    /// The name of an interface, or its number.
    pub fn link_name(&self, index: u32) -> String {
        match self.links.get(&index) {
            Some(link) => link.name.clone(),
            None => format!("#{index}"),
        }
    }

    /// A way in words: `eth1 52:54:00:11:22:33 via 10.0.0.1`, or why there is none.
    pub fn describe(&self, way: &Way, address: IpAddr) -> String {
        if let Some(obstacle) = way.obstacle {
            return format!("unresolved: {}", Described(self, obstacle));
        }
        if way.hop.flags & hop_flag::LOCAL != 0 {
            return "this host".to_owned();
        }
        let mut text = self.link_name(way.neighbour.map_or(way.hop.ifindex, |(index, _)| index));
        text += &format!(" {}", way.hop.destination);
        if way.hop.vlan != 0 {
            text += &format!(" vlan {}", way.hop.vlan);
        }
        if way.gateway != address {
            text += &format!(" via {}", way.gateway);
        }
        text
    }
}

/// An obstacle with the names of its interfaces.
struct Described<'a>(&'a World, Obstacle);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(world, obstacle) = self;
        match obstacle {
            Obstacle::NoRoute => f.write_str("no route to it"),
            Obstacle::NoLink(index) => write!(f, "interface #{index} is gone"),
            Obstacle::Down(index) => write!(f, "{} is down", world.link_name(*index)),
            Obstacle::NotEthernet(index) => {
                write!(f, "{} has no Ethernet address", world.link_name(*index))
            }
            Obstacle::NotUnicast => f.write_str("it is no address of one host"),
            Obstacle::NoSource => f.write_str("no source address for the tunnel"),
            Obstacle::Asking((index, address)) => {
                write!(f, "asking for {address} on {}", world.link_name(*index))
            }
            Obstacle::NoNeighbour((index, address)) => {
                write!(
                    f,
                    "{address} does not answer on {}",
                    world.link_name(*index)
                )
            }
        }
    }
}
