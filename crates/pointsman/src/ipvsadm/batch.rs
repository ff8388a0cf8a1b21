//! Changes of a restore, sent together.

use pointsman_daemon::client::Client;
use pointsman_director::model::Change;

use super::{Failure, REFUSED};

/// Changes sent at once: few requests, and no request that is endlessly large.
const FULL: usize = 20_000;

/// Changes that wait to be sent.
#[derive(Debug, Default)]
pub(super) struct Batch {
    changes: Vec<Change>,
}

impl Batch {
    /// Adds a change.
    pub(super) fn add(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// Whether it should be sent.
    pub(super) fn is_full(&self) -> bool {
        self.changes.len() >= FULL
    }

    /// Sends the changes and says on stderr which were refused; how the last one went, if there was
    /// one.
    pub(super) fn send(
        &mut self,
        client: &mut Client,
    ) -> Result<Option<Result<(), Failure>>, Failure> {
        if self.changes.is_empty() {
            return Ok(None);
        }
        let changes = std::mem::take(&mut self.changes);
        let refusals = client.apply(&changes)?;
        for refusal in &refusals {
            eprintln!("{}", refusal.error);
        }
        let last_refused = refusals
            .last()
            .is_some_and(|refusal| refusal.index + 1 == changes.len());
        Ok(Some(match last_refused {
            true => Err(Failure::new(REFUSED, "")),
            false => Ok(()),
        }))
    }
}
