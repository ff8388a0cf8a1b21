//! Reader of dumps of any dialect, also of several in one text, as people paste terminals.

use crate::diagnostic::{Diagnostic, Place, within_limit};
use crate::iptables::{self, Version};
use crate::model::{Engine, Family, Ruleset, Table};
use crate::{ebtables, nft};

/// What a text is a dump of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `ebtables -L`, `ebtables-save`.
    Ebtables,
    /// `iptables-save`.
    Iptables,
    /// `ip6tables-save`.
    Ip6tables,
    /// `nft -j list ruleset`.
    Nft,
}

/// Reads a text whatever it is: dumps one after another, between them prompts with the commands that
/// printed them. Without a prompt the text itself tells what it is.
pub fn read(file: &str, text: &str) -> Result<Ruleset, Diagnostic> {
    within_limit(file, text)?;
    let mut dumps = Vec::new();
    for section in sections(text) {
        if let Some(dialect) = section.dialect(file)? {
            dumps.push(read_as(dialect, file, &section.text)?);
        }
    }
    if dumps.is_empty() {
        return Err(Place::new(file, 1, 1).error(
            "these are no rules; there should be what `ebtables-save`, `ebtables -t nat -L`, \
             `iptables-save`, `ip6tables-save` or `nft -j list ruleset` prints",
        ));
    }
    Ok(merge(dumps))
}

/// Reads a dump that is known to be of a dialect.
pub fn read_as(dialect: Dialect, file: &str, text: &str) -> Result<Ruleset, Diagnostic> {
    match dialect {
        Dialect::Ebtables => ebtables::read(file, text),
        Dialect::Iptables => iptables::read_save(Version::V4, file, text),
        Dialect::Ip6tables => iptables::read_save(Version::V6, file, text),
        Dialect::Nft => nft::read(file, text),
    }
}

/// Joins dumps of one host. `nft` lists the tables of ebtables, iptables and ip6tables, too, where these
/// write to nftables; those that are there in their own dialect are left out, for it says more.
pub fn merge(dumps: impl IntoIterator<Item = Ruleset>) -> Ruleset {
    let mut rules = Ruleset::default();
    for dump in dumps {
        rules.extend(dump);
    }
    let tables = std::mem::take(&mut rules.tables);
    let is_twice = |table: &Table| {
        table.engine == Engine::Nftables && tables.iter().any(|other| is_same(table, other))
    };
    let keep: Vec<bool> = tables.iter().map(|table| !is_twice(table)).collect();
    rules.tables = tables
        .into_iter()
        .zip(keep)
        .filter_map(|(table, keep)| keep.then_some(table))
        .collect();
    rules
}

/// Whether a table of nftables is another tool's that was read in its own dialect.
fn is_same(table: &Table, other: &Table) -> bool {
    let family = match other.engine {
        Engine::Ebtables => Family::Bridge,
        Engine::Iptables => Family::Ip,
        Engine::Ip6tables => Family::Ip6,
        Engine::Nftables => return false,
    };
    // Somebody's own table of the same name has other chains.
    table.family == family
        && table.name == other.name
        && table
            .chains
            .iter()
            .all(|chain| other.chain(&chain.name).is_some())
}

/// What one command printed; other lines are blank, so that places stay what they are.
struct Section {
    /// The command, if a prompt shows it.
    command: Option<Vec<String>>,
    /// The line of the command, or of the beginning.
    line: u32,
    text: String,
}

fn sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section {
        command: None,
        line: 1,
        text: String::new(),
    }];
    for (line, number) in text.lines().zip(1..) {
        let prompt = prompt(line);
        if let Some(command) = &prompt
            && !command.is_empty()
        {
            sections.push(Section {
                command: Some(command.clone()),
                line: number,
                text: "\n".repeat(number as usize - 1),
            });
        }
        if let Some(section) = sections.last_mut() {
            if prompt.is_none() {
                section.text += line;
            }
            section.text.push('\n');
        }
    }
    sections
}

/// The command of a line with a prompt, `root@kvm:~# ebtables -t nat -L`; without a prompt, a command that
/// lists. Empty for a prompt alone.
fn prompt(line: &str) -> Option<Vec<String>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let end = words
        .iter()
        .position(|word| word.ends_with(['#', '$', '>', '%']));
    let (is_prompt, rest) = match end {
        Some(at) => (true, &words[at + 1..]),
        None => (false, &words[..]),
    };
    let rest = match rest {
        ["sudo", rest @ ..] => rest,
        rest => rest,
    };
    let Some(program) = rest.first() else {
        // `root@kvm:~#` alone; a lone `#` is a comment.
        let last = words.last()?;
        return (is_prompt && last.len() > 1 && last.contains(['@', ':', '~', '[', ']']))
            .then(Vec::new);
    };
    let name = program.rsplit('/').next().unwrap_or_default();
    let is_tool = ["ebtables", "iptables", "ip6tables", "nft"]
        .iter()
        .any(|tool| name.starts_with(tool));
    let lists = name.ends_with("-save")
        || rest.iter().any(|word| {
            let cluster = word.strip_prefix('-').unwrap_or_default();
            matches!(*word, "list" | "-S" | "--list")
                || cluster.contains('L') && cluster.bytes().all(|byte| byte.is_ascii_alphabetic())
        });
    // Comments and options of rules have no prompt before the program.
    let before = end.map_or(0, |at| at + 1);
    let plausible = before <= 3 && !line.trim_start().starts_with(['-', ':', '*', '{']);
    (is_tool && lists && plausible).then(|| {
        let words = std::iter::once(name).chain(rest[1..].iter().copied());
        words.map(str::to_owned).collect()
    })
}

impl Section {
    /// What the text is; nothing if there is none.
    fn dialect(&self, file: &str) -> Result<Option<Dialect>, Diagnostic> {
        if let Some([program, options @ ..]) = self.command.as_deref() {
            return self.of_command(file, program, options).map(Some);
        }
        let text = &self.text;
        let has = |line: fn(&str) -> bool| text.lines().map(str::trim).any(line);
        let saved = has(|line| line.starts_with('*'));
        let counted = has(|line| line.starts_with(':') && line.ends_with(']'));
        let six = file.contains("ip6tables")
            || has(|line| line.starts_with("# Generated by ip6tables"))
            || has(|line| line.contains("/128 ") || line.contains("icmpv6"));
        Ok(Some(if text.trim_start().starts_with('{') {
            Dialect::Nft
        } else if text.contains("Bridge chain:")
            || text.contains("Bridge table:")
            || has(|line| line.starts_with("ebtables "))
        {
            Dialect::Ebtables
        } else if saved && counted && six {
            Dialect::Ip6tables
        } else if saved && counted || has(|line| line.starts_with("# Generated by iptables")) {
            Dialect::Iptables
        } else if saved {
            Dialect::Ebtables
        } else if has(|line| line.starts_with("Chain ") && line.ends_with(')')) {
            return Err(self.refused(
                file,
                "`iptables -L` leaves out interfaces and more",
                "iptables-save",
            ));
        } else if has(|line| line.starts_with("table ") && line.ends_with('{')) {
            return Err(self.refused(
                file,
                "this is what `nft list ruleset` prints for people",
                "nft -j list ruleset",
            ));
        } else {
            return Ok(None);
        }))
    }

    fn of_command(
        &self,
        file: &str,
        program: &str,
        options: &[String],
    ) -> Result<Dialect, Diagnostic> {
        if program.starts_with("ebtables") {
            return Ok(Dialect::Ebtables);
        }
        let save = program.ends_with("-save");
        if program.starts_with("ip6tables") && save {
            return Ok(Dialect::Ip6tables);
        }
        if program.starts_with("iptables") && save {
            return Ok(Dialect::Iptables);
        }
        let json = options
            .iter()
            .any(|option| option == "--json" || option.starts_with('-') && option.contains('j'));
        if program == "nft" && json {
            return Ok(Dialect::Nft);
        }
        let (what, instead) = if program == "nft" {
            ("this is not JSON", "nft -j list ruleset".to_owned())
        } else {
            ("this is not a whole table", format!("{program}-save"))
        };
        Err(self.refused(file, what, &instead))
    }

    fn refused(&self, file: &str, what: &str, instead: &str) -> Diagnostic {
        Place::new(file, self.line, 1).error(format!("{what}; take what `{instead}` prints"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(text: &str) -> Vec<String> {
        let rules = read("f", text).unwrap();
        rules
            .tables
            .iter()
            .map(crate::model::Table::title)
            .collect()
    }

    const EBTABLES: &str = "*nat\n:PREROUTING ACCEPT\n-A PREROUTING -i vnet0 -p IPv4 -j DROP\n";
    const IPTABLES: &str = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\nCOMMIT\n";
    const IP6TABLES: &str =
        "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -s ::1/128 -j DROP\nCOMMIT\n";
    const LISTING: &str = "Bridge table: nat\n\nBridge chain: PREROUTING, entries: 1, policy: \
                           ACCEPT\n-i vnet0 -j DROP\n";

    #[test]
    fn a_dump_tells_what_it_is() {
        for (text, title) in [
            (EBTABLES, "ebtables nat"),
            (LISTING, "ebtables nat"),
            (IPTABLES, "iptables filter"),
            (IP6TABLES, "ip6tables filter"),
            (
                r#"{"nftables": [{"table": {"family": "bridge", "name": "t"}}]}"#,
                "nft bridge t",
            ),
            ("ebtables -t nat -N x\n", "ebtables nat"),
        ] {
            assert_eq!(titles(text), [title], "{text}");
        }
    }

    #[test]
    fn a_pasted_terminal_has_several_dumps_with_their_places() {
        let text = format!(
            "root@kvm:~# ebtables -t nat -L\n{LISTING}root@kvm:~# /sbin/iptables-save\n{IPTABLES}\
             [root@kvm ~]# sudo ip6tables-save -t filter\n{IPTABLES}root@kvm:~# \n"
        );
        assert_eq!(
            titles(&text),
            ["ebtables nat", "iptables filter", "ip6tables filter"]
        );
        let broken = text.replace(":FORWARD ACCEPT [0:0]", ":FORWARD MAYBE [0:0]");
        assert_eq!(
            read("f", &broken).unwrap_err().to_string(),
            "f:8:10: `MAYBE` is not a policy; ACCEPT, DROP and - are"
        );
    }

    #[test]
    fn a_table_that_two_tools_list_counts_once() {
        let nft = |table: &str, chain: &str| {
            format!(
                r#"{{"nftables": [{{"table": {{"family": "bridge", "name": "{table}"}}}},
                {{"chain": {{"family": "bridge", "table": "{table}", "name": "{chain}"}}}}]}}"#
            )
        };
        for (table, chain, titles) in [
            ("nat", "PREROUTING", &["ebtables nat"][..]),
            ("nat", "mine", &["ebtables nat", "nft bridge nat"]),
            ("mine", "PREROUTING", &["ebtables nat", "nft bridge mine"]),
        ] {
            let dumps = [EBTABLES, &nft(table, chain)].map(|text| read("f", text).unwrap());
            let rules = merge(dumps);
            let found: Vec<_> = rules.tables.iter().map(Table::title).collect();
            assert_eq!(found, titles);
        }
    }

    #[test]
    fn what_leaves_too_much_out_is_refused_with_what_does_not() {
        for (text, error) in [
            (
                "",
                "f:1:1: these are no rules; there should be what `ebtables-save`, `ebtables -t nat \
                 -L`, `iptables-save`, `ip6tables-save` or `nft -j list ruleset` prints",
            ),
            (
                "Chain FORWARD (policy ACCEPT)\ntarget prot opt source destination\n",
                "f:1:1: `iptables -L` leaves out interfaces and more; take what `iptables-save` prints",
            ),
            (
                "\n$ iptables -nvL\nChain FORWARD (policy ACCEPT)\n",
                "f:2:1: this is not a whole table; take what `iptables-save` prints",
            ),
            (
                "table bridge t {\n}\n",
                "f:1:1: this is what `nft list ruleset` prints for people; take what `nft -j list \
                 ruleset` prints",
            ),
        ] {
            assert_eq!(read("f", text).unwrap_err().to_string(), error, "{text}");
        }
    }
}
