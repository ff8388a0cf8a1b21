//! Any text is read as `ebtables` prints it or as whatever it seems to be, or refused, and judged and
//! explained, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_filter::{dump, ebtables};

#[path = "../judged.rs"]
mod judged;
use judged::judged;

fuzz_target!(|text: &str| {
    for read in [ebtables::read_save, ebtables::read_list, dump::read] {
        if let Ok(rules) = read("f", text) {
            judged(&rules);
        }
    }
});
