//! A BFD session as virtual routers track it (`track_bfd`).

use pointsman_ha::vrrp::Reading;

use super::Levels;
use crate::vrrp::Remote;

/// A session whose being up counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BfdTracker {
    /// The tracker's name.
    pub name: String,
    /// The session's name.
    pub session: String,
}

impl BfdTracker {
    /// Tells virtual routers what becomes of the session; one that is not there is down.
    pub async fn keep(self, mut levels: Levels, remote: Remote) {
        let mut last = None;
        loop {
            let up = levels.borrow_and_update().get(&self.session) == Some(&true);
            if last.replace(up) != Some(up) {
                tracing::info!(session = %self.session, up, "changed");
                remote.read(&self.name, if up { Reading::Up } else { Reading::Down });
            }
            if levels.changed().await.is_err() {
                return;
            }
        }
    }
}
