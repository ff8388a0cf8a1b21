//! Any bytes are read without a panic, and what is read lies in the frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pointsman_director::{
    headers::{Headers, parse, parse_quoted},
    native::NativeFrame,
};

fuzz_target!(|bytes: &[u8]| {
    let frame = NativeFrame::new(bytes.to_vec(), 1);
    let mut headers = Headers::default();
    if parse(&frame, &mut headers).is_err() {
        return;
    }
    let end = headers.transport() + u32::from(headers.transport_length);
    assert!(headers.ip() < headers.transport());
    assert!(end <= headers.ip() + headers.length);
    assert!(headers.ip() + headers.length <= bytes.len() as u32);
    assert!(headers.tags <= 2);
    let mut quoted = Headers::default();
    if headers.is_icmp() && parse_quoted(&frame, &headers, &mut quoted).is_ok() {
        assert!(headers.transport() + 8 <= quoted.ip());
        // A quote may be cut short, its ports may not.
        assert!(quoted.transport() + 8 <= headers.ip() + headers.length);
        assert_eq!(quoted.flow.ipv6, headers.flow.ipv6);
    }
});
