//! Any text is read as `ebtables` prints it, or refused, and judged, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_filter::ebtables;

#[path = "../judged.rs"]
mod judged;
use judged::judged;

fuzz_target!(|text: &str| {
    for read in [ebtables::read_save, ebtables::read_list] {
        if let Ok(rules) = read("f", text) {
            judged(&rules);
        }
    }
});
