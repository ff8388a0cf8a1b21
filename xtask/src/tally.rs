//! Counts tests from what `cargo test` prints.

use std::collections::BTreeMap;
use std::fmt;

/// Counts of tests; a test that says `skipped: REASON` and passes counts as skipped.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Names of the skipped tests, by reason.
    reasons: BTreeMap<String, Vec<String>>,
    failures: Vec<String>,
    /// Failed tests of the program that runs or ran last.
    failed_here: Vec<String>,
    /// Failed tests that cargo says how to run again.
    again: Vec<Again>,
    /// Tests that failed among others and passed alone.
    unsteady: Vec<String>,
    /// The test program that runs, until its result comes.
    program: Option<String>,
    section: Section,
    /// Skipped tests of this program, which it counts as passed.
    skipped_here: u64,
    /// The test whose output is read.
    test: String,
}

/// Failed tests of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Again {
    /// Arguments for `cargo test` that choose the program.
    pub(crate) arguments: Vec<String>,
    /// Names of the tests.
    pub(crate) tests: Vec<String>,
}

/// The part of a test program's output.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// One line a test.
    #[default]
    Results,
    /// Output of tests that passed: read for reasons of skipping, not shown.
    Successes,
    /// Output of tests that failed.
    Failures,
}

impl Tally {
    /// Reads a line; true if it is worth showing.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        if line.starts_with("     Running ") || line.starts_with("   Doc-tests ") {
            self.end();
            self.program = Some(line.trim().to_owned());
            return true;
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.result(counts);
            return true;
        }
        if let Some(arguments) = line
            .strip_prefix("error: test failed, to rerun pass `")
            .and_then(|rest| rest.strip_suffix('`'))
        {
            self.again.push(Again {
                arguments: arguments.split_whitespace().map(str::to_owned).collect(),
                tests: std::mem::take(&mut self.failed_here),
            });
            return true;
        }
        match line {
            "successes:" => self.section = Section::Successes,
            "failures:" => self.section = Section::Failures,
            _ => {}
        }
        if let Some(test) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.test = test.to_owned();
        }
        match self.section {
            Section::Results => {
                self.one(line);
                !line.is_empty()
            }
            Section::Successes => {
                if let Some(reason) = line.strip_prefix("skipped: ") {
                    self.skip(reason);
                }
                false
            }
            Section::Failures => true,
        }
    }

    /// Ends the output of a program; one that gave no result failed.
    pub(crate) fn end(&mut self) {
        if let Some(program) = self.program.take() {
            self.fail(format!("{program}: it ended without a result"));
        }
        self.skipped_here = 0;
        self.failed_here.clear();
        self.section = Section::Results;
    }

    /// Takes the failed tests that can be run again.
    pub(crate) fn take_again(&mut self) -> Vec<Again> {
        let mut again = std::mem::take(&mut self.again);
        again.retain(|one| !one.tests.is_empty());
        again
    }

    /// Counts a test that failed as passed, since it did when it ran alone, and remembers that.
    pub(crate) fn passed_alone(&mut self, test: &str) {
        if let Some(place) = self.failures.iter().position(|failure| failure == test) {
            self.failures.remove(place);
            self.failed -= 1;
            self.passed += 1;
            self.unsteady.push(test.to_owned());
        }
    }

    /// Adds a failure that no test program counted.
    pub(crate) fn fail(&mut self, what: String) {
        self.failed += 1;
        self.failures.push(what);
    }

    /// Adds what could not be run at all.
    pub(crate) fn leave_out(&mut self, what: &str, reason: &str) {
        self.skipped += 1;
        let tests = self.reasons.entry(reason.to_owned()).or_default();
        tests.push(what.to_owned());
    }

    /// Adds one test that passed.
    pub(crate) fn pass(&mut self) {
        self.passed += 1;
    }

    /// Tests counted so far.
    pub(crate) fn total(&self) -> u64 {
        self.passed + self.failed + self.skipped
    }

    /// Failures counted so far.
    pub(crate) fn failed(&self) -> u64 {
        self.failed
    }

    /// Why tests were skipped and which failed, as lines.
    pub(crate) fn details(&self) -> String {
        let mut text = String::new();
        for (reason, tests) in &self.reasons {
            text += &format!("skipped: {reason} ({})\n", tests.join(", "));
        }
        for test in &self.unsteady {
            text += &format!("unsteady: {test} failed among others and passed alone\n");
        }
        for failure in &self.failures {
            text += &format!("failed: {failure}\n");
        }
        text
    }

    /// A line about one test: `test NAME ... ok`.
    fn one(&mut self, line: &str) {
        let Some((test, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            let reason = if reason.is_empty() { "ignored" } else { reason };
            let tests = self.reasons.entry(reason.to_owned()).or_default();
            tests.push(test.to_owned());
        } else if outcome == "FAILED" {
            self.failures.push(test.to_owned());
            self.failed_here.push(test.to_owned());
        }
    }

    fn skip(&mut self, reason: &str) {
        let tests = self.reasons.entry(reason.to_owned()).or_default();
        let test = std::mem::take(&mut self.test);
        if !test.is_empty() {
            tests.push(test);
            self.skipped += 1;
            self.skipped_here += 1;
        }
    }

    /// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s`
    fn result(&mut self, counts: &str) {
        for part in counts.split([';', '.']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += count.saturating_sub(self.skipped_here),
                "failed" => self.failed += count,
                "ignored" => self.skipped += count,
                _ => {}
            }
        }
        self.program = None;
        self.skipped_here = 0;
        self.section = Section::Results;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
     Running unittests src/lib.rs (target/debug/deps/a-1)

running 3 tests
test one ... ok
test two ... ok
test three ... ignored, slow

successes:

---- two stdout ----
skipped: needs root
skipped: needs root


successes:
    one
    two

test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/b.rs (target/debug/deps/b-1)

running 1 test
test four ... FAILED

failures:

---- four stdout ----
assertion failed

failures:
    four

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s
";

    fn read(text: &str) -> (Tally, String) {
        let mut tally = Tally::default();
        let mut shown = String::new();
        for line in text.lines() {
            if tally.line(line) {
                shown += line;
                shown.push('\n');
            }
        }
        tally.end();
        (tally, shown)
    }

    #[test]
    fn every_test_is_counted_once() {
        let (tally, _) = read(OUTPUT);
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
        assert_eq!(
            tally.details(),
            "skipped: needs root (two)\nskipped: slow (three)\nfailed: four\n"
        );
        assert_eq!((tally.total(), tally.failed()), (4, 1));
    }

    #[test]
    fn output_of_failures_is_shown_and_of_successes_is_not() {
        let (_, shown) = read(OUTPUT);
        assert!(shown.contains("assertion failed"));
        assert!(!shown.contains("skipped: needs root"));
        assert!(!shown.contains("successes:"));
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let (tally, _) = read(
            "     Running tests/a.rs (a-1)\n\nrunning 2 tests\ntest one ... ok\n\
             error: test failed, to rerun pass `--test a`\n     Running tests/b.rs (b-1)\n\
             test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(tally.to_string(), "5 passed, 1 failed, 0 skipped");
        assert!(tally.details().contains("tests/a.rs"));
    }

    #[test]
    fn a_test_that_passes_alone_is_counted_so_and_named() {
        let (mut tally, _) = read(&format!(
            "{OUTPUT}error: test failed, to rerun pass `-p a --test b`\n"
        ));
        let again = Again {
            arguments: ["-p", "a", "--test", "b"].map(str::to_owned).to_vec(),
            tests: vec!["four".to_owned()],
        };
        assert_eq!(tally.take_again(), [again]);
        assert!(tally.take_again().is_empty());
        tally.passed_alone("five");
        assert_eq!(tally.to_string(), "1 passed, 1 failed, 2 skipped");
        tally.passed_alone("four");
        assert_eq!(tally.to_string(), "2 passed, 0 failed, 2 skipped");
        assert!(tally.details().contains("unsteady: four"));
    }

    #[test]
    fn what_is_left_out_is_skipped() {
        let mut tally = Tally::default();
        tally.leave_out("guest-test", "--quick");
        tally.pass();
        assert_eq!(tally.to_string(), "1 passed, 0 failed, 1 skipped");
    }
}
