//! `verify_vip`: whether the segment believes that the master has its addresses. Not keepalived's.

use std::time::Duration;

use super::super::document::Word;
use super::super::model::Verification;
use super::super::reader::Reader;
use super::super::values;

/// Reads `[SECONDS] [ask ADDRESS]... [step_down [SECONDS]]`.
pub(super) fn read(reader: &mut Reader<'_>, words: &[Word]) -> Verification {
    let mut wish = Verification::default();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "ask" => match words.next().map(|word| (word, word.text.parse())) {
                Some((_, Ok(address))) => wish.ask.push(address),
                Some((word, Err(_))) => {
                    let text = format!("`{}` is no address to ask", word.text);
                    reader.error(word.place, text);
                }
                None => reader.error(word.place, "`ask` needs an address".to_owned()),
            },
            "step_down" => {
                let mut pause = Verification::PAUSE;
                if let Some(seconds) = words.next_if(|word| word.text.parse::<u32>().is_ok()) {
                    match values::whole(seconds, "step_down", 1, 86_400) {
                        Ok(number) => pause = duration(number),
                        Err(fault) => reader.fault(fault),
                    }
                }
                wish.step_down = Some(pause);
            }
            _ => match values::whole(word, "verify_vip", 1, 3600) {
                Ok(seconds) => wish.every = duration(seconds),
                Err(fault) => reader.fault(fault),
            },
        }
    }
    wish
}

fn duration(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}
