//! Who advertises, as what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use pointsman_wire::advert::{Advert, Form};
use pointsman_wire::vrrp::STOP;

use super::frame::AdvertFrame;
use crate::observation::Recording;

/// One sender of advertisements of one virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// Its address.
    pub source: IpAddr,
    /// Virtual router id.
    pub vrid: u8,
    /// The last frame, without regard to those that say that it stops.
    pub last: AdvertFrame,
    /// When its advertisements were seen, each once, nanoseconds since 1970.
    pub times: Vec<u64>,
    /// True when its last words were that it stops.
    pub stopped: bool,
    /// Where it was seen: points of the recording.
    pub points: BTreeSet<usize>,
    /// One of its frames, with its place in the recording.
    pub sample: usize,
}

impl Speaker {
    /// What it says, if that can be read.
    pub fn advert(&self) -> Option<&Advert> {
        self.last.advert.as_ref().ok()
    }

    /// Time between its advertisements, as it says.
    pub fn interval(&self) -> Duration {
        match self.advert().map(|advert| advert.form) {
            Some(Form::V2 { seconds, .. }) => Duration::from_secs(u64::from(seconds.max(1))),
            Some(Form::V3 { centiseconds }) => {
                Duration::from_millis(u64::from(centiseconds.max(1)) * 10)
            }
            None => Duration::from_secs(1),
        }
    }

    /// Its virtual addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        self.advert().map_or(&[], |advert| &advert.addresses)
    }

    /// Whether it was heard until the end, nanoseconds since 1970.
    pub fn is_master_at(&self, end: u64) -> bool {
        let patience = self.interval() * 7 / 2 + Duration::from_millis(200);
        let last = self.times.last().copied().unwrap_or(0);
        !self.stopped && u128::from(end.saturating_sub(last)) <= patience.as_nanos()
    }

    /// Whether both spoke in turns: each after the other's beginning. keepalived puts its next
    /// advertisement off with each that it rejects, so that there may be few.
    pub fn overlaps(&self, other: &Self) -> bool {
        let after = |one: &Self, other: &Self| {
            let began = other.times.first().copied().unwrap_or(u64::MAX);
            one.times.iter().any(|at| *at > began)
        };
        after(self, other) && after(other, self)
    }

    /// Whether both are about the same addresses.
    pub fn shares_addresses(&self, other: &Self) -> bool {
        let mut own = self.addresses().iter();
        own.any(|address| other.addresses().contains(address))
    }
}

/// Two sightings within this time are of one advertisement, nanoseconds.
const SAME: u64 = 4_000_000;

/// Everybody who advertises in a recording, by address and id.
pub fn speakers(recording: &Recording) -> Vec<Speaker> {
    let mut found: BTreeMap<(IpAddr, u8), Speaker> = BTreeMap::new();
    let mut order: Vec<usize> = (0..recording.observations.len()).collect();
    order.sort_by_key(|at| recording.observations[*at].at_ns);
    for at in order {
        let seen = &recording.observations[at];
        let Some(frame) = AdvertFrame::read(seen) else {
            continue;
        };
        let stops = matches!(&frame.advert, Ok(advert) if advert.priority == STOP);
        let speaker = found
            .entry((frame.source, frame.vrid))
            .or_insert_with(|| Speaker {
                source: frame.source,
                vrid: frame.vrid,
                last: frame.clone(),
                times: Vec::new(),
                stopped: stops,
                points: BTreeSet::new(),
                sample: at,
            });
        speaker.points.insert(seen.point);
        speaker.stopped = stops;
        if !stops {
            speaker.last = frame;
        }
        let last = speaker.times.last().copied();
        if last.is_none_or(|last| seen.at_ns > last + SAME) {
            speaker.times.push(seen.at_ns);
        }
    }
    found.into_values().collect()
}
