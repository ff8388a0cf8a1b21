//! Processes that are tracked (`vrrp_track_process`).
//!
//! They are looked for in `/proc` twice a second. The kernel would tell of each fork at once (the proc
//! connector), but only to a daemon in the first namespaces, and a busy host forks more often than that.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use pointsman_ha::health::Lasting;
use pointsman_ha::vrrp::Reading;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Remote;

/// How often processes are looked for.
const LOOK: Duration = Duration::from_millis(500);
/// The kernel keeps no more of a process's name, bytes.
const NAME_MAX: usize = 15;

/// How parameters match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterMatch {
    /// Whatever they are.
    Any,
    /// They are just these.
    Exact,
    /// The first are these.
    Partial,
    /// They begin so; the last may be longer.
    Initial,
}

/// Processes of which enough, and not too many, have to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessTracker {
    /// The tracker's name.
    pub name: String,
    /// The process's name; with `full_command` the command as it was begun.
    pub process: String,
    /// Parameters to be compared.
    pub parameters: Vec<String>,
    /// How they are compared.
    pub matching: ParameterMatch,
    /// True when the command line is compared, not the name that the kernel knows.
    pub full_command: bool,
    /// Fewer are too few.
    pub least: u32,
    /// More are too many.
    pub most: u32,
    /// How long enough have to run before that counts.
    pub rise: Duration,
    /// How long too few or too many may run before that counts.
    pub fall: Duration,
}

impl ProcessTracker {
    /// Looks for the processes again and again.
    pub async fn keep(self, remote: Remote) {
        let this = Arc::new(self);
        let mut state = Lasting::new(this.rise, this.fall);
        let epoch = Instant::now();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looker = Arc::clone(&this);
            let Ok(count) = tokio::task::spawn_blocking(move || looker.count()).await else {
                return;
            };
            let enough = (this.least..=this.most).contains(&count);
            if let Some(up) = state.handle(enough, epoch.elapsed()) {
                tracing::info!(process = %this.name, count, up, "changed");
                remote.read(&this.name, if up { Reading::Up } else { Reading::Down });
            }
        }
    }

    /// How many such processes run.
    fn count(&self) -> u32 {
        let Ok(entries) = fs::read_dir("/proc") else {
            return 0;
        };
        let entries = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        });
        let is_one = |folder: &std::path::Path| {
            let stat = fs::read(folder.join("stat")).unwrap_or_default();
            let Some((name, state)) = read_stat(&stat) else {
                return false;
            };
            // What has ended and was not yet buried does not run.
            let runs = !matches!(state, b'Z' | b'X');
            let is_plain = !self.full_command && self.matching == ParameterMatch::Any;
            runs && match is_plain {
                true => self.has_name(name),
                false => {
                    let line = fs::read(folder.join("cmdline")).unwrap_or_default();
                    self.has_command(&line)
                }
            }
        };
        let count = entries.filter(|entry| is_one(&entry.path())).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn has_name(&self, name: &[u8]) -> bool {
        let wanted = self.process.as_bytes();
        name == &wanted[..wanted.len().min(NAME_MAX)]
    }

    /// Compares with a command line, whose words end with zeros.
    fn has_command(&self, line: &[u8]) -> bool {
        let mut wanted = [self.process.as_bytes(), b"\0"].concat();
        let Some(parameters) = line.strip_prefix(&wanted[..]) else {
            return false;
        };
        wanted.clear();
        for parameter in &self.parameters {
            wanted.extend(parameter.bytes().chain([0]));
        }
        match self.matching {
            ParameterMatch::Any => true,
            ParameterMatch::Exact => parameters == wanted,
            ParameterMatch::Partial => parameters.starts_with(&wanted),
            ParameterMatch::Initial => {
                wanted.pop();
                parameters.starts_with(&wanted)
            }
        }
    }
}

/// Name and state in a `stat` file: `17 (name (of it)) S ...`.
fn read_stat(stat: &[u8]) -> Option<(&[u8], u8)> {
    let begin = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    Some((stat.get(begin..end)?, *stat.get(end + 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(command: &[&str], matching: ParameterMatch, full_command: bool) -> ProcessTracker {
        let mut words = command.iter().map(|word| (*word).to_owned());
        ProcessTracker {
            name: "process p".to_owned(),
            process: words.next().expect("a name"),
            parameters: words.collect(),
            matching,
            full_command,
            least: 1,
            most: u32::MAX,
            rise: Duration::ZERO,
            fall: Duration::ZERO,
        }
    }

    #[test]
    fn names_and_states_are_read() {
        assert_eq!(
            read_stat(b"17 (a) b (c)) S 1 2"),
            Some((&b"a) b (c)"[..], b'S'))
        );
        assert_eq!(read_stat(b"17 (x) Z"), Some((&b"x"[..], b'Z')));
        for broken in [&b""[..], b"17", b"17 (x)", b") ("] {
            assert_eq!(read_stat(broken), None);
        }
    }

    #[test]
    fn commands_match_as_keepalived_has_it() {
        use ParameterMatch::{Any, Exact, Initial, Partial};
        let line = b"/bin/x\0one\0two\0";
        for (command, matching, wanted) in [
            (&["/bin/x"][..], Any, true),
            (&["x"], Any, false),
            (&["/bin/x", "one", "two"], Exact, true),
            (&["/bin/x", "one"], Exact, false),
            (&["/bin/x"], Exact, false),
            (&["/bin/x", "one"], Partial, true),
            (&["/bin/x", "on"], Partial, false),
            (&["/bin/x", "one", "t"], Initial, true),
            (&["/bin/x", "two"], Initial, false),
        ] {
            let found = tracker(command, matching, true).has_command(line);
            assert_eq!(found, wanted, "{command:?} {matching:?}");
        }
        let long = tracker(&["a-name-of-many-letters"], Any, false);
        assert!(long.has_name(b"a-name-of-many-") && !long.has_name(b"a-name"));
    }

    #[test]
    fn processes_that_run_are_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = format!("pmp{}", std::process::id());
        let program = folder.path().join(&name);
        fs::copy("/bin/sleep", &program).expect("copy");
        let path = program.display().to_string();
        let plain = tracker(&[&name], ParameterMatch::Any, false);
        let full = tracker(&[&path, "60"], ParameterMatch::Exact, false);
        let other = tracker(&[&path, "61"], ParameterMatch::Exact, false);
        let counts = || [plain.count(), full.count(), other.count()];
        assert_eq!(counts(), [0; 3]);
        let begin = || {
            std::process::Command::new(&program)
                .arg("60")
                .spawn()
                .expect("begin")
        };
        let mut children = [begin(), begin()];
        // A child has its parent's name until it has become the program, and spawn waits for that.
        assert_eq!(counts(), [2, 2, 0]);
        children[0].kill().expect("kill");
        // Ended and not buried.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while counts() != [1, 1, 0] {
            assert!(std::time::Instant::now() < deadline, "{:?}", counts());
            std::thread::sleep(Duration::from_millis(5));
        }
        children[1].kill().expect("kill");
        for child in &mut children {
            child.wait().expect("bury");
        }
        assert_eq!(counts(), [0; 3]);
    }
}
