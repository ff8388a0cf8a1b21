//! Places where a packet should have been seen and was not.

use pointsman_linux::packet::Direction;

use crate::ladder::{Hop, Packet};
use crate::recorder::{Point, Xdp};
use crate::topology::{Role, Topology};

/// What is known about a place where a packet should have been seen and was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// An XDP program handles frames there before a capture can see them.
    Hidden {
        /// Node.
        role: Role,
        /// Interface name.
        interface: String,
        /// The program.
        xdp: Xdp,
    },
    /// Nothing hides frames there: the packet did not arrive.
    Missing {
        /// Node.
        role: Role,
        /// Interface name.
        interface: String,
    },
}

/// Finds where a packet went into a cable and was not seen to come out at the other end.
pub(crate) fn find_gaps(topology: &Topology, points: &[Point], packet: &mut Packet) {
    for at in 0..packet.hops.len() {
        let point = &points[packet.hops[at].point];
        let Some((role, interface)) = other_end(topology, point) else {
            continue;
        };
        let beyond = |hop: &Hop| {
            let other = &points[hop.point];
            other.role == role && other.interface == interface
        };
        // Out of one end, it should come in at the other; and what comes in has gone out there.
        let (seen, after) = match packet.hops[at].direction {
            Direction::Out => (packet.hops.get(at + 1).is_some_and(beyond), at + 1),
            Direction::In | Direction::OtherHost => (
                at.checked_sub(1).is_some_and(|at| beyond(&packet.hops[at])),
                at,
            ),
        };
        if seen {
            continue;
        }
        let program = points
            .iter()
            .find(|other| other.role == role && other.interface == interface)
            .and_then(|other| other.xdp.clone());
        let gap = match program {
            Some(xdp) => Gap::Hidden {
                role,
                interface: interface.to_owned(),
                xdp,
            },
            None if packet.hops[at].direction == Direction::Out => Gap::Missing {
                role,
                interface: interface.to_owned(),
            },
            None => continue,
        };
        if !packet.gaps.contains(&(after, gap.clone())) {
            packet.gaps.push((after, gap));
        }
    }
}

/// The interface at the other end of the cable.
fn other_end<'a>(topology: &'a Topology, point: &Point) -> Option<(Role, &'a str)> {
    topology.nodes.iter().find_map(|node| {
        node.legs.iter().find_map(|leg| {
            if point.role == Role::Switch && leg.port == point.interface {
                Some((node.role, leg.name.as_str()))
            } else if point.role == node.role && leg.name == point.interface {
                Some((Role::Switch, leg.port.as_str()))
            } else {
                None
            }
        })
    })
}
