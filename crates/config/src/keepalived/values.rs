//! What follows a keyword, read as the table of keywords has it.

use std::net::IpAddr;
use std::time::Duration;

use super::document::{Place, Statement, Word};
use super::keywords::Arguments;
use super::model::{Command, User};

/// What stood behind a keyword.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// Nothing.
    Nothing,
    /// On or off.
    Switch(bool),
    /// A whole number.
    Whole(i64),
    /// Seconds.
    Time(Duration),
    /// One word.
    Word(&'a Word),
    /// Words.
    Words(&'a [Word]),
    /// An address.
    Address(IpAddr),
    /// A block, and the words before it.
    Block(&'a [Word], &'a [Statement]),
}

/// What is wrong behind a keyword: where, and what.
pub(super) type Fault = (Place, String);

/// Reads what follows the keyword of a statement; the second are words that nobody reads.
pub(super) fn read(
    arguments: Arguments,
    statement: &Statement,
) -> Result<(Value<'_>, &[Word]), Fault> {
    let place = statement.words[0].place;
    let keyword = statement.keyword();
    let words = &statement.words[1..];
    let is_block = matches!(
        arguments,
        Arguments::Lines | Arguments::Block(_) | Arguments::Named(_)
    );
    match &statement.block {
        Some(block) if is_block => return of_block(arguments, statement, words, block),
        Some(_) => return Err((place, format!("`{keyword}` has no block, and here is one"))),
        None if is_block => {
            return Err((place, format!("`{keyword}` needs a block: {{ ... }}")));
        }
        None => {}
    }
    let first = || {
        words
            .first()
            .ok_or_else(|| (place, format!("`{keyword}` needs {}", wanted(arguments))))
    };
    let rest = words.get(1..).unwrap_or_default();
    Ok(match arguments {
        Arguments::Nothing => (Value::Nothing, words),
        Arguments::Words | Arguments::Lines | Arguments::Block(_) | Arguments::Named(_) => {
            (Value::Words(words), &[])
        }
        Arguments::Several => {
            first()?;
            (Value::Words(words), &[])
        }
        Arguments::Switch => match words.first() {
            None => (Value::Switch(true), &[]),
            Some(word) => (Value::Switch(switch(word, keyword)?), rest),
        },
        Arguments::Whole(least, most) => {
            let word = first()?;
            (Value::Whole(whole(word, keyword, least, most)?), rest)
        }
        Arguments::Seconds(least, most) => {
            let word = first()?;
            (Value::Time(seconds(word, keyword, least, most)?), rest)
        }
        Arguments::Milliseconds(least, most) => {
            let word = first()?;
            (Value::Time(milliseconds(word, keyword, least, most)?), rest)
        }
        Arguments::Word => (Value::Word(first()?), rest),
        Arguments::OneOf(choices) => {
            if words.is_empty() && choices.contains(&"") {
                return Ok((Value::Nothing, &[]));
            }
            let word = first()?;
            if !choices.contains(&&*word.text) {
                let text = format!(
                    "`{keyword} {}`: it is one of {}",
                    word.text,
                    choices.join(", ")
                );
                return Err((word.place, text));
            }
            (Value::Word(word), rest)
        }
        Arguments::Address => (Value::Address(address(first()?)?), rest),
        Arguments::Script => {
            first()?;
            (Value::Words(words), words.get(3..).unwrap_or_default())
        }
    })
}

fn of_block<'a>(
    arguments: Arguments,
    statement: &'a Statement,
    words: &'a [Word],
    block: &'a [Statement],
) -> Result<(Value<'a>, &'a [Word]), Fault> {
    let value = Value::Block(words, block);
    match arguments {
        Arguments::Named(_) if words.is_empty() => {
            let keyword = statement.keyword();
            let text = format!("`{keyword}` needs {}", wanted(arguments));
            Err((statement.words[0].place, text))
        }
        Arguments::Block(_) => Ok((value, words)),
        _ => Ok((value, &[])),
    }
}

fn wanted(arguments: Arguments) -> String {
    match arguments {
        Arguments::Whole(least, most) => format!("a number from {least} to {most}"),
        Arguments::Seconds(..) => "seconds".to_owned(),
        Arguments::Milliseconds(..) => "milliseconds".to_owned(),
        Arguments::OneOf(choices) => format!("one of {}", choices.join(", ")),
        Arguments::Address => "an address".to_owned(),
        Arguments::Script => "a command".to_owned(),
        Arguments::Named(_) => "a name".to_owned(),
        _ => "a word behind it".to_owned(),
    }
}

/// On or off.
pub(super) fn switch(word: &Word, keyword: &str) -> Result<bool, Fault> {
    match &*word.text {
        "on" | "true" | "yes" => Ok(true),
        "off" | "false" | "no" => Ok(false),
        other => Err((
            word.place,
            format!("`{keyword} {other}`: it is on, off, true, false, yes or no"),
        )),
    }
}

/// A whole number between two others.
pub(super) fn whole(word: &Word, keyword: &str, least: i64, most: i64) -> Result<i64, Fault> {
    let digits = word.text.strip_prefix('+').unwrap_or(&word.text);
    match digits.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) => Err((
            word.place,
            format!("`{keyword} {}`: it goes from {least} to {most}", word.text),
        )),
        Err(_) => Err((
            word.place,
            format!("`{keyword} {}`: this is no whole number", word.text),
        )),
    }
}

/// Seconds between so many microseconds.
pub(super) fn seconds(
    word: &Word,
    keyword: &str,
    least: u64,
    most: u64,
) -> Result<Duration, Fault> {
    let Some(micros) = micros(&word.text) else {
        let text = format!("`{keyword} {}`: these are no seconds", word.text);
        return Err((word.place, text));
    };
    if !(least..=most).contains(&micros) {
        let text = format!(
            "`{keyword} {}`: it goes from {} to {} seconds",
            word.text,
            Duration::from_micros(least).as_secs_f64(),
            Duration::from_micros(most).as_secs_f64()
        );
        return Err((word.place, text));
    }
    Ok(Duration::from_micros(micros))
}

/// Milliseconds between so many microseconds.
fn milliseconds(word: &Word, keyword: &str, least: u64, most: u64) -> Result<Duration, Fault> {
    let nanos = micros(&word.text).map(|micros| (micros / 1000, micros % 1000));
    let Some((micros, finer)) = nanos else {
        let text = format!("`{keyword} {}`: these are no milliseconds", word.text);
        return Err((word.place, text));
    };
    let text = if !(least..=most).contains(&micros) {
        let [least, most] = [least, most].map(|end| end as f64 / 1000.0);
        format!("it goes from {least} to {most} milliseconds")
    } else if finer != 0 {
        "nothing is finer than a microsecond, three decimals".to_owned()
    } else {
        return Ok(Duration::from_micros(micros));
    };
    Err((word.place, format!("`{keyword} {}`: {text}", word.text)))
}

/// Microseconds of a decimal number of seconds; what is finer is cut off.
fn micros(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    whole
        .checked_mul(1_000_000)?
        .checked_add(fraction.parse().ok()?)
}

/// An IP address.
pub(super) fn address(word: &Word) -> Result<IpAddr, Fault> {
    let text = &word.text;
    text.parse()
        .map_err(|_| (word.place, format!("`{text}` is no IP address")))
}

/// A command and who runs it.
pub(super) fn command(words: &[Word]) -> Option<Command> {
    let (command, user) = words.split_first()?;
    Some(Command {
        line: command.text.clone(),
        user: self::user(user),
    })
}

/// A user, and perhaps a group.
pub(super) fn user(words: &[Word]) -> Option<User> {
    let (name, rest) = words.split_first()?;
    Some(User {
        name: name.text.clone(),
        group: rest.first().map(|group| group.text.clone()),
    })
}
