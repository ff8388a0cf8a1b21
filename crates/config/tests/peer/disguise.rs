//! The same configuration said in another way: parameters, conditions, repetitions, files, comments.

use std::fmt::Write;

use super::chance::Chance;

/// A configuration in several files.
pub struct Disguised {
    /// The main file.
    pub text: String,
    /// Files that it includes, by name.
    pub files: Vec<(String, String)>,
}

/// Says a configuration, one statement on a line, in a way that means the same on the host `west`.
pub fn disguise(plain: &str, seed: u64) -> Disguised {
    let mut writer = Writer {
        chance: Chance(seed ^ 0x5eed),
        definitions: String::new(),
        names: 0,
        files: Vec::new(),
    };
    let lines: Vec<&str> = plain.lines().collect();
    let mut text = String::new();
    for block in blocks(&lines) {
        writer.block(block, &mut text);
    }
    Disguised {
        text: writer.definitions + &text,
        files: writer.files,
    }
}

/// Blocks of the top level, as their lines.
fn blocks<'a>(lines: &'a [&'a str]) -> Vec<&'a [&'a str]> {
    let (mut blocks, mut from, mut depth) = (Vec::new(), 0, 0);
    for (at, line) in lines.iter().enumerate() {
        depth += line.matches('{').count();
        depth -= line.matches('}').count();
        if depth == 0 {
            blocks.push(&lines[from..=at]);
            from = at + 1;
        }
    }
    blocks
}

struct Writer {
    chance: Chance,
    definitions: String,
    names: u32,
    files: Vec<(String, String)>,
}

impl Writer {
    /// A name that nothing has yet.
    fn name(&mut self) -> String {
        self.names += 1;
        format!("P{}_x", self.names)
    }

    fn block(&mut self, lines: &[&str], text: &mut String) {
        let mut body = String::new();
        let kind = self.chance.below(5);
        if kind == 0 {
            // One parameter holds all of it, and a repetition of one turn fills in a word.
            let name = self.name();
            let _ = writeln!(self.definitions, "${name}= \\");
            for line in &lines[..lines.len() - 1] {
                let _ = writeln!(self.definitions, "  {line} \\");
            }
            let _ = writeln!(self.definitions, "{}", lines[lines.len() - 1]);
            let _ = match self.chance.below(3) {
                0 => writeln!(text, "${name}"),
                1 => writeln!(text, "@west ${{{name}}}"),
                _ => writeln!(text, "~SEQ(TURN,1) ${name}"),
            };
            return;
        }
        let mut at = 0;
        while at < lines.len() {
            at += self.lines(&lines[at..], &mut body);
        }
        if kind == 1 {
            let name = format!("part{}.conf", self.files.len());
            let keyword = self.chance.of(&["include", "includer", "includea"]);
            let _ = writeln!(text, "{keyword} {name}");
            self.files.push((name, body));
        } else {
            *text += &body;
        }
    }

    /// Says the first lines of these, and how many it said.
    fn lines(&mut self, lines: &[&str], text: &mut String) -> usize {
        if self.chance.once_in(6) {
            // Lines of other hosts.
            let _ = writeln!(text, "@east nonsense {}", self.chance.below(9));
            let _ = writeln!(text, "  @^west nonsense");
        }
        if self.chance.once_in(8) {
            *text += self
                .chance
                .of(&["\n", "# } {\n", "  ! \"not a quote\n", "\t\t\n"]);
        }
        // Neighbours that differ in one number become a list.
        if let [first, second, ..] = lines
            && self.chance.once_in(2)
            && let Some((before, one, other, behind)) = difference(first, second)
        {
            let _ = writeln!(text, "~LST(ONE,{one},{other}) {before}${{ONE}}{behind}");
            return 2;
        }
        let mut line = lines[0].to_owned();
        if self.chance.once_in(4) {
            line = self.with_parameter(&line);
        }
        if line.ends_with(" {") && self.chance.once_in(4) {
            let _ = writeln!(text, "{}\n{{", line.trim_end_matches(" {"));
            return 1;
        }
        if !line.ends_with(['{', '}']) {
            let before = self.chance.of(&["", "@west ", "@^east ", "\t"]);
            let behind = self.chance.of(&["", " # why", " ! }", "   ", "\t#{"]);
            line = format!("{before}{line}{behind}");
        }
        let _ = writeln!(text, "{line}");
        1
    }

    /// The line with a word, or a part of one, in a parameter.
    fn with_parameter(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let at = self.chance.below(words.len() as u64) as usize;
        let word = words[at];
        if word.is_empty() || word == "{" || word == "}" {
            return line.to_owned();
        }
        let name = self.name();
        let cut = self.chance.below(word.len() as u64) as usize;
        let (whole, used) = match self.chance.below(3) {
            0 => (word, format!("${name}")),
            1 => (word, format!("${{{name}}}")),
            _ => (&word[cut..], format!("{}${{{name}}}", &word[..cut])),
        };
        if self.chance.once_in(3) {
            // By way of another, whose value comes later.
            let inner = self.name();
            let _ = writeln!(self.definitions, "${name}=${{{inner}}}\n${inner}={whole}");
        } else {
            let _ = writeln!(self.definitions, "${name}={whole}");
        }
        let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        words[at] = used;
        words.join(" ")
    }
}

/// What two lines have in common before and behind one number in which they differ.
fn difference<'a>(one: &'a str, other: &'a str) -> Option<(&'a str, &'a str, &'a str, &'a str)> {
    let before = one
        .bytes()
        .zip(other.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let behind = one
        .bytes()
        .rev()
        .zip(other.bytes().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let end = |line: &str| line.len().checked_sub(behind).filter(|end| *end > before);
    let (a, b) = (&one[before..end(one)?], &other[before..end(other)?]);
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let is_line = !one.contains(['{', '}']) && !other.contains(['{', '}']);
    (is_line && is_number(a) && is_number(b))
        .then(|| (&one[..before], a, b, &one[one.len() - behind..]))
}
