//! Lines that are written out several times: `~SEQ`, `~SEQx`, `~LST`.

use super::words::Line;

/// One `~...(...)` at the start of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repetition {
    /// The parameters that change.
    pub(super) names: Vec<String>,
    /// Their values, turn by turn.
    pub(super) turns: Vec<Vec<String>>,
    /// Where the rest of the line begins.
    pub(super) end: usize,
}

/// More turns than this are a mistake.
const TURNS: i64 = 100_000;

/// Reads the repetition with which a line begins, if it begins with a `~`.
pub(super) fn read(line: &[(char, u32)]) -> Option<Result<Repetition, String>> {
    if line.first().is_none_or(|(c, _)| *c != '~') {
        return None;
    }
    let text: String = line.iter().map(|(c, _)| *c).collect();
    let Some((head, rest)) = text.split_once('(') else {
        return Some(Err(format!(
            "`{text}`: a line with `~` begins with ~SEQ(...), ~SEQx(...) or ~LST(...)"
        )));
    };
    let Some((arguments, _)) = rest.split_once(')') else {
        return Some(Err(format!("`{head}(` without a `)`")));
    };
    let end = head.chars().count() + arguments.chars().count() + 2;
    let parts = match head.trim_end() {
        "~SEQ" => sequence(arguments, false),
        "~SEQx" => sequence(arguments, true),
        "~LST" => list(arguments),
        head => Err(format!("`{head}` is neither ~SEQ nor ~SEQx nor ~LST")),
    };
    Some(parts.map(|(names, turns)| Repetition { names, turns, end }))
}

type Parts = (Vec<String>, Vec<Vec<String>>);

/// `name, [start, [step,]] end`.
fn sequence(arguments: &str, hexadecimal: bool) -> Result<Parts, String> {
    let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
    let (name, numbers) = arguments.split_first().ok_or("a sequence without a name")?;
    let numbers: Vec<i64> = numbers
        .iter()
        .map(|n| number(n))
        .collect::<Result<_, _>>()?;
    let toward = |from: i64, to: i64| if to < from { -1 } else { 1 };
    let (start, step, end) = match *numbers.as_slice() {
        [end] if end < 0 => (-1, -1, end),
        [end] => (1, 1, end),
        [start, end] => (start, toward(start, end), end),
        [start, step, end] => (start, step, end),
        _ => {
            return Err(format!(
                "`{name}` wants one to three numbers: [start, [step,]] end"
            ));
        }
    };
    if step == 0 {
        return Err(format!(
            "the sequence `{name}` has step 0 and would never end"
        ));
    }
    let turns = (i128::from(end) - i128::from(start)) / i128::from(step) + 1;
    if turns > i128::from(TURNS) {
        return Err(format!(
            "the sequence `{name}` has {turns} turns, {TURNS} is the most"
        ));
    }
    let mut values = Vec::new();
    let mut value = start;
    while (step > 0 && value <= end) || (step < 0 && value >= end) {
        values.push(vec![match (hexadecimal, value < 0) {
            (true, false) => format!("{value:x}"),
            (true, true) => format!("-{:x}", value.unsigned_abs()),
            (false, _) => value.to_string(),
        }]);
        match value.checked_add(step) {
            Some(next) => value = next,
            None => break,
        }
    }
    Ok((vec![valid(name)?], values))
}

/// `name, value, ...` or `{name, ...}, {value, ...}, ...`.
fn list(arguments: &str) -> Result<Parts, String> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut rest = arguments.trim();
    while !rest.is_empty() {
        let (group, behind) = match rest.strip_prefix('{') {
            Some(rest) => rest
                .split_once('}')
                .ok_or_else(|| format!("`{{{rest}` has no `}}`"))?,
            None => rest
                .split_once(',')
                .map_or((rest, ""), |(first, _)| (first, &rest[first.len()..])),
        };
        groups.push(group.split(',').map(|v| v.trim().to_owned()).collect());
        rest = behind.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    let mut groups = groups.into_iter();
    let names = groups.next().ok_or("a list without a name")?;
    let names: Vec<String> = names.iter().map(|n| valid(n)).collect::<Result<_, _>>()?;
    let turns: Vec<Vec<String>> = groups.collect();
    if turns.is_empty() {
        return Err(format!("the list `{}` has no values", names.join(", ")));
    }
    if let Some(turn) = turns.iter().find(|turn| turn.len() != names.len()) {
        return Err(format!(
            "`{}`: {} values for {} names",
            turn.join(", "),
            turn.len(),
            names.len()
        ));
    }
    Ok((names, turns))
}

fn number(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let magnitude = match digits.strip_prefix("0x").or(digits.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    let magnitude = magnitude.map_err(|_| format!("`{text}` is not a number"))?;
    Ok(if negative { -magnitude } else { magnitude })
}

fn valid(name: &str) -> Result<String, String> {
    if is_name(name) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "`{name}` is no name of a parameter: letters, digits and _, no digit first"
        ))
    }
}

/// True for what a parameter can be called.
pub(super) fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The line behind the repetition.
pub(super) fn rest(line: &[(char, u32)], end: usize) -> Line {
    line.get(end..).unwrap_or_default().to_vec()
}
