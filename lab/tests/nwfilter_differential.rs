//! Filters are compiled to the rules that a real libvirt installs, and judged as these are.

use pointsman_filter::connection::Connections;
use pointsman_filter::judge::judge;
use pointsman_filter::model::Ruleset;
use pointsman_filter::nwfilter::{Backend, Library, compile, read_bindings};
use pointsman_filter::route::{Direction, Host, Port};
use pointsman_filter::{ebtables, iptables, nft, same};
use pointsman_lab::libvirt::Libvirt;

#[path = "support/filters.rs"]
mod filters;
#[path = "../../crates/filter/tests/support/frames.rs"]
mod frames;

use filters::{Case, Limits};

/// The port that filters are bound to.
const PORT: &str = "vnet7";
/// Seeds of a run that asks for none.
const SEEDS: std::ops::Range<u64> = 0..24;
/// Frames judged by both rules of a case, for each direction.
const FRAMES: u64 = 60;

#[test]
fn generated_filters_become_the_rules_that_libvirt_installs() {
    let Some((libvirt, backend)) = Libvirt::with_port(PORT).unwrap() else {
        return;
    };
    let mut failures = Vec::new();
    let (mut installed, mut refused) = (0, 0);
    for seed in seeds() {
        let limits = Limits {
            nftables: backend == Backend::Nftables,
            no_sets: true,
        };
        let case = filters::case(seed, limits);
        match check(&libvirt, backend, &case, seed) {
            Ok(true) => installed += 1,
            Ok(false) => refused += 1,
            Err(text) => failures.push(format!("seed {seed}: {text}\n{}", case.filters.join("\n"))),
        }
    }
    println!(
        "{installed} installed, {refused} refused by both, {} failed",
        failures.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(
        installed > refused,
        "{installed} installed, {refused} refused"
    );
}

/// `FIRST..LAST` of the environment, or those of every run.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("POINTSMAN_SEEDS") else {
        return SEEDS;
    };
    let (first, last) = text
        .split_once("..")
        .expect("POINTSMAN_SEEDS is FIRST..LAST");
    first.parse().unwrap()..last.parse().unwrap()
}

/// Whether a filter is installed, or refused by libvirt and by us; or how they differ.
fn check(libvirt: &Libvirt, backend: Backend, case: &Case, seed: u64) -> Result<bool, String> {
    let document = case.binding(PORT);
    let own = compiled(backend, case, &document);
    let installed = install(libvirt, case, &document);
    let dumped = dump(libvirt, backend);
    if installed.is_ok() {
        libvirt.unbind(PORT).map_err(|error| error.to_string())?;
    }
    // What libvirt leaves behind, above all where a binding fails.
    let flushed = libvirt.run("nft", &["flush", "ruleset"]);
    flushed.map_err(|error| error.to_string())?;
    let own = match (own, installed) {
        (Ok(own), Ok(())) => own,
        (Err(own), Err(real)) => {
            println!("seed {seed} refused: {own}\n    {real}");
            return Ok(false);
        }
        (Ok(_), Err(real)) => return Err(format!("only libvirt refuses it: {real}")),
        (Err(own), Ok(())) => return Err(format!("only we refuse it: {own}")),
    };
    let dumped = dumped?;
    same::rulesets(&own, &dumped, PORT)?;
    judgements(&own, &dumped, seed)?;
    Ok(true)
}

fn compiled(backend: Backend, case: &Case, document: &str) -> Result<Ruleset, String> {
    let mut library = Library::new();
    for text in &case.filters {
        let added = library.add("filter", text);
        added.map_err(|error| error.to_string())?;
    }
    let bindings = read_bindings("binding", document).map_err(|error| error.to_string())?;
    compile(&library, &bindings[0], PORT, backend)
        .map(|compiled| compiled.ruleset)
        .map_err(|error| error.to_string())
}

/// What libvirt says, in short.
fn install(libvirt: &Libvirt, case: &Case, document: &str) -> Result<(), String> {
    let defined = case
        .filters
        .iter()
        .try_for_each(|text| libvirt.define(text));
    defined
        .and_then(|()| libvirt.bind(document))
        .map_err(|error| {
            let text = error.to_string();
            let text = text.split("internal error: ").last().unwrap_or_default();
            text.split("\ninput was")
                .next()
                .unwrap_or_default()
                .to_owned()
        })
}

fn dump(libvirt: &Libvirt, backend: Backend) -> Result<Ruleset, String> {
    let save = |tool: &str| libvirt.save(tool).map_err(|error| error.to_string());
    if backend == Backend::Nftables {
        let text = libvirt
            .run("nft", &["-j", "list", "ruleset"])
            .map_err(|error| error.to_string())?;
        return nft::read("nft", &text).map_err(|error| error.to_string());
    }
    let mut rules = Ruleset::default();
    let text = save("ebtables-save")?;
    if text.contains('*') {
        let read = ebtables::read_save("ebtables", &text);
        rules.extend(read.map_err(|error| error.to_string())?);
    }
    for (tool, version) in [
        ("iptables-save", iptables::Version::V4),
        ("ip6tables-save", iptables::Version::V6),
    ] {
        rules.extend(
            iptables::read_save(version, tool, &save(tool)?).map_err(|error| error.to_string())?,
        );
    }
    Ok(rules)
}

fn judgements(own: &Ruleset, dumped: &Ruleset, seed: u64) -> Result<(), String> {
    let connections = Connections::new();
    let host = Host {
        call_iptables: true,
        call_ip6tables: true,
        connections: Some(&connections),
        ..Host::default()
    };
    let port = Port {
        name: PORT,
        bridge: None,
        peer: None,
    };
    for number in 0..FRAMES {
        let frame = frames::Maker::new(seed << 16 | number).frame();
        for direction in [Direction::Out, Direction::In] {
            let by = |rules| judge(&frame, port, direction, rules, &host).unwrap();
            let (one, two) = (by(own), by(dumped));
            let chain = |judgement: &pointsman_filter::judge::Judgement| {
                judgement.deciding().map(|step| step.chain.clone())
            };
            if one.verdict != two.verdict || chain(&one) != chain(&two) {
                return Err(format!(
                    "frame {number} {direction:?}: {} by {:?}, and {} by {:?} of libvirt's rules",
                    one.verdict,
                    one.deciding(),
                    two.verdict,
                    two.deciding()
                ));
            }
        }
    }
    Ok(())
}
