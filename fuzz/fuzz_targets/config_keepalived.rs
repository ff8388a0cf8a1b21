//! Any text is read as a keepalived.conf, and means something or nothing, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_config::keepalived::{Environment, configure};

/// A host without files and variables.
struct Nothing;

impl Environment for Nothing {
    fn include(&mut self, _: &str, _: &str) -> Result<Vec<(String, String)>, String> {
        Ok(Vec::new())
    }

    fn variable(&mut self, _: &str) -> Option<String> {
        None
    }

    fn random(&mut self, least: u64, _: u64) -> u64 {
        least
    }
}

fuzz_target!(|text: &str| {
    let (configuration, _, diagnostics) = configure("f", text, "west", &mut Nothing);
    for diagnostic in &diagnostics {
        assert!(diagnostic.line > 0 && diagnostic.column > 0);
    }
    assert_eq!(configuration.changes_to(&configuration), []);
    configuration.routers();
    configuration.router_groups();
    if configuration.virtual_services().len() < 1000 {
        configuration.summary();
    }
});
