//! What a configuration asks of the host: files, environment variables, chance.

use std::{
    collections::hash_map::RandomState,
    env, fs,
    hash::BuildHasher,
    path::{Path, PathBuf},
};

use pointsman_config::keepalived::Environment;

/// The files of this host.
#[derive(Debug, Default)]
pub(super) struct Files {
    drawn: u64,
}

/// Patterns that braces make of one.
const PATTERNS: usize = 1000;

impl Environment for Files {
    fn include(&mut self, pattern: &str, from: &str) -> Result<Vec<(String, String)>, String> {
        let folder = Path::new(from)
            .parent()
            .unwrap_or(Path::new(""))
            .to_path_buf();
        let mut files = Vec::new();
        let mut failed = None;
        for pattern in braces(pattern) {
            for path in matches(&folder, &pattern) {
                match fs::read(&path) {
                    Ok(bytes) => {
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        files.push((path.display().to_string(), text));
                    }
                    Err(error) => failed = Some(format!("{}: {error}", path.display())),
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(files),
        }
    }

    fn variable(&mut self, name: &str) -> Option<String> {
        env::var(name).ok()
    }

    fn random(&mut self, least: u64, most: u64) -> u64 {
        self.drawn += 1;
        let number = RandomState::new().hash_one(self.drawn);
        match most.saturating_sub(least).checked_add(1) {
            Some(width) => least + number % width,
            None => number,
        }
    }
}

/// Writes out `{a,b}`, nested too.
fn braces(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        let Some((start, parts, end)) = first_braces(&pattern) else {
            done.push(pattern);
            continue;
        };
        if done.len() + open.len() + parts.len() > PATTERNS {
            break;
        }
        for part in parts.iter().rev() {
            open.push(format!("{}{part}{}", &pattern[..start], &pattern[end..]));
        }
    }
    done
}

/// Where the first braces begin, what stands between commas, and where they end.
fn first_braces(pattern: &str) -> Option<(usize, Vec<String>, usize)> {
    let start = pattern.find('{')?;
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for (at, c) in pattern[start..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((start, parts, start + at + 1));
        }
        if c == ',' && depth == 1 {
            parts.push(String::new());
        } else if !(c == '{' && depth == 1)
            && let Some(part) = parts.last_mut()
        {
            part.push(c);
        }
    }
    None
}

/// The files that a pattern names, in order; without wildcards the one that it names, be it there or not.
fn matches(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    if !pattern.contains(['*', '?', '[']) {
        let path = folder.join(pattern);
        return path.exists().then_some(path).into_iter().collect();
    }
    let mut paths = vec![match pattern.starts_with('/') {
        true => PathBuf::from("/"),
        false => folder.to_path_buf(),
    }];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for path in &paths {
            if !part.contains(['*', '?', '[']) {
                next.push(path.join(part));
                continue;
            }
            let here = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            let Ok(entries) = fs::read_dir(here) else {
                continue;
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with('.') == part.starts_with('.') && is_match(part, &name) {
                    next.push(path.join(&*name));
                }
            }
        }
        next.sort();
        paths = next;
    }
    paths.retain(|path| path.is_file());
    paths
}

/// Whether a name is as `*`, `?` and `[a-z]` say.
fn is_match(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Behind the last `*`, and how much of the name it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let one = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') => Some(1),
            Some('[') => class(&pattern[p..], name[n]),
            Some(c) if *c == name[n] => Some(1),
            _ => None,
        };
        match (one, star) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((behind, eaten))) => {
                p = behind;
                n = eaten + 1;
                star = Some((behind, n));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// The length of `[...]` if the character is in it.
fn class(pattern: &[char], c: char) -> Option<usize> {
    let end = pattern.iter().skip(2).position(|c| *c == ']')? + 2;
    let (inverted, set) = match &pattern[1..end] {
        ['!' | '^', rest @ ..] => (true, rest),
        set => (false, set),
    };
    let mut found = false;
    let mut at = 0;
    while at < set.len() {
        if let [first, '-', last, ..] = set[at..] {
            found |= (first..=last).contains(&c);
            at += 3;
        } else {
            found |= set[at] == c;
            at += 1;
        }
    }
    (found != inverted).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("?[0-9]*", "a7", true),
            ("?[!0-9]*", "a7", false),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbY", false),
            ("[", "x", false),
        ] {
            assert_eq!(is_match(pattern, name), expected, "{pattern} {name}");
        }
        assert_eq!(
            braces("{foo/{,cat,dog},bar}x"),
            ["foo/x", "foo/catx", "foo/dogx", "barx"]
        );
    }

    #[test]
    fn files_are_included_in_order_and_by_wildcard() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", ".hidden.conf", "c.txt"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        let from = folder.path().join("keepalived.conf");
        let from = from.to_str().unwrap();
        let read = |pattern: &str| -> Vec<String> {
            let files = Files::default().include(pattern, from).unwrap();
            files.into_iter().map(|(_, text)| text).collect()
        };
        assert_eq!(read("*.conf"), ["a.conf", "b.conf"]);
        assert_eq!(read("{c.txt,b.*}"), ["c.txt", "b.conf"]);
        assert_eq!(read("nothing"), [""; 0]);
        assert_eq!(
            read(&format!("{}/[b-c]*", folder.path().display())),
            ["b.conf", "c.txt"]
        );
    }
}
