//! Another router that goes on advertising while this one is master.

use std::net::IpAddr;
use std::time::Duration;

use super::reception::Rejection;

/// Who else advertises, and since when. Who yields stops soon: only who goes on is a rival.
#[derive(Debug, Clone, Default)]
pub(super) struct Rivals {
    heard: Option<Heard>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    source: IpAddr,
    since: Duration,
    last: Duration,
}

impl Rivals {
    /// Hears another router that says that it is master.
    pub(super) fn hear(&mut self, source: IpAddr, now: Duration) {
        let since = self.heard.map_or(now, |heard| heard.since);
        self.heard = Some(Heard {
            source,
            since,
            last: now,
        });
    }

    /// Forgets who has been silent for so long.
    pub(super) fn forget(&mut self, silence: Duration, now: Duration) {
        self.heard = self.heard.filter(|heard| heard.last + silence >= now);
    }

    /// Who has gone on for at least so long.
    pub(super) fn rival(&self, patience: Duration) -> Option<IpAddr> {
        let heard = self
            .heard
            .filter(|heard| heard.last - heard.since >= patience);
        heard.map(|heard| heard.source)
    }
}

/// Whether what does not count comes from somebody who would be master too: not from this host in a
/// loop, from beyond a router, or damaged.
pub(super) const fn is_of_master(rejection: &Rejection) -> bool {
    match rejection {
        Rejection::Version { .. }
        | Rejection::AuthenticationType { .. }
        | Rejection::Password
        | Rejection::Interval { .. }
        | Rejection::Destination { .. }
        | Rejection::AddressCount { .. }
        | Rejection::Addresses { .. }
        | Rejection::Peer { .. } => true,
        Rejection::Malformed(_)
        | Rejection::HopLimit { .. }
        | Rejection::NoInterval
        | Rejection::Checksum
        | Rejection::OwnAddress { .. } => false,
    }
}
