//! Judges recorded frames with libvirt's filters and with the rules that libvirt made of them, and
//! compares verdicts and deciding rules with what kernels did.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use pointsman_filter::connection::Connections;
use pointsman_filter::frame::Frame;
use pointsman_filter::judge::{Judgement, Verdict, judge};
use pointsman_filter::model::{Engine, Ruleset, Table};
use pointsman_filter::nwfilter::{
    Backend, Binding, Compiled, Library, Parameters, Reference, compile,
};
use pointsman_filter::route::{Direction, Host, Port};
use pointsman_filter::{ebtables, iptables, nft, same};
use serde_json::Value;

use crate::libvirt;
use crate::workspace::say;

mod compare;
#[cfg(test)]
mod enforced;

/// The folder of a set with what libvirt's nftables backend made.
const NFTABLES: &str = "libvirt12-nftables";

/// The verb `verdicts`.
pub(crate) fn main(args: &[String]) -> Result<ExitCode> {
    if args.is_empty() || args.iter().any(|word| word.starts_with('-')) {
        return Err(crate::Usage("usage: cargo xtask verdicts DIR...".into()).into());
    }
    if libvirt::filters().is_none()
        && let Err(error) = libvirt::fetch()
    {
        say(&format!(
            "going on without libvirt's own filters: {error:#}"
        ));
    }
    let mut tally = Counts::default();
    for folder in args {
        check(Path::new(folder), &mut tally)?;
    }
    for failure in &tally.failures {
        eprintln!("failed: {failure}");
    }
    for note in &tally.notes {
        eprintln!("note: {note}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failures.len());
    Ok(if tally.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// libvirt's own filters as the versions with each backend have them.
fn builtin_libraries() -> Result<HashMap<Backend, Library>> {
    let mut library = Library::new();
    let Some(folder) = libvirt::filters() else {
        return Ok(BACKENDS.map(|backend| (backend, Library::new())).into());
    };
    add_folder(&mut library, &folder)?;
    let mut newer = library.clone();
    // Debian has version 9. Version 12 accepts no frames of EtherType 0x0835, and its filter for RARP
    // refers to the one that drops the rest.
    let path = folder.join("qemu-announce-self-rarp.xml");
    let text = std::fs::read_to_string(&path)?.replace(
        "</filter>",
        "<filterref filter='no-other-rarp-traffic'/></filter>",
    );
    newer.add(&path.display().to_string(), &text)?;
    newer.add(
        "qemu-announce-self",
        "<filter name='qemu-announce-self'><filterref filter='qemu-announce-self-rarp'/></filter>",
    )?;
    Ok(HashMap::from([
        (Backend::Ebiptables, library),
        (Backend::Nftables, newer),
    ]))
}

#[derive(Debug, Default)]
struct Counts {
    passed: usize,
    failures: Vec<String>,
    notes: Vec<String>,
}

impl Counts {
    fn count(&mut self, what: &str, result: Result<(), String>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(why) => self.failures.push(format!("{what}: {why}")),
        }
    }
}

/// A recorded binding, with what was installed for it.
struct Set {
    name: String,
    filter: String,
    parameters: Vec<(String, String)>,
    mac: String,
    port: String,
    folder: PathBuf,
    /// The rules that libvirt installed, by backend; none where it could not.
    installed: HashMap<Backend, Ruleset>,
    filters: HashMap<Backend, Library>,
    /// The nftables backend had left rules of a binding that failed before.
    leftovers: bool,
}

const BACKENDS: [Backend; 2] = [Backend::Ebiptables, Backend::Nftables];

fn name_of(backend: Backend) -> &'static str {
    match backend {
        Backend::Ebiptables => "ebiptables",
        Backend::Nftables => "nftables",
    }
}

/// Checks a folder of recordings.
fn check(folder: &Path, tally: &mut Counts) -> Result<()> {
    let path = folder.join("verdicts.json");
    let document = json(&path)?;
    let builtin = builtin_libraries()?;
    let mut sets = Vec::new();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("meta.json").is_file())
        .collect();
    folders.sort();
    for folder in folders {
        sets.push(Set::read(&folder)?);
    }
    let defined = document.get("filters").and_then(Value::as_object);
    let mut libraries = HashMap::new();
    for backend in BACKENDS {
        // What the sets have comes before the package: it is of the version that was recorded.
        let mut library = builtin[&backend].clone();
        for set in &sets {
            library.extend(&set.filters[&backend]);
        }
        for (name, text) in defined.into_iter().flatten() {
            if !name.contains(" (") {
                add(&mut library, &path.display().to_string(), text)?;
            }
        }
        libraries.insert(backend, library);
    }
    let cases = document.get("cases").and_then(Value::as_array);
    let cases = cases.with_context(|| format!("{} has no cases", path.display()))?;
    let frames = cases
        .iter()
        .map(|case| bytes(text(case, "frame_hex")?))
        .collect::<Result<Vec<_>>>()?;
    for set in &sets {
        check_set(set, &libraries, &frames, tally);
    }
    for case in cases {
        let id = text(case, "id")?;
        for backend in BACKENDS {
            let expected = case
                .get("expect")
                .and_then(|expect| expect.get(name_of(backend)));
            let Some(expected) = expected.and_then(Value::as_str) else {
                continue;
            };
            let mut library = libraries[&backend].clone();
            for (name, text) in defined.into_iter().flatten() {
                if is_variant(name, case) {
                    add(&mut library, &path.display().to_string(), text)?;
                }
            }
            let case = Case::read(case, backend, expected)?;
            let what = format!("{id} {} by XML", name_of(backend));
            tally.count(&what, case.check_compiled(&library));
            if let Some(set) = sets.iter().find(|set| case.is_of(set))
                && let Some(rules) = set.installed.get(&backend)
            {
                let what = format!("{id} {} by the rules of {}", name_of(backend), set.name);
                tally.count(&what, case.check(rules, false));
            }
        }
    }
    Ok(())
}

/// `NAME (variant with VIP)` is for the cases whose group says the same of the same filter.
fn is_variant(name: &str, case: &Value) -> bool {
    let field = |key| case.get(key).and_then(Value::as_str).unwrap_or_default();
    let Some((filter, variant)) = name
        .split_once(" (variant ")
        .and_then(|(filter, rest)| Some((filter, rest.strip_suffix(')')?)))
    else {
        return false;
    };
    let group: Vec<&str> = field("group").split_whitespace().collect();
    filter == field("filter") && variant.split_whitespace().all(|word| group.contains(&word))
}

impl Set {
    fn read(folder: &Path) -> Result<Self> {
        let meta = json(&folder.join("meta.json"))?;
        let mut set = Self {
            name: text(&meta, "name")?.to_owned(),
            filter: text(&meta, "filter")?.to_owned(),
            parameters: parameters(&meta)?,
            mac: text(&meta, "mac")?.to_owned(),
            port: text(&meta, "port")?.to_owned(),
            folder: folder.to_owned(),
            installed: HashMap::new(),
            filters: HashMap::new(),
            leftovers: false,
        };
        for backend in BACKENDS {
            let folder = match backend {
                Backend::Ebiptables => folder.to_owned(),
                Backend::Nftables => folder.join(NFTABLES),
            };
            let mut library = Library::new();
            if folder.join("filters").is_dir() {
                add_folder(&mut library, &folder.join("filters"))?;
            }
            set.filters.insert(backend, library);
            let Ok(meta) = json(&folder.join("meta.json")) else {
                continue;
            };
            if meta.get("bind_rc").and_then(Value::as_i64) != Some(0) {
                continue;
            }
            let rules = installed(&folder, backend)?;
            if backend == Backend::Nftables && has_leftovers(&folder, &rules, &set.port) {
                set.leftovers = true;
                continue;
            }
            set.installed.insert(backend, rules);
        }
        Ok(set)
    }
}

/// Whether there are more rules for the port than libvirt was seen adding: a binding that fails leaves
/// its chains behind, and the next one adds to them.
fn has_leftovers(folder: &Path, rules: &Ruleset, port: &str) -> bool {
    let Ok(commands) = std::fs::read_to_string(folder.join("commands.txt")) else {
        return false;
    };
    let added = commands
        .lines()
        .filter(|line| line.starts_with("nft add rule "))
        .filter(|line| !line.contains(" prerouting ") && !line.contains(" postrouting "))
        .count();
    let chains = rules.tables.iter().flat_map(|table| &table.chains);
    let there: usize = chains
        .filter(|chain| chain.name.starts_with(port))
        .map(|chain| chain.rules.len())
        .sum();
    there > added
}

/// The rules that libvirt installed.
fn installed(folder: &Path, backend: Backend) -> Result<Ruleset> {
    let read = |name: &str| -> Result<(String, String)> {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path);
        Ok((
            path.display().to_string(),
            text.with_context(|| path.display().to_string())?,
        ))
    };
    if backend == Backend::Nftables {
        let (file, text) = read("nft-ruleset.json")?;
        return Ok(nft::read(&file, &text)?);
    }
    let mut rules = Ruleset::default();
    let (file, text) = read("ebtables-save.txt")?;
    if text.contains('*') {
        rules.extend(ebtables::read_save(&file, &text)?);
    }
    for (name, version) in [
        ("iptables-save.txt", iptables::Version::V4),
        ("ip6tables-save.txt", iptables::Version::V6),
    ] {
        let (file, text) = read(name)?;
        rules.extend(iptables::read_save(version, &file, &text)?);
    }
    Ok(rules)
}

fn check_set(
    set: &Set,
    libraries: &HashMap<Backend, Library>,
    frames: &[Vec<u8>],
    tally: &mut Counts,
) {
    if set.leftovers {
        tally.notes.push(format!(
            "set {}: its nftables rules have some of a binding that failed before; left out",
            set.name
        ));
    }
    for backend in BACKENDS {
        let Some(installed) = set.installed.get(&backend) else {
            continue;
        };
        // The filters of the set itself, where it has them: another set's may differ.
        let mut library = libraries[&backend].clone();
        library.extend(&set.filters[&backend]);
        let binding = binding(&set.filter, &set.parameters, &set.mac);
        let compiled = compile(&library, &binding, &set.port, backend)
            .map(|compiled| compiled.ruleset)
            .map_err(|error| error.to_string());
        let what = format!("set {} {}", set.name, name_of(backend));
        let same = compiled.as_ref().map_err(String::clone);
        let result = same.and_then(|own| same::rulesets(own, installed, &set.port));
        tally.count(&format!("{what}: compiled like libvirt"), result);
        if let Ok(own) = compiled {
            let result = compare::judgements(&own, installed, &set.port, frames);
            tally.count(&format!("{what}: judged like libvirt's rules"), result);
        }
    }
    // The listings say the same as what is saved.
    let Some(saved) = set.installed.get(&Backend::Ebiptables) else {
        return;
    };
    let is_bridge = |table: &&Table| table.engine == Engine::Ebtables;
    let saved = Ruleset {
        tables: saved.tables.iter().filter(is_bridge).cloned().collect(),
    };
    for name in ["ebtables-nat-L.txt", "ebtables-nat-L-Lx.txt"] {
        let path = set.folder.join(name);
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        let file = path.display().to_string();
        let result = ebtables::read(&file, &text)
            .map_err(|error| error.to_string())
            .and_then(|listed| same::rulesets(&listed, &saved, &set.port));
        tally.count(
            &format!("set {} {name}: read like what is saved", set.name),
            result,
        );
    }
}

/// A recorded frame and what a kernel did with it.
struct Case {
    backend: Backend,
    direction: Direction,
    filter: String,
    parameters: Vec<(String, String)>,
    mac: String,
    port: String,
    group: String,
    frame: Vec<u8>,
    prelude: Vec<(Direction, Vec<u8>)>,
    expected: String,
    deciding: Value,
}

impl Case {
    fn read(case: &Value, backend: Backend, expected: &str) -> Result<Self> {
        let prelude = case.get("prelude").and_then(Value::as_array);
        let prelude = prelude
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(|frame| Ok((direction(frame)?, bytes(text(frame, "frame_hex")?)?)))
            .collect::<Result<_>>()?;
        let deciding = case
            .get("deciding")
            .and_then(|deciding| deciding.get(name_of(backend)));
        Ok(Self {
            backend,
            direction: direction(case)?,
            filter: text(case, "filter")?.to_owned(),
            parameters: parameters(case)?,
            mac: text(case, "mac")?.to_owned(),
            port: text(case, "port")?.to_owned(),
            group: text(case, "group").unwrap_or_default().to_owned(),
            frame: bytes(text(case, "frame_hex")?)?,
            prelude,
            expected: expected.to_owned(),
            deciding: deciding.cloned().unwrap_or(Value::Null),
        })
    }

    /// Whether the set is of the same filter, parameters and port. Of variants there are no sets.
    fn is_of(&self, set: &Set) -> bool {
        self.filter == set.filter
            && self.parameters == set.parameters
            && self.mac == set.mac
            && self.port == set.port
            && !self.group.contains("with the VIP added")
    }

    fn check_compiled(&self, library: &Library) -> Result<(), String> {
        let binding = binding(&self.filter, &self.parameters, &self.mac);
        let Compiled { ruleset, .. } = compile(library, &binding, &self.port, self.backend)
            .map_err(|error| error.to_string())?;
        self.check(&ruleset, true)
    }

    fn check(&self, rules: &Ruleset, by_xml: bool) -> Result<(), String> {
        let mut connections = Connections::new();
        for (direction, frame) in &self.prelude {
            let judgement = self.judge(frame, *direction, rules, &connections)?;
            if judgement.verdict == Verdict::Pass
                && let Ok(frame) = Frame::parse(frame)
            {
                connections.confirm(&frame);
            }
        }
        let judgement = self.judge(&self.frame, self.direction, rules, &connections)?;
        let verdict = judgement.verdict.to_string();
        if verdict != self.expected {
            let step = judgement.deciding();
            return Err(format!(
                "recorded {}, judged {verdict} by {}",
                self.expected,
                step.map_or("no rule".into(), |step| format!(
                    "{} {}: {}",
                    step.table, step.chain, step.text
                ))
            ));
        }
        compare::deciding(&self.deciding, judgement.deciding(), by_xml)
    }

    fn judge(
        &self,
        frame: &[u8],
        direction: Direction,
        rules: &Ruleset,
        connections: &Connections,
    ) -> Result<Judgement, String> {
        let by_ip = self.backend == Backend::Ebiptables;
        let host = Host {
            call_iptables: by_ip,
            call_ip6tables: by_ip,
            connections: Some(connections),
            ..Host::default()
        };
        let port = Port {
            name: &self.port,
            bridge: None,
            peer: None,
        };
        judge(frame, port, direction, rules, &host).map_err(|error| error.to_string())
    }
}

fn binding(filter: &str, list: &[(String, String)], mac: &str) -> Binding {
    let mut parameters = Parameters::new();
    for (name, value) in list {
        parameters.add(name, value);
    }
    Binding {
        port: None,
        mac: mac.to_owned(),
        filter: Reference {
            filter: filter.to_owned(),
            parameters,
            place: pointsman_filter::diagnostic::Place::new("binding", 0, 0),
        },
        owner: None,
        warnings: Vec::new(),
    }
}

fn add_folder(library: &mut Library, folder: &Path) -> Result<()> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "xml"))
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        library.add(&file.display().to_string(), &text)?;
    }
    Ok(())
}

fn add(library: &mut Library, file: &str, text: &Value) -> Result<()> {
    library.add(file, text.as_str().unwrap_or_default())?;
    Ok(())
}

fn json(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    let found = value.get(key).and_then(Value::as_str);
    found.with_context(|| format!("a case or set has no text `{key}`"))
}

fn parameters(value: &Value) -> Result<Vec<(String, String)>> {
    let list = value.get("params").and_then(Value::as_array);
    list.map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .map(|pair| {
            let part = |at: usize| pair.get(at).and_then(Value::as_str).map(str::to_owned);
            part(0)
                .zip(part(1))
                .context("a parameter is not [name, value]")
        })
        .collect()
}

fn direction(value: &Value) -> Result<Direction> {
    match text(value, "direction")? {
        "out" => Ok(Direction::Out),
        "in" => Ok(Direction::In),
        other => bail!("there is no direction `{other}`"),
    }
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair)?;
            u8::from_str_radix(pair, 16).with_context(|| format!("`{pair}` is not hexadecimal"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_of_the_project_are_judged_as_they_were() {
        if libvirt::filters().is_none() {
            println!("skipped: needs libvirt's own filters; `cargo xtask setup` gets them");
            return;
        }
        let folder = crate::workspace::root().join("crates/filter/tests/golden");
        let mut tally = Counts::default();
        check(&folder, &mut tally).unwrap();
        assert_eq!(tally.failures, [""; 0]);
        assert!(tally.passed > 400, "{}", tally.passed);
    }

    #[test]
    fn a_variant_is_for_its_group() {
        let case = serde_json::json!({"filter": "x", "group": "x with the VIP added"});
        assert!(is_variant("x (variant with VIP)", &case));
        assert!(!is_variant("y (variant with VIP)", &case));
        assert!(!is_variant("x (variant with GATEWAY)", &case));
        assert!(!is_variant("x", &case));
    }
}
