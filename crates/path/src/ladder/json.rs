//! A ladder as JSON.

use serde_json::{Value, json};

use crate::ladder::table::classes;
use crate::ladder::text::{addresses, what};
use crate::ladder::{Checksum, Conversation, Gap, Hop, Ladder, Packet, Repeat};
use crate::observation::{Point, Source, Way};

/// What the form of the document is called; it changes when a reader would notice.
pub const SCHEMA: &str = "capture.ladder/1";

impl Ladder {
    /// Everything that is known, for programs.
    pub fn to_json(&self) -> Value {
        let clocks = self
            .clocks
            .iter()
            .map(|(host, ahead)| json!({"host": host, "ahead_ns": ahead}));
        let points: Vec<Value> = self.points.iter().map(point).collect();
        let conversations = self.conversations.iter().map(|one| self.conversation(one));
        json!({
            "schema": SCHEMA,
            "points": points,
            "clocks": clocks.collect::<Vec<_>>(),
            "conversations": conversations.collect::<Vec<_>>(),
            "remarks": self.remarks(),
            "unread_frames": self.unread,
        })
    }

    fn conversation(&self, conversation: &Conversation) -> Value {
        let packets = conversation
            .packets
            .iter()
            .map(|packet| self.packet_json(packet));
        // One verdict for each way that packets took.
        let ways = classes(conversation).into_iter().filter_map(|class| {
            let packet = class.packets.first()?;
            Some(json!({
                "direction": direction(packet),
                "packets": class.packets.len(),
                "hops": packet.hops.iter().map(|hop| self.points[hop.point].to_string())
                    .collect::<Vec<_>>(),
                "delivered": packet.delivered,
                "last_seen": packet.hops.last().map(|hop| self.points[hop.point].to_string()),
                "first_missing": self.first_missing(packet),
            }))
        });
        json!({
            "name": conversation.to_string(),
            "client": conversation.client.to_string(),
            "service": conversation.service.to_string(),
            "server": conversation.server,
            "ways": ways.collect::<Vec<_>>(),
            "packets": packets.collect::<Vec<_>>(),
        })
    }

    fn packet_json(&self, packet: &Packet) -> Value {
        let repeat = packet.repeat.map(|repeat| match repeat {
            Repeat::Retransmission(of) => json!({"kind": "retransmission", "of": of}),
            Repeat::Duplicate(of) => json!({"kind": "duplicate", "of": of}),
            Repeat::Resegmented(of) => json!({"kind": "resegmented", "of": of}),
        });
        json!({
            "direction": direction(packet),
            "what": packet.first().map(|hop| what(&hop.headers)),
            "repeat": repeat,
            "delivered": packet.delivered,
            "first_missing": self.first_missing(packet),
            "hops": packet.hops.iter().map(|hop| self.hop_json(hop)).collect::<Vec<_>>(),
        })
    }

    fn hop_json(&self, hop: &Hop) -> Value {
        let link = hop.headers.link();
        let changed = hop.changed.iter().map(
            |change| json!({"what": change.what, "before": change.before, "after": change.after}),
        );
        json!({
            "point": self.points[hop.point].to_string(),
            "way": match hop.way {
                Way::In => "in",
                Way::Out => "out",
                Way::OtherHost => "other host",
                Way::Unknown => "unknown",
            },
            "at_ns": hop.at_ns,
            "macs": link.map(|link| [link.source.to_string(), link.destination.to_string()]),
            "vlans": link.map(|link| &link.vlans),
            "addresses": addresses(&hop.headers),
            "ttl": hop.headers.ttl(),
            "checksum": match hop.checksum {
                Checksum::Right => "right",
                Checksum::Pending => "to be filled in",
                Checksum::Wrong => "wrong",
                Checksum::Unknown => "unknown",
            },
            "super_frame": hop.gso,
            "changed": changed.collect::<Vec<_>>(),
            "note": hop.note,
        })
    }

    /// The place where a packet that was last seen elsewhere should have been seen next.
    pub fn first_missing(&self, packet: &Packet) -> Option<String> {
        packet.gaps.iter().find_map(|(after, gap)| match gap {
            Gap::Missing(at) if *after == packet.hops.len() => Some(self.points[*at].to_string()),
            _ => None,
        })
    }
}

fn direction(packet: &Packet) -> &'static str {
    if packet.forward { "request" } else { "answer" }
}

fn point(point: &Point) -> Value {
    json!({
        "name": point.to_string(),
        "node": point.node,
        "host": point.host,
        "namespace": point.netns,
        "device": point.device,
        "source": match point.source {
            Source::Capture => "capture",
            Source::Director => "director",
        },
        "mac": point.mac.map(|mac| mac.to_string()),
        "bridge": point.bridge,
        "peer": point.peer.as_ref().map(|(node, device)| format!("{node}/{device}")),
        "xdp": point.xdp.map(|xdp| json!({"program": xdp.id, "native": xdp.native})),
        "promiscuous": point.promiscuous,
        "lost": point.lost,
    })
}
