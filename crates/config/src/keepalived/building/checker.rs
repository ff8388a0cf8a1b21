//! Checkers: `TCP_CHECK`, `HTTP_GET` and the others.

use std::net::IpAddr;
use std::time::Duration;

use super::super::document::{Statement, Word};
use super::super::keywords::Block;
use super::super::model::{
    Binding, Check, Checker, Command, Configuration, HttpCheck, HttpProtocol, Places, Probe,
    Timing, UrlCheck, Weight,
};
use super::super::reader::{Entry, Reader};
use super::super::values::{self, Value};
use super::service::Inherited;
use super::{Opened, bfd, small, tracking};

/// The name in `HELO`.
const HELO: &str = "smtpchecker.keepalived.org";
/// Keywords that say where a check connects.
const CONNECTION: [&str; 7] = [
    "connect_ip",
    "connect_port",
    "bindto",
    "bind_port",
    "bind_if",
    "connect_timeout",
    "fwmark",
];
const QUERIES: [&str; 7] = ["A", "NS", "CNAME", "SOA", "MX", "TXT", "AAAA"];

/// Reads a checker's block for the real server at an address and port as written; each `host`
/// of an `SMTP_CHECK` is a checker.
pub(super) fn read(
    reader: &mut Reader<'_>,
    configuration: &Configuration,
    name: &str,
    at: Opened<'_>,
    of: (IpAddr, u16),
    inherited: &Inherited,
) -> Vec<Checker> {
    let block = match name {
        "TCP_CHECK" => Block::Tcp,
        "HTTP_GET" => Block::Http,
        "SSL_GET" => Block::Https,
        "SMTP_CHECK" => Block::Smtp,
        "DNS_CHECK" => Block::Dns,
        "MISC_CHECK" => Block::Misc,
        "UDP_CHECK" => Block::Udp,
        "PING_CHECK" => Block::Ping,
        "FILE_CHECK" => Block::File,
        "BFD_CHECK" => Block::BfdCheck,
        _ => return Vec::new(),
    };
    let mut places = at.places();
    let entries = reader.entries(block, at.block);
    let mut binding = Binding::of(of, inherited);
    for entry in &entries {
        places.note(entry.keyword.name, entry.place);
        binding.read(entry);
        if entry.keyword.name == "nb_get_retry" {
            let text = "`nb_get_retry` is the old name of `retry`; use that".to_owned();
            reader.error(entry.place, text);
        }
    }
    binding.check(reader, &places);
    let own = |check| vec![(check, timing(block, entries.iter(), inherited))];
    let checks = match block {
        Block::Tcp => own(Check::Tcp(binding)),
        Block::Ping => own(Check::Ping(binding)),
        Block::Smtp => smtp(reader, &entries, binding, of, inherited),
        Block::Dns => own(dns(reader, &entries, binding)),
        Block::Udp => own(udp(reader, at, &entries, binding)),
        Block::Http | Block::Https => {
            let check = http(reader, block, at, &entries, binding, inherited);
            check.map(own).unwrap_or_default()
        }
        Block::BfdCheck => {
            let check = session(reader, configuration, at, &entries);
            check.map(own).unwrap_or_default()
        }
        Block::Misc => misc(reader, at, &entries).map(own).unwrap_or_default(),
        _ => {
            let check = file(reader, configuration, at, &entries);
            check.map(own).unwrap_or_default()
        }
    };
    let make = |(check, timing)| Checker {
        places: places.clone(),
        timing,
        check,
    };
    checks.into_iter().map(make).collect()
}

/// When, from what the checker says, what it inherits, and what its kind has.
fn timing<'e, 's: 'e>(
    block: Block,
    entries: impl Iterator<Item = &'e Entry<'s>>,
    inherited: &Inherited,
) -> Timing {
    let mut own = inherited.clone();
    let mut log_all_failures = inherited.log_all_failures;
    for entry in entries {
        match (entry.keyword.name, entry.value) {
            ("delay_loop", Value::Time(time)) => own.delay_loop = Some(time),
            ("retry" | "nb_get_retry", Value::Whole(n)) => own.retry = Some(small(n)),
            ("delay_before_retry", Value::Time(time)) => own.delay_before_retry = Some(time),
            ("warmup", Value::Time(time)) => own.warmup = Some(time),
            ("alpha", Value::Switch(on)) => own.alpha = on,
            ("log_all_failures", Value::Switch(on)) => log_all_failures = on,
            _ => {}
        }
    }
    let delay_loop = own.delay_loop.unwrap_or(Duration::from_secs(60));
    let (retry, before_retry) = match block {
        Block::Misc => (0, Duration::from_secs(1)),
        Block::Dns => (3, delay_loop),
        Block::Http | Block::Https => (1, Duration::from_secs(3)),
        _ => (1, Duration::from_secs(1)),
    };
    Timing {
        delay_loop,
        retry: own.retry.unwrap_or(retry),
        delay_before_retry: own.delay_before_retry.unwrap_or(before_retry),
        warmup: own.warmup.unwrap_or(delay_loop),
        alpha: own.alpha && block != Block::File,
        log_all_failures,
    }
}

impl Binding {
    fn of((address, port): (IpAddr, u16), inherited: &Inherited) -> Self {
        Self {
            address,
            port,
            source: None,
            source_port: None,
            interface: None,
            timeout: inherited.connect_timeout.unwrap_or(Duration::from_secs(5)),
            mark: 0,
            vip_check: false,
        }
    }

    fn read(&mut self, entry: &Entry<'_>) {
        match (entry.keyword.name, entry.value) {
            ("connect_ip", Value::Address(address)) => self.address = address,
            ("connect_port", Value::Whole(port)) => self.port = small(port),
            ("bindto", Value::Address(address)) => self.source = Some(address),
            ("bind_port", Value::Whole(port)) => self.source_port = Some(small(port)),
            ("bind_if", Value::Word(word)) => self.interface = Some(word.text.clone()),
            ("connect_timeout", Value::Time(time)) => self.timeout = time,
            ("fwmark", Value::Whole(mark)) => self.mark = small(mark),
            ("vip_check", Value::Switch(on)) => self.vip_check = on,
            _ => {}
        }
    }

    fn check(&mut self, reader: &mut Reader<'_>, places: &Places) {
        if let Some(source) = self.source
            && source.is_ipv6() != self.address.is_ipv6()
        {
            let text = format!(
                "`bindto {source}` is of another family than {}",
                self.address
            );
            reader.error(places.near("bindto"), text);
            self.source = None;
        }
        if self.vip_check {
            for keyword in ["connect_ip", "bind_port", "bind_if", "fwmark"] {
                if let Some(place) = places.of(keyword) {
                    let text = format!("`{keyword}` beside `vip_check`, which goes its own way");
                    reader.error(place, text);
                }
            }
        }
    }
}

fn http(
    reader: &mut Reader<'_>,
    block: Block,
    at: Opened<'_>,
    entries: &[Entry<'_>],
    binding: Binding,
    inherited: &Inherited,
) -> Option<Check> {
    let mut check = HttpCheck {
        binding,
        tls: block == Block::Https,
        protocol: HttpProtocol::V1,
        sni: false,
        fast_recovery: false,
        urls: Vec::new(),
    };
    let mut host = inherited.virtualhost.clone();
    for entry in entries {
        match (entry.keyword.name, entry.value) {
            ("http_protocol", Value::Word(word)) => {
                check.protocol = match &*word.text {
                    "1.1" => HttpProtocol::V1_1,
                    "1.0" => HttpProtocol::V1,
                    _ => HttpProtocol::V1Close,
                };
            }
            ("enable_sni", Value::Switch(on)) => check.sni = on,
            ("fast_recovery", Value::Switch(on)) => check.fast_recovery = on,
            ("virtualhost", Value::Word(word)) => host = Some(word.text.clone()),
            _ => {}
        }
    }
    for entry in entries {
        if let ("url", Value::Block(_, block)) = (entry.keyword.name, entry.value) {
            check.urls.extend(url(reader, entry, block, host.as_ref()));
        }
    }
    if check.urls.is_empty() {
        let text = "no `url` is asked for: the checker is left out".to_owned();
        reader.error(at.place, text);
        return None;
    }
    Some(Check::Http(check))
}

fn url(
    reader: &mut Reader<'_>,
    at: &Entry<'_>,
    block: &[Statement],
    host: Option<&String>,
) -> Option<UrlCheck> {
    let mut url = UrlCheck {
        path: String::new(),
        host: host.cloned(),
        digest: None,
        status: Vec::new(),
        regex: None,
        no_match: false,
        least_offset: 0,
        most_offset: None,
    };
    let mut options = Vec::new();
    let mut places = Places::new(at.place);
    for entry in reader.entries(Block::Url, block) {
        places.note(entry.keyword.name, entry.place);
        match (entry.keyword.name, entry.value) {
            ("path", Value::Word(word)) => url.path = word.text.clone(),
            ("digest", Value::Word(word)) => match digest(&word.text) {
                Some(digest) => url.digest = Some(digest),
                None => {
                    let text = format!("`{}` is no MD5 digest, 32 hexadecimal digits", word.text);
                    reader.error(word.place, text);
                }
            },
            ("status_code", Value::Words(words)) => {
                for word in words {
                    match codes(&word.text) {
                        Some(range) => url.status.push(range),
                        None => {
                            let text = format!(
                                "`{}`: status codes are 100 to 599, or ranges of them as in 200-299",
                                word.text
                            );
                            reader.error(word.place, text);
                        }
                    }
                }
            }
            ("virtualhost", Value::Word(word)) => url.host = Some(word.text.clone()),
            ("regex", Value::Word(word)) => url.regex = Some((word.text.clone(), Vec::new())),
            ("regex_no_match", _) => url.no_match = true,
            ("regex_options", Value::Words(words)) => {
                options.extend(words.iter().map(|word| word.text.clone()));
            }
            ("regex_min_offset", Value::Whole(n)) => url.least_offset = small(n),
            ("regex_max_offset", Value::Whole(n)) => url.most_offset = Some(small(n)),
            _ => {}
        }
    }
    if let Some((_, names)) = &mut url.regex {
        *names = options;
    } else if let Some(place) = [
        "regex_no_match",
        "regex_options",
        "regex_min_offset",
        "regex_max_offset",
    ]
    .iter()
    .find_map(|keyword| places.of(keyword))
    {
        reader.warning(place, "without `regex` this has no effect".to_owned());
    }
    if url.path.is_empty() {
        reader.error(at.place, "a `url` without `path` is left out".to_owned());
        return None;
    }
    if url.status.is_empty() {
        url.status.push((200, 299));
    }
    Some(url)
}

fn digest(text: &str) -> Option<[u8; 16]> {
    let nibbles: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect();
    let nibbles = nibbles.filter(|nibbles| nibbles.len() == 32)?;
    let mut digest = [0; 16];
    for (byte, pair) in digest.iter_mut().zip(nibbles.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(digest)
}

fn codes(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    ((100..=599).contains(&first) && first <= last && last <= 599).then_some((first, last))
}

/// One check, or one for each `host`.
fn smtp(
    reader: &mut Reader<'_>,
    entries: &[Entry<'_>],
    binding: Binding,
    of: (IpAddr, u16),
    inherited: &Inherited,
) -> Vec<(Check, Timing)> {
    let said = entries
        .iter()
        .rev()
        .find_map(|entry| match (entry.keyword.name, entry.value) {
            ("helo_name", Value::Word(word)) => Some(word.text.clone()),
            _ => None,
        });
    let helo = said.unwrap_or_else(|| HELO.to_owned());
    let mut checks = Vec::new();
    for entry in entries {
        let ("host", Value::Block(_, block)) = (entry.keyword.name, entry.value) else {
            continue;
        };
        let mut host = Binding::of(of, inherited);
        let mut places = Places::new(entry.place);
        let own = reader.entries(Block::SmtpHost, block);
        for entry in &own {
            places.note(entry.keyword.name, entry.place);
            host.read(entry);
        }
        host.check(reader, &places);
        let timing = timing(Block::Smtp, entries.iter().chain(&own), inherited);
        checks.push((Check::Smtp(host, helo.clone()), timing));
    }
    // What says beside its hosts where it connects is one more.
    let connects = |entry: &Entry<'_>| CONNECTION.contains(&entry.keyword.name);
    if checks.is_empty() || entries.iter().any(connects) {
        let timing = timing(Block::Smtp, entries.iter(), inherited);
        checks.insert(0, (Check::Smtp(binding, helo), timing));
    }
    checks
}

fn dns(reader: &mut Reader<'_>, entries: &[Entry<'_>], binding: Binding) -> Check {
    let mut query = "SOA".to_owned();
    let mut name = ".".to_owned();
    for entry in entries {
        match (entry.keyword.name, entry.value) {
            ("type", Value::Word(word)) => {
                let upper = word.text.to_ascii_uppercase();
                if QUERIES.contains(&&*upper) {
                    query = upper;
                } else {
                    let text = format!("`type {}`: it is one of {}", word.text, QUERIES.join(", "));
                    reader.error(word.place, text);
                }
            }
            ("name", Value::Word(word)) => name = word.text.clone(),
            _ => {}
        }
    }
    Check::Dns(binding, query, name)
}

fn udp(reader: &mut Reader<'_>, at: Opened<'_>, entries: &[Entry<'_>], binding: Binding) -> Check {
    let mut probe = Probe {
        most: 255,
        ..Probe::default()
    };
    for entry in entries {
        match (entry.keyword.name, entry.value) {
            ("payload", Value::Words(words)) => match bytes(words, false) {
                Ok(bytes) => {
                    probe.payload = Some(bytes.into_iter().map(|(byte, _)| byte).collect())
                }
                Err(text) => reader.error(entry.place, text),
            },
            ("require_reply", Value::Words(words)) => match bytes(words, true) {
                Ok(bytes) => probe.reply = Some(bytes),
                Err(text) => reader.error(entry.place, text),
            },
            ("min_reply_length", Value::Whole(n)) => probe.least = small(n),
            ("max_reply_length", Value::Whole(n)) => probe.most = small(n),
            _ => {}
        }
    }
    if probe.least > probe.most {
        let text = format!(
            "min_reply_length {} is more than max_reply_length {}: the check always fails",
            probe.least, probe.most
        );
        reader.error(at.place, text);
    }
    Check::Udp(binding, probe)
}

/// Bytes written in hexadecimal; a word of an odd number of digits begins with a byte of one digit.
/// `X` is a digit of any value, where `any` allows it. The second of each pair says which bits count.
fn bytes(words: &[Word], any: bool) -> Result<Vec<(u8, u8)>, String> {
    let mut bytes = Vec::new();
    for word in words {
        let nibbles = word.text.chars().map(|c| match c {
            'x' | 'X' if any => Ok((0, 0)),
            c => c
                .to_digit(16)
                .map(|digit| (digit as u8, 15))
                .ok_or_else(|| format!("`{}` is not hexadecimal", word.text)),
        });
        let nibbles: Vec<(u8, u8)> = nibbles.collect::<Result<_, _>>()?;
        let mut pairs = nibbles.as_slice();
        if pairs.len() % 2 == 1 {
            let (digit, mask) = pairs[0];
            bytes.push((digit, 0xf0 | mask));
            pairs = &pairs[1..];
        }
        for pair in pairs.chunks(2) {
            bytes.push((pair[0].0 << 4 | pair[1].0, pair[0].1 << 4 | pair[1].1));
        }
    }
    Ok(bytes)
}

fn misc(reader: &mut Reader<'_>, at: Opened<'_>, entries: &[Entry<'_>]) -> Option<Check> {
    let mut line = None;
    let mut user = None;
    let mut timeout = None;
    let mut dynamic = false;
    for entry in entries {
        match (entry.keyword.name, entry.value) {
            ("misc_path", Value::Word(word)) => line = Some(word.text.clone()),
            ("misc_timeout", Value::Whole(0)) => timeout = None,
            ("misc_timeout", Value::Whole(n)) => timeout = Some(Duration::from_secs(small(n))),
            ("misc_dynamic", _) => dynamic = true,
            ("user", Value::Words(words)) => user = values::user(words),
            _ => {}
        }
    }
    let Some(line) = line else {
        let text = "MISC_CHECK without `misc_path` is left out".to_owned();
        reader.error(at.place, text);
        return None;
    };
    Some(Check::Misc {
        command: Command { line, user },
        timeout,
        dynamic,
    })
}

fn session(
    reader: &mut Reader<'_>,
    configuration: &Configuration,
    at: Opened<'_>,
    entries: &[Entry<'_>],
) -> Option<Check> {
    let mut name: Option<String> = None;
    for entry in entries {
        let ("name", Value::Word(word)) = (entry.keyword.name, entry.value) else {
            continue;
        };
        let problem = match &name {
            Some(other) => format!("the check is of bfd_instance `{other}` already"),
            None if bfd::find(configuration, &word.text).is_none() => format!(
                "there is no bfd_instance `{}` for checks before this",
                word.text
            ),
            None => {
                name = Some(word.text.clone());
                continue;
            }
        };
        reader.error(word.place, problem);
    }
    if name.is_none() {
        let text = "BFD_CHECK without `name` is left out".to_owned();
        reader.error(at.place, text);
    }
    name.map(Check::Bfd)
}

fn file(
    reader: &mut Reader<'_>,
    configuration: &Configuration,
    at: Opened<'_>,
    entries: &[Entry<'_>],
) -> Option<Check> {
    let mut name = None;
    let mut weight: Option<Weight> = None;
    for entry in entries {
        match (entry.keyword.name, entry.value) {
            ("track_file", Value::Word(word)) => {
                let files = &configuration.track_files;
                if files.iter().any(|file| file.name == word.text) {
                    name = Some(word.text.clone());
                } else {
                    let text = format!("there is no track_file `{}` before this", word.text);
                    reader.error(word.place, text);
                }
            }
            ("weight", Value::Words(words)) => {
                let most = i64::from(i32::MAX);
                weight = Some(tracking::weight(reader, entry.place, words, most));
            }
            _ => {}
        }
    }
    let Some(file) = name else {
        let text = "FILE_CHECK without `track_file` is left out".to_owned();
        reader.error(at.place, text);
        return None;
    };
    Some(Check::File { file, weight })
}
