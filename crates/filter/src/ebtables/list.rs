//! Reader of `ebtables -L`, also when a listing was folded or pasted on one line.

use std::sync::Arc;

use super::{Cursor, Word, is_target_option, options, parsed, words};
use crate::diagnostic::{Diagnostic, Place, within_limit};
use crate::model::{End, Origin, Rule, Ruleset, Table};

/// Reads what `ebtables -L` prints, with any of `--Lc`, `--Ln` and `--Lmac2`.
///
/// Line ends mean nothing: a rule ends where its target and the target's options end. What comes
/// before the first table or chain, such as a prompt with the command, is left out.
pub fn read_list(file: &str, text: &str) -> Result<Ruleset, Diagnostic> {
    within_limit(file, text)?;
    if !text.contains("Bridge") {
        return Err(none(file));
    }
    let name: Arc<str> = file.into();
    let mut all = Vec::new();
    for (at, line) in text.lines().enumerate() {
        all.extend(words::split(&name, at as u32 + 1, line)?);
    }
    let begins = |at: usize, what: &str| {
        all.get(at).is_some_and(|word| word.is("Bridge"))
            && all.get(at + 1).is_some_and(|word| word.is(what))
    };
    let first = (0..all.len()).find(|&at| begins(at, "table:") || begins(at, "chain:"));
    let mut at = first.unwrap_or(all.len());
    let mut tables: Vec<Table> = Vec::new();
    while at < all.len() {
        if begins(at, "table:") {
            let name = word_at(&all, at + 2, file)?;
            tables.push(super::new_table(&name.text, &name.place)?);
            at += 3;
            continue;
        }
        if !begins(at, "chain:") {
            let word = &all[at];
            return Err(word.place.error(format!(
                "`{}` is neither a rule nor `Bridge chain:`",
                word.text
            )));
        }
        let (name, end, rules) = header(&all, at + 2, file)?;
        // Where a listing does not say, it is that of libvirt's and nova's table.
        if tables.is_empty() {
            tables.push(super::new_table("nat", &name.place)?);
        }
        let table = tables.len() - 1;
        let name_text = name.text.trim_end_matches(',').to_owned();
        super::new_chain(&mut tables[table], &name_text, end, &name.place)?;
        at = rules;
        while at < all.len() && !begins(at, "table:") && !begins(at, "chain:") {
            let (rule, next) = rule(&all, at)?;
            at = next;
            if let (Some(rule), Some(chain)) = (rule, tables[table].chain_mut(&name_text)) {
                chain.rules.push(rule);
            }
        }
    }
    if tables.is_empty() {
        return Err(none(file));
    }
    Ok(Ruleset { tables })
}

fn none(file: &str) -> Diagnostic {
    Place::new(file, 1, 1)
        .error("there is no `Bridge chain:`; is this what `ebtables -t nat -L` prints?")
}

fn word_at<'w>(all: &'w [Word], at: usize, file: &str) -> Result<&'w Word, Diagnostic> {
    all.get(at).ok_or_else(|| {
        all.last()
            .map_or_else(|| Place::new(file, 1, 1), |word| word.place.clone())
            .error("the listing ends in the middle of a header")
    })
}

/// `NAME, entries: N, policy: POLICY`: the name, what it means, and where the rules begin.
fn header<'w>(
    all: &'w [Word],
    at: usize,
    file: &str,
) -> Result<(&'w Word, End, usize), Diagnostic> {
    let name = word_at(all, at, file)?;
    let mut at = at + 1;
    if word_at(all, at, file)?.is("entries:") {
        at += 2;
    }
    if !word_at(all, at, file)?.is("policy:") {
        let word = &all[at];
        return Err(word
            .place
            .error(format!("expected `policy:`, not `{}`", word.text)));
    }
    let policy = word_at(all, at + 1, file)?;
    let end = match policy.text.as_str() {
        // ebtables 1.8 prints RETURN for chains whose policy is ACCEPT, older ones tell the truth.
        "RETURN" if is_libvirt(&name.text) => End::Accept,
        "RETURN" => End::AcceptOrReturn,
        text => parsed(
            policy,
            "a policy; ACCEPT, DROP and RETURN are",
            super::end(text),
        )?,
    };
    Ok((name, end, at + 2))
}

/// Chains whose policy libvirt never sets: it is ACCEPT.
fn is_libvirt(name: &str) -> bool {
    let name = name.strip_prefix("libvirt-").unwrap_or(name);
    ["I-", "O-", "J-", "P-"]
        .iter()
        .any(|start| name.starts_with(start))
}

/// The rule that begins here, and where the next one begins.
fn rule(all: &[Word], at: usize) -> Result<(Option<Rule>, usize), Diagnostic> {
    let place = all[at].place.clone();
    let mut at = at;
    // `--Ln` numbers the rules.
    if let Some(number) = all[at].text.strip_suffix(['.', ':'])
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        at += 1;
    }
    let start = at;
    let mut cursor = Cursor::new(&all[at..]);
    let mut target = false;
    while let Some(word) = cursor.peek() {
        if target && !(word.is_option() && is_target_option(&word.text)) {
            break;
        }
        if word.is("Bridge") || word.text == "," {
            break;
        }
        target |= word.is("-j") || word.is("--jump");
        cursor.next();
        if target {
            cursor.next();
        }
    }
    let mut end = start + cursor.at();
    if end == start {
        return Err(place.error(format!(
            "`{}` is not a rule",
            all[start.min(all.len() - 1)].text
        )));
    }
    let mut own = all[start..end].to_vec();
    // `--Lc`: ", pcnt = 4 -- bcnt = 240"; the comma may stick to the target.
    let mut packets = None;
    if let Some(last) = own.last_mut()
        && let Some(text) = last.text.strip_suffix(',')
    {
        last.text = text.to_owned();
    } else if all.get(end).is_some_and(|word| word.text == ",") {
        end += 1;
    }
    if all.get(end).is_some_and(|word| word.is("pcnt")) {
        if let Some(count) = all.get(end + 2) {
            packets = Some(parsed(count, "a count", count.text.parse().ok())?);
        }
        end += 3;
        while all.get(end).is_some_and(|word| word.is("--")) {
            end += 4;
        }
        end = end.min(all.len());
    }
    let mut rule = options::rule(&own)?;
    rule.packets = packets;
    rule.origin = Origin::Text(place);
    Ok((Some(rule), end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Field;
    use crate::model::Action;
    use crate::test::Test;

    const FOLDED: &str = "\
root@kvm:~# ebtables -t nat -L --Lc
Bridge table: nat

Bridge chain: PREROUTING, entries: 1, policy: ACCEPT
-i vnet0 -j libvirt-I-vnet0 , pcnt = 7 -- bcnt = 420

Bridge chain: I-vnet0-mac, entries: 2, policy: ACCEPT
-s 2:0:73:b6:53:c8
 -j RETURN , pcnt = 3 --
bcnt = 180
-p ARP --log-level notice --log-prefix \"x\" --log-arp -j
 DROP , pcnt = 0 -- bcnt = 0
";

    #[test]
    fn a_folded_listing_with_counters_is_read() {
        let ruleset = read_list("f", FOLDED).unwrap();
        let chain = ruleset.tables[0].chain("I-vnet0-mac").unwrap();
        assert_eq!(chain.end, End::Accept);
        assert_eq!(chain.rules.len(), 2);
        assert_eq!(chain.rules[0].packets, Some(3));
        assert_eq!(
            chain.rules[0].tests,
            [Test::is(Field::EtherSource, 0x0200_73b6_53c8, false)]
        );
        assert_eq!(chain.rules[0].text, "-s 2:0:73:b6:53:c8 -j RETURN");
        assert_eq!(chain.rules[1].action, Action::Drop);
    }

    #[test]
    fn a_listing_on_one_line_is_read() {
        let text = "Bridge table: nat Bridge chain: libvirt-I-tap1, entries: 3, policy: ACCEPT \
                    -j I-tap1-mac -p IPv4 -j I-tap1-ipv4-ip -j mark --mark-set 0x1 --mark-target \
                    CONTINUE Bridge chain: I-tap1-mac, entries: 1, policy: RETURN 1. -j DROP \
                    Bridge chain: other, entries: 0, policy: RETURN";
        let ruleset = read_list("f", text).unwrap();
        let table = &ruleset.tables[0];
        assert_eq!(table.chain("libvirt-I-tap1").unwrap().rules.len(), 3);
        assert_eq!(table.chain("I-tap1-mac").unwrap().rules.len(), 1);
        assert_eq!(table.chain("I-tap1-mac").unwrap().end, End::Accept);
        assert_eq!(table.chain("other").unwrap().end, End::AcceptOrReturn);
    }

    #[test]
    fn a_broken_listing_is_refused_with_a_place() {
        for (text, error) in [
            (
                "nothing",
                "f:1:1: there is no `Bridge chain:`; is this what `ebtables -t nat -L` prints?",
            ),
            (
                "Bridge chain: x,",
                "f:1:15: the listing ends in the middle of a header",
            ),
            (
                "Bridge chain: x, entries: 1, policies: ACCEPT",
                "f:1:30: expected `policy:`, not `policies:`",
            ),
            (
                "Bridge chain: x, entries: 1, policy: ACCEPT\nfoo -j DROP",
                "f:2:1: `foo` is not an option, and no option asks for it",
            ),
        ] {
            assert_eq!(
                read_list("f", text).unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
    }
}
