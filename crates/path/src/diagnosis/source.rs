//! Answers that come from another address than the one that was asked.

use std::net::IpAddr;

use super::{Observed, Witness, counted, witnessed};
use crate::catalogue::Code;
use crate::finding::Finding;
use crate::ladder::{Headers, Packet};
use crate::lint::redirection;
use crate::observation::Way;

/// A server that answers datagrams from its own address; nothing configured tells of it.
pub(super) fn find(observed: &Observed<'_>) -> Option<Finding> {
    let client = observed.client.filter(|_| observed.udp)?;
    let vip = observed.service.ip();
    let conversations = observed.ladder.conversations.iter();
    let packets = conversations.flat_map(|one| &one.packets);
    let mut answers = packets.filter_map(|packet: &Packet| {
        let hop = packet.first()?;
        let Headers::Ip(summary) = &hop.headers else {
            return None;
        };
        let flow = summary.flow()?;
        let point = &observed.ladder.points[hop.point];
        let is_answer = flow.protocol == pointsman_wire::protocol::UDP
            && flow.destination.ip() == client
            && flow.source.ip() != vip
            && flow.source.port() == observed.service.port();
        (is_answer && hop.way == Way::Out && point.addresses.contains(&flow.source.ip()))
            .then(|| (point.node.clone(), point.device.clone(), flow.source.ip()))
    });
    let (node, device, from): (String, String, IpAddr) = answers.next()?;
    let count = 1 + answers.filter(|other| other.0 == node).count();
    let words =
        format!("{node} answers datagrams to {vip} from {from}, and clients do not know it");
    let fact = format!(
        "{} from {from} to {client} left {node} by {device}",
        counted(count, "answer")
    );
    let command = format!("pointsman capture --vip {}", observed.service);
    let [add, delete] = redirection(vip, observed.service.port(), "udp", &from.to_string());
    let mut finding = Finding::new(Code::UdpSource, &node, words)
        .at(&device)
        .mended_by(
            "have the server bind its socket to the virtual address, or answer from the address \
             that was asked (IP_PKTINFO)",
            [""; 0],
            [""; 0],
        )
        .mended_by(
            "until then: the real server translates what comes for the virtual address",
            [add],
            [delete],
        );
    finding
        .evidence
        .push(witnessed(Witness::Capture, fact, command));
    Some(finding)
}
