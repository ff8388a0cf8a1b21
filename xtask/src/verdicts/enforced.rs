//! What we enforce, judged over the frames that libvirt's rules were recorded with.

use pointsman_filter::nwfilter::{Tracking, enforce};

use super::*;

/// Where what we enforce differs from what libvirt's nftables backend did, because that slips.
const DIFFERENT: &[&str] = &[
    // A range of STP's priorities is there the other way round.
    "l2-12",
];

#[test]
fn what_is_enforced_does_what_libvirt_did_but_for_its_slips() {
    if libvirt::filters().is_none() {
        println!("skipped: needs libvirt's own filters; `cargo xtask setup` gets them");
        return;
    }
    let folder = crate::workspace::root().join("crates/filter/tests/golden");
    let path = folder.join("verdicts.json");
    let document = json(&path).unwrap();
    let mut library = builtin_libraries().unwrap()[&Backend::Nftables].clone();
    let defined = document["filters"].as_object().unwrap();
    for (name, text) in defined {
        if !name.contains(" (") {
            add(&mut library, "verdicts.json", text).unwrap();
        }
    }
    let mut same = 0;
    let mut different = Vec::new();
    for case in document["cases"].as_array().unwrap() {
        let id = text(case, "id").unwrap();
        let mut library = library.clone();
        for (name, text) in defined {
            if is_variant(name, case) {
                add(&mut library, "verdicts.json", text).unwrap();
            }
        }
        let expect = |backend| case["expect"][name_of(backend)].as_str();
        let Some(expected) = expect(Backend::Nftables) else {
            continue;
        };
        // Packets meet IP's hooks, as where the bridge tracks no connections.
        let mut case = Case::read(case, Backend::Ebiptables, expected).unwrap();
        // Chains and rules have names of ours.
        case.deciding = Value::Null;
        let binding = binding(&case.filter, &case.parameters, &case.mac);
        let enforced = enforce(&library, &binding, &case.port, Tracking::Marks).unwrap();
        match case.check(&enforced.ruleset, false) {
            Ok(()) => same += 1,
            Err(why) => {
                assert!(DIFFERENT.contains(&id), "{id}: {why}");
                different.push(id);
            }
        }
    }
    assert_eq!(different, DIFFERENT);
    assert!(same > 80, "{same}");
}
