//! Lines that append a rule to a chain, as `ebtables-save` and `iptables-save` write them.

use crate::diagnostic::{Diagnostic, Place};
use crate::model::{Action, BehindTag, Origin, Rule, Table};
use crate::words::Word;

/// `-A CHAIN rule...`: `read` reads what stands behind the chain, `packets` are those of a counter
/// in front of the line.
pub(crate) fn rule(
    table: &mut Table,
    words: &[Word],
    packets: Option<u64>,
    place: &Place,
    read: impl FnOnce(&[Word]) -> Result<Rule, Diagnostic>,
) -> Result<(), Diagnostic> {
    let [append, name, rest @ ..] = words else {
        return Err(place.error("expected `-A CHAIN` and a rule"));
    };
    if !append.is("-A") && !append.is("--append") {
        return Err(append
            .place
            .error(format!("`{}` is not `-A`, nor `*` or `:`", append.text)));
    }
    let Some(chain) = table.chain_mut(&name.text) else {
        return Err(name
            .place
            .error(format!("no line `:{} ...` declares this chain", name.text)));
    };
    let mut rule = read(rest)?;
    rule.packets = packets.or(rule.packets);
    rule.origin = Origin::Text(append.place.clone());
    chain.rules.push(rule);
    Ok(())
}

/// A rule without tests that does nothing yet, from where `words` begin.
pub(crate) fn blank(words: &[Word], behind_tag: BehindTag) -> Rule {
    let place = words.first().map(|word| word.place.clone());
    Rule {
        tests: Vec::new(),
        effects: Vec::new(),
        action: Action::Continue,
        text: String::new(),
        origin: Origin::Text(place.unwrap_or_default()),
        behind_tag,
        packets: None,
    }
}
