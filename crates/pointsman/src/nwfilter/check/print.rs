//! The answer as text.

use std::fmt::Write;

use pointsman_filter::catalogue::{Need, Part};
use pointsman_filter::explain::Deciding;
use pointsman_filter::judge::Verdict;
use pointsman_filter::owner::Program;

use super::Report;
use super::finding::{Cause, Finding, causes};

/// The answer; a brief one leaves out what is as it should be.
pub(super) fn report(report: &Report<'_>, brief: bool) -> String {
    let mut text = String::new();
    head(&mut text, report);
    for part in [Part::Work, Part::Attack] {
        let heading = match part {
            Part::Work => "what the role needs",
            Part::Attack => "what filters are there to stop",
        };
        let shown = |one: &&Finding| one.kind.part == part && (!brief || one.is_trouble());
        let mut findings = report.findings.iter().filter(shown).peekable();
        if findings.peek().is_some() {
            let _ = writeln!(text, "\n{heading}:");
        }
        for finding in findings {
            row(&mut text, finding);
        }
    }
    end(&mut text, report);
    text
}

fn head(text: &mut String, report: &Report<'_>) {
    let subject = report.subject;
    let mut who = format!("port {} ({})", subject.port, subject.mac);
    if let Some(binding) = subject.binding() {
        if let Some(owner) = &binding.owner {
            who = format!("guest {owner}, {who}");
        }
        let _ = write!(who, ", filter {}", binding.filter.filter);
        for name in ["IP", "IPV6"] {
            for value in binding.filter.parameters.get(name).unwrap_or_default() {
                let _ = write!(who, " {name}={value}");
            }
        }
    }
    let roles: Vec<&str> = report.scene.roles.iter().map(|role| role.name()).collect();
    let _ = writeln!(text, "{who}");
    let _ = writeln!(
        text,
        "as {} ({}) of {}",
        roles.join(" and "),
        report.scene.method.name(),
        report.vips.join(", ")
    );
    if !report.scene.assumed.is_empty() {
        let _ = writeln!(text, "assumed: {}", report.scene.assumed.join("; "));
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
}

fn row(text: &mut String, finding: &Finding) {
    let verdict = match (finding.explanation.verdict, finding.is_trouble()) {
        (Verdict::Drop, true) => "DROP",
        (Verdict::Drop, false) => "drop",
        (Verdict::Pass, true) => "PASS",
        (Verdict::Pass, false) => "pass",
        (Verdict::Unknown, _) => "unknown",
    };
    let _ = writeln!(
        text,
        "{verdict:7} {:3} {:15} {}",
        finding.direction(),
        finding.kind.need,
        finding.kind.words
    );
    let explanation = &finding.explanation;
    let Some(rule) = &explanation.rule else {
        let _ = writeln!(text, "            {}", explanation.reason);
        return;
    };
    let _ = writeln!(text, "            {}", rule.place_words());
    if finding.is_put_together() {
        let _ = writeln!(
            text,
            "            for a fragment alone; connection tracking puts packets together before"
        );
    }
    if finding.is_trouble() {
        if let Some(origin) = rule.origin_words() {
            let _ = writeln!(text, "            {origin}");
        }
        let _ = writeln!(text, "            {}", explanation.reason);
    }
}

fn end(text: &mut String, report: &Report<'_>) {
    let causes = causes(&report.findings);
    let needed = |finding: &&Finding| finding.kind.need == Need::Must;
    let must = report.findings.iter().filter(needed).count();
    let lacking = report
        .findings
        .iter()
        .filter(|one| one.is_lacking())
        .count();
    let _ = writeln!(text);
    if lacking == 0 {
        let _ = writeln!(text, "all {must} frames that must pass do");
    } else {
        let _ = writeln!(text, "{lacking} of {must} frames that must pass don't:");
    }
    for cause in &causes {
        print_cause(text, report, cause);
    }
    if lacking > 0 && report.subject.binding().is_some() {
        let _ = writeln!(
            text,
            "  `pointsman nwfilter mend` finds the smallest change of the filter"
        );
    }
    let kept = report
        .findings
        .iter()
        .filter(|one| one.kind.need == Need::MustNot && one.kind.part == Part::Work);
    for finding in kept.filter(|one| !one.is_dropped()) {
        let _ = writeln!(text, "  passes and should not: {}", finding.kind.words);
    }
    let stopped = report
        .findings
        .iter()
        .filter(|one| one.kind.part == Part::Attack);
    let unstopped: Vec<&Finding> = stopped
        .filter(|one| one.kind.need == Need::MustNot && !one.is_dropped())
        .collect();
    if !unstopped.is_empty() {
        let words: Vec<&str> = unstopped
            .iter()
            .map(|one| one.kind.words.as_str())
            .collect();
        let _ = writeln!(text, "not stopped by these rules: {}", words.join("; "));
    }
}

fn print_cause(text: &mut String, report: &Report<'_>, cause: &Cause<'_>) {
    let what = match (cause.must, cause.should) {
        (0, should) => format!("{should} that should pass"),
        (must, 0) => format!("{must} that must pass"),
        (must, should) => format!("{must} that must pass, {should} that should"),
    };
    let faults: Vec<&str> = cause.faults.iter().map(|fault| fault.name()).collect();
    let faults = match faults.as_slice() {
        [] => String::new(),
        faults => format!(" ({})", faults.join(", ")),
    };
    let _ = writeln!(text, "  {}: {what}{faults}", cause.words);
    let explanation = &cause.example.explanation;
    let _ = writeln!(text, "    {}", explanation.reason);
    let rule = explanation.rule.as_ref();
    if let (Some(origin), Some(binding)) = (
        rule.and_then(Deciding::origin_words),
        report.subject.binding(),
    ) {
        let _ = writeln!(text, "    {origin}");
        let of_nova = explanation
            .owner
            .as_ref()
            .filter(|owner| owner.program == Program::Nova)
            .and_then(|owner| owner.knob.as_deref());
        let _ = match (of_nova, explanation.pins) {
            (Some(knob), _) => writeln!(text, "    changed by: {knob}"),
            (None, Some(_)) => writeln!(
                text,
                "    changed by: the parameters of <filterref filter='{}'>, {}",
                binding.filter.filter, binding.filter.place
            ),
            (None, None) => writeln!(
                text,
                "    changed by: the filter, {}",
                rule.and_then(|rule| rule.place.as_deref()).unwrap_or("?")
            ),
        };
    } else if let Some(owner) = &explanation.owner {
        let _ = writeln!(text, "    {owner}");
        if let Some(knob) = &owner.knob {
            let _ = writeln!(text, "    changed by: {knob}");
        }
    }
}
