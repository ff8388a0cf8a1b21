//! `garp_extra_if`: announcements of addresses that other interfaces have than the virtual router's.

use std::time::Duration;

use super::super::document::{Place, Word};
use super::super::reader::Reader;
use super::super::values;

/// A day, seconds.
const MOST: i64 = 86_400;

/// Reads `[all] SECONDS`.
pub(super) fn read(reader: &mut Reader<'_>, place: Place, words: &[Word]) -> Option<Duration> {
    let (all, rest) = match words.split_first() {
        Some((word, rest)) if word.text == "all" => (true, rest),
        _ => (false, words),
    };
    let Some(word) = rest.first() else {
        let text = "`garp_extra_if` needs seconds, as in `garp_extra_if all 100`".to_owned();
        reader.error(place, text);
        return None;
    };
    let seconds = match values::whole(word, "garp_extra_if", 0, MOST) {
        Ok(seconds) => seconds.unsigned_abs(),
        Err(fault) => {
            reader.fault(fault);
            return None;
        }
    };
    if seconds > 0 && !all {
        let text = "without `all` it is about interfaces with link-layer addresses of their own for single \
                    addresses, of which there are none: nothing is announced";
        reader.warning(place, text.to_owned());
        return Some(Duration::ZERO);
    }
    Some(Duration::from_secs(seconds))
}
