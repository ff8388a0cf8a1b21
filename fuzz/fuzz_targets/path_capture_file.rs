//! Any bytes are read as a capture file, or refused, and joined into ladders, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_path::capture_file;
use pointsman_path::ladder::{Hints, Ladder, Style};

fuzz_target!(|bytes: &[u8]| {
    let (recording, _) = capture_file::read(bytes, "f");
    let ladder = Ladder::new(&recording, &Hints::default());
    for conversation in &ladder.conversations {
        let _ = ladder.table(conversation, Style::default());
        let _ = ladder.text(conversation, Style::default());
    }
    let _ = capture_file::write(Vec::new(), "f", &recording, Some(&ladder));
});
