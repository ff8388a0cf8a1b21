//! Any text is read as `iptables-save` prints it, or refused, and judged, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_filter::iptables::{self, Version};

#[path = "../judged.rs"]
mod judged;
use judged::judged;

fuzz_target!(|text: &str| {
    for version in [Version::V4, Version::V6] {
        if let Ok(rules) = iptables::read_save(version, "f", text) {
            judged(&rules);
        }
    }
});
