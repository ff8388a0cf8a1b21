//! What a master says at its end, kept for when that comes after the daemon's.

use std::net::IpAddr;

use pointsman_ha::vrrp::{Datagram, Output, State, VrrpRouter};
use pointsman_linux::netlink::Netlink;
use pointsman_linux::raw_ip::{self, Family, RawIp};
use serde::{Deserialize, Serialize};

use super::Instance;
use super::engine::{CLASS, PROTOCOL};

/// An advertisement of priority 0: whoever hears it need not wait for a master's silence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Farewell {
    interface: String,
    source: IpAddr,
    destination: IpAddr,
    hop_limit: u8,
    message: Vec<u8>,
    /// Seconds after which others have another master, whom it would trouble.
    within: f64,
}

impl Eq for Farewell {}

impl Farewell {
    /// Those of all masters.
    pub(super) fn all(
        mut router: VrrpRouter,
        instances: &[Instance],
        now: std::time::Duration,
    ) -> Vec<Self> {
        let down: Vec<f64> = router
            .routers()
            .iter()
            .map(|router| {
                let config = router.config();
                match router.state() {
                    State::Master => config.interval.as_secs_f64() * f64::from(config.down_adverts),
                    _ => 0.0,
                }
            })
            .collect();
        router.stop(now);
        let mut all = Vec::new();
        while let Some((at, output)) = router.poll_output() {
            let (Output::Send(datagram), Some(instance)) = (output, instances.get(at)) else {
                continue;
            };
            let Datagram {
                source,
                destination,
                hop_limit,
                message,
            } = datagram;
            all.push(Self {
                interface: instance.router.interface.clone(),
                source,
                destination,
                hop_limit,
                message,
                within: down.get(at).copied().unwrap_or_default(),
            });
        }
        all
    }

    /// Says it, so many seconds after the daemon's end; true if it was not too late.
    pub fn say(&self, after: f64, netlink: &mut Netlink) -> anyhow::Result<bool> {
        if after >= self.within {
            return Ok(false);
        }
        let index = netlink.link_by_name(&self.interface)?.index;
        let family = Family::of(self.destination);
        let socket = RawIp::open(family, PROTOCOL, &self.interface, index, CLASS)?;
        socket.send(&raw_ip::Datagram {
            source: self.source,
            destination: self.destination,
            hop_limit: self.hop_limit,
            payload: self.message.clone(),
        })?;
        Ok(true)
    }
}
