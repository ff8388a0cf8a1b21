//! Asks by one shell script what would be many commands, for nodes that only ssh reaches.
//!
//! Nothing is written there. Marks that nobody can guess tell answers apart, so that no answer can
//! pass for another.

use std::fmt::Write;

use crate::question::{Answer, Outcome, PATIENCE, Question};

/// A script for `sh -s` that answers questions, with a mark that must not be used twice.
pub fn script(questions: &[Question], mark: &str) -> String {
    let mut text = format!(
        "LC_ALL=C; export LC_ALL\n\
         PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH\n\
         m={}\n\
         t() {{ if command -v timeout >/dev/null 2>&1; then timeout {PATIENCE} \"$@\"; else \"$@\"; fi; }}\n",
        quoted(mark)
    );
    for (number, question) in questions.iter().enumerate() {
        // The mark goes to both streams.
        let _ = writeln!(text, "printf '\\n%s ask {number}\\n' \"$m\"");
        let _ = writeln!(text, "printf '\\n%s ask {number}\\n' \"$m\" >&2");
        for (choice, command) in question.commands.iter().enumerate() {
            let word = if choice == 0 { "if" } else { "elif" };
            let Some(program) = command.first() else {
                continue;
            };
            let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
            let _ = writeln!(
                text,
                "{word} command -v {} >/dev/null 2>&1; then\n  t {} </dev/null\n  \
                 printf '\\n%s end {choice} %d\\n' \"$m\" \"$?\"",
                quoted(program),
                words.join(" ")
            );
        }
        let _ = writeln!(text, "else\n  printf '\\n%s none\\n' \"$m\"\nfi");
    }
    text
}

/// A host that ssh reaches, and a network namespace of it if one is meant: `USER@HOST[/NETNS]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// What ssh is told.
    pub login: &'a str,
    /// The namespace's name there.
    pub netns: Option<&'a str>,
}

/// Why a text names no [`Place`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no host: write it as for ssh, USER@HOST, or USER@HOST/NETNS for a namespace there"
)]
pub struct PlaceError(String);

impl<'a> Place<'a> {
    /// Reads a place; what ssh could take for an option is none.
    pub fn parse(text: &'a str) -> Result<Self, PlaceError> {
        let (login, netns) = match text.split_once('/') {
            Some((login, netns)) => (login, Some(netns)),
            None => (text, None),
        };
        let is_name = |name: &str| {
            !name.is_empty() && !name.starts_with('-') && name.bytes().all(|b| b.is_ascii_graphic())
        };
        // A namespace is a file in one folder.
        let is_file =
            |name: &str| is_name(name) && !name.contains('/') && ![".", ".."].contains(&name);
        if !is_name(login) || !netns.is_none_or(is_file) {
            return Err(PlaceError(text.to_owned()));
        }
        Ok(Self { login, netns })
    }
}

/// A word as the shell takes it for nothing but a word.
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The answers in what the script printed.
pub fn answers(questions: &[Question], mark: &str, output: &[u8], complaint: &str) -> Vec<Answer> {
    let mut sections = vec![None; questions.len()];
    let begin = format!("\n{mark} ask ");
    for section in split(output, begin.as_bytes()).skip(1) {
        if let Some((number, rest)) = line(section)
            && let Some(place) = number
                .parse::<usize>()
                .ok()
                .and_then(|at| sections.get_mut(at))
        {
            *place = Some(rest);
        }
    }
    let complaint_of = |number: usize| {
        let begin = format!("\n{mark} ask {number}\n");
        let from = complaint
            .find(&begin)
            .map(|at| &complaint[at + begin.len()..]);
        let from = from.unwrap_or_default();
        let end = from.find(&format!("\n{mark} ")).unwrap_or(from.len());
        from[..end].trim().to_owned()
    };
    let answer = |(number, (question, section)): (usize, (&Question, Option<&[u8]>))| {
        let (command, outcome) = outcome(question, section, mark, || complaint_of(number));
        Answer {
            subject: question.subject,
            command,
            outcome,
        }
    };
    questions
        .iter()
        .zip(sections)
        .enumerate()
        .map(answer)
        .collect()
}

fn outcome(
    question: &Question,
    section: Option<&[u8]>,
    mark: &str,
    complaint: impl Fn() -> String,
) -> (Vec<String>, Outcome) {
    let first = question.commands.first().cloned().unwrap_or_default();
    let failed = |because: &str| {
        let because = because.to_owned();
        (first.clone(), Outcome::Failed { because })
    };
    let Some(section) = section else {
        return failed("the node did not answer that far");
    };
    let end = format!("\n{mark} ");
    let mut parts = split(section, end.as_bytes());
    let (Some(output), Some(last)) = (parts.next(), parts.next()) else {
        return failed("the answer breaks off");
    };
    // The end of the line that asked.
    let output = output.strip_prefix(b"\n").unwrap_or(output);
    let last = String::from_utf8_lossy(last);
    let words: Vec<&str> = last.split_whitespace().collect();
    match words[..] {
        ["none"] => failed(&missing(question)),
        ["end", choice, code] => {
            let command = choice
                .parse::<usize>()
                .ok()
                .and_then(|choice| question.commands.get(choice));
            let (Some(command), Ok(code)) = (command, code.parse()) else {
                return failed("the answer is damaged");
            };
            // As the program `timeout` says it.
            if code == 124 {
                return failed(&format!("no answer within {PATIENCE} s"));
            }
            let outcome = Outcome::Ended {
                code,
                output: output.to_owned(),
                complaint: complaint(),
            };
            (command.clone(), outcome)
        }
        _ => failed("the answer is damaged"),
    }
}

/// Says that none of a question's programs is there.
pub fn missing(question: &Question) -> String {
    let programs: Vec<&str> = question
        .commands
        .iter()
        .filter_map(|command| command.first())
        .map(String::as_str)
        .collect();
    format!("there is no program {}", programs.join(" or "))
}

fn split<'a>(bytes: &'a [u8], mark: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let at = bytes.windows(mark.len()).position(|part| part == mark);
        rest = at.map(|at| &bytes[at + mark.len()..]);
        Some(&bytes[..at.unwrap_or(bytes.len())])
    })
}

fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    // The line's end stays: it may be the first byte of the mark.
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::Subject;

    fn question(commands: &[&[&str]]) -> Question {
        let words = |words: &&[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Question {
            subject: Subject::Kernel,
            commands: commands.iter().map(words).collect(),
        }
    }

    #[test]
    fn words_are_words_whatever_is_in_them() {
        for (word, text) in [
            ("eth0", "eth0"),
            ("", "''"),
            ("*", "'*'"),
            ("a b", "'a b'"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's", "'it'\\''s'"),
            ("`x`;y|z&\n", "'`x`;y|z&\n'"),
        ] {
            assert_eq!(quoted(word), text);
        }
    }

    #[test]
    fn a_host_may_have_a_namespace_and_is_no_option() {
        let place = |text| Place::parse(text).map(|place| (place.login, place.netns));
        assert_eq!(place("root@h"), Ok(("root@h", None)));
        assert_eq!(place("h/qrouter-1"), Ok(("h", Some("qrouter-1"))));
        for text in [
            "",
            "-oProxyCommand=x",
            "h/",
            "/x",
            "h/-a",
            "h/..",
            "h/a/b",
            "a b",
            "h\n",
        ] {
            assert_eq!(place(text), Err(PlaceError(text.to_owned())));
        }
    }

    #[test]
    fn answers_are_told_apart() {
        let questions = [
            question(&[&["a"]]),
            question(&[&["b"], &["c", "1"]]),
            question(&[&["d"]]),
            question(&[&["e"]]),
        ];
        let output = b"motd\n\nM ask 0\none M ask 3\n\nM end 0 0\n\nM ask 1\ntwo\n\nM end 1 3\n\n\
                       M ask 2\n\nM none\n";
        let complaint = "\nM ask 0\n\nM ask 1\nbad thing\n\nM ask 2\n";
        let answers = answers(&questions, "M", output, complaint);
        assert_eq!(answers[1].command, ["c", "1"]);
        assert_eq!(
            answers[1].outcome,
            Outcome::Ended {
                code: 3,
                output: b"two\n".to_vec(),
                complaint: "bad thing".to_owned()
            }
        );
        let because = |answer: &Answer| match &answer.outcome {
            Outcome::Failed { because } => because.clone(),
            Outcome::Ended { .. } => String::new(),
        };
        assert_eq!(because(&answers[2]), "there is no program d");
        assert_eq!(because(&answers[3]), "the node did not answer that far");
    }
}
