//! A finding as an article: what is wrong, what proves it, whose it is, and what mends it.

use std::fmt::Write as _;

use super::confidence;
use super::markup::{capital, escaped, prose};
use crate::finding::{Finding, Fix};

/// Writes one finding; the one that the verdict is about comes first.
pub(super) fn article(page: &mut String, number: usize, finding: &Finding, is_cause: bool) {
    let place = match &finding.link {
        Some(link) => format!(
            "<b>{}</b>, port <b>{}</b>",
            escaped(&finding.node),
            escaped(link)
        ),
        None => format!("<b>{}</b>", escaped(&finding.node)),
    };
    let _ = write!(
        page,
        "<article id=\"finding-{number}\" class=\"{}\">\n<h3><span class=\"number\">{number}</span> \
         <code class=\"code\">{}</code> {}</h3>\n<p class=\"place\">{place}</p>\n<p class=\"words\">{}</p>\n",
        if is_cause { "cause" } else { "also" },
        finding.code,
        confidence(finding.confidence),
        prose(&finding.words)
    );
    let entry = finding.code.entry();
    let _ = writeln!(
        page,
        "<p class=\"quiet\">{}: {}{}</p>",
        prose(&capital(entry.title)),
        prose(entry.explanation),
        if entry.tried {
            ""
        } else {
            " (From documentation; not reproduced by this project.)"
        }
    );
    if let Some(rule) = &finding.rule {
        let _ = write!(
            page,
            "<h4>The rule that decides</h4>\n<p>{}, chain <code>{}</code></p>\n<pre>{}</pre>\n",
            escaped(&rule.table),
            escaped(&rule.chain),
            escaped(&rule.text)
        );
        if !rule.listing.is_empty() {
            *page += &commands(&finding.node, std::slice::from_ref(&rule.listing), "");
        }
    }
    if let Some(owner) = &finding.owner {
        let _ = writeln!(page, "<h4>Whose it is</h4>\n<p>{}</p>", prose(owner));
    }
    evidence(page, finding);
    fixes(page, finding);
    *page += "</article>\n";
}

fn evidence(page: &mut String, finding: &Finding) {
    if finding.evidence.is_empty() {
        return;
    }
    *page += "<h4>What speaks for it</h4>\n<ol class=\"proof\">\n";
    for evidence in &finding.evidence {
        let witness = match evidence.witness {
            Some(witness) => format!("<span class=\"pill witness\">{witness}</span>"),
            None => "<span class=\"pill\">configuration</span>".to_owned(),
        };
        let _ = write!(page, "<li><p>{witness} {}</p>", prose(&evidence.fact));
        if !evidence.command.is_empty() {
            let node = evidence.node.as_ref().unwrap_or(&finding.node);
            *page += &commands(node, std::slice::from_ref(&evidence.command), "");
        }
        *page += "</li>\n";
    }
    *page += "</ol>\n";
}

fn fixes(page: &mut String, finding: &Finding) {
    if finding.fixes.is_empty() {
        return;
    }
    *page += "<h4>Fixes</h4>\n<ul class=\"fixes\">\n";
    for fix in &finding.fixes {
        let class = match fix.tested {
            Some(tested) if tested.after == tested.of => "helps",
            Some(tested) if tested.after == 0 => "useless",
            _ => "",
        };
        let _ = write!(
            page,
            "<li class=\"{class}\"><p>{} {}</p>",
            tried(fix, &finding.node),
            prose(&fix.words)
        );
        *page += &typed(fix, &finding.node);
        *page += &commands(
            fix.node.as_ref().unwrap_or(&finding.node),
            &fix.undo,
            "undo",
        );
        *page += "</li>\n";
    }
    *page += "</ul>\n";
}

/// How a fix did where it was tried.
pub(super) fn tried(fix: &Fix, node: &str) -> String {
    let Some(tested) = fix.tested else {
        let by_hand = fix.commands.iter().all(String::is_empty);
        let word = if by_hand { "by hand" } else { "not tried" };
        return format!("<span class=\"pill\">{word}</span>");
    };
    let (class, does) = match tested.after {
        0 => ("bad", "does not help: "),
        after if after == tested.of => ("good", "tried: "),
        _ => ("", "helps in part: "),
    };
    format!(
        "<span class=\"pill {class}\" title=\"in a {} of {}\">{does}{} of {} pass in a {}, {} before</span>",
        tested.by,
        escaped(node),
        tested.after,
        tested.of,
        tested.by,
        tested.before
    )
}

/// What a fix has people type, for a finding at this node.
pub(super) fn typed(fix: &Fix, node: &str) -> String {
    let mut text = commands(fix.node.as_deref().unwrap_or(node), &fix.commands, "");
    for step in &fix.afterwards {
        text += &commands(&step.node, std::slice::from_ref(&step.command), "then");
    }
    text
}

/// Commands for a shell on a node; nothing if there are none.
pub(super) fn commands(node: &str, commands: &[String], label: &str) -> String {
    let lines: Vec<String> = commands
        .iter()
        .filter(|command| !command.is_empty())
        .map(|command| {
            format!(
                "<span class=\"prompt\">{}# </span>{}",
                escaped(node),
                escaped(command)
            )
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let label = match label {
        "" => String::new(),
        label => format!("<p class=\"label\">{label}</p>"),
    };
    format!("{label}<pre tabindex=\"0\">{}</pre>", lines.join("\n"))
}
