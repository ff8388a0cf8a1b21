//! The ladder of each connection in a lab: what [`pointsman_path::ladder`] makes of a recording, with
//! what the topology knows.

use std::collections::HashMap;

use pointsman_path::ladder::{Hints, Ladder};
use pointsman_path::observation::Recording;

use crate::address::{Family, vip};
use crate::topology::Topology;

/// Joins a recording into the ladders of its connections; ARP and what else has no ports is left out.
pub fn join(topology: &Topology, recording: &Recording) -> Ladder {
    let legs = topology
        .nodes
        .iter()
        .flat_map(|node| node.legs.iter().map(move |leg| (node.role, leg)));
    let owners: HashMap<_, _> = legs
        .map(|(role, leg)| (leg.mac, format!("{role} {}", leg.name)))
        .collect();
    let hints = Hints {
        virtual_addresses: Family::BOTH.map(vip).to_vec(),
        servers: Family::BOTH
            .into_iter()
            .flat_map(|family| topology.real_servers(family))
            .collect(),
        owners,
    };
    let mut ladder = Ladder::new(recording, &hints);
    ladder
        .conversations
        .retain(|conversation| conversation.client.port() != 0);
    ladder
}
