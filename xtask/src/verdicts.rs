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
    fn fail(&mut self, what: &str, error: &anyhow::Error) {
        self.failures.push(format!("{what}: {error:#}"));
    }

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
    /// Whose rules were dumped: verdicts need all, comparing only those that there are.
    engines: Vec<Engine>,
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

/// Checks a folder of recordings: frames with verdicts, sets of what was installed, either or both. What
/// can't be read is a failure of its own, and the rest is checked.
fn check(folder: &Path, tally: &mut Counts) -> Result<()> {
    let path = folder.join("verdicts.json");
    let folders = set_folders(folder)?;
    let document = match json(&path) {
        Ok(document) => document,
        Err(_) if !path.exists() && !folders.is_empty() => Value::Null,
        Err(error) => return Err(error),
    };
    let builtin = builtin_libraries()?;
    let mut sets = Vec::new();
    for folder in folders {
        match Set::read(&folder, tally) {
            Ok(set) => sets.push(set),
            Err(error) => tally.fail(&format!("set {}", folder.display()), &error),
        }
    }
    let file = path.display().to_string();
    let defined = document.get("filters").and_then(Value::as_object);
    let mut libraries = HashMap::new();
    for backend in BACKENDS {
        // What the sets have comes before the package: it is of the version that was recorded.
        let mut library = builtin[&backend].clone();
        for set in &sets {
            library.extend(&set.filters[&backend]);
        }
        for (name, text) in defined.into_iter().flatten() {
            if !name.contains(" (")
                && let Err(error) = add(&mut library, &file, text)
                // Once is enough.
                && backend == Backend::Ebiptables
            {
                tally.fail(&format!("filter {name}"), &error);
            }
        }
        libraries.insert(backend, library);
    }
    let cases = document.get("cases").and_then(Value::as_array);
    let cases = cases.map(Vec::as_slice).unwrap_or_default();
    let frames: Vec<Vec<u8>> = cases
        .iter()
        .filter_map(|case| bytes(text(case, "frame_hex").ok()?).ok())
        .filter(|frame| !frame.is_empty())
        .collect();
    for set in &sets {
        check_set(set, &libraries, &frames, tally);
    }
    for (number, case) in cases.iter().enumerate() {
        let id = text(case, "id").map_or_else(|_| format!("case {number}"), str::to_owned);
        for backend in BACKENDS {
            let expected = case
                .get("expect")
                .and_then(|expect| expect.get(name_of(backend)));
            let Some(expected) = expected.and_then(Value::as_str) else {
                continue;
            };
            let mut library = libraries[&backend].clone();
            for (name, text) in defined.into_iter().flatten() {
                if is_variant(name, case)
                    && let Err(error) = add(&mut library, &file, text)
                {
                    tally.fail(&format!("filter {name}"), &error);
                }
            }
            let case = match Case::read(case, backend, expected) {
                Ok(case) => case,
                Err(error) => {
                    tally.fail(&id, &error);
                    break;
                }
            };
            let what = format!("{id} {} by XML", name_of(backend));
            tally.count(&what, case.check_compiled(&library));
            if let Some(set) = sets.iter().find(|set| case.is_of(set))
                && let Some(rules) = set.installed.get(&backend)
                && set.is_whole(backend)
            {
                let what = format!("{id} {} by the rules of {}", name_of(backend), set.name);
                tally.count(&what, case.check(rules, false));
            }
        }
    }
    Ok(())
}

/// Folders with a set: those in the folder, or the folder itself.
fn set_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let is_set = |path: &PathBuf| path.join("meta.json").is_file();
    let whole = folder.to_owned();
    if is_set(&whole) {
        return Ok(vec![whole]);
    }
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut folders: Vec<PathBuf> = paths.filter(is_set).collect();
    folders.sort();
    Ok(folders)
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
    fn read(folder: &Path, tally: &mut Counts) -> Result<Self> {
        let meta = json(&folder.join("meta.json"))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let mut set = Self {
            name: text(&meta, "name").unwrap_or(&name).to_owned(),
            filter: text(&meta, "filter")?.to_owned(),
            parameters: parameters(&meta)?,
            mac: text(&meta, "mac")?.to_owned(),
            port: text(&meta, "port")?.to_owned(),
            folder: folder.to_owned(),
            installed: HashMap::new(),
            engines: Vec::new(),
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
            let what = format!("set {} {}", set.name, name_of(backend));
            let rules = match installed(&folder, backend) {
                Ok((_, engines)) if engines.is_empty() => {
                    tally
                        .notes
                        .push(format!("{what}: has no dump of its rules"));
                    continue;
                }
                Ok((rules, engines)) => {
                    set.engines.extend(engines);
                    rules
                }
                Err(error) => {
                    tally.fail(&what, &error);
                    continue;
                }
            };
            if backend == Backend::Nftables && has_leftovers(&folder, &rules, &set.port) {
                set.leftovers = true;
                continue;
            }
            set.installed.insert(backend, rules);
        }
        Ok(set)
    }
}

impl Set {
    /// Those of the rules whose like was dumped.
    fn dumped(&self, mut rules: Ruleset) -> Ruleset {
        let there = |table: &Table| self.engines.contains(&table.engine);
        rules.tables.retain(there);
        rules
    }

    /// Whether all rules were dumped, so that frames can be judged by them.
    fn is_whole(&self, backend: Backend) -> bool {
        let needed: &[Engine] = match backend {
            Backend::Nftables => &[Engine::Nftables],
            Backend::Ebiptables => &[Engine::Ebtables, Engine::Iptables, Engine::Ip6tables],
        };
        needed.iter().all(|engine| self.engines.contains(engine))
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

/// The rules that libvirt installed, and by whom, as far as they were dumped.
fn installed(folder: &Path, backend: Backend) -> Result<(Ruleset, Vec<Engine>)> {
    let dumps: &[(&str, Engine)] = match backend {
        Backend::Nftables => &[("nft-ruleset.json", Engine::Nftables)],
        Backend::Ebiptables => &[
            ("ebtables-save.txt", Engine::Ebtables),
            ("iptables-save.txt", Engine::Iptables),
            ("ip6tables-save.txt", Engine::Ip6tables),
        ],
    };
    let (mut rules, mut engines) = (Ruleset::default(), Vec::new());
    for &(name, engine) in dumps {
        let path = folder.join(name);
        let file = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            text => text.context(file.clone())?,
        };
        engines.push(engine);
        rules.extend(match engine {
            Engine::Nftables => nft::read(&file, &text)?,
            // Without rules there may be no table.
            _ if !text.contains('*') => Ruleset::default(),
            Engine::Ebtables => ebtables::read_save(&file, &text)?,
            Engine::Iptables => iptables::read_save(iptables::Version::V4, &file, &text)?,
            Engine::Ip6tables => iptables::read_save(iptables::Version::V6, &file, &text)?,
        });
    }
    Ok((rules, engines))
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
            .map(|compiled| set.dumped(compiled.ruleset))
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
    fn what_lacks_or_is_broken_does_not_keep_the_rest_from_being_checked() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let meta = |more: &str| {
            format!(r#"{{"filter": "x", "mac": "2:0:0:0:0:1", "port": "v", "odd": 1{more}}}"#)
        };
        write("bare/meta.json", &meta(r#", "bind_rc": 0"#));
        write("refused/meta.json", &meta(r#", "bind_rc": 1"#));
        write("broken/meta.json", "{");
        write("part/meta.json", &meta(r#", "bind_rc": 0"#));
        write(
            "part/filters/x.xml",
            "<filter name='x'><rule action='drop' direction='out'/>\
             <rule action='drop' direction='out'><tcp/></rule></filter>",
        );
        write(
            "part/ebtables-save.txt",
            "*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n:libvirt-I-v ACCEPT\n\
             -A PREROUTING -i v -j libvirt-I-v\n-A libvirt-I-v -j DROP\n",
        );
        let mut tally = Counts::default();
        check(folder.path(), &mut tally).unwrap();
        // Compiled and judged, without the packets' rules that nobody dumped.
        assert_eq!((tally.passed, tally.failures.len()), (2, 1), "{tally:?}");
        assert!(tally.failures[0].contains("broken/meta.json"), "{tally:?}");
        assert!(tally.notes.iter().any(|note| note.contains("set bare")));
        // And with cases, of which one can't be read.
        write(
            "verdicts.json",
            r#"{"filters": {"y": "<filter"}, "cases": [
                {"id": "a", "expect": {"ebiptables": "drop", "nftables": null}, "odd": [],
                 "filter": "x", "params": [], "mac": "2:0:0:0:0:1", "port": "v", "direction": "out",
                 "frame_hex": "ffffffffffff02000000000188b50000"},
                {"id": "b", "expect": {"ebiptables": "drop"}}, {}]}"#,
        );
        let mut tally = Counts::default();
        check(folder.path(), &mut tally).unwrap();
        assert_eq!((tally.passed, tally.failures.len()), (3, 3), "{tally:?}");
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
