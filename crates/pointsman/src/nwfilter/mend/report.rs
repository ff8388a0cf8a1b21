//! A change of a filter in words, and as JSON.

use std::fmt::Write;
use std::path::Path;

use pointsman_filter::catalogue::Need;
use pointsman_filter::judge::Verdict;
use pointsman_filter::mend::{Blocked, Commands, Mend, Outcome, Question, Row, Subject};
use pointsman_filter::nwfilter::Backend;
use pointsman_filter::route::Direction;
use serde_json::{Value, json};

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// For people.
pub(super) fn text(question: &Question<'_>, answer: &Mend, folder: Option<&Path>) -> String {
    let mut text = head(question);
    if let Some(assumed) = list(&answer.assumed) {
        let _ = writeln!(text, "Assumed: {assumed}.");
    }
    match &answer.outcome {
        Outcome::Nothing => {
            text += "\nEverything that is needed passes: there is nothing to mend.\n";
            return text;
        }
        Outcome::Change => {}
        Outcome::None(reasons) => {
            text += &blocked(answer);
            text += "\nNo safe change was found:\n";
            for reason in reasons {
                let _ = writeln!(text, "  {reason}");
            }
            text += &table(answer);
            return text;
        }
    }
    text += &blocked(answer);
    text += "\nThe smallest change:\n";
    for part in &answer.parts {
        let _ = writeln!(text, "  {part}");
    }
    text.push('\n');
    for document in &answer.documents {
        text += &document.diff();
    }
    let there = match folder {
        Some(folder) => format!("in {}", folder.display()),
        None => "with these files; --out DIR writes them".into(),
    };
    text += &commands(
        &format!("To apply it ({there})"),
        "To undo it",
        &answer.virsh,
    );
    text += &commands(
        "With neutron instead of libvirt's filter",
        "To undo that",
        &answer.neutron,
    );
    if !answer.notes.is_empty() {
        text += "\nTo know:\n";
        for note in &answer.notes {
            let _ = writeln!(text, "  {note}");
        }
    }
    text += &table(answer);
    text
}

fn head(question: &Question<'_>) -> String {
    let binding = question.binding;
    let known = question.known;
    let roles: Vec<&str> = known.roles.iter().map(|role| role.name()).collect();
    let vips: Vec<String> = known.vips.iter().map(ToString::to_string).collect();
    let method = known.method.map_or("dr", |method| method.name());
    format!(
        "{} ({}, {}), filter {}: {}, {method}, {}\n",
        binding.owner.as_deref().unwrap_or("the guest"),
        binding.port.as_deref().unwrap_or("not running"),
        binding.mac,
        binding.filter.filter,
        roles.join(" and "),
        vips.join(", ")
    )
}

fn list(words: &[String]) -> Option<String> {
    (!words.is_empty()).then(|| words.join("; "))
}

/// A kind that is blocked, and with which backends.
type ByBackends<'a> = (&'a Blocked, Vec<Backend>);

/// What is needed and dropped, by the rule that does it.
fn blocked(answer: &Mend) -> String {
    let mut groups: Vec<(String, Vec<ByBackends<'_>>)> = Vec::new();
    for one in &answer.blocked {
        let by = by(one);
        let at = groups.iter().position(|(known, _)| *known == by);
        let at = at.unwrap_or_else(|| {
            groups.push((by, Vec::new()));
            groups.len() - 1
        });
        let kinds = &mut groups[at].1;
        match kinds.iter_mut().find(|(other, _)| other.kind == one.kind) {
            Some((_, backends)) => backends.push(one.backend),
            None => kinds.push((one, vec![one.backend])),
        }
    }
    let mut text = String::from("\nBlocked now:\n");
    for (by, kinds) in groups {
        let _ = writeln!(text, "  {by}:");
        let mut said = "";
        for (one, backends) in kinds {
            let reason = one.explanation.reason.as_str();
            if reason != said {
                let _ = writeln!(text, "    {reason}:");
                said = reason;
            }
            let only = match &backends[..] {
                [backend] if answer.blocked.iter().any(|other| other.backend != *backend) => {
                    format!(" ({} only)", name(*backend))
                }
                _ => String::new(),
            };
            let _ = writeln!(text, "      {}{only}", one.kind.words);
        }
    }
    text
}

/// What drops it.
fn by(one: &Blocked) -> String {
    let verb = match one.explanation.verdict {
        Verdict::Unknown => "may drop",
        _ => "drops",
    };
    match &one.explanation.rule {
        Some(rule) => match rule.origin_words() {
            Some(origin) => format!("{origin}, {verb}"),
            None => format!("{} {verb}", rule.place_words()),
        },
        None => "dropped by no rule".into(),
    }
}

fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::Ebiptables => "ebtables",
        Backend::Nftables => "nftables",
    }
}

fn commands(apply: &str, undo: &str, commands: &Commands) -> String {
    let mut text = format!("\n{apply}:\n");
    for command in &commands.apply {
        let _ = writeln!(text, "  {command}");
    }
    let _ = writeln!(text, "{undo}:");
    for command in &commands.undo {
        let _ = writeln!(text, "  {command}");
    }
    for note in &commands.notes {
        let _ = writeln!(text, "  # {note}");
    }
    text
}

/// What passes with each filter, where that differs.
fn table(answer: &Mend) -> String {
    let mut text = String::from(
        "\nWhat passes: now, with the change, with the VIP merely added to the list of addresses, \
         without a filter\n",
    );
    let _ = writeln!(
        text,
        "  {:6} {:6} {:6} {:6} what",
        "now", "change", "list", "none"
    );
    let has_change = answer.outcome == Outcome::Change;
    for row in &answer.rows {
        let cells = cells(row, has_change);
        if cells.iter().all(|cell| *cell == cells[0] || *cell == "-") {
            continue;
        }
        let [now, change, listed, none] = cells;
        let _ = writeln!(
            text,
            "  {now:6} {change:6} {listed:6} {none:6} {} {}: {}",
            way(row.kind.direction),
            row.kind.need,
            row.kind.words
        );
    }
    let mut count = |need: Need, words: &str| {
        let rows = || answer.rows.iter().filter(|row| row.kind.need == need);
        let passing = |verdicts: fn(&Row) -> &[Verdict]| {
            rows()
                .filter(|row| verdicts(row).contains(&Verdict::Pass))
                .count()
        };
        let _ = writeln!(
            text,
            "  {:6} {:6} {:6} {:6} of {} that {words}",
            passing(|row| &row.before),
            if has_change {
                passing(|row| &row.mended).to_string()
            } else {
                "-".into()
            },
            passing(|row| &row.listed),
            passing(|row| &row.deleted),
            rows().count()
        );
    };
    count(Need::Must, "must pass do");
    count(Need::Should, "should pass do");
    count(Need::MustNot, "should not pass do");
    text
}

fn cells(row: &Row, has_change: bool) -> [&'static str; 4] {
    let mended: &[Verdict] = if has_change { &row.mended } else { &[] };
    [
        cell(&row.before),
        cell(mended),
        cell(&row.listed),
        cell(&row.deleted),
    ]
}

/// One word for all backends.
fn cell(verdicts: &[Verdict]) -> &'static str {
    let Some(first) = verdicts.first() else {
        return "-";
    };
    if verdicts.iter().any(|other| other != first) {
        return "varies";
    }
    match first {
        Verdict::Pass => "pass",
        Verdict::Drop => "drop",
        Verdict::Unknown => "?",
    }
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::In | Direction::FromHost => "in ",
        Direction::Out | Direction::ToHost => "out",
    }
}

/// For programs.
pub(super) fn json(question: &Question<'_>, answer: &Mend) -> Value {
    let (outcome, reasons) = match &answer.outcome {
        Outcome::Nothing => ("nothing", &[][..]),
        Outcome::Change => ("change", &[][..]),
        Outcome::None(reasons) => ("none", &reasons[..]),
    };
    let blocked: Vec<Value> = answer
        .blocked
        .iter()
        .map(|one| {
            let rule = one.explanation.rule.as_ref();
            json!({
                "id": one.kind.id,
                "words": one.kind.words,
                "backend": name(one.backend),
                "reason": one.explanation.reason,
                "by": rule.and_then(|rule| rule.origin_words()),
                "table": rule.map(|rule| &rule.table),
                "chain": rule.map(|rule| &rule.chain),
                "rule": rule.map(|rule| &rule.text),
            })
        })
        .collect();
    let documents: Vec<Value> = answer
        .documents
        .iter()
        .map(|document| {
            let (subject, name) = match &document.subject {
                Subject::NewFilter(name) => ("new filter", Some(name)),
                Subject::Filter { name, .. } => ("filter", Some(name)),
                Subject::Interface => ("interface", None),
                Subject::Binding => ("binding", None),
            };
            json!({
                "subject": subject,
                "name": name,
                "file": document.file,
                "before": document.before,
                "after": document.after,
            })
        })
        .collect();
    let list = |commands: &Commands| {
        json!({
            "apply": commands.apply,
            "undo": commands.undo,
            "notes": commands.notes,
        })
    };
    let verdicts = |verdicts: &[Verdict]| -> Value {
        verdicts
            .iter()
            .zip(question.backends)
            .map(|(verdict, backend)| (name(*backend).to_owned(), verdict.to_string().into()))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let rows: Vec<Value> = answer
        .rows
        .iter()
        .map(|row| {
            json!({
                "id": row.kind.id,
                "direction": way(row.kind.direction).trim(),
                "need": row.kind.need.to_string(),
                "words": row.kind.words,
                "now": verdicts(&row.before),
                "change": verdicts(&row.mended),
                "list": verdicts(&row.listed),
                "none": verdicts(&row.deleted),
            })
        })
        .collect();
    json!({
        "schema": SCHEMA,
        "outcome": outcome,
        "reasons": reasons,
        "guest": question.binding.owner,
        "port": question.binding.port,
        "mac": question.binding.mac,
        "filter": question.binding.filter.filter,
        "assumed": answer.assumed,
        "blocked": blocked,
        "parts": answer.parts,
        "documents": documents,
        "virsh": list(&answer.virsh),
        "neutron": list(&answer.neutron),
        "notes": answer.notes,
        "frames": rows,
    })
}
