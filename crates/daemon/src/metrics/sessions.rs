//! Metrics of BFD sessions; without sessions there are none.

use std::io::{self, Write};

use super::escaped;
use super::family::{self, Family};
use crate::bfd::{BfdStatus, SessionStatus};

type Value = fn(&SessionStatus) -> f64;

/// What is told of each session.
const SESSION: [(Family, Value); 8] = [
    (family::BFD_UP, |one| f64::from(u8::from(one.state == "Up"))),
    (family::BFD_INTERVAL, |one| one.interval_us as f64 / 1e6),
    (family::BFD_DETECTION, |one| one.detection_us as f64 / 1e6),
    (family::BFD_RECEIVED, |one| one.received as f64),
    (family::BFD_SENT, |one| one.sent as f64),
    (family::BFD_UPS, |one| one.ups as f64),
    (family::BFD_DOWNS, |one| one.downs as f64),
    (family::BFD_PAUSES, |one| one.pauses as f64),
];

pub(super) fn write(out: &mut impl Write, status: &BfdStatus) -> io::Result<()> {
    if status.sessions.is_empty() {
        return Ok(());
    }
    let named = status.sessions.iter().map(|one| {
        let name = escaped(&one.name);
        (
            one,
            format!("session=\"{name}\",neighbor=\"{}\"", one.neighbor),
        )
    });
    let named: Vec<(&SessionStatus, String)> = named.collect();
    for (family, value) in SESSION {
        family.head(out)?;
        for (session, labels) in &named {
            writeln!(out, "{}{{{labels}}} {}", family.name, value(session))?;
        }
    }
    family::BFD_REJECTED.head(out)?;
    let name = family::BFD_REJECTED.name;
    for (session, labels) in &named {
        for (reason, count) in &session.rejected {
            writeln!(out, "{name}{{{labels},reason=\"{reason}\"}} {count}")?;
        }
    }
    for (reason, count) in &status.rejected {
        writeln!(out, "{name}{{reason=\"{reason}\"}} {count}")?;
    }
    Ok(())
}
