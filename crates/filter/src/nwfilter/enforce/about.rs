//! What a table says about itself, so that nobody needs to remember it elsewhere.
//!
//! A chain that nothing calls holds rules with comments: one `name value` each, in pieces where one is too
//! long for a comment.

use crate::nwfilter::Parameters;
use crate::nwfilter::instance::Learning;

/// The chain that holds the comments.
pub(super) const CHAIN: &str = "about";
/// Longest piece of an entry, in bytes; a comment takes 127.
const PIECE: usize = 100;

/// What is said.
pub(super) struct About<'a> {
    pub(super) port: &'a str,
    pub(super) filter: &'a str,
    pub(super) parameters: &'a Parameters,
    pub(super) learning: Option<Learning>,
    /// Rules read marks that another table makes.
    pub(super) by_marks: bool,
}

impl About<'_> {
    /// Comments, without the digest.
    pub(super) fn comments(&self) -> Vec<String> {
        let mut entries = vec![
            format!("port {}", self.port),
            format!("filter {}", self.filter),
        ];
        for (name, list) in self.parameters.iter() {
            for value in list {
                entries.push(format!("parameter {name} {value}"));
            }
        }
        match self.learning {
            Some(Learning::Any) => entries.push("learning any".into()),
            Some(Learning::Dhcp) => entries.push("learning dhcp".into()),
            None => {}
        }
        if self.by_marks {
            entries.push("state marks".into());
        }
        entries.iter().flat_map(|entry| pieces(entry)).collect()
    }
}

/// An entry in pieces that nft can quote; all but the last end in a backslash.
pub(super) fn pieces(entry: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for byte in entry.bytes() {
        let shown = match byte {
            b' ' => " ".to_owned(),
            b'%' | b'"' | b'\\' => format!("%{byte:02x}"),
            byte if byte.is_ascii_graphic() => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        };
        match pieces.last_mut() {
            Some(last) if last.len() + shown.len() <= PIECE => *last += &shown,
            _ => pieces.push(shown),
        }
    }
    let last = pieces.len() - 1;
    for piece in &mut pieces[..last] {
        piece.push('\\');
    }
    pieces
}

/// The entries of comments.
pub(super) fn joined<'c>(comments: impl Iterator<Item = &'c str>) -> Vec<String> {
    let mut entries = Vec::new();
    let mut open: Vec<u8> = Vec::new();
    for comment in comments {
        let (text, more) = match comment.strip_suffix('\\') {
            Some(text) => (text, true),
            None => (comment, false),
        };
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
            match byte {
                b'%' => match (digit(), digit()) {
                    (Some(high), Some(low)) => open.push((high << 4 | low) as u8),
                    _ => open.push(b'%'),
                },
                byte => open.push(byte),
            }
        }
        if !more {
            entries.push(String::from_utf8_lossy(&open).into_owned());
            open.clear();
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_strange_entries_come_back() {
        let long = format!("filter {}", "é\"%\\".repeat(40));
        let entries = ["port tap 0".to_owned(), long, String::new(), "x\n".into()];
        let comments: Vec<String> = entries.iter().flat_map(|entry| pieces(entry)).collect();
        assert!(comments.len() > 6, "{comments:?}");
        for comment in &comments {
            assert!(
                comment.len() <= PIECE + 1 && !comment.contains('"'),
                "{comment}"
            );
        }
        assert_eq!(joined(comments.iter().map(String::as_str)), entries);
    }
}
