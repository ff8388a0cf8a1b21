//! Whether judgements are those that were recorded, and those by other rules.

use pointsman_filter::connection::Connections;
use pointsman_filter::judge::{Outcome, Step, judge};
use pointsman_filter::model::{Origin, Ruleset};
use pointsman_filter::route::{Direction, Host, Port};
use pointsman_filter::same::same_text;
use serde_json::Value;

/// Compares the step that decides with the recorded one.
pub(super) fn deciding(recorded: &Value, step: Option<&Step>, by_xml: bool) -> Result<(), String> {
    let field = |key: &str| {
        recorded
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (layer, chain, rule) = (field("layer"), field("chain"), field("rule"));
    let shown = step.map_or("no rule".to_owned(), |step| {
        format!("{} {}: {}", step.table, step.chain, step.text)
    });
    let differs = || Err(format!("recorded {layer} {chain}: {rule}; judged {shown}"));
    if recorded.is_null() {
        return Ok(());
    }
    let is_end = rule.starts_with('(');
    let Some(step) = step else {
        // nftables' base chains accept at their end; counters can't show more.
        let by_default = layer == "-" || layer.starts_with("nft");
        return if is_end && by_default {
            Ok(())
        } else {
            differs()
        };
    };
    let table = match layer {
        "nft bridge ethernet" => "nft bridge libvirt_nwfilter_ethernet",
        "nft bridge inet" => "nft bridge libvirt_nwfilter_inet",
        other => other,
    };
    if step.table != table || step.chain != chain {
        return differs();
    }
    if is_end != matches!(step.outcome, Outcome::ChainEnded(_) | Outcome::Policy(_)) {
        return differs();
    }
    if !is_end && !same_text(step.engine, &step.text, rule) {
        return differs();
    }
    let xml = recorded.get("xml_rule").filter(|_| by_xml);
    match xml {
        Some(xml) => origin(xml, step),
        None => Ok(()),
    }
}

/// Compares the rule of the filter that a step comes from.
fn origin(xml: &Value, step: &Step) -> Result<(), String> {
    let Some(filter) = xml.get("filter").and_then(Value::as_str) else {
        return match &step.origin {
            Some(Origin::Filter(rule)) => Err(format!(
                "recorded as of no filter, judged as of {} rule {}",
                rule.filter, rule.number
            )),
            _ => Ok(()),
        };
    };
    let Some(Origin::Filter(rule)) = &step.origin else {
        return Err(format!("recorded as of {filter}, judged as of no filter"));
    };
    let same = |key: &str, own: &str| {
        let recorded = xml.get(key).and_then(Value::as_str);
        recorded.is_none_or(|recorded| recorded == own)
    };
    // The recorded priority is that of a rule without one where the recorder did not look closer.
    let priority = xml.get("priority").and_then(Value::as_i64);
    let same_priority =
        priority.is_none_or(|priority| priority == i64::from(rule.priority) || priority == 500);
    // A frame can't be rejected on a bridge: it is dropped.
    let same_action =
        same("action", &rule.action) || rule.action == "reject" && same("action", "drop");
    if rule.filter == filter && same_action && same("direction", &rule.direction) && same_priority {
        return Ok(());
    }
    Err(format!(
        "recorded as of {xml}, judged as of {} {} {} {}",
        rule.filter, rule.action, rule.direction, rule.priority
    ))
}

/// Compares verdicts and deciding rules over frames, and over many made of them.
pub(super) fn judgements(
    own: &Ruleset,
    other: &Ruleset,
    port: &str,
    frames: &[Vec<u8>],
) -> Result<(), String> {
    let connections = Connections::new();
    let host = Host {
        call_iptables: true,
        call_ip6tables: true,
        connections: Some(&connections),
        ..Host::default()
    };
    let port = Port {
        name: port,
        bridge: None,
        peer: None,
    };
    for (number, frame) in frames.iter().enumerate() {
        for round in 0..VARIANTS {
            let frame = variant(frame, number * VARIANTS + round, round);
            for direction in [Direction::Out, Direction::In] {
                let by = |rules| judge(&frame, port, direction, rules, &host);
                let (Ok(one), Ok(two)) = (by(own), by(other)) else {
                    return Err("a frame can't be judged".into());
                };
                let step = |step: Option<&Step>| step.map(|step| step.chain.clone());
                if one.verdict != two.verdict || step(one.deciding()) != step(two.deciding()) {
                    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
                    return Err(format!(
                        "{direction:?} {hex}: {} by {:?}, {} by libvirt's rules",
                        one.verdict,
                        step(one.deciding()),
                        two.verdict
                    ));
                }
            }
        }
    }
    Ok(())
}

/// How many frames are made of one.
const VARIANTS: usize = 8;

/// A frame with some bytes changed: none in round 0.
fn variant(frame: &[u8], seed: usize, round: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut state = seed as u64 + 1;
    for _ in 0..round {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        // The headers decide.
        let at = (word >> 8) as usize % frame.len().min(60);
        frame[at] = match word >> 40 & 3 {
            0 => word as u8,
            1 => frame[at] ^ 1,
            2 => 0xff,
            _ => 0,
        };
    }
    frame
}
