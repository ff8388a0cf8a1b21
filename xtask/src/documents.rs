//! What the documents at the root say is checked where it can be.

use std::path::PathBuf;

use crate::workspace::root;

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Where a test of `crate/file` may be.
fn files(name: &str) -> Vec<PathBuf> {
    let (krate, file) = name.split_once('/').expect("crate/file");
    let mut files = Vec::new();
    for folder in ["crates", ""] {
        for kind in ["tests", "src"] {
            files.push(root().join(folder).join(krate).join(kind).join(file));
        }
    }
    for path in &mut files {
        path.set_extension("rs");
    }
    files
}

/// Everything between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn tests_that_prove_compatibility_exist() {
    let text = read("COMPATIBILITY.md");
    let (_, tables) = text.split_once("\n## ").expect("a first table");
    let mut count = 0;
    for name in quoted(tables).filter(|name| name.contains("::")) {
        let (place, test) = name.split_once("::").expect("filtered");
        let found = files(place).iter().any(|path| {
            std::fs::read_to_string(path)
                .is_ok_and(|source| source.contains(&format!("fn {test}(")))
        });
        assert!(found, "COMPATIBILITY.md names {name}, which is not there");
        count += 1;
    }
    assert!(count > 40, "only {count} tests are named");
}

#[test]
fn every_reason_is_documented_as_it_is() {
    let document = read("ARCHITECTURE.md");
    let source = read("crates/director/src/reason.rs");
    let mut count = 0;
    for line in source.lines() {
        // `Name = 0, Action, "name", "What happened.";`
        let parts: Vec<&str> = line.trim().splitn(4, ", ").collect();
        let [number, action, name, why] = parts[..] else {
            continue;
        };
        let (Some(why), true) = (why.strip_suffix("\";"), number.contains(" = ")) else {
            continue;
        };
        let row = format!(
            "| `{}` | {} | {} |",
            name.trim_matches('"'),
            action.to_lowercase(),
            why.trim_start_matches('"')
        );
        assert!(document.contains(&row), "ARCHITECTURE.md lacks: {row}");
        count += 1;
    }
    assert!(count > 20, "only {count} reasons were read");
}

#[test]
fn every_verb_of_the_documents_exists() {
    for path in [
        "README.md",
        "CONTRIBUTING.md",
        "COMPATIBILITY.md",
        "ARCHITECTURE.md",
    ] {
        let text = read(path);
        for rest in text.split("cargo xtask ").skip(1) {
            let verb: String = rest
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '-')
                .collect();
            assert!(
                verb == "help" || crate::has_verb(&verb),
                "{path} names the verb `{verb}`"
            );
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    for path in [
        "README.md",
        "CONTRIBUTING.md",
        "ARCHITECTURE.md",
        "COMPATIBILITY.md",
    ] {
        let text = read(path);
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap_or_default();
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.starts_with("http") {
                assert!(root().join(file).exists(), "{path} links to {file}");
            }
        }
    }
}
