//! Whether the user wants what is more than looking on: told by a flag, or asked at a terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// Leave to do something, or why there is none.
pub(super) type Consent = Result<(), String>;

/// Leave by this flag, or by an answer to this question where somebody is there to answer.
pub(super) fn ask(given: bool, flag: &str, quiet: bool, question: &str) -> Consent {
    if given {
        return Ok(());
    }
    let refused = Err(format!("it needs your consent: {flag}"));
    let (input, mut output) = (std::io::stdin(), std::io::stderr());
    if quiet || !input.is_terminal() || !output.is_terminal() {
        return refused;
    }
    let asked = write!(output, "{question} [y/N] ").and_then(|()| output.flush());
    let mut answer = String::new();
    if asked.is_err() || input.lock().read_line(&mut answer).is_err() {
        return refused;
    }
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err("you did not want it".to_owned()),
    }
}
