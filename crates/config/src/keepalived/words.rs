//! A line's words: comments, quotes, escapes.

use super::document::{Place, Word};

/// A line whose characters know the column from which they come, 1 the first.
pub(super) type Line = Vec<(char, u32)>;

/// The characters of a text line.
pub(super) fn columns(text: &str) -> Line {
    text.chars().zip(1..).collect()
}

/// Cuts a comment off: from `#` or `!` outside of quotes.
pub(super) fn without_comment(line: &mut Line) {
    let mut quote = None;
    let mut escaped = false;
    let end = line.iter().position(|(c, _)| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        match (quote, *c) {
            (Some(_), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(*c),
            (None, '#' | '!') => return true,
            _ => {}
        }
        false
    });
    if let Some(end) = end {
        line.truncate(end);
    }
}

/// Cuts white space off both ends.
pub(super) fn trimmed(line: &[(char, u32)]) -> &[(char, u32)] {
    let is_text = |(c, _): &(char, u32)| !c.is_whitespace();
    let Some(start) = line.iter().position(is_text) else {
        return &[];
    };
    let end = line.iter().rposition(is_text).unwrap_or(start);
    &line[start..=end]
}

/// The words of a line; the second says where a quote begins that doesn't end.
pub(super) fn split(line: &[(char, u32)], file: u32, number: u32) -> (Vec<Word>, Option<Place>) {
    let at = |column| Place {
        file,
        line: number,
        column,
    };
    let mut words = Vec::new();
    let mut cursor = Cursor { line, at: 0 };
    loop {
        while cursor.peek().is_some_and(char::is_whitespace) {
            cursor.at += 1;
        }
        let Some((_, column)) = line.get(cursor.at) else {
            return (words, None);
        };
        let mut word = Word {
            text: String::new(),
            quoted: false,
            place: at(*column),
        };
        while let Some(c) = cursor.peek().filter(|c| !c.is_whitespace()) {
            let start = line[cursor.at].1;
            cursor.at += 1;
            if c != '"' && c != '\'' {
                word.text.push(c);
                continue;
            }
            word.quoted = true;
            if !cursor.quoted(c, &mut word.text) {
                words.push(word);
                return (words, Some(at(start)));
            }
        }
        words.push(word);
    }
}

struct Cursor<'a> {
    line: &'a [(char, u32)],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<char> {
        self.line.get(self.at).map(|(c, _)| *c)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += 1;
        c
    }

    /// Reads to the closing quote; false if there is none.
    fn quoted(&mut self, quote: char, text: &mut String) -> bool {
        while let Some(c) = self.next() {
            match c {
                c if c == quote => return true,
                '\\' => match self.escaped() {
                    Some(c) => text.push(c),
                    None => return false,
                },
                c => text.push(c),
            }
        }
        false
    }

    /// What stands behind a backslash, as in a shell.
    fn escaped(&mut self) -> Option<char> {
        Some(match self.next()? {
            'a' => '\x07',
            'b' => '\x08',
            'E' => '\x1b',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'c' => char::from(u8::try_from(self.next()?).unwrap_or_default() & 0x1f),
            'x' => self.number(16, 2, 0).unwrap_or('x'),
            c @ '0'..='7' => self.number(8, 2, c.to_digit(8)?)?,
            c => c,
        })
    }

    /// Up to `most` digits behind `start`; none if there are none and `start` is 0 of a hexadecimal.
    fn number(&mut self, radix: u32, most: usize, start: u32) -> Option<char> {
        let mut number = start;
        let mut digits = 0;
        while digits < most
            && let Some(digit) = self.peek().and_then(|c| c.to_digit(radix))
        {
            number = number * radix + digit;
            digits += 1;
            self.at += 1;
        }
        if radix == 16 && digits == 0 {
            return None;
        }
        Some(char::from((number & 0xff) as u8))
    }
}
