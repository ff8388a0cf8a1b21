//! From files to the lines that count: includes, conditions, parameters, repetitions.

use std::collections::HashMap;

use super::diagnostic::{Diagnostic, Severity};
use super::document::{Builder, Document, Place};
use super::repetition::{self, is_name};
use super::words::{self, Line, columns, trimmed, without_comment};

/// What a configuration may ask of the world.
pub trait Environment {
    /// The files that `pattern` names, as names and texts in order; wildcards and braces are the
    /// environment's. `from` is the name of the file that includes them.
    fn include(&mut self, pattern: &str, from: &str) -> Result<Vec<(String, String)>, String>;

    /// An environment variable.
    fn variable(&mut self, name: &str) -> Option<String>;

    /// Any number from `least` to `most`.
    fn random(&mut self, least: u64, most: u64) -> u64;
}

/// An environment without files and variables, where all chance is the least.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Environment for Alone {
    fn include(&mut self, _: &str, _: &str) -> Result<Vec<(String, String)>, String> {
        Ok(Vec::new())
    }

    fn variable(&mut self, _: &str) -> Option<String> {
        None
    }

    fn random(&mut self, least: u64, _: u64) -> u64 {
        least
    }
}

/// Files within files, and parameters within parameters, to this depth.
const DEPTH: u32 = 32;
/// Characters read in all, again each time that a parameter is filled in: more is a mistake.
const CHARACTERS: usize = 300_000_000;
/// What a line costs beside its characters.
const LINE: usize = 20;
/// Diagnostics kept: who needs more has seen enough.
const DIAGNOSTICS: usize = 1000;
/// Characters of a parameter's name.
const NAME: usize = 256;
/// Characters of a line while parameters are filled in.
const WIDTH: usize = 100_000;

/// Reads the configuration `text` of the file `name` for the host that is called `id` (keepalived's `-i`,
/// else the host name up to its first dot).
pub fn read(
    name: &str,
    text: &str,
    id: &str,
    environment: &mut dyn Environment,
) -> (Document, Vec<Diagnostic>) {
    read_within(CHARACTERS, name, text, id, environment)
}

fn read_within(
    most: usize,
    name: &str,
    text: &str,
    id: &str,
    environment: &mut dyn Environment,
) -> (Document, Vec<Diagnostic>) {
    let mut reader = Reader {
        id,
        environment,
        parameters: HashMap::new(),
        document: Document::default(),
        builder: Builder::default(),
        diagnostics: Vec::new(),
        most,
        read: 0,
        dropped: false,
        check: Check::default(),
    };
    reader.file(name, text, 0);
    let (statements, unclosed) = std::mem::take(&mut reader.builder).finish();
    for place in unclosed {
        reader.error(place, "`{` without a `}`".to_owned());
    }
    reader.document.statements = statements;
    (reader.document, reader.diagnostics)
}

struct Reader<'a> {
    id: &'a str,
    environment: &'a mut dyn Environment,
    /// Each value's lines; one empty line if it has none.
    parameters: HashMap<String, Vec<String>>,
    document: Document,
    builder: Builder,
    diagnostics: Vec<Diagnostic>,
    /// Characters that may be read.
    most: usize,
    /// Characters read so far.
    read: usize,
    /// The line of a file that is being expanded can't be: what is left of it is dropped.
    dropped: bool,
    /// What `include_check` says, in this file.
    check: Check,
}

/// What is wrong about an include beyond a warning.
#[derive(Debug, Clone, Copy, Default)]
struct Check {
    /// A file that can't be read.
    readable: bool,
    /// No file, without a wildcard.
    matching: bool,
    /// No file, with a wildcard.
    wildcard: bool,
    /// No file, with braces.
    brace: bool,
}

impl Check {
    const ALL: Self = Self {
        readable: true,
        matching: true,
        wildcard: true,
        brace: true,
    };

    /// What an include keyword adds; all but the first demand that files can be read.
    fn of(keyword: &str) -> Self {
        let readable = Self {
            readable: true,
            ..Self::default()
        };
        match keyword {
            "include" => Self::default(),
            "includem" => Self {
                matching: true,
                ..readable
            },
            "includew" => Self {
                wildcard: true,
                ..readable
            },
            "includeb" => Self {
                brace: true,
                ..readable
            },
            "includea" => Self::ALL,
            _ => readable,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            readable: self.readable || other.readable,
            matching: self.matching || other.matching,
            wildcard: self.wildcard || other.wildcard,
            brace: self.brace || other.brace,
        }
    }

    /// Whether it is an error that nothing matches this.
    fn wants(self, pattern: &str) -> bool {
        match (pattern.contains(['*', '?', '[']), pattern.contains('{')) {
            (true, _) => self.wildcard,
            (false, true) => self.brace,
            (false, false) => self.matching || self.wildcard,
        }
    }
}

impl Reader<'_> {
    fn file(&mut self, name: &str, text: &str, depth: u32) {
        // What a file says of its includes holds in it alone.
        let check = self.check;
        self.lines(name, text, depth);
        self.check = check;
    }

    fn lines(&mut self, name: &str, text: &str, depth: u32) {
        let file = self.document.files.len() as u32;
        self.document.files.push(name.to_owned());
        let mut lines = text.lines().zip(1..);
        while let Some((text, number)) = lines.next() {
            let mut line = columns(text);
            without_comment(&mut line);
            let at = |column| Place {
                file,
                line: number,
                column,
            };
            if let Some((keyword, pattern, column)) = include(&line) {
                self.include(&keyword, &pattern, at(column), name, depth);
                continue;
            }
            let mut parts = vec![line];
            // A value of several lines goes on behind each backslash.
            while defines(&parts[0])
                && let Some(last) = parts.last_mut()
                && trimmed(last).last().is_some_and(|(c, _)| *c == '\\')
            {
                let end = last.iter().rposition(|(c, _)| *c == '\\');
                last.truncate(end.unwrap_or(0));
                let Some((text, _)) = lines.next() else {
                    break;
                };
                let mut next = columns(text);
                without_comment(&mut next);
                parts.push(next);
            }
            let first = parts.remove(0);
            self.logical_line(first, parts, at(1), 0);
            self.dropped = false;
        }
    }

    fn include(&mut self, keyword: &str, pattern: &str, place: Place, from: &str, depth: u32) {
        // Plain `include` forgives; the others say what they don't forgive.
        let check = self.check.and(Check::of(keyword));
        let severity = |is_wrong| match is_wrong {
            true => Severity::Error,
            false => Severity::Warning,
        };
        if depth >= DEPTH {
            let text = format!("`{pattern}` is not included: files are nested {DEPTH} deep");
            return self.error(place, text);
        }
        match self.environment.include(pattern, from) {
            Ok(files) => {
                if files.is_empty() {
                    self.report(
                        severity(check.wants(pattern)),
                        place,
                        format!("no file matches `{pattern}`"),
                    );
                }
                for (name, text) in files {
                    self.file(&name, &text, depth + 1);
                }
            }
            Err(reason) => {
                let text = format!("cannot include `{pattern}`: {reason}");
                self.report(severity(check.readable), place, text);
            }
        }
    }

    /// Takes a line, with the lines that belong to it if it defines a value of several lines.
    fn logical_line(&mut self, line: Line, more: Vec<Line>, place: Place, depth: u32) {
        let mut line = trimmed(&line).to_vec();
        if line.is_empty() && more.is_empty() {
            return;
        }
        if self.dropped || self.read > self.most {
            return;
        }
        self.read += line.len() + LINE;
        if self.read > self.most {
            let text = "parameters and repetitions make this too long, the rest is ignored";
            return self.error(place, text.to_owned());
        }
        if depth > DEPTH {
            let text =
                format!("parameters are nested more than {DEPTH} deep; does one contain itself?");
            self.dropped = true;
            return self.error(place_of(&line, place), text);
        }
        // One condition, as there.
        if let Some('@') = line.first().map(|(c, _)| *c) {
            let end = line.iter().position(|(c, _)| c.is_whitespace());
            let (condition, rest) = line.split_at(end.unwrap_or(line.len()));
            let condition: String = condition[1..].iter().map(|(c, _)| *c).collect();
            let holds = match condition.strip_prefix('^') {
                Some(other) => other != self.id,
                None => condition == self.id,
            };
            if !holds {
                return;
            }
            line = trimmed(rest).to_vec();
        }
        if let Some((name, value)) = definition(&line) {
            let mut lines = vec![text(trimmed(value))];
            lines.extend(more.iter().map(|line| text(trimmed(line))));
            if lines.len() > 1 && lines[0].is_empty() {
                lines.remove(0);
            }
            self.parameters.insert(name, lines);
            return;
        }
        match repetition::read(&line) {
            Some(Ok(repetition)) => return self.repeat(&line, repetition, place, depth),
            Some(Err(reason)) => return self.error(place_of(&line, place), reason),
            None => {}
        }
        self.substitute(line, place, depth);
    }

    fn repeat(
        &mut self,
        line: &[(char, u32)],
        repetition: repetition::Repetition,
        place: Place,
        depth: u32,
    ) {
        let rest = repetition::rest(line, repetition.end);
        for turn in repetition.turns {
            for (name, value) in repetition.names.iter().zip(turn) {
                self.parameters.insert(name.clone(), vec![value]);
            }
            self.logical_line(rest.clone(), Vec::new(), place, depth);
        }
        for name in &repetition.names {
            self.parameters.remove(name);
        }
    }

    /// Fills in parameters, the leftmost first, until none is left; then the line counts.
    fn substitute(&mut self, line: Line, place: Place, depth: u32) {
        for at in 0..line.len() {
            let Some((name, length)) = usage(&line[at..]) else {
                continue;
            };
            let Some(value) = self.value(&name, place) else {
                continue;
            };
            let column = line[at].1;
            let (before, behind) = (&line[..at], &line[at + length..]);
            let last = value.len() - 1;
            for (index, text) in value.iter().enumerate() {
                let mut part = Line::new();
                if index == 0 {
                    part.extend(before);
                }
                part.extend(text.chars().map(|c| (c, column)));
                if index == last {
                    part.extend(behind);
                }
                if part.len() > WIDTH {
                    let text = format!(
                        "a line of more than {WIDTH} characters; does `{name}` contain itself?"
                    );
                    return self.error(Place { column, ..place }, text);
                }
                self.logical_line(part, Vec::new(), place, depth + 1);
            }
            return;
        }
        let (words, unclosed) = words::split(&line, place.file, place.line);
        if let Some(place) = unclosed {
            self.error(place, "a quote that does not end on its line".to_owned());
        }
        if let Some((first, options)) = words.split_first()
            && first.text == "include_check"
        {
            let options = options.iter().map(|word| (word.place, word.text.clone()));
            self.set_check(&options.collect::<Vec<_>>());
        }
        for (place, text) in self.builder.line(words) {
            self.error(place, text.to_owned());
        }
    }

    /// `include_check`: from here on, in this file and those that it includes.
    fn set_check(&mut self, options: &[(Place, String)]) {
        if options.is_empty() {
            self.check = Check::ALL;
            return;
        }
        self.check = Check::default();
        for (place, option) in options {
            let check = match option.as_str() {
                "readable" => Check::of("includer"),
                "match" => Check::of("includem"),
                "wildcard_match" => Check::of("includew"),
                "brace_match" => Check::of("includeb"),
                _ => {
                    let text = format!(
                        "`{option}`: include_check has readable, match, wildcard_match and brace_match"
                    );
                    self.error(*place, text);
                    continue;
                }
            };
            self.check = self.check.and(check);
        }
    }

    /// The lines of a parameter's value; none if it is not defined, and stays as it is.
    fn value(&mut self, name: &str, place: Place) -> Option<Vec<String>> {
        let mut words = name.split_whitespace();
        let one = match words.next()? {
            "_PWD" => {
                let file = self.document.files.get(place.file as usize)?;
                match file.rsplit_once('/') {
                    Some(("", _)) => "/".to_owned(),
                    Some((folder, _)) => folder.to_owned(),
                    None => ".".to_owned(),
                }
            }
            "_INSTANCE" => self.id.to_owned(),
            "_HASH" => "#".to_owned(),
            "_BANG" => "!".to_owned(),
            "_ENV" => self.environment.variable(words.next()?)?,
            "_RANDOM" => {
                let mut number = |or: u64| words.next().map_or(Some(or), |word| word.parse().ok());
                let (least, most) = (number(0)?, number(32767)?);
                self.environment.random(least, most.max(least)).to_string()
            }
            name => return self.parameters.get(name).cloned(),
        };
        Some(vec![one])
    }

    fn error(&mut self, place: Place, text: String) {
        self.report(Severity::Error, place, text);
    }

    fn report(&mut self, severity: Severity, place: Place, text: String) {
        if self.diagnostics.len() >= DIAGNOSTICS {
            return;
        }
        let diagnostic = self.document.diagnostic(severity, place, text);
        self.diagnostics.push(diagnostic);
    }
}

/// Keyword, pattern and column of an include; found before anything is filled in.
fn include(line: &[(char, u32)]) -> Option<(String, String, u32)> {
    let (words, _) = words::split(line, 0, 0);
    let [keyword, pattern, ..] = words.as_slice() else {
        return None;
    };
    let known = [
        "include", "includer", "includem", "includew", "includeb", "includea",
    ];
    known.contains(&keyword.text.as_str()).then(|| {
        let column = keyword.place.column;
        (keyword.text.clone(), pattern.text.clone(), column)
    })
}

/// True for a line that defines a parameter, perhaps under a condition.
fn defines(line: &[(char, u32)]) -> bool {
    let mut line = trimmed(line);
    if let [('@', _), ..] = line {
        let end = line.iter().position(|(c, _)| c.is_whitespace());
        line = trimmed(&line[end.unwrap_or(line.len())..]);
    }
    definition(line).is_some()
}

/// Name and value of a definition, `$NAME=VALUE`.
fn definition(line: &[(char, u32)]) -> Option<(String, &[(char, u32)])> {
    let (first, rest) = line.split_first()?;
    let end = rest.iter().position(|(c, _)| *c == '=')?;
    let name = text(&rest[..end]);
    (first.0 == '$' && is_name(&name)).then(|| (name, &rest[end + 1..]))
}

/// What is used at the start of this, `$NAME` before white space or `${NAME}`, and how long it is.
fn usage(line: &[(char, u32)]) -> Option<(String, usize)> {
    let [('$', _), rest @ ..] = line else {
        return None;
    };
    if let [('{', _), rest @ ..] = rest {
        let mut characters = rest.iter().take(NAME);
        let end = characters.position(|(c, _)| *c == '}')?;
        return Some((text(&rest[..end]), end + 3));
    }
    let is_name_character = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = rest.iter().position(|(c, _)| !is_name_character(*c));
    let end = end.unwrap_or(rest.len());
    let alone = rest.get(end).is_none_or(|(c, _)| c.is_whitespace());
    (alone && end > 0).then(|| (text(&rest[..end]), end + 1))
}

fn place_of(line: &[(char, u32)], place: Place) -> Place {
    let column = line.first().map_or(place.column, |(_, column)| *column);
    Place { column, ..place }
}

fn text(line: &[(char, u32)]) -> String {
    line.iter().map(|(c, _)| *c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_beyond_all_measure_is_cut() {
        let text = "~SEQ(A,1,100000) ~SEQ(B,1,100000) x\nafter\n";
        let (document, diagnostics) = read_within(100_000, "k", text, "west", &mut Alone);
        assert_eq!(diagnostics.len(), 1);
        assert!(diagnostics[0].text.contains("the rest is ignored"));
        assert!(document.statements.len() < 10_000);
        let (document, diagnostics) = read_within(100_000, "k", "x\ny\n", "west", &mut Alone);
        assert_eq!((document.statements.len(), diagnostics.len()), (2, 0));
    }
}
