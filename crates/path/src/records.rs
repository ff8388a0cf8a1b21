//! The director's records of frames, and captures at the same devices: what both saw is seen once.
//!
//! Under tcx, and where XDP passes a frame on to the kernel, a capture sees it too. What the director
//! says of it then goes to what the capture saw.

use std::collections::{HashMap, VecDeque};

use crate::observation::{Observation, Recording, Source};

/// How far apart the two sightings may be, nanoseconds; between them a queue may lie.
const APART: u64 = 1_000_000_000;
/// Bytes by which frames are found again, before they are compared.
const BEGINNING: usize = 64;

/// Where a capture saw a frame: its point, the direction, how the frame begins.
type Place<'a> = (usize, bool, &'a [u8]);

impl Recording {
    /// Takes out records of the director of frames that a capture saw at the same device; their notes
    /// stay, with the capture's sightings.
    pub fn join_records(&mut self) {
        let twins: HashMap<usize, usize> = self.twins();
        if twins.is_empty() {
            return;
        }
        let mut by_time: Vec<usize> = (0..self.observations.len()).collect();
        by_time.sort_by_key(|at| self.observations[*at].at_ns);
        let mut captured: HashMap<Place<'_>, VecDeque<usize>> = HashMap::new();
        for at in &by_time {
            let seen = &self.observations[*at];
            if self.points[seen.point].source == Source::Capture {
                let place = (seen.point, seen.way.is_in(), beginning(seen));
                captured.entry(place).or_default().push_back(*at);
            }
        }
        let mut joined: HashMap<usize, usize> = HashMap::new();
        for at in by_time {
            let record = &self.observations[at];
            let Some(twin) = twins.get(&record.point) else {
                continue;
            };
            let place = (*twin, record.way.is_in(), beginning(record));
            let Some(same) = captured.get_mut(&place) else {
                continue;
            };
            // Both are in order of time, so what is too old for this is for all later ones.
            while let Some(first) = same.front() {
                let first_ns = self.observations[*first].at_ns;
                if first_ns + APART >= record.at_ns {
                    break;
                }
                same.pop_front();
            }
            let fits = |other: &Observation| {
                let length = record.bytes.len().min(other.bytes.len());
                record.bytes[..length] == other.bytes[..length]
                    && other.at_ns <= record.at_ns + APART
            };
            let found = same
                .iter()
                .position(|other| fits(&self.observations[*other]));
            if let Some(other) = found.and_then(|found| same.remove(found)) {
                joined.insert(at, other);
            }
        }
        for (record, other) in &joined {
            let note = self.observations[*record].note.take();
            self.observations[*other].note = note;
        }
        let mut at = 0;
        self.observations.retain(|_| {
            at += 1;
            !joined.contains_key(&(at - 1))
        });
    }

    /// The captures' points at devices of which there are records, by the records' points.
    fn twins(&self) -> HashMap<usize, usize> {
        let of = |wanted: Source| {
            let points = self.points.iter().enumerate();
            points.filter(move |(_, point)| point.source == wanted)
        };
        of(Source::Director)
            .filter_map(|(record, point)| {
                let place = |other: &crate::observation::Point| {
                    (&other.host, &other.node, &other.device)
                        == (&point.host, &point.node, &point.device)
                };
                let twin = of(Source::Capture).find(|(_, other)| place(other))?;
                Some((record, twin.0))
            })
            .collect()
    }
}

fn beginning(seen: &Observation) -> &[u8] {
    &seen.bytes[..seen.bytes.len().min(BEGINNING)]
}
