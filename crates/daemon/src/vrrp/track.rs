//! What is watched for virtual routers: scripts and files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pointsman_ha::health::RiseFall;
use pointsman_ha::vrrp::Reading;
use tokio::time::{MissedTickBehavior, interval};

use super::Remote;
use crate::child::{Outcome, Script};

/// How often a file is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
/// More of a file is no number.
const NUMBER_MAX: usize = 128;

/// A script whose success counts (`vrrp_script`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptTracker {
    /// The tracker's name.
    pub name: String,
    /// What is run.
    pub script: Script,
    /// Time between two runs.
    pub interval: Duration,
    /// For how long it may run.
    pub timeout: Duration,
    /// Successes in a row until it is up.
    pub rise: u32,
    /// Failures in a row until it is down.
    pub fall: u32,
    /// True when it is down from the start.
    pub init_fail: bool,
}

impl ScriptTracker {
    /// Runs the script again and again.
    pub async fn keep(self, remote: Remote) {
        let mut state = RiseFall::new(self.rise, self.fall, self.init_fail);
        if self.init_fail {
            remote.read(&self.name, Reading::Down);
        }
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let success = match self.script.run(self.timeout).await {
                Outcome::Ended(status) => status.success(),
                Outcome::TimedOut => {
                    tracing::warn!(script = %self.name, "took longer than {:?}", self.timeout);
                    false
                }
                Outcome::Failed(error) => {
                    tracing::warn!(script = %self.name, %error, "can't run it");
                    false
                }
            };
            if let Some(up) = state.handle_outcome(success) {
                tracing::info!(script = %self.name, up, "changed");
                remote.read(&self.name, if up { Reading::Up } else { Reading::Down });
            }
        }
    }
}

/// A file whose number counts (`track_file`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTracker {
    /// The tracker's name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The number that it gets at the start, and whether that replaces another.
    pub initial: Option<(i64, bool)>,
}

impl FileTracker {
    /// Looks at the file again and again; what is no number, or no file, is 0.
    pub async fn keep(self, remote: Remote) {
        prepare(&self.path, self.initial).await;
        let mut last = None;
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let number = read(&self.path).await;
            if last != Some(number) {
                last = Some(number);
                remote.read(&self.name, Reading::Number(number));
            }
        }
    }
}

/// Writes a file's first number, if it gets one.
pub(crate) async fn prepare(path: &Path, initial: Option<(i64, bool)>) {
    if let Some((number, replaces)) = initial
        && (replaces || !path.exists())
        && let Err(error) = tokio::fs::write(path, format!("{number}\n")).await
    {
        tracing::error!(file = %path.display(), %error, "can't write its first number");
    }
}

/// The number in a file; what is no number, or no file, is 0.
pub(crate) async fn read(path: &Path) -> i32 {
    let text = tokio::fs::read_to_string(path).await;
    number(&text.unwrap_or_default())
}

/// The number at the beginning of a text, kept within what priorities are made of.
fn number(text: &str) -> i32 {
    let text = text
        .get(..text.len().min(NUMBER_MAX))
        .unwrap_or_default()
        .trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(digits.len());
    let value: i64 = match digits[..end].parse() {
        Ok(value) => value,
        Err(_) if end > 0 => i64::from(u32::MAX),
        Err(_) => 0,
    };
    i32::try_from(sign * value).unwrap_or(if sign < 0 { i32::MIN } else { i32::MAX })
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_file_begins_with_its_number() {
        for (text, wanted) in [
            ("", 0),
            ("7\n", 7),
            (" -12 and more", -12),
            ("+3", 3),
            ("x", 0),
            ("99999999999", i32::MAX),
            ("-99999999999999999999999", i32::MIN),
        ] {
            assert_eq!(number(text), wanted, "{text:?}");
        }
    }
}
