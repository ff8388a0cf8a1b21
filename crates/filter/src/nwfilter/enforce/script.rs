//! A port's table as nft reads it.

use serde_json::Value;

use super::about::{self, About};
use super::{KNOWN, LEARNED, Made, SAME, same_octets, state, table_name};
use crate::model::{Hook, Origin};
use crate::nft;
use crate::nwfilter::instance::Learning;

/// Leases that a port may have at a time.
const LEASES: u32 = 16;

/// The transaction, the digest of what is in force after it, and the number of rules.
pub(super) fn write(made: &Made, about: &About<'_>) -> (String, String, usize) {
    let own = format!("bridge {}", table_name(&made.port));
    let mut body = sets(made);
    let mut rules = 0;
    for chain in &made.chains {
        body += &format!("\tchain {} {{\n", chain.name);
        if let Some(base) = &chain.base {
            let hook = hook_name(base.hook);
            body += &format!(
                "\t\ttype filter hook {hook} priority {}; policy accept;\n",
                base.priority
            );
        }
        for rule in &chain.rules {
            body += &format!("\t\t{}\n", line(&rule.statements, &rule.origin));
            rules += 1;
        }
        body += "\t}\n";
    }
    let mut comments = about.comments();
    let digest = digest(&format!("{body}{}", comments.join("\n")));
    comments.push(format!("digest {digest}"));
    body += &format!("\tchain {} {{\n", about::CHAIN);
    for comment in comments {
        body += &format!("\t\treturn comment \"{comment}\"\n");
        rules += 1;
    }
    body += "\t}\n";
    let mut text = String::new();
    if about.by_marks {
        text += &state::script();
    }
    // Replaced as a whole: what is there before is in force until everything is.
    text += &format!("add table {own}\ndelete table {own}\ntable {own} {{\n{body}}}\n");
    (text, digest, rules)
}

fn sets(made: &Made) -> String {
    let mut text = String::new();
    if let Some(learning) = made.learning {
        let (size, flags) = match learning {
            Learning::Any => (1, "dynamic"),
            Learning::Dhcp => (LEASES, "timeout"),
        };
        for (name, kind) in [(LEARNED, "ipv4_addr"), (KNOWN, "ifname")] {
            let name = &name[1..];
            text += &format!(
                "\tset {name} {{\n\t\ttype {kind}\n\t\tsize {size}\n\t\tflags {flags}\n\t}}\n"
            );
        }
    }
    if made.same {
        let pairs: Vec<String> = same_octets()
            .map(|octet| format!("{octet} . {octet}"))
            .collect();
        text += &format!(
            "\tset {} {{\n\t\ttype ipv4_addr . ipv4_addr\n\t\telements = {{ {} }}\n\t}}\n",
            &SAME[1..],
            pairs.join(", ")
        );
    }
    text
}

/// A rule with a counter before its verdict, and where it comes from.
fn line(statements: &[Value], origin: &Origin) -> String {
    let (tests, verdict) = match statements.split_last() {
        Some((verdict, tests)) => (
            nft::written(tests),
            nft::written(std::slice::from_ref(verdict)),
        ),
        None => Default::default(),
    };
    let mut words = vec![tests, "counter".into(), verdict];
    words.retain(|word| !word.is_empty());
    if let Origin::Filter(rule) = origin {
        // The first piece is enough to recognise it.
        let name = about::pieces(&rule.filter).swap_remove(0);
        let name = name.trim_end_matches('\\');
        words.push(format!("comment \"{name} {}\"", rule.number));
    }
    words.join(" ")
}

pub(super) fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Prerouting => "prerouting",
        Hook::Output => "output",
        _ => "postrouting",
    }
}

/// FNV-1a: enough to notice a change, and the same in every version of the program.
fn digest(text: &str) -> String {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    format!("{hash:016x}")
}
