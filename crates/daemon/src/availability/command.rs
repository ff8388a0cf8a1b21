//! Commands of a configuration: their words, and who runs them.

use std::time::Duration;

use nix::unistd::{Group, User};
use pointsman_config::keepalived::model::{self, Command, Global};

use crate::child::Script;
use crate::fifo::Fifo;

/// The user that runs scripts where none is named and there is such a user, as with keepalived.
const USUAL: &str = "keepalived_script";

/// Turns commands into scripts.
pub(super) struct Commands {
    user: Option<(u32, u32)>,
}

impl Commands {
    pub(super) fn new(global: &Global, faults: &mut Vec<String>) -> Self {
        let user = match &global.script_user {
            Some(user) => find(user, faults),
            None => {
                let usual = User::from_name(USUAL).ok().flatten();
                usual.map(|user| (user.uid.as_raw(), user.gid.as_raw()))
            }
        };
        Self { user }
    }

    /// The script of a command.
    pub(super) fn script(&self, command: &Command, faults: &mut Vec<String>) -> Option<Script> {
        let words = match divide(&command.line) {
            Ok(words) if !words.is_empty() => words,
            Ok(_) => {
                faults.push("a command without words".to_owned());
                return None;
            }
            Err(problem) => {
                faults.push(format!("`{}`: {problem}", command.line));
                return None;
            }
        };
        let user = match &command.user {
            Some(user) => find(user, faults),
            None => self.user,
        };
        // Who is that user already needs no change.
        let own = (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        );
        Some(Script {
            words,
            user: user.filter(|user| *user != own),
        })
    }

    /// The same of a command that may be missing.
    pub(super) fn optional(
        &self,
        command: Option<&Command>,
        faults: &mut Vec<String>,
    ) -> Option<Script> {
        command.and_then(|command| self.script(command, faults))
    }

    pub(super) fn timed(
        &self,
        command: Option<&(Command, Duration)>,
        faults: &mut Vec<String>,
    ) -> Option<(Script, Duration)> {
        let (command, limit) = command?;
        Some((self.script(command, faults)?, *limit))
    }

    /// A FIFO, if it has a path.
    pub(super) fn fifo(&self, fifo: &model::Fifo, faults: &mut Vec<String>) -> Option<Fifo> {
        let path = fifo.path.as_ref()?;
        Some(Fifo {
            path: path.line.clone().into(),
            reader: self.optional(fifo.script.as_ref(), faults),
        })
    }
}

fn find(user: &model::User, faults: &mut Vec<String>) -> Option<(u32, u32)> {
    let Some(found) = User::from_name(&user.name).ok().flatten() else {
        faults.push(format!("no user {}, who is to run scripts", user.name));
        return None;
    };
    let group = match &user.group {
        None => found.gid,
        Some(name) => match Group::from_name(name).ok().flatten() {
            Some(group) => group.gid,
            None => {
                faults.push(format!("no group {name}, for scripts of {}", user.name));
                return None;
            }
        },
    };
    Some((found.uid.as_raw(), group.as_raw()))
}

/// The words of a command line: divided at blanks, but not within quotes; a backslash takes a
/// character as it is.
fn divide(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => match characters.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err("a backslash at its end"),
            },
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote that is not closed");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::divide;

    #[test]
    fn words_are_divided_at_blanks_outside_quotes() {
        for (line, wanted) in [
            ("/bin/true", &["/bin/true"][..]),
            ("  a  b\tc ", &["a", "b", "c"]),
            ("a 'b c' \"d 'e\" f\\ g", &["a", "b c", "d 'e", "f g"]),
            ("a '' b", &["a", "", "b"]),
            ("x\"y\"z", &["xyz"]),
            ("", &[]),
        ] {
            assert_eq!(divide(line).expect("words"), wanted, "{line}");
        }
        divide("a 'b").expect_err("an open quote");
        divide("a\\").expect_err("nothing behind the backslash");
    }
}
