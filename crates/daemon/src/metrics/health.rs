//! Metrics of virtual services whose real servers are checked.

use std::io::{self, Write};

use super::escaped;
use super::family::{CHECKED_QUORUM, CHECKED_SERVER_UP};
use crate::health::HealthStatus;

/// Writes those of all; nothing where there are none.
pub(super) fn write(out: &mut impl Write, health: &[HealthStatus]) -> io::Result<()> {
    if health.is_empty() {
        return Ok(());
    }
    CHECKED_QUORUM.head(out)?;
    for one in health {
        let (name, service) = (CHECKED_QUORUM.name, escaped(&one.service));
        writeln!(
            out,
            "{name}{{service=\"{service}\"}} {}",
            u8::from(one.quorum)
        )?;
    }
    CHECKED_SERVER_UP.head(out)?;
    for one in health {
        let (name, service) = (CHECKED_SERVER_UP.name, escaped(&one.service));
        for server in &one.servers {
            let (up, server) = (u8::from(server.up), escaped(&server.server));
            writeln!(
                out,
                "{name}{{service=\"{service}\",server=\"{server}\"}} {up}"
            )?;
        }
    }
    Ok(())
}
