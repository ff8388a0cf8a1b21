//! Any text is read as `nft -j` prints it, or refused, and judged, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_filter::nft;

#[path = "../judged.rs"]
mod judged;
use judged::judged;

fuzz_target!(|text: &str| {
    if let Ok(rules) = nft::read("f", text) {
        judged(&rules);
    }
});
