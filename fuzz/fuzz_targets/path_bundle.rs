//! Any bytes are read as a bundle or refused; what is read is reasoned about, redacted and written
//! without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_path::bundle::Bundle;
use pointsman_path::lint::{Case, lint};
use pointsman_path::redact::redact;

fuzz_target!(|bytes: &[u8]| {
    let Ok(bundle) = Bundle::read(bytes) else {
        return;
    };
    let case = Case {
        client: Some([192, 0, 2, 10].into()),
        ..Case::default()
    };
    lint(&bundle, &case);
    let covered = redact(&bundle, 1).expect("what was read can be written");
    Bundle::read(covered.write().as_bytes()).expect("what was written can be read");
});
