//! Any bytes print as a line, are summed up and verified without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_wire::text::PacketLine;
use pointsman_wire::{Line, Summary, verify_checksums, verify_packet_checksums};

fuzz_target!(|bytes: &[u8]| {
    for line in [
        format!("{}", Line(bytes)),
        format!("{:#}", PacketLine(bytes)),
    ] {
        assert!(!line.contains(char::is_control), "{line:?} is not one line");
    }
    let _ = verify_checksums(bytes);
    if verify_packet_checksums(bytes).is_ok() {
        assert!(
            Summary::parse_packet(bytes).is_some(),
            "verified but not read"
        );
    }
    if let Some(summary) = Summary::parse(bytes) {
        assert!(summary.changes(&summary).is_empty());
        assert_eq!(summary.flow().is_some(), summary.ports.is_some());
    }
});
