//! keepalived.conf read by the real keepalived and here: both name the same lines, and derive the same
//! services and virtual routers.

#[path = "peer/bfd.rs"]
mod bfd;
#[path = "peer/chance.rs"]
mod chance;
#[path = "peer/disguise.rs"]
mod disguise;
#[path = "peer/host_lines.rs"]
mod host_lines;
#[path = "peer/keepalived.rs"]
mod keepalived;
#[path = "peer/lines.rs"]
mod lines;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use keepalived::Keepalived;
use lines::{Said, said_by_keepalived, said_here};
use pointsman_config::keepalived::keywords::{self, Arguments, Block};
use pointsman_config::keepalived::model::Check;
use pointsman_config::keepalived::{
    Alone, Configuration, Diagnostic, Environment, Severity, configure,
};

/// The beginning of a real server.
macro_rules! server {
    () => {
        "virtual_server 10.0.0.1 80 {\nprotocol TCP\nlvs_sched rr\nlvs_method NAT\nreal_server 10.0.0.2 80 {\n"
    };
}

/// The beginning of a checker of a real server.
macro_rules! checker {
    ($name:literal) => {
        concat!(server!(), $name, " {\n")
    };
}

const SAMPLES: &str = "/usr/share/doc/keepalived/samples";

fn read(text: &str) -> (Configuration, Vec<Diagnostic>) {
    let (configuration, _, diagnostics) = configure("k", text, "west", &mut Alone);
    (configuration, diagnostics)
}

/// Lines that are errors, which keepalived's own test should name too.
fn errors(diagnostics: &[Diagnostic]) -> BTreeSet<u32> {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
    errors.map(|d| d.line).collect()
}

fn compare(peer: &Keepalived, file: &Path, text: &str) -> Said {
    let (mut configuration, _) = read(text);
    // Scripts that are not on this host are left out there; here nobody looks for them.
    for server in configuration
        .services
        .iter_mut()
        .flat_map(|service| &mut service.servers)
    {
        server.checkers.retain(|checker| match &checker.check {
            Check::Misc { command, .. } => {
                let program = command.line.split_whitespace().next().unwrap_or_default();
                Path::new(program).exists()
            }
            _ => true,
        });
    }
    let services = !configuration.services.is_empty();
    let routers = !configuration.instances.is_empty();
    let ours = said_here(&configuration);
    let theirs = said_there(peer, file, (services, routers), &ours);
    assert!(
        ours == theirs,
        "{}: {}",
        file.display(),
        told_apart(&ours, &theirs, text)
    );
    ours
}

/// What keepalived says of a file, asked again if that is not what is expected: its processes write at the
/// same time, and lines of one may come between those of another.
fn said_there(
    peer: &Keepalived,
    file: &Path,
    (services, routers): (bool, bool),
    expected: &Said,
) -> Said {
    let mut said = Said::new();
    for _ in 0..3 {
        said = said_by_keepalived(&peer.dump(file, services, routers));
        for (theirs, ours) in said.iter_mut().zip(expected) {
            // A `host` of SMTP_CHECK has no time at all there, which can't be meant.
            if theirs == "Timeout = 0.000000" && ours.starts_with("Timeout =") {
                theirs.clone_from(ours);
            }
        }
        if said == *expected {
            break;
        }
    }
    said
}

/// Where two begin to say different things of a text.
fn told_apart(ours: &Said, theirs: &Said, text: &str) -> String {
    let differing = ours
        .iter()
        .zip(theirs)
        .position(|(ours, theirs)| ours != theirs);
    let from = differing
        .unwrap_or(ours.len().min(theirs.len()))
        .saturating_sub(6);
    format!(
        "\n{text}\n{} facts; here: {:#?}\nkeepalived: {:#?}",
        ours.len(),
        &ours[from..(from + 12).min(ours.len())],
        &theirs[from..(from + 12).min(theirs.len())]
    )
}

#[test]
fn every_sample_of_the_package_is_accepted_or_its_lines_are_named() {
    let Some(peer) = Keepalived::new("samples") else {
        return;
    };
    let Ok(entries) = fs::read_dir(SAMPLES) else {
        println!("skipped: {SAMPLES} is not there");
        return;
    };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.to_string_lossy().contains("keepalived.conf."));
    paths.sort();
    let mut derived = 0;
    for path in &paths {
        let text = fs::read_to_string(path).unwrap();
        let (_, diagnostics) = read(&text);
        let verdict = peer.test(path);
        // Here nobody looks for interfaces; what keepalived puts right is a warning.
        let is_of_the_host = |line: &u32| {
            let said = verdict
                .text
                .lines()
                .filter(|l| l.contains(&format!("Line {line})")));
            let mut said = said.peekable();
            said.peek().is_some()
                && said.all(|l| {
                    [
                        "doesn't exist",
                        "no interface specified",
                        "routes is deprecated",
                        "no preference",
                        "cannot track route",
                        // The old form is as good.
                        "lvs_sync_daemon",
                    ]
                    .iter()
                    .any(|known| l.contains(known))
                })
        };
        let named: BTreeSet<u32> = diagnostics
            .iter()
            .filter(|d| d.severity >= Severity::Unsupported)
            .map(|d| d.line)
            .collect();
        for line in verdict.lines.iter().filter(|line| !is_of_the_host(line)) {
            // What keepalived says of a block as a whole it says of its end, and we of its beginning.
            let end = text.lines().nth(*line as usize - 1);
            let is_end = end.is_some_and(|text| text.trim() == "}");
            let covered =
                named.contains(line) || (is_end && named.iter().any(|named| named < line));
            assert!(
                covered,
                "{}:{line}: {}\n{diagnostics:#?}",
                path.display(),
                verdict.text
            );
        }
        if verdict.code == Some(0) {
            assert_eq!(
                errors(&diagnostics),
                BTreeSet::new(),
                "{}: {diagnostics:#?}",
                path.display()
            );
        }
        derived += compare(&peer, path, &text).len();
    }
    assert!(paths.len() > 20, "{paths:?}");
    assert!(derived > 500, "only {derived} facts were compared");
}

/// The blocks around a block, and lines that it needs.
fn around(block: Block) -> Option<&'static str> {
    Some(match block {
        Block::Top => "",
        Block::Global => "global_defs {\n",
        Block::Instance => INSTANCE,
        Block::Authentication => AUTHENTICATION,
        Block::SyncGroup => "vrrp_sync_group G {\n",
        Block::Script => "vrrp_script S {\nscript /bin/true\n",
        Block::TrackFile => "track_file F {\nfile /tmp/none\n",
        Block::TrackProcess => "vrrp_track_process P {\nprocess x\n",
        Block::GarpGroup => "garp_group {\ngarp_interval 1\ninterface eth0\n",
        Block::Bfd => "bfd_instance B {\nneighbor_ip 10.0.0.1\n",
        Block::TrackGroup => "track_group T {\n",
        Block::Service => SERVICE,
        Block::Server => SERVER,
        Block::Tls => "SSL {\n",
        Block::Tcp => checker!("TCP_CHECK"),
        Block::Http => checker!("HTTP_GET"),
        Block::Https => checker!("SSL_GET"),
        Block::Url => concat!(checker!("HTTP_GET"), "url {\npath /\n"),
        Block::Smtp => checker!("SMTP_CHECK"),
        Block::SmtpHost => concat!(checker!("SMTP_CHECK"), "host {\n"),
        Block::Dns => checker!("DNS_CHECK"),
        Block::Misc => checker!("MISC_CHECK"),
        Block::BfdCheck => checker!("BFD_CHECK"),
        Block::Udp => checker!("UDP_CHECK"),
        Block::Ping => checker!("PING_CHECK"),
        Block::File => checker!("FILE_CHECK"),
    })
}

const INSTANCE: &str =
    "vrrp_instance V {\ninterface eth0\nvirtual_router_id 5\nvirtual_ipaddress {\n10.0.0.1\n}\n";
const AUTHENTICATION: &str = "vrrp_instance V {\ninterface eth0\nvirtual_router_id 5\nvirtual_ipaddress {\n10.0.0.1\n}\nauthentication {\n";
const SERVICE: &str = "virtual_server 10.0.0.1 80 {\nprotocol TCP\nlvs_sched sh\nlvs_method NAT\n";
const SERVER: &str = server!();

/// Whether it is Pointsman's alone.
fn is_own(keyword: &keywords::Keyword) -> bool {
    keyword.status == keywords::Status::Own
}

#[test]
fn keepalived_knows_every_keyword_in_its_block_and_nowhere_else() {
    let Some(peer) = Keepalived::new("keywords") else {
        return;
    };
    let names: BTreeSet<&str> = keywords::all().map(|keyword| keyword.name).collect();
    for block in Block::ALL {
        let Some(before) = around(block) else {
            continue;
        };
        let opened = before.matches('{').count() - before.matches('}').count();
        let close = "}\n".repeat(opened);
        // What is unknown, all in one file: keepalived goes on.
        let foreign = names
            .iter()
            .filter(|name| keywords::find(block, name).is_none_or(is_own));
        let foreign: Vec<&str> = foreign.copied().collect();
        let text = format!("{before}{}\n{close}", foreign.join("\n"));
        let verdict = peer.test(&peer.file(&text));
        for name in foreign {
            let unknown = format!("Unknown keyword '{name}'");
            assert!(
                verdict.text.contains(&unknown),
                "{block:?} {name}: {}",
                verdict.text
            );
        }
        // What is known, with something behind it.
        let known = keywords::all().filter(|one| one.block == block && !is_own(one));
        let own: Vec<String> = known
            .map(|keyword| match keyword.arguments {
                Arguments::Lines | Arguments::Block(_) => format!("{} {{\n}}", keyword.name),
                Arguments::Named(_) => format!("{} 10.0.0.77 8 {{\n}}", keyword.name),
                _ => format!("{} 1", keyword.name),
            })
            .collect();
        let text = format!("{before}{}\n{close}", own.join("\n"));
        let verdict = peer.test(&peer.file(&text));
        assert!(
            !verdict.text.contains("Unknown keyword"),
            "{block:?}: {}",
            verdict.text
        );
    }
}

/// What to write behind a keyword to see what is refused.
const VALUES: [&str; 16] = [
    "x",
    "0",
    "1",
    "-1",
    "2",
    "256",
    "300",
    "1001",
    "4294",
    "4295",
    "65536",
    "2147483648",
    "4294967296",
    "0.5",
    "on",
    "maybe",
];

/// Keywords whose complaints are about something else than their own line, or that change what follows.
const APART: [&str; 30] = [
    // Files, users, processors and interfaces of the host.
    "script_user",
    "user",
    "vrrp_cpu_affinity",
    "checker_cpu_affinity",
    "bfd_cpu_affinity",
    "interface",
    "lvs_sync_daemon",
    "lvs_sync_daemon_interface",
    "default_interface",
    "include_check",
    "umask",
    // Keepalived leaves out what follows them in the block; `peer/bfd.rs` asks about them.
    "neighbor_ip",
    "neighbour_ip",
    // They end the file's reading, or move keepalived elsewhere.
    "tmp_config_directory",
    "net_namespace",
    "net_namespace_ipvs",
    "instance",
    "random_seed",
    // They depend on the family, or on other lines.
    "ip_family",
    "persistence_granularity",
    "vrf",
    "native_ipv6",
    "virtual_server_group",
    "old_unicast_checksum",
    "quorum_max",
    "advert_int",
    "unicast_ttl",
    // It changes what the lines before it may say.
    "strict_mode",
    // It takes whatever number it finds.
    "regex_min_offset",
    "regex_max_offset",
];

#[test]
fn both_name_the_same_lines_of_values_that_can_not_be() {
    let Some(peer) = Keepalived::new("values") else {
        return;
    };
    let mut compared = 0;
    let mut differences = Vec::new();
    for block in Block::ALL {
        let Some(before) = around(block) else {
            continue;
        };
        let opened = before.matches('{').count() - before.matches('}').count();
        let mut lines: Vec<String> = before.lines().map(str::to_owned).collect();
        let mut at = Vec::new();
        for keyword in keywords::all().filter(|keyword| keyword.block == block) {
            let has_value = matches!(
                keyword.arguments,
                Arguments::Whole(..)
                    | Arguments::Seconds(..)
                    | Arguments::Milliseconds(..)
                    | Arguments::Switch
                    | Arguments::OneOf(_)
                    | Arguments::Address
            );
            // What is not done is not looked at so closely, and named anyway; what is ours alone, there.
            let is_done =
                !matches!(keyword.status, keywords::Status::Unsupported(_)) && !is_own(keyword);
            if !has_value || !is_done || APART.contains(&keyword.name) {
                continue;
            }
            for value in VALUES {
                lines.push(format!("{} {value}", keyword.name));
                at.push(lines.len() as u32);
            }
        }
        lines.extend(std::iter::repeat_n("}".to_owned(), opened));
        let text = lines.join("\n") + "\n";
        let verdict = peer.test(&peer.file(&text));
        let ours = errors(&read(&text).1);
        for line in at {
            let theirs = verdict.lines.contains(&line);
            compared += 1;
            if theirs != ours.contains(&line) {
                let text = &lines[line as usize - 1];
                differences.push(format!("{}: {text}: keepalived {theirs}", block.name()));
            }
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(compared > 1500, "only {compared} lines were compared");
}

#[test]
fn both_derive_the_same_from_configurations_made_by_chance() {
    let Some(peer) = Keepalived::new("chance") else {
        return;
    };
    let mut facts = 0;
    for seed in 0..12 {
        let text = chance::configuration(seed);
        let file = peer.file(&text);
        let ours = errors(&read(&text).1);
        let verdict = peer.test(&file);
        // 6: scripts are run without `enable_script_security`, which is no fault of the text.
        let refused = !matches!(verdict.code, Some(0 | 6));
        assert_eq!(
            refused,
            !ours.is_empty(),
            "{seed}: {}\n{ours:?}\n{text}",
            verdict.text
        );
        facts += compare(&peer, &file, &text).len();
    }
    assert!(facts > 1000, "only {facts} facts were compared");
}

#[test]
fn both_read_the_same_said_in_other_ways() {
    let Some(peer) = Keepalived::new("ways") else {
        return;
    };
    let mut facts = 0;
    for seed in seeds(200..206) {
        let plain = chance::configuration(seed);
        let disguised = disguise::disguise(&plain, seed);
        for (name, text) in &disguised.files {
            peer.part(name, text);
        }
        let file = peer.file(&disguised.text);
        let read = |text: &str, name: &str| {
            let (configuration, _, diagnostics) = configure(name, text, "west", &mut Parts);
            // Lines of a parameter are all in one place, where the same is said once.
            let wrong = diagnostics
                .into_iter()
                .filter(|d| d.severity == Severity::Error);
            let wrong: BTreeSet<String> = wrong.map(|d| d.text).collect();
            (configuration, wrong)
        };
        let (configuration, wrong) = read(&disguised.text, &file.display().to_string());
        assert_eq!(
            wrong,
            read(&plain, "k").1,
            "{seed}:\n{plain}\n{}",
            disguised.text
        );
        let ours = said_here(&configuration);
        assert_eq!(
            ours,
            said_here(&read(&plain, "k").0),
            "{seed}:\n{}",
            disguised.text
        );
        let verdict = peer.test(&file);
        let refused = !matches!(verdict.code, Some(0 | 6));
        assert_eq!(
            refused,
            !wrong.is_empty(),
            "{seed}: {}\n{}",
            verdict.text,
            disguised.text
        );
        let services = !configuration.services.is_empty();
        let routers = !configuration.instances.is_empty();
        let theirs = said_there(&peer, &file, (services, routers), &ours);
        assert!(
            ours == theirs,
            "{seed}: {}",
            told_apart(&ours, &theirs, &disguised.text)
        );
        facts += ours.len();
    }
    assert!(facts > 300, "only {facts} facts were compared");
}

/// These, or the one of `POINTSMAN_SEED`.
fn seeds(usual: std::ops::Range<u64>) -> std::ops::Range<u64> {
    match std::env::var("POINTSMAN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
    {
        Some(seed) => seed..seed + 1,
        None => usual,
    }
}

/// Files beside the one that includes them.
struct Parts;

impl Environment for Parts {
    fn include(&mut self, pattern: &str, from: &str) -> Result<Vec<(String, String)>, String> {
        let path = Path::new(from).with_file_name(pattern);
        let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        Ok(vec![(path.display().to_string(), text)])
    }

    fn variable(&mut self, _: &str) -> Option<String> {
        None
    }

    fn random(&mut self, least: u64, _: u64) -> u64 {
        least
    }
}

/// Virtual routers in strict mode that want what the RFCs don't have, one wish each.
const WISHES: [&str; 20] = [
    "",
    "state MASTER\npriority 100",
    "priority 255",
    "state BACKUP\npriority 255",
    "accept",
    "no_accept",
    "version 3\naccept",
    "version 3\npriority 255\nno_accept",
    "authentication {\nauth_type PASS\nauth_pass x\n}",
    "version 3\nauthentication {\nauth_type PASS\nauth_pass x\n}",
    "preempt_delay 4",
    "down_timer_adverts 5",
    "garp_lower_prio_repeat 4",
    "garp_lower_prio_repeat 0\ngarp_lower_prio_delay 0",
    "garp_lower_prio_delay 4",
    "lower_prio_no_advert off",
    "higher_prio_send_advert on",
    "higher_prio_send_advert off\nlower_prio_no_advert on",
    "strict_mode off\naccept\ndown_timer_adverts 7",
    "unicast_peer {\n192.168.250.77 min_ttl 3\n}",
];

#[test]
fn strictness_takes_out_the_same_of_both() {
    let Some(peer) = Keepalived::new("strict") else {
        return;
    };
    let router = |number: usize, wish: &str, addresses: &str| {
        format!(
            "vrrp_instance V{number} {{\ninterface eth0\nvirtual_router_id {number}\n{wish}\n\
             virtual_ipaddress {{\n{addresses}\n}}\n}}\n"
        )
    };
    let global = "global_defs {\nvrrp_strict\nvrrp_garp_lower_prio_repeat 3\n}\n";
    let mut all = global.to_owned();
    let v4 = (1..).zip(WISHES).map(|(number, wish)| {
        let address = format!("10.9.0.{number}");
        router(number, wish, &address)
    });
    let v6 = [
        router(101, "version 2", "fe80::7\nfd09::1"),
        router(102, "", "fe80::7\nfd09::2"),
        router(103, "", "fd09::3"),
    ];
    for text in v4.chain(v6) {
        all += &text;
        let text = global.to_owned() + &text;
        let refused = peer.test(&peer.file(&text)).code != Some(0);
        let ours = errors(&read(&text).1);
        assert_eq!(refused, !ours.is_empty(), "{text}\n{ours:?}");
    }
    let facts = compare(&peer, &peer.file(&all), &all);
    assert!(facts.len() > 400, "only {} facts", facts.len());
}
