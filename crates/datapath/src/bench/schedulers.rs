//! What a new connection costs with each scheduler, by the number of real servers.

use pointsman_director::{Reason, schedule::Scheduler};
use pointsman_wire::tcp;

use super::{Bench, Case, NOOP, RESTORE, case, frame};
use crate::error::Error;

/// Real servers of the services that are timed.
pub const SERVERS: [u16; 4] = [1, 16, 256, 1024];

/// First port of the services: scheduler by scheduler, each with [`SERVERS`].
pub(super) const FIRST_PORT: u16 = 2000;

/// Connections of a round.
const CONNECTIONS: u32 = 10_000;

/// What a new connection costs with one scheduler over so many servers.
#[derive(Debug, Clone, PartialEq)]
pub struct NewConnection {
    /// Name of the scheduler.
    pub scheduler: &'static str,
    /// Real servers of the service.
    pub servers: u16,
    /// Smallest time of a round, nanoseconds a packet, without what the bench itself spends.
    pub time: f64,
    /// That time by the time of `rr` over as many servers.
    pub to_rr: f64,
    /// That time by what the empty program takes.
    pub to_floor: f64,
}

/// The schedulers that are timed, each with the first port of its services.
pub(super) fn timed() -> impl Iterator<Item = (u16, &'static Scheduler)> {
    let ports = (FIRST_PORT..).step_by(SERVERS.len());
    let schedulers = Scheduler::ALL.iter();
    ports.zip(schedulers.filter(|scheduler| **scheduler != Scheduler::Nothing))
}

/// Weight of server number `number`: a few levels; with ovf room for every connection.
pub(super) fn weight(scheduler: Scheduler, number: u16) -> i32 {
    if scheduler == Scheduler::Overflow {
        i32::from(u16::MAX)
    } else {
        1 + i32::from(number % 3)
    }
}

/// Times every scheduler in `rounds` rounds.
///
/// # Errors
///
/// When the object does not load, or a packet begins no connection.
pub fn run(rounds: u32) -> Result<Vec<NewConnection>, Error> {
    let bench = Bench::load(true)?;
    let still = |name: &str, program| Case {
        program,
        reason: None,
        ..case(name, Reason::Direct)
    };
    let mut cases = vec![still("noop", NOOP), still("restore only", RESTORE)];
    for (first, scheduler) in timed() {
        for (port, servers) in (first..).zip(SERVERS) {
            let name = format!("new connection, {}, {servers} servers", scheduler.name());
            cases.push(Case {
                frame: frame(false, port, tcp::SYN),
                mask: u32::MAX,
                field: 26,
                repeat: CONNECTIONS,
                fresh: true,
                ..case(&name, Reason::Direct)
            });
        }
    }
    let mut best = vec![f64::INFINITY; cases.len()];
    for _ in 0..rounds {
        for (case, best) in cases.iter().zip(&mut best) {
            *best = best.min(bench.time(case)?);
        }
    }
    let added = best[1] - best[0];
    let times: Vec<f64> = best[2..].iter().map(|time| time - added).collect();
    let names = timed().flat_map(|(_, scheduler)| SERVERS.map(|servers| (scheduler, servers)));
    Ok(names
        .zip(&times)
        .enumerate()
        // The first scheduler is rr.
        .map(|(at, ((scheduler, servers), time))| NewConnection {
            scheduler: scheduler.name(),
            servers,
            time: *time,
            to_rr: time / times[at % SERVERS.len()],
            to_floor: time / best[0],
        })
        .collect())
}
