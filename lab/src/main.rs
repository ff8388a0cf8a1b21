//! The laboratory as a program of its own, until `pointsman lab` has it.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    pointsman_lab::command::main(&words)
}
