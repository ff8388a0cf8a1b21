//! Questions to a segment, of who has an address.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pointsman_daemon::vrrp::inquiry;
use pointsman_linux::netlink::Netlink;
use pointsman_linux::netns::NetNs;
use pointsman_linux::packet::{Capture, Options};
use pointsman_wire::Mac;
use serde::{Deserialize, Serialize};

/// Bytes of unread answers.
const BUFFER: usize = 1 << 20;
/// For how long an answer is awaited, and how often is asked.
const ANSWER: Duration = Duration::from_millis(400);
const QUESTIONS: usize = 3;

/// Who is asked for, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inquiry {
    /// The interface.
    pub(super) device: String,
    /// Its address, in whose name is asked.
    pub(super) own: IpAddr,
    /// The address that somebody has.
    pub(super) address: IpAddr,
}

impl Inquiry {
    /// Asks in a namespace, or here: the link-layer addresses that answer.
    pub(super) fn ask(&self, netns: Option<&NetNs>) -> Result<Vec<Mac>> {
        match netns {
            Some(netns) => netns.run_in(|| self.ask_here())?,
            None => self.ask_here(),
        }
    }

    fn ask_here(&self) -> Result<Vec<Mac>> {
        let link = Netlink::new()?.link_by_name(&self.device)?;
        let mac = Mac(link.mac.context("it has no link-layer address")?);
        let options = Options {
            buffer_bytes: BUFFER,
            filter: inquiry::answers(),
            ..Options::default()
        };
        let mut capture = Capture::open_with(link.index, &options)?;
        let mut found = Vec::new();
        for _ in 0..QUESTIONS {
            capture.send(&inquiry::question(mac, self.own, self.address))?;
            let until = Instant::now() + ANSWER;
            while let Ok(Some(frame)) =
                capture.next(until.saturating_duration_since(Instant::now()))
            {
                if let Some((from, to, mac)) = inquiry::answer(&frame.bytes)
                    && (from, to) == (self.address, self.own)
                    && !found.contains(&mac)
                {
                    found.push(mac);
                }
            }
        }
        Ok(found)
    }
}
