//! The state file: read at the start, written after changes and at the stop.

use std::{
    path::Path,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use pointsman_datapath::{Datapath, Origin};
use pointsman_director::{
    control::{Director, Mirror},
    model::{Change, ControlError},
    record::Settings,
};
use tokio::{sync::watch, task::block_in_place, time::sleep};

use super::ended;
use crate::{
    api::Shell,
    plane::Plane,
    state::{PlaneId, SavedState, StateFile},
    status::StateReport,
};

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(200);
/// One part in this many of the time, at most, goes into writing.
const SHARE: u32 = 10;
/// When to try again what could not be written.
const AGAIN: Duration = Duration::from_secs(5);

/// What an earlier run left, and where this one's is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    file: Option<StateFile>,
    pub(super) saved: SavedState,
    report: StateReport,
}

impl Kept {
    /// Reads the state file; a damaged one is moved aside, and nothing of it is used.
    pub(super) fn load(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self::default());
        };
        let file = StateFile::open(path).context("the state file")?;
        let bytes = file.read().context("the state file")?;
        let report = StateReport {
            path: Some(file.path().display().to_string()),
            aside: file.aside().context("the state file")?,
            ..StateReport::default()
        };
        let mut kept = Self {
            file: Some(file),
            saved: SavedState::default(),
            report,
        };
        if let Some(bytes) = bytes {
            match SavedState::decode(&bytes) {
                Ok(saved) => kept.saved = saved,
                Err(damage) => kept.refuse(&damage.to_string())?,
            }
        }
        Ok(kept)
    }

    /// Has `director` begin with what was saved: with all of it when it is fresh; records that were
    /// taken over are right, and are completed by what they don't hold.
    pub(super) fn restore(
        &mut self,
        director: &mut Director,
        datapath: &Datapath,
        origin: Origin,
    ) -> Result<()> {
        let mut mirror = datapath.mirror();
        if origin == Origin::TakenOver {
            if self.saved.plane.is_some() && self.saved.plane == Some(plane_id(datapath)?) {
                director.restore_ledger(&self.saved.ledger, &mut mirror)?;
            }
            return Ok(());
        }
        match refused(&self.saved, director, &mut mirror)? {
            None => Ok(()),
            Some(why) => {
                // Nothing is attached yet: no packet has seen what goes again.
                director.apply(&Change::Clear, &mut mirror)?;
                let rules = Vec::new();
                director.apply(&Change::SetMarkRules { rules }, &mut mirror)?;
                for _ in 0..2 {
                    director.collect_removed(&mut mirror)?;
                }
                director.set_settings(Settings::DEFAULT, &mut mirror)?;
                self.refuse(&why)
            }
        }
    }

    fn refuse(&mut self, why: &str) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let path = file.path().display();
        let aside = file
            .set_aside()
            .with_context(|| format!("{path} is refused ({why}), and can't be moved aside"))?;
        tracing::error!(
            "the state file {path} is refused: {why}. Nothing of it was loaded; it is kept as {}",
            aside.display()
        );
        self.saved = SavedState::default();
        self.report.damage = Some(format!("{why}; kept as {}", aside.display()));
        self.report.aside = file.aside().context("the state file")?;
        Ok(())
    }

    /// Who writes the file from now on, and how things are with it.
    pub(super) fn saver(self, datapath: &Datapath) -> Result<(Option<Saver>, StateReport)> {
        let plane = plane_id(datapath)?;
        let saver = self.file.map(|file| Saver { file, plane });
        Ok((saver, self.report))
    }
}

/// Carries out what was saved, up to what makes no sense; why it makes none.
fn refused<M: Mirror>(
    saved: &SavedState,
    director: &mut Director,
    mirror: &mut M,
) -> Result<Option<String>> {
    for change in saved.changes() {
        match director.apply(&change, mirror) {
            Ok(()) => {}
            // The file is right, and stays where it is.
            Err(error @ (ControlError::NoMemory(_) | ControlError::DataPlane(_))) => {
                bail!("loading the state file: {}: {error}", subject(&change));
            }
            Err(error) => return Ok(Some(format!("{}: {error}", subject(&change)))),
        }
    }
    Ok(None)
}

/// What a change is about, for people.
fn subject(change: &Change) -> String {
    match change {
        Change::AddService { service } => service.id.to_string(),
        Change::AddServer { id, server } => {
            format!("{id}, real server {} port {}", server.address, server.port)
        }
        _ => "timeouts".to_owned(),
    }
}

fn plane_id(datapath: &Datapath) -> Result<PlaneId> {
    let boot = "/proc/sys/kernel/random/boot_id";
    let boot = std::fs::read_to_string(boot).with_context(|| format!("reading {boot}"))?;
    Ok(PlaneId {
        boot: boot.trim_end().to_owned(),
        map: datapath.id()?,
    })
}

/// Writes the state file.
#[derive(Debug)]
pub(super) struct Saver {
    file: StateFile,
    plane: PlaneId,
}

impl Saver {
    /// Writes the state as it is; true when that went well.
    pub(super) fn save<P: Plane>(&self, shell: &Shell<P>) -> bool {
        let mut state = shell.balancer.saved_state();
        state.plane = Some(self.plane.clone());
        state.sync = shell.sync.requests();
        let written = self.file.write(&state.encode());
        let mut report = shell.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &written {
            Ok(()) => {
                report.saved = Some(Instant::now());
                report.error = None;
            }
            Err(error) => {
                tracing::error!(%error, "can't save the state");
                report.error = Some(error.to_string());
            }
        }
        written.is_ok()
    }

    /// Writes after changes until the daemon stops.
    pub(super) async fn keep<P: Plane>(
        self: Arc<Self>,
        shell: Arc<Shell<P>>,
        stopped: watch::Receiver<()>,
    ) {
        let stop = ended(stopped);
        tokio::pin!(stop);
        let mut pause = GATHER;
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = async {
                    shell.balancer.unsaved.notified().await;
                    sleep(pause).await;
                } => {}
            }
            let start = Instant::now();
            pause = match block_in_place(|| self.save(&shell)) {
                true => pause_after(start.elapsed()),
                false => {
                    shell.balancer.unsaved.notify_one();
                    AGAIN
                }
            };
        }
    }
}

fn pause_after(writing: Duration) -> Duration {
    GATHER.max(writing * SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_takes_a_tenth_at_most() {
        assert_eq!(pause_after(Duration::from_millis(3)), GATHER);
        assert_eq!(
            pause_after(Duration::from_millis(300)),
            Duration::from_secs(3)
        );
    }
}
