//! Where a probe that was lost could be put in again, further and further on, and what the answers say.
//!
//! A frame put in at a device is received there as if it came from the wire. The first place from which
//! the answer comes is behind what is broken; the one before it is not.

use std::net::IpAddr;

use pointsman_wire::Mac;

use crate::diagnosis::{self, Observed};
use crate::finding::{Evidence, Finding, Witness};
use crate::ladder::Headers;
use crate::lint::{Case, Lan};
use crate::observation::Way;

/// Most places at which frames are put in.
const PLACES: usize = 10;

/// A device that is to receive the probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: String,
    /// Its device.
    pub device: String,
    /// The link-layer address that the frame must be sent to there, if not the one it has.
    pub to: Option<Mac>,
    /// The other end of its cable, node and device, if it is known.
    pub other_end: Option<(String, String)>,
}

/// What is put in, and where: in the order of its way, first where it was seen last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Index of the frame among the recording's observations.
    pub observation: usize,
    /// The places.
    pub places: Vec<Place>,
}

/// How a place did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The place.
    pub place: Place,
    /// Frames put in.
    pub sent: usize,
    /// How many were answered so that the client got it.
    pub answered: usize,
}

/// Plans for a request that opens a conversation and got lost.
///
/// # Errors
///
/// Why nothing can be put in, in words.
pub fn plan(observed: &Observed<'_>, case: &Case) -> Result<Plan, String> {
    let points = &observed.ladder.points;
    let opens = |headers: &Headers| {
        let tcp = headers.ip().and_then(|ip| ip.tcp.as_ref());
        let syn = |flags: u8| flags & (pointsman_wire::tcp::SYN | pointsman_wire::tcp::ACK);
        headers.link().is_some()
            && headers.ip().is_some_and(|ip| ip.fragment.is_none())
            && tcp.map_or(observed.udp, |tcp| {
                syn(tcp.flags) == pointsman_wire::tcp::SYN
            })
    };
    // One that got lost, or that came back as an error, or round and round.
    let mut lost = diagnosis::lost(observed);
    let mut silent = diagnosis::unanswered(observed);
    let opening = |packet: &'_ crate::ladder::Packet| {
        let last = packet.hops.last().filter(|_| packet.forward)?;
        opens(&last.headers).then(|| last.clone())
    };
    let last = lost
        .find_map(opening)
        .or_else(|| silent.find_map(opening))
        .ok_or("no request that opens a conversation got lost on its way")?;
    let link = last
        .headers
        .link()
        .ok_or("frames there have no Ethernet header")?;
    if !link.vlans.is_empty() {
        return Err("frames there have VLAN tags".to_owned());
    }
    let point = &points[last.point];
    let lan = Lan::new(observed.before, case);
    let mut places = Vec::new();
    if last.way.is_in() {
        places.extend(lan.place(&point.node, &point.device));
    }
    let sent = last.way == Way::Out;
    places.extend(lan.way(&point.node, &point.device, sent, link.destination));
    // At last at a real server itself, whoever else was asked.
    let target = last.headers.ip().map(|ip| ip.destination);
    let servers = target.map_or_else(Vec::new, |target| lan.servers(target));
    for server in servers {
        let known = |own: &Place| (&own.node, &own.device) == (&server.node, &server.device);
        if !places.iter().any(known) {
            places.push(server);
        }
    }
    places.truncate(PLACES);
    if places.is_empty() {
        return Err(format!("nobody knows what is behind {point}"));
    }
    Ok(Plan {
        observation: last.observation,
        places,
    })
}

/// The places between which the way is broken: the last one that stays silent, and the first that answers.
pub fn broken(puts: &[Put]) -> Option<(&Put, &Put)> {
    let at = puts.iter().position(|put| put.answered > 0)?;
    let before = at.checked_sub(1)?;
    Some((&puts[before], &puts[at]))
}

/// Adds to findings at the broken place what was seen, and puts the surest first.
pub fn weigh(findings: &mut [Finding], puts: &[Put], client: IpAddr) {
    let Some((silent, answers)) = broken(puts) else {
        return;
    };
    for finding in findings.iter_mut() {
        if finding.node != silent.place.node {
            continue;
        }
        let fact = format!(
            "probes put in at {}/{}: {} of {} answered; at {}/{}: {} of {}",
            silent.place.node,
            silent.place.device,
            silent.answered,
            silent.sent,
            answers.place.node,
            answers.place.device,
            answers.answered,
            answers.sent
        );
        finding.evidence.push(Evidence {
            fact,
            command: format!("pointsman doctor vip --inject --from {client}"),
            node: None,
            witness: Some(Witness::Injection),
        });
        diagnosis::settle(finding);
    }
    diagnosis::sort(findings);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Code;

    fn put(node: &str, answered: usize) -> Put {
        Put {
            place: Place {
                node: node.to_owned(),
                device: "eth0".to_owned(),
                to: None,
                other_end: None,
            },
            sent: 2,
            answered,
        }
    }

    #[test]
    fn what_is_broken_is_before_the_first_answer() {
        let puts = [
            put("host1", 0),
            put("switch", 0),
            put("host2", 2),
            put("rs1", 2),
        ];
        let (silent, answers) = broken(&puts).unwrap();
        assert_eq!(
            (&*silent.place.node, &*answers.place.node),
            ("switch", "host2")
        );
        assert!(broken(&[put("host1", 0), put("rs1", 0)]).is_none());
        assert!(broken(&[put("host1", 2), put("rs1", 2)]).is_none());
        let mut findings = vec![
            Finding::new(Code::ReversePath, "rs1", "one"),
            Finding::new(Code::PortIsolated, "switch", "other"),
        ];
        weigh(&mut findings, &puts, "192.0.2.1".parse().unwrap());
        assert_eq!(findings[0].node, "switch");
        assert_eq!(diagnosis::witnesses(&findings[0]), [Witness::Injection]);
        assert!(diagnosis::witnesses(&findings[1]).is_empty());
    }
}
