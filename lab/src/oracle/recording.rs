//! A recording: what happened in each step of a scenario, as a file `NAME.tsv` says it.

use std::fmt::Write as _;
use std::path::Path;

use crate::error::{LabError, Result};
use crate::oracle::scenario::Scenario;

const COLUMNS: &str = "# step\top\tid\tproto\tsrc\tdst\tserver\treply";

/// What happened, row by row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recording {
    /// The rows in order; a step that lists nothing has none.
    pub rows: Vec<Row>,
}

/// One row: the outcome of a step, or a line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Number of the step, from 1.
    pub step: usize,
    /// Its cells after the number; the first is the operation, or `out`.
    pub cells: Vec<String>,
}

impl Row {
    /// A cell after the operation; `-` where there is none.
    pub fn cell(&self, index: usize) -> &str {
        self.cells.get(index).map_or("-", String::as_str)
    }

    /// The operation, or `out`.
    pub fn operation(&self) -> &str {
        self.cell(0)
    }
}

impl Recording {
    /// Adds a row.
    pub fn add<S: Into<String>>(&mut self, step: usize, cells: impl IntoIterator<Item = S>) {
        // A tab or line end of a message would break the row.
        let clean = |cell: S| cell.into().replace(['\t', '\n', '\r'], " ");
        self.rows.push(Row {
            step,
            cells: cells.into_iter().map(clean).collect(),
        });
    }

    /// The rows of a step.
    pub fn of_step(&self, step: usize) -> Vec<&Row> {
        self.rows.iter().filter(|row| row.step == step).collect()
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .map_err(LabError::io(format!("cannot read {}", path.display())))?;
        Self::parse(&text).map_err(|error| LabError::Answer(format!("{}: {error}", path.display())))
    }

    /// Reads a recording; the error says which line is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut recording = Self::default();
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let wrong = |error: &str| format!("line {} {line:?}: {error}", index + 1);
            let (step, cells) = line
                .split_once('\t')
                .ok_or_else(|| wrong("columns are apart by tabs"))?;
            let step = step.parse().map_err(|_| wrong("no number of a step"))?;
            if recording.rows.last().is_some_and(|row| row.step > step) {
                return Err(wrong("the steps are not in order"));
            }
            recording.rows.push(Row {
                step,
                cells: cells.split('\t').map(str::to_owned).collect(),
            });
        }
        Ok(recording)
    }

    /// The recording as a file says it.
    pub fn to_tsv(&self, scenario: &Scenario) -> String {
        let mut text = format!("# {}: {}\n{COLUMNS}\n", scenario.name, scenario.description);
        for row in &self.rows {
            let _ = writeln!(text, "{}\t{}", row.step, row.cells.join("\t"));
        }
        text
    }

    /// Refuses a recording that cannot be of this scenario.
    pub fn check_against(&self, scenario: &Scenario) -> Result<(), String> {
        let steps = scenario.all_steps();
        for row in &self.rows {
            let step = row
                .step
                .checked_sub(1)
                .and_then(|index| steps.get(index))
                .ok_or_else(|| format!("the scenario has no step {}", row.step))?;
            let operation = row.operation();
            if operation != step.operation() && operation != "out" {
                return Err(format!(
                    "step {} is `{step}` in the scenario and `{operation}` in the recording",
                    row.step
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCENARIO: &str = r#"{"name": "x", "description": "d", "setup": ["-C"],
        "steps": ["ipvsadm -L", "open c0 10.64.0.1:1 10.99.0.1:80", "list"]}"#;

    const TSV: &str = "# x: d\n# step\top\tid\tproto\tsrc\tdst\tserver\treply\n\
        1\tipvsadm\t-\t-\t-C\t-\tok\t-\n2\tipvsadm\t-\t-\t-L\t-\tok\t-\n2\tout\t-\t-\tIP Virtual\n\
        3\topen\tc0\ttcp\t10.64.0.1:1\t10.99.0.1:80\trefused\tnone\n";

    #[test]
    fn a_recording_reads_as_it_is_written() {
        let scenario = Scenario::parse(SCENARIO).unwrap();
        let recording = Recording::parse(TSV).unwrap();
        assert_eq!(recording.check_against(&scenario), Ok(()));
        assert_eq!(recording.to_tsv(&scenario), TSV);
        assert_eq!(recording.of_step(2).len(), 2);
        assert_eq!(recording.of_step(3)[0].cell(6), "none");
        assert!(recording.of_step(4).is_empty());
    }

    #[test]
    fn a_recording_of_something_else_is_refused() {
        let scenario = Scenario::parse(SCENARIO).unwrap();
        let check = |text: &str| Recording::parse(text).unwrap().check_against(&scenario);
        assert!(check("2\tsh\t-\t-\ttrue\t-\tok\t-\n").is_err());
        assert!(check("5\tlist\t-\t-\tTCP\n").is_err());
        assert!(Recording::parse("2\tlist\n1\tlist\n").is_err());
        assert!(Recording::parse("two\tlist\n").is_err());
    }
}
