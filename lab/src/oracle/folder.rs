//! Folders of scenarios: all are read first, then replayed some at a time, and reported in order.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::error::{LabError, Result};
use crate::lab::Program;
use crate::oracle::balancer::Kind;
use crate::oracle::compare::{self, Deviation, compare};
use crate::oracle::exceptions::{self, Exception};
use crate::oracle::generate;
use crate::oracle::recording::Recording;
use crate::oracle::replay::replay;
use crate::oracle::scenario::Scenario;

/// What is done with folders.
#[derive(Debug, Clone)]
pub struct Options {
    /// Who is the director.
    pub director: Kind,
    /// How many scenarios are replayed at a time; most of their time is sleep.
    pub jobs: usize,
    /// Folder of the recordings to compare with, when they are not beside the scenarios.
    pub recordings: Option<PathBuf>,
    /// Folder to write recordings to, instead of comparing.
    pub record: Option<PathBuf>,
    /// Seconds that expiry may be off.
    pub slack: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            director: Kind::default(),
            jobs: 8,
            recordings: None,
            record: None,
            slack: compare::SLACK,
        }
    }
}

/// Counts of scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Those that went as recorded, or differ as they are meant to.
    pub passed: usize,
    /// The others.
    pub failed: usize,
}

/// A file, and what is in it or why it cannot be read.
struct Case {
    path: PathBuf,
    content: Result<(Scenario, Option<Recording>)>,
}

/// What became of a case.
struct Report {
    name: String,
    lines: Vec<String>,
    passed: bool,
}

/// Replays every scenario of the folders (or single files), and reports each; the last line counts.
pub fn run(
    places: &[PathBuf],
    options: &Options,
    program: &Program,
    out: &mut dyn Write,
) -> Result<Count> {
    let mut files = Vec::new();
    for place in places {
        files.extend(scenarios_in(place)?);
    }
    if let Some(folder) = &options.record {
        fs::create_dir_all(folder)
            .map_err(LabError::io(format!("cannot make {}", folder.display())))?;
    }
    let cases: Vec<Case> = files
        .into_iter()
        .map(|path| Case {
            content: read(&path, options),
            path,
        })
        .collect();
    let say = |out: &mut dyn Write, line: &str| {
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(LabError::io("cannot report"))
    };
    let mut count = Count::default();
    replay_all(&cases, options, program, |report| {
        let verdict = if report.passed { "ok" } else { "FAILED" };
        say(out, &format!("{}: {verdict}", report.name))?;
        for line in &report.lines {
            say(out, &format!("    {line}"))?;
        }
        if report.passed {
            count.passed += 1;
        } else {
            count.failed += 1;
        }
        Ok(())
    })?;
    say(
        out,
        &format!("{} passed, {} failed", count.passed, count.failed),
    )?;
    Ok(count)
}

/// Writes the scenarios of these seeds to a folder.
pub fn generate(folder: &Path, seeds: std::ops::Range<u64>) -> Result<()> {
    let what = |path: &Path| format!("cannot write {}", path.display());
    fs::create_dir_all(folder).map_err(LabError::io(what(folder)))?;
    for seed in seeds {
        let scenario = generate::scenario(seed);
        let path = folder.join(format!("{}.json", scenario.name));
        fs::write(&path, scenario.to_json()).map_err(LabError::io(what(&path)))?;
    }
    Ok(())
}

/// The scenario files of a folder, sorted; a file is itself.
fn scenarios_in(place: &Path) -> Result<Vec<PathBuf>> {
    if place.is_file() {
        return Ok(vec![place.to_owned()]);
    }
    let what = || format!("cannot read the folder {}", place.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(place).map_err(LabError::io(what()))? {
        let path = entry.map_err(LabError::io(what()))?.path();
        if path.extension() == Some(OsStr::new("json")) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(LabError::Usage(format!(
            "there is no scenario (NAME.json) in {}",
            place.display()
        )));
    }
    Ok(files)
}

fn read(path: &Path, options: &Options) -> Result<(Scenario, Option<Recording>)> {
    let scenario = Scenario::read(path)?;
    if options.record.is_some() {
        return Ok((scenario, None));
    }
    let mut recorded = path.with_extension("tsv");
    if let (Some(folder), Some(name)) = (&options.recordings, recorded.file_name()) {
        recorded = folder.join(name);
    }
    let recording = Recording::read(&recorded)?;
    recording
        .check_against(&scenario)
        .map_err(|error| LabError::Answer(format!("{}: {error}", recorded.display())))?;
    Ok((scenario, Some(recording)))
}

/// Replays those first that sleep longest, and reports in the order of the cases.
fn replay_all(
    cases: &[Case],
    options: &Options,
    program: &Program,
    mut report: impl FnMut(Report) -> Result<()>,
) -> Result<()> {
    let mut order: Vec<usize> = (0..cases.len()).collect();
    let sleeps = |index: &usize| match &cases[*index].content {
        Ok((scenario, _)) => scenario.sleeps(),
        Err(_) => Default::default(),
    };
    order.sort_by_key(|index| std::cmp::Reverse(sleeps(index)));
    let next = AtomicUsize::new(0);
    let (send, receive) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, cases.len().max(1)) {
            let send = send.clone();
            scope.spawn(|| {
                let send = send;
                while let Some(index) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let case = &cases[*index];
                    let done =
                        panic::catch_unwind(AssertUnwindSafe(|| judge(case, options, program)));
                    let report =
                        done.unwrap_or_else(|_| failure(case, "the runner panicked".to_owned()));
                    if send.send((*index, report)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut waiting = BTreeMap::new();
        let mut following = 0;
        for (index, done) in receive {
            waiting.insert(index, done);
            while let Some(done) = waiting.remove(&following) {
                report(done)?;
                following += 1;
            }
        }
        Ok(())
    })
}

fn failure(case: &Case, line: String) -> Report {
    let name = case.path.file_stem().unwrap_or_default();
    Report {
        name: name.to_string_lossy().into_owned(),
        lines: vec![line],
        passed: false,
    }
}

fn judge(case: &Case, options: &Options, program: &Program) -> Report {
    let (scenario, expected) = match &case.content {
        Ok(content) => content,
        Err(error) => return failure(case, error.to_string()),
    };
    let got = match replay(scenario, options.director, program) {
        Ok(got) => got,
        Err(error) => return failure(case, error.to_string()),
    };
    let Some(expected) = expected else {
        return match write(case, scenario, &got, options) {
            Ok(line) => Report {
                passed: true,
                ..failure(case, line)
            },
            Err(error) => failure(case, error.to_string()),
        };
    };
    let deviations = compare(scenario, expected, &got, options.slack);
    let exception = match options.director {
        Kind::Pointsman => exceptions::of(&scenario.name),
        Kind::Kernel => None,
    };
    let (lines, passed) = verdict(&deviations, exception);
    Report {
        lines,
        passed,
        ..failure(case, String::new())
    }
}

fn write(case: &Case, scenario: &Scenario, got: &Recording, options: &Options) -> Result<String> {
    let folder = options.record.clone().unwrap_or_default();
    let name = case.path.with_extension("tsv");
    let path = folder.join(name.file_name().unwrap_or_default());
    fs::write(&path, got.to_tsv(scenario))
        .map_err(LabError::io(format!("cannot write {}", path.display())))?;
    Ok(format!("recorded in {}", path.display()))
}

/// What to say, and whether it is as it should be.
fn verdict(deviations: &[Deviation], exception: Option<&Exception>) -> (Vec<String>, bool) {
    let mut passed = true;
    let mut lines = Vec::new();
    for deviation in deviations {
        match exception {
            Some(exception) if exception.covers(deviation) => {
                lines.push(format!("meant to differ: {deviation}"));
            }
            _ => {
                passed = false;
                lines.push(deviation.to_string());
            }
        }
    }
    if let Some(exception) = exception
        && !deviations.is_empty()
    {
        lines.push(format!("exception: {}", exception.reason));
    }
    (lines, passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_covers_its_steps_alone() {
        let deviation = |step, got: &str| Deviation {
            step,
            what: "list".to_owned(),
            expected: "a".to_owned(),
            got: got.to_owned(),
        };
        let exception = exceptions::of("69-twos");
        assert!(verdict(&[deviation(1, "ok")], exception).1);
        assert!(!verdict(&[deviation(1, "error")], exception).1);
        assert!(!verdict(&[deviation(1, "ok"), deviation(9, "ok")], exception).1);
        assert!(!verdict(&[deviation(1, "ok")], None).1);
        assert_eq!(verdict(&[], None), (Vec::new(), true));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let bad = folder.path().join("bad.json");
        fs::write(&bad, r#"{"name": "bad", "setup": [], "steps": ["jump"]}"#).unwrap();
        let mut out = Vec::new();
        let program = Program::new("/nowhere");
        let places = [folder.path().to_owned()];
        let count = run(&places, &Options::default(), &program, &mut out).unwrap();
        assert_eq!(
            count,
            Count {
                passed: 0,
                failed: 1
            }
        );
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("bad.json: step 1 \"jump\""), "{text}");
        assert!(text.ends_with("0 passed, 1 failed\n"), "{text}");
        let empty = tempfile::tempdir().unwrap();
        let places = [empty.path().to_owned()];
        assert!(run(&places, &Options::default(), &program, &mut Vec::new()).is_err());
    }
}
