//! The answer as JSON.

use pointsman_filter::catalogue::{Need, Part};
use pointsman_filter::explain::Deciding;
use pointsman_filter::judge::Verdict;
use pointsman_filter::owner::Owner;
use serde_json::{Value, json};

use super::Report;
use super::finding::{Finding, causes};

/// The answer; fields may be added, their meaning does not change.
pub(super) fn report(report: &Report<'_>) -> Value {
    let subject = report.subject;
    let binding = subject.binding();
    let roles: Vec<&str> = report.scene.roles.iter().map(|role| role.name()).collect();
    let causes: Vec<Value> = causes(&report.findings)
        .iter()
        .map(|cause| {
            json!({
                "cause": cause.words,
                "must": cause.must,
                "should": cause.should,
                "faults": cause.faults.iter().map(|fault| fault.name()).collect::<Vec<_>>(),
                "reason": cause.example.explanation.reason,
                "rule": cause.example.explanation.rule.as_ref().map(rule),
                "owner": cause.example.explanation.owner.as_ref().map(owner),
            })
        })
        .collect();
    json!({
        "port": subject.port,
        "mac": subject.mac.to_string(),
        "guest": binding.and_then(|binding| binding.owner.as_deref()),
        "filter": binding.map(|binding| binding.filter.filter.as_str()),
        "roles": roles,
        "method": report.scene.method.name(),
        "vips": report.vips,
        "assumed": report.scene.assumed,
        "notes": report.notes,
        "works": !report.is_lacking(),
        "causes": causes,
        "frames": report.findings.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn finding(finding: &Finding) -> Value {
    let hex: String = finding
        .kind
        .frame
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    json!({
        "id": finding.kind.id,
        "direction": finding.direction(),
        "need": match finding.kind.need {
            Need::Must => "must",
            Need::Should => "should",
            Need::Free => "may",
            Need::MustNot => "must not",
        },
        "part": match finding.kind.part {
            Part::Work => "work",
            Part::Attack => "attack",
        },
        "words": finding.kind.words,
        "verdict": match finding.explanation.verdict {
            Verdict::Pass => "pass",
            Verdict::Drop => "drop",
            Verdict::Unknown => "unknown",
        },
        "reason": finding.explanation.reason,
        "pinned": finding.explanation.pins.map(|pinned| pinned.name()),
        "rule": finding.explanation.rule.as_ref().map(rule),
        "owner": finding.explanation.owner.as_ref().map(owner),
        "frame": hex,
    })
}

fn rule(rule: &Deciding) -> Value {
    json!({
        "table": rule.table,
        "chain": rule.chain,
        "number": rule.number,
        "text": rule.text,
        "packets": rule.packets,
        "place": rule.place,
        "filter": rule.filter.as_ref().map(|origin| json!({
            "name": origin.filter,
            "by_way_of": rule.by_way_of,
            "rule": origin.number,
            "action": origin.action,
            "direction": origin.direction,
            "priority": origin.priority,
        })),
    })
}

fn owner(owner: &Owner) -> Value {
    json!({
        "program": owner.program.name(),
        "port": owner.port,
        "filter": owner.filter,
        "part": owner.part,
        "changed_by": owner.knob,
    })
}
