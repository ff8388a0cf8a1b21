//! Files that are made: with which modes, and which one tells of a reload.

use super::super::document::Word;
use super::super::model::Global;
use super::super::reader::{Entry, Reader};
use super::super::values::Value;

/// The file that tells of a reload, where none is named.
const RELOAD: &str = "/run/keepalived.reload";

/// Takes a keyword of `global_defs` that is about files.
pub(super) fn read(reader: &mut Reader<'_>, global: &mut Global, entry: &Entry<'_>) {
    match (entry.keyword.name, entry.value) {
        ("umask", Value::Words(words)) => match umask(words) {
            Some(bits) => global.umask = Some(bits),
            None => {
                let text = "`umask` is a number up to 0777, or bits like IWGRP|IWOTH".to_owned();
                reader.error(entry.place, text);
            }
        },
        ("reload_file", Value::Words(words)) => match words.first() {
            None => global.reload_file = Some(RELOAD.to_owned()),
            Some(word) if word.text.starts_with('/') => {
                global.reload_file = Some(word.text.clone());
            }
            Some(word) => {
                let text = format!(
                    "`{}`: `reload_file` is a path that begins with /",
                    word.text
                );
                reader.error(word.place, text);
            }
        },
        _ => {}
    }
}

/// A number in C's notations, or names of bits with `|` between them.
fn umask(words: &[Word]) -> Option<u32> {
    let text: String = words.iter().map(|word| &*word.text).collect();
    let number = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.starts_with('0') => u32::from_str_radix(&text, 8).ok(),
        None => text.parse().ok(),
    };
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return number.filter(|bits| *bits <= 0o777);
    }
    text.split('|')
        .try_fold(0, |bits, name| Some(bits | bit(name)?))
}

/// `IRUSR` to `IXOTH`.
fn bit(name: &str) -> Option<u32> {
    let (kind, whose) = name.strip_prefix('I')?.split_at_checked(1)?;
    let kind = match kind {
        "R" => 4,
        "W" => 2,
        "X" => 1,
        _ => return None,
    };
    let place = match whose {
        "USR" => 6,
        "GRP" => 3,
        "OTH" => 0,
        _ => return None,
    };
    Some(kind << place)
}
