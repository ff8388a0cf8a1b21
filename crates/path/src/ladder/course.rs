//! Courses: the ways that packets of a conversation took, each with what is known of every hop.
//!
//! A course is what [`Ladder::table`] prints, for those who draw it or hand it on as JSON.

use serde::{Deserialize, Serialize};

use super::table::{classes, kinds};
use super::text::{addresses, title};
use super::{Checksum, Conversation, Gap, Hop, Ladder, Packet};
use crate::observation::{Point, Source, Way};

/// The ways that packets of one conversation took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Courses {
    /// The conversation: `TCP 192.0.2.10:40000 > 192.0.2.1:80, no real server seen, 1 packet`.
    pub of: String,
    /// The node at its other end, if anybody got there or answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The ways, the first taken first.
    pub ways: Vec<Course>,
    /// How many more there are.
    #[serde(default)]
    pub more: usize,
}

/// Packets that took the same way, with the same changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// True from client to server.
    pub forward: bool,
    /// How many packets.
    pub packets: usize,
    /// Which: `5 seen: [S], [.] x2`.
    pub what: String,
    /// Where they were seen, in the order of their way.
    pub hops: Vec<CourseHop>,
    /// Where they should have been seen and were not.
    #[serde(default)]
    pub gaps: Vec<CourseGap>,
    /// How it ended.
    pub end: CourseEnd,
}

/// How a course ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CourseEnd {
    /// At a node that has the destination address.
    Delivered,
    /// Too soon.
    Lost,
    /// Nobody can say whether that was the end.
    Unknown,
}

/// A place that packets were seen at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CourseHop {
    /// The node.
    pub node: String,
    /// Its device.
    pub device: String,
    /// Which way there: `in`, `out`; with `XDP` before it if the director itself tells.
    pub way: String,
    /// Addresses and ports, tunnels from the outside in.
    pub addresses: String,
    /// Source and destination of the link layer; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub macs: Option<[String; 2]>,
    /// What is different from the hop before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<CourseChange>,
    /// What else is known: wrong checksums, super-frames, the director's verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A header that somebody wrote anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CourseChange {
    /// Which: `TTL`.
    pub what: String,
    /// As it was.
    pub before: String,
    /// As it is now.
    pub after: String,
}

/// A place where packets should have been seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CourseGap {
    /// After how many hops.
    pub after: usize,
    /// The node.
    pub node: String,
    /// Its device.
    pub device: String,
    /// True if captures there would not have seen them: an XDP program takes them before.
    pub hidden: bool,
    /// True if the capture there lost frames, so that a gap proves nothing.
    #[serde(default)]
    pub lossy: bool,
}

impl Course {
    /// The place where packets should have been seen after their last hop.
    pub fn first_missing(&self) -> Option<&CourseGap> {
        let end = self.hops.len();
        self.gaps.iter().find(|gap| gap.after == end && !gap.hidden)
    }
}

impl Ladder {
    /// The ways that packets of a conversation of this ladder took, at most `limit` of them.
    pub fn courses(&self, conversation: &Conversation, limit: usize) -> Courses {
        let classes = classes(conversation);
        let ways = classes.iter().take(limit).filter_map(|class| {
            let packet = class.packets.first()?;
            Some(self.course(packet, &class.packets))
        });
        Courses {
            of: title(conversation),
            server: conversation.server.clone(),
            ways: ways.collect(),
            more: classes.len().saturating_sub(limit),
        }
    }

    fn course(&self, packet: &Packet, all: &[&Packet]) -> Course {
        let gaps = packet.gaps.iter().map(|(after, gap)| {
            let (Gap::Hidden(at) | Gap::Missing(at)) = *gap;
            let point = &self.points[at];
            CourseGap {
                after: *after,
                node: point.node.clone(),
                device: point.device.clone(),
                hidden: matches!(gap, Gap::Hidden(_)),
                lossy: point.lost > 0,
            }
        });
        let gaps: Vec<CourseGap> = gaps.collect();
        let last = packet.hops.last().map(|hop| &self.points[hop.point]);
        let at_end = |gap: &&CourseGap| gap.after == packet.hops.len();
        let end = match (packet.delivered, gaps.iter().find(at_end), last) {
            (true, ..) => CourseEnd::Delivered,
            (_, Some(gap), _) if gap.hidden => CourseEnd::Unknown,
            (_, Some(_), _) => CourseEnd::Lost,
            // Without addresses nobody can say that this is not the end of its way.
            (_, None, Some(last)) if !last.addresses.is_empty() => CourseEnd::Lost,
            (_, None, _) => CourseEnd::Unknown,
        };
        Course {
            forward: packet.forward,
            packets: all.len(),
            what: kinds(all),
            hops: packet.hops.iter().map(|hop| self.course_hop(hop)).collect(),
            gaps,
            end,
        }
    }

    fn course_hop(&self, hop: &Hop) -> CourseHop {
        let point = &self.points[hop.point];
        let link = hop.headers.link();
        let changed = hop.changed.iter().map(|change| CourseChange {
            what: change.what.to_owned(),
            before: change.before.clone(),
            after: change.after.clone(),
        });
        let mut notes = Vec::new();
        if hop.checksum == Checksum::Wrong {
            notes.push("wrong checksum".to_owned());
        }
        if hop.gso {
            notes.push("super-frame".to_owned());
        }
        notes.extend(hop.note.clone());
        CourseHop {
            node: point.node.clone(),
            device: point.device.clone(),
            way: way_word(point, hop.way).to_owned(),
            addresses: addresses(&hop.headers),
            macs: link.map(|link| [link.source.to_string(), link.destination.to_string()]),
            changed: changed.collect(),
            notes,
        }
    }
}

/// Which way a frame went at a point, in a word or two.
pub(super) fn way_word(point: &Point, way: Way) -> &'static str {
    match (point.source, way) {
        (Source::Director, Way::Out) => "XDP out",
        (Source::Director, _) => "XDP in",
        (_, Way::OtherHost) if point.bridge.is_none() => "in, other",
        (_, way) => way.word(),
    }
}
