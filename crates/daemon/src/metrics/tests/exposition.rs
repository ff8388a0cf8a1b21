//! A checker of the text exposition format, as strict as `promtool check metrics`.

use std::collections::{BTreeMap, BTreeSet};

/// A metric's samples, by their labels as written.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    pub(crate) kind: String,
    pub(crate) values: BTreeMap<String, f64>,
}

/// Metrics by name.
pub(crate) type Exposition = BTreeMap<String, Samples>;

/// Reads a text; fails with the line that breaks a rule.
pub(crate) fn read(text: &str) -> Exposition {
    let mut metrics = Exposition::new();
    let mut helped = BTreeSet::new();
    let mut current = String::new();
    assert!(text.ends_with('\n'), "the last line has no end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(helped.insert(name.to_owned()), "twice: {line}");
            assert!(!help.is_empty() && !help.contains('\\'), "{line}");
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert_eq!(name, current, "TYPE follows HELP: {line}");
            assert!(matches!(kind, "counter" | "gauge"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            let samples = Samples {
                kind: kind.to_owned(),
                ..Samples::default()
            };
            assert!(metrics.insert(name.to_owned(), samples).is_none(), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').expect(line)),
                None => (series, ""),
            };
            assert_eq!(name, current, "samples are together: {line}");
            assert!(name.chars().all(is_name), "{line}");
            check_labels(labels, line);
            let value: f64 = value.parse().expect(line);
            let metric = metrics.get_mut(name).expect("TYPE comes first");
            assert!(metric.kind != "counter" || value >= 0.0, "{line}");
            let before = metric.values.insert(labels.to_owned(), value);
            assert!(before.is_none(), "twice: {line}");
        }
    }
    metrics
}

const fn is_name(character: char) -> bool {
    matches!(character, 'a'..='z' | '0'..='9' | '_')
}

/// Labels are names with quoted values, each name once.
fn check_labels(labels: &str, line: &str) {
    let mut rest = labels;
    let mut names = BTreeSet::new();
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").expect(line);
        assert!(!name.is_empty() && name.chars().all(is_name), "{line}");
        assert!(names.insert(name), "twice {name}: {line}");
        let mut escaped = false;
        let end = value.find(|character| {
            let is_end = character == '"' && !escaped;
            escaped = character == '\\' && !escaped;
            is_end
        });
        rest = &value[end.expect(line) + 1..];
        if !rest.is_empty() {
            rest = rest.strip_prefix(',').expect(line);
        }
    }
}
