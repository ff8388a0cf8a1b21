//! Metrics of virtual routers.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::escaped;
use super::family::{
    ROUTER_BECAME_MASTER, ROUTER_CONTESTED, ROUTER_MASTER, ROUTER_PRIORITY, ROUTER_REJECTED,
};
use crate::vrrp::RouterStatus;

/// Writes those of all virtual routers; nothing where there are none.
pub(super) fn write(out: &mut impl Write, routers: &[RouterStatus]) -> io::Result<()> {
    if routers.is_empty() {
        return Ok(());
    }
    let labels = |router: &RouterStatus| {
        let (name, interface) = (escaped(&router.name), escaped(&router.interface));
        let vrid = router.vrid;
        let mut labels = String::new();
        let _ = write!(
            labels,
            "instance=\"{name}\",interface=\"{interface}\",vrid=\"{vrid}\""
        );
        labels
    };
    type Value = fn(&RouterStatus) -> u64;
    let families: [(_, Value); 4] = [
        (&ROUTER_MASTER, |router| u64::from(router.state == "MASTER")),
        (&ROUTER_PRIORITY, |router| router.priority.into()),
        (&ROUTER_BECAME_MASTER, |router| router.became_master),
        (&ROUTER_CONTESTED, |router| {
            u64::from(router.rival.is_some())
        }),
    ];
    for (family, value) in families {
        family.head(out)?;
        for router in routers {
            let (name, labels) = (family.name, labels(router));
            writeln!(out, "{name}{{{labels}}} {}", value(router))?;
        }
    }
    ROUTER_REJECTED.head(out)?;
    for router in routers {
        for (reason, count) in &router.rejected {
            let (name, labels) = (ROUTER_REJECTED.name, labels(router));
            writeln!(out, "{name}{{{labels},reason=\"{reason}\"}} {count}")?;
        }
    }
    Ok(())
}
