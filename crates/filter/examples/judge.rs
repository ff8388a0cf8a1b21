//! Judges frames in hexadecimal, one a line of standard input, by the rules of dump files.
//!
//! `judge PORT[@BRIDGE[:PEER]] out|in [--call-iptables] FILE...`: a file's name says what it is, by
//! the words `ebtables`, `ip6tables`, `iptables`, or `nft`.

use std::io::Read;
use std::process::ExitCode;

use pointsman_filter::connection::Connections;
use pointsman_filter::judge::{Verdict, judge};
use pointsman_filter::model::Ruleset;
use pointsman_filter::route::{Direction, Host, Port};
use pointsman_filter::{ebtables, iptables, nft};

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("judge: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut words: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    let flag = words.iter().position(|word| word == "--call-iptables");
    let by_ip = flag.map(|at| words.remove(at)).is_some();
    let [port, direction, files @ ..] = words.as_slice() else {
        return Err("usage: judge PORT[@BRIDGE[:PEER]] out|in [--call-iptables] FILE...".into());
    };
    let direction = match direction.as_str() {
        "out" => Direction::Out,
        "in" => Direction::In,
        other => return Err(format!("`{other}` is neither out nor in").into()),
    };
    let mut rules = Ruleset::default();
    for file in files {
        let text = std::fs::read_to_string(file)?;
        rules.extend(match file.rsplit('/').next().unwrap_or_default() {
            name if name.contains("ebtables") => ebtables::read(file, &text)?,
            name if name.contains("ip6tables") => {
                iptables::read_save(iptables::Version::V6, file, &text)?
            }
            name if name.contains("iptables") => {
                iptables::read_save(iptables::Version::V4, file, &text)?
            }
            name if name.contains("nft") => nft::read(file, &text)?,
            name => return Err(format!("what is in {name}? Its name does not say").into()),
        });
    }
    let connections = Connections::new();
    let host = Host {
        call_iptables: by_ip,
        call_ip6tables: by_ip,
        connections: Some(&connections),
        ..Host::default()
    };
    let (name, bridge) = match port.split_once('@') {
        Some((name, bridge)) => (name, Some(bridge)),
        None => (port.as_str(), None),
    };
    let (bridge, peer) = match bridge.and_then(|bridge| bridge.split_once(':')) {
        Some((bridge, peer)) => (Some(bridge), Some(peer)),
        None => (bridge, None),
    };
    let port = Port { name, bridge, peer };
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    for line in text.lines() {
        let judgement = judge(&bytes(line)?, port, direction, &rules, &host)?;
        let step = judgement.deciding().map_or("-".to_owned(), |step| {
            format!("{} {}: {}", step.table, step.chain, step.text)
        });
        let verdict = match judgement.verdict {
            Verdict::Pass => "pass",
            Verdict::Drop => "drop",
            Verdict::Unknown => "unknown",
        };
        println!("{verdict}\t{step}");
    }
    Ok(())
}

fn bytes(hex: &str) -> Result<Vec<u8>, std::num::ParseIntError> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16))
        .collect()
}
