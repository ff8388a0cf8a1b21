//! Directors' own records of frames, beside captures: what XDP sends on or drops, no capture sees.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use pointsman_datapath::records::{self, Device, Record, Records, RecordsError};
use pointsman_director::Action;
use pointsman_linux::netlink::Link;
use pointsman_path::capture_filter::{Instruction, Wanted, keeps};
use pointsman_path::observation::{DIRECTOR, DROPPED, Observation, PASSED, Point, Source, Way};
use pointsman_wire::{ChecksumError, Mac, verify_checksums};

/// Records read of one director before the next one has its turn.
const TURN: usize = 1024;

/// A director's programs at a device that is captured at.
#[derive(Debug)]
pub(crate) struct Found {
    /// The device's number.
    pub(crate) ifindex: u32,
    /// Numbers of the programs; why they can't be known.
    pub(crate) programs: Result<HashSet<u32>, RecordsError>,
}

/// Looks for a director's programs at a device of this thread's namespace.
pub(crate) fn find(link: &Link) -> Found {
    let device = Device {
        ifindex: link.index,
        mac: link.mac.map(Mac),
        xdp: link.xdp.map(|(id, _)| id),
    };
    Found {
        ifindex: link.index,
        programs: records::attached(device),
    }
}

/// The directors whose frames are recorded.
#[derive(Debug, Default)]
pub(crate) struct Directors {
    recorded: Vec<Recorded>,
    filter: Vec<Instruction>,
    /// Whose frames are not, and why.
    pub(crate) failures: Vec<String>,
}

/// One director.
#[derive(Debug)]
struct Recorded {
    records: Records,
    /// Points by the number of their device.
    points: HashMap<u32, usize>,
}

impl Directors {
    /// Directors of nobody yet, of whose frames these are wanted.
    pub(crate) fn new(wanted: &Wanted) -> Self {
        Self {
            filter: wanted.program(false),
            ..Self::default()
        }
    }

    /// Begins to record what directors do in one namespace, where these programs were found at these
    /// points; adds a point for each device of a director.
    pub(crate) fn begin(
        &mut self,
        found: Vec<(usize, Found)>,
        wanted: &Wanted,
        snaplen: Option<usize>,
        points: &mut Vec<Point>,
    ) {
        let mut programs = HashSet::new();
        let mut devices = Vec::new();
        for (at, found) in found {
            match found.programs {
                Ok(here) if here.is_empty() => {}
                Ok(here) => {
                    programs.extend(here);
                    devices.push((found.ifindex, at));
                }
                Err(error) => self.fail(&points[at], &error),
            }
        }
        let Some((_, first)) = devices.first() else {
            return;
        };
        let mut options = records::Options {
            addresses: addresses(wanted),
            ..records::Options::default()
        };
        options.snaplen = snaplen.unwrap_or(options.snaplen);
        let begun = match Records::watch(&programs, &options) {
            Ok(begun) => begun,
            Err(error) => return self.fail(&points[*first], &error),
        };
        let mut own = HashMap::new();
        for (ifindex, at) in devices {
            own.insert(ifindex, points.len());
            points.push(Point {
                source: Source::Director,
                promiscuous: false,
                ..points[at].clone()
            });
        }
        self.recorded
            .extend(begun.into_iter().map(|(_, records)| Recorded {
                records,
                points: own.clone(),
            }));
    }

    fn fail(&mut self, point: &Point, error: &RecordsError) {
        self.failures.push(format!(
            "what the director does with frames at {point} is not recorded: {error}"
        ));
    }

    /// True when nothing is recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.recorded.is_empty()
    }

    /// What becomes readable when there are records.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let recorded = self.recorded.iter();
        recorded.map(|one| one.records.as_fd()).collect()
    }

    /// Hands over records that are there, and keeps the recording going. True when there may be more.
    pub(crate) fn read(&mut self, mut take: impl FnMut(Observation)) -> bool {
        let mut more = false;
        for one in &mut self.recorded {
            // Where this fails the records end, as those of a director that went away.
            let _ = one.records.renew();
            let mut turn = TURN;
            while turn > 0 {
                let Some(record) = one.records.next_record() else {
                    break;
                };
                turn -= 1;
                if let Some(point) = one.points.get(&record.ifindex)
                    && keeps(&self.filter, &record.bytes)
                {
                    take(observation(*point, record));
                }
            }
            more |= turn == 0;
        }
        more
    }

    /// Frames lost so far, by point.
    pub(crate) fn lost(&self) -> Vec<(usize, u64)> {
        let lost = self.recorded.iter().flat_map(|one| {
            let points = one.points.iter();
            points.map(|(ifindex, point)| (*point, one.records.lost(*ifindex)))
        });
        lost.collect()
    }
}

/// The addresses that frames of a capture have on their outside, as they come to a director or as they leave.
fn addresses(wanted: &Wanted) -> Vec<IpAddr> {
    let ends = wanted.ends.iter().map(|(end, _)| *end);
    let mut addresses: Vec<IpAddr> = if wanted.clients.is_empty() {
        ends.collect()
    } else {
        wanted.clients.clone()
    };
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn observation(point: usize, record: Record) -> Observation {
    let verdict = match record.action() {
        Action::Pass => PASSED,
        Action::Drop => DROPPED,
        Action::Forward => "",
    };
    // The programs can't see whether a checksum is to be completed.
    let pending = matches!(
        verify_checksums(&record.bytes),
        Err(ChecksumError::Offloaded { .. })
    );
    Observation {
        point,
        way: if record.sent { Way::Out } else { Way::In },
        at_ns: record.at_ns,
        length: record.length,
        checksum_pending: record.tcx && pending,
        gso: record.gso,
        note: Some(format!("{DIRECTOR}{verdict}{}", record.reason.name())),
        bytes: record.bytes,
    }
}
