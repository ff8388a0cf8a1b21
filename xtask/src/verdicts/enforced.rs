//! What we enforce, judged beside libvirt's rules and what these were recorded to do.

use pointsman_filter::nwfilter::{Tracking, enforce};

use super::*;

/// Cases where what we enforce differs from what libvirt's nftables backend did, because that slips.
const DIFFERENT: &[&str] = &[
    // A range of STP's priorities is there the other way round.
    "l2-12",
];

/// Rules of that backend, or ours, that decide differently for the same reason.
const SLIPS: &[&str] = &[
    // The mask of one address is used for the other, which has none.
    "arp saddr ip 10.9.0.0/24 arp daddr ip 10.9.0.0/24 drop",
    "@nh,48,8 != 0x80 @nh,64,16 1-100",
];

/// The recorded cases with the filters that each may refer to; nothing if libvirt's own are not here.
fn cases() -> Option<Vec<(String, Library, Case)>> {
    if libvirt::filters().is_none() {
        println!("skipped: needs libvirt's own filters; `cargo xtask setup` gets them");
        return None;
    }
    let folder = crate::workspace::root().join("crates/filter/tests/golden");
    let document = json(&folder.join("verdicts.json")).unwrap();
    let mut library = builtin_libraries().unwrap()[&Backend::Nftables].clone();
    let defined = document["filters"].as_object().unwrap();
    for (name, text) in defined {
        if !name.contains(" (") {
            add(&mut library, "verdicts.json", text).unwrap();
        }
    }
    let mut cases = Vec::new();
    for case in document["cases"].as_array().unwrap() {
        let mut library = library.clone();
        for (name, text) in defined {
            if is_variant(name, case) {
                add(&mut library, "verdicts.json", text).unwrap();
            }
        }
        let backend = Backend::Nftables;
        if let Some(expected) = case["expect"][name_of(backend)].as_str() {
            let id = text(case, "id").unwrap().to_owned();
            cases.push((id, library, Case::read(case, backend, expected).unwrap()));
        }
    }
    Some(cases)
}

#[test]
fn what_is_enforced_does_what_libvirt_did_but_for_its_slips() {
    let mut same = 0;
    let mut different = Vec::new();
    let Some(cases) = cases() else { return };
    for (id, library, mut case) in cases {
        // Packets meet IP's hooks, as where the bridge tracks no connections.
        case.backend = Backend::Ebiptables;
        // Chains and rules have names of ours.
        case.deciding = Value::Null;
        let binding = binding(&case.filter, &case.parameters, &case.mac);
        let enforced = enforce(&library, &binding, &case.port, Tracking::Marks).unwrap();
        match case.check(&enforced.ruleset, false) {
            Ok(()) => same += 1,
            Err(why) => {
                assert!(DIFFERENT.contains(&id.as_str()), "{id}: {why}");
                different.push(id);
            }
        }
    }
    assert_eq!(different, DIFFERENT);
    assert!(same > 80, "{same}");
}

#[test]
fn any_recorded_frame_is_judged_alike_by_what_is_enforced_and_what_libvirt_installs() {
    let Some(cases) = cases() else { return };
    let mut seen = Vec::new();
    let (mut alike, mut slipped) = (0, 0);
    for (id, library, case) in &cases {
        let own = (&case.filter, &case.parameters, &case.mac);
        if seen.contains(&own) {
            continue;
        }
        seen.push(own);
        let binding = binding(&case.filter, &case.parameters, &case.mac);
        let ours = enforce(library, &binding, &case.port, Tracking::Bridge).unwrap();
        let theirs = compile(library, &binding, &case.port, Backend::Nftables).unwrap();
        let none = Connections::new();
        for (.., other) in &cases {
            for direction in [Direction::Out, Direction::In] {
                let judgements = [&ours.ruleset, &theirs.ruleset]
                    .map(|rules| case.judge(&other.frame, direction, rules, &none).unwrap());
                if judgements[0].verdict == judgements[1].verdict {
                    alike += 1;
                    continue;
                }
                let mut rules = judgements.iter().filter_map(Judgement::deciding);
                let known = rules.any(|rule| SLIPS.iter().any(|slip| rule.text.contains(slip)));
                assert!(known, "{id}: {judgements:?}");
                slipped += 1;
            }
        }
    }
    assert!(alike > 4000, "{alike}");
    assert!(slipped > 0);
}
