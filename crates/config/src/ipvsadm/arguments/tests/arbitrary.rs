//! No argument vector makes the parser panic.

use proptest::prelude::*;

use super::super::option::SPELLINGS;
use super::super::parse;
use super::Names;
use crate::ipvsadm::Numeric;

/// Words that reach deep into the parser, and arbitrary ones.
fn word() -> impl Strategy<Value = String> {
    let spellings: Vec<String> = SPELLINGS
        .iter()
        .flat_map(|spelling| {
            let short = spelling.short.map(|letter| format!("-{letter}"));
            [Some(format!("--{}", spelling.long)), short]
                .into_iter()
                .flatten()
        })
        .collect();
    let values = [
        "10.0.0.1:80",
        "[fd00::1]:80",
        "10.0.0.1",
        "fd00::1",
        "[",
        "]:",
        ":",
        "1",
        "0",
        "-1",
        "4294967296",
        "rr",
        "sh",
        "sh-port",
        ",",
        "gue",
        "gre",
        "master",
        "backup",
        "-",
        "--",
        "255.255.255.0",
        "",
    ];
    let values: Vec<String> = values.map(str::to_owned).to_vec();
    prop_oneof![
        5 => proptest::sample::select(spellings),
        3 => proptest::sample::select(values),
        1 => "-{0,3}[a-zA-Z0-9=:.,\\[\\]]{0,12}",
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn any_arguments_are_read_or_refused(words in proptest::collection::vec(word(), 0..12)) {
        if let Err(error) = parse(&words, &Names) {
            prop_assert!(matches!(error.exit_code, 2 | 255));
            prop_assert!(error.message.ends_with('\n'));
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_read_or_refused(words: Vec<Vec<u8>>) {
        use std::os::unix::ffi::OsStrExt;
        let words: Vec<&std::ffi::OsStr> =
            words.iter().map(|word| std::ffi::OsStr::from_bytes(word)).collect();
        if let Err(error) = parse(&words, &Numeric) {
            prop_assert!(!error.message.is_empty());
        }
    }
}
