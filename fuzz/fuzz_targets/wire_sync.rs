//! Any bytes read as a synchronisation message without a panic, and what was read is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_wire::sync::{Batch, decode, sync_flag};

fuzz_target!(|bytes: &[u8]| {
    let Ok(decoded) = decode(bytes) else {
        return;
    };
    let mut batch = Batch::new(decoded.sync_id, usize::from(u16::MAX));
    let mut told = Vec::new();
    for mut connection in decoded.connections {
        connection.flags &= sync_flag::TAKEN | sync_flag::SYNC;
        if batch.push(&connection) {
            told.push(connection);
        }
    }
    let again = decode(&batch.finish()).expect("what is written is read");
    assert_eq!(again.connections, told);
    assert_eq!(again.fault, None);
});
