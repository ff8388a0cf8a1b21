//! Any text is read as a keepalived.conf, and means something or nothing, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_config::keepalived::{Alone, configure};

fuzz_target!(|text: &str| {
    let (configuration, _, diagnostics) = configure("f", text, "west", &mut Alone);
    for diagnostic in &diagnostics {
        assert!(diagnostic.line > 0 && diagnostic.column > 0);
    }
    assert_eq!(configuration.changes_to(&configuration), []);
    configuration.routers();
    if configuration.virtual_services().len() < 1000 {
        configuration.summary();
    }
});
