//! `pointsman doctor --explain`: what is known of a fault.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use pointsman_path::catalogue::{self, Code};

/// Tells of one fault, or lists all for an empty name.
pub(super) fn run(name: &str) -> Result<ExitCode> {
    let mut text = String::new();
    if name.is_empty() {
        for entry in catalogue::entries() {
            text += &format!("{:24} {}\n", entry.code, entry.title);
        }
    } else {
        let code: Code = name.parse()?;
        let entry = code.entry();
        text += &format!("{code}: {}\n", entry.title);
        for (what, said) in [
            ("What happens", entry.explanation),
            ("How it is known", entry.evidence),
            ("What mends it", entry.fix),
        ] {
            text += &format!("\n{what}\n{}", folded(said));
        }
        if !entry.tried {
            text += "\nFrom documentation; not reproduced by this project.\n";
        }
    }
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

/// Lines of at most 80 columns, indented.
fn folded(text: &str) -> String {
    let mut lines = String::new();
    let mut line = String::from(" ");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > 80 {
            lines += &line;
            lines.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line += word;
    }
    lines + &line + "\n"
}
