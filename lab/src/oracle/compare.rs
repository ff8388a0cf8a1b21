//! Finds where one recording of a scenario deviates from another.
//!
//! What decides is compared exactly: the real server of each connection and datagram, outcomes,
//! counters, states, the order of real servers in a service. What does not is not: the order of
//! services among each other (the kernel's is that of its hash), seconds of expiry within a slack,
//! rates, the size of the connection table.

use std::collections::HashSet;
use std::fmt;
use std::net::SocketAddr;

use crate::oracle::listing;
use crate::oracle::recording::{Recording, Row};
use crate::oracle::scenario::Scenario;
use crate::oracle::site;
use crate::oracle::step::Step;

/// How far the seconds of expiry may be apart, unless said otherwise.
pub const SLACK: u64 = 3;

/// Seconds of expiry to allow for each answer that the client waited for in vain.
const PATIENCE: u64 = 3;

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// Number of the step, from 1.
    pub step: usize,
    /// The step.
    pub what: String,
    /// What the recording says.
    pub expected: String,
    /// What happened.
    pub got: String,
}

impl fmt::Display for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            step,
            what,
            expected,
            got,
        } = self;
        write!(
            f,
            "step {step} `{what}`: expected {expected:?}, got {got:?}"
        )
    }
}

/// All deviations of `got` from `expected`, in order; `slack` is in seconds.
pub fn compare(
    scenario: &Scenario,
    expected: &Recording,
    got: &Recording,
    slack: u64,
) -> Vec<Deviation> {
    let mut all = Vec::new();
    let mut slack = slack;
    // Connections that neither client ever had: what is done with them is nothing.
    let mut never = HashSet::new();
    for (index, step) in scenario.all_steps().iter().enumerate() {
        let number = index + 1;
        let (expected, got) = (expected.of_step(number), got.of_step(number));
        if waits(&expected) || waits(&got) {
            slack += PATIENCE;
        }
        let pairs = match step {
            Step::Close(id) | Step::Reset(id) | Step::Send(id) if never.contains(id) => Vec::new(),
            Step::Ipvsadm(words) => {
                let mut pairs = outcomes(step, &expected, &got);
                pairs.extend(printed(words, &expected, &got, slack));
                pairs
            }
            Step::List | Step::Stats => in_blocks(&lines(&expected), &lines(&got)),
            Step::Save => in_order(&lines(&expected), &lines(&got)),
            Step::Conns => {
                let rows = |rows: &[&Row]| rows.iter().map(|row| row.cells[2..].to_vec()).collect();
                connections(rows(&expected), rows(&got), slack)
            }
            Step::Sleep(_) => Vec::new(),
            _ => outcomes(step, &expected, &got),
        };
        if let Step::Open(flow) = step {
            let failed = |rows: &[&Row]| rows.iter().all(|row| row.cell(6) == "none");
            if failed(&expected) && failed(&got) {
                never.insert(flow.id.clone());
            } else {
                never.remove(&flow.id);
            }
        }
        all.extend(pairs.into_iter().map(|(expected, got)| Deviation {
            step: number,
            what: step.to_string(),
            expected,
            got,
        }));
    }
    all
}

/// Whether the client waited for an answer that did not come; how long is the client's own.
fn waits(rows: &[&Row]) -> bool {
    rows.iter()
        .any(|row| matches!(row.cell(5), "timeout" | "unreachable"))
}

/// Expected and got.
type Pair = (String, String);

const NOTHING: &str = "nothing";

/// Outcome and reply of a step that has one row.
fn outcomes(step: &Step, expected: &[&Row], got: &[&Row]) -> Vec<Pair> {
    let find = |rows: &[&Row]| {
        let row = rows.iter().find(|row| row.operation() == step.operation());
        row.map(|row| (row.cell(5).to_owned(), row.cell(6).to_owned()))
    };
    let (Some(expected), Some(got)) = (find(expected), find(got)) else {
        let say = |found: Option<Pair>| {
            found.map_or_else(|| NOTHING.to_owned(), |(one, two)| format!("{one} {two}"))
        };
        return vec![(say(find(expected)), say(find(got)))];
    };
    let same = match step {
        Step::Ipvsadm(_) | Step::Shell(_) | Step::OnServer { .. } => {
            expected.0 == got.0 && same_message(&expected.1, &got.1)
        }
        Step::Udp(_) => {
            // A client that does not ask for ICMP errors of unconnected sockets sees no answer.
            let unheard = expected.0 == "timeout" && got.0 == "refused";
            (same_server(&expected.0, &got.0) || unheard) && same_reply(&expected.1, &got.1)
        }
        _ => same_server(&expected.0, &got.0) && expected.1 == got.1,
    };
    if same {
        return Vec::new();
    }
    let say = |(one, two): Pair| {
        if two == "-" {
            one
        } else {
            format!("{one} {two}")
        }
    };
    vec![(say(expected), say(got))]
}

/// Whether both name the same real server, by whichever of its addresses, or are the same word.
fn same_server(expected: &str, got: &str) -> bool {
    let place = |text: &str| {
        let address = text.parse::<SocketAddr>().ok()?;
        Some((site::server_of(address.ip())?, address.port()))
    };
    expected == got || place(expected).is_some_and(|expected| place(got) == Some(expected))
}

/// `from A` with and without the port.
fn same_reply(expected: &str, got: &str) -> bool {
    let from = |text: &str| text.strip_prefix("from ").map(str::to_owned);
    match (from(expected), from(got)) {
        (Some(expected), Some(got)) => {
            let host = got.parse::<SocketAddr>().map(|got| got.ip().to_string());
            expected == got || host == Ok(expected)
        }
        _ => expected == got,
    }
}

/// Whether the message is the recorded one: the whole, or the line of it that was recorded.
fn same_message(expected: &str, got: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected = plain(expected);
    let lines: Vec<String> = got.split(" / ").map(plain).collect();
    expected == plain(got) || expected == lines.join(" ") || lines.contains(&expected)
}

/// What ipvsadm printed.
fn printed(words: &str, expected: &[&Row], got: &[&Row], slack: u64) -> Vec<Pair> {
    let texts = |rows: &[&Row]| -> Vec<String> {
        let out = rows.iter().filter(|row| row.operation() == "out");
        // A tab of the text is a column of the row.
        out.map(|row| row.cells.get(3..).unwrap_or_default().join(" "))
            .map(|line| plain_size(line.trim_end()))
            .collect()
    };
    let (expected, got) = (texts(expected), texts(got));
    let asks = |short: char, long: &str| {
        words.split_whitespace().any(|word| {
            let bundle = word.starts_with('-') && !word.starts_with("--");
            (bundle && word.contains(short)) || (word.len() > 4 && long.starts_with(word))
        })
    };
    let lists = asks('L', "--list") || asks('l', "--list");
    if lists && asks('c', "--connection") {
        let rows = |lines: &[String]| -> Vec<_> {
            let rows = lines.iter();
            rows.filter_map(|line| listing::connection(line)).collect()
        };
        return connections(rows(&expected), rows(&got), slack);
    }
    let says = |long: &str| words.split_whitespace().any(|word| word == long);
    if lists && says("--rate") {
        return in_blocks(&without_numbers(&expected), &without_numbers(&got));
    }
    if lists && says("--nosort") {
        return in_blocks(&expected, &got);
    }
    in_order(&expected, &got)
}

/// The line without the room for connections, which is the installation's.
fn plain_size(line: &str) -> String {
    match line.rsplit_once(" (size=") {
        Some((before, _)) if line.starts_with("IP Virtual Server") => before.to_owned(),
        _ => line.to_owned(),
    }
}

/// Rows of a listing as lines.
fn lines(rows: &[&Row]) -> Vec<String> {
    rows.iter()
        .map(|row| row.cells.get(3..).unwrap_or_default().join(" "))
        .collect()
}

/// The first words of lines, which time does not decide.
fn without_numbers(lines: &[String]) -> Vec<String> {
    let number = |word: &&str| word.parse::<u64>().is_err();
    lines
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().filter(number).collect();
            words.join(" ")
        })
        .collect()
}

fn in_order(expected: &[String], got: &[String]) -> Vec<Pair> {
    if expected == got {
        return Vec::new();
    }
    let line = |lines: &[String], index: usize| {
        lines
            .get(index)
            .cloned()
            .unwrap_or_else(|| NOTHING.to_owned())
    };
    (0..expected.len().max(got.len()))
        .map(|index| (line(expected, index), line(got, index)))
        .filter(|(expected, got)| expected != got)
        .collect()
}

/// Compares service by service: a service is a line and the lines with arrows after it.
fn in_blocks(expected: &[String], got: &[String]) -> Vec<Pair> {
    let mut theirs = blocks(expected);
    let mut pairs = Vec::new();
    for block in blocks(got) {
        let key = service(&block[0]);
        match theirs.iter().position(|other| service(&other[0]) == key) {
            Some(at) => pairs.extend(in_order(&theirs.remove(at), &block)),
            None => pairs.push((NOTHING.to_owned(), block.join(" | "))),
        }
    }
    let missing = theirs.into_iter();
    pairs.extend(missing.map(|block| (block.join(" | "), NOTHING.to_owned())));
    pairs
}

fn blocks(lines: &[String]) -> Vec<Vec<String>> {
    let mut blocks: Vec<Vec<String>> = Vec::new();
    for line in lines {
        match blocks.last_mut() {
            Some(block) if line.trim_start().starts_with("->") => block.push(line.clone()),
            _ => blocks.push(vec![line.clone()]),
        }
    }
    blocks
}

/// What names a service in its line.
fn service(line: &str) -> Vec<&str> {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    // A mark of IPv6 is another service than the same of IPv4.
    let length = if words.get(2) == Some(&"IPv6") { 3 } else { 2 };
    words.truncate(length);
    words
}

/// Rows `proto source virtual real state expire=MM:SS ...` as sets.
fn connections(expected: Vec<Vec<String>>, got: Vec<Vec<String>>, slack: u64) -> Vec<Pair> {
    let all = expected.clone();
    let mut theirs = expected;
    let mut pairs = Vec::new();
    // Those that agree go first, so that the others are paired with what is left.
    let mut left = Vec::new();
    for row in got {
        match theirs.iter().position(|other| agree(other, &row, slack)) {
            Some(at) => {
                theirs.remove(at);
            }
            None => left.push(row),
        }
    }
    for row in left {
        let same_ends = |other: &Vec<String>| other.get(..3) == row.get(..3);
        let expected = match theirs.iter().position(same_ends) {
            Some(at) => theirs.remove(at).join(" "),
            None => NOTHING.to_owned(),
        };
        pairs.push((expected, row.join(" ")));
    }
    let missing = theirs.into_iter();
    let missing = missing.filter(|row| !is_second_invalid(row, &all));
    pairs.extend(missing.map(|row| (row.join(" "), NOTHING.to_owned())));
    pairs
}

/// Whether a row is the template of a real server that is gone, and its client has another one.
///
/// The kernel keeps all of them until their time is over, Pointsman one for each client.
fn is_second_invalid(row: &[String], all: &[Vec<String>]) -> bool {
    let like_it = all.iter().filter(|other| other.get(..3) == row.get(..3));
    row.get(2).is_some_and(|at| at.ends_with(":65535")) && like_it.count() > 1
}

fn agree(expected: &[String], got: &[String], slack: u64) -> bool {
    let near = |(expected, got): (&String, &String)| match (seconds(expected), seconds(got)) {
        (Some(expected), Some(got)) => expected.abs_diff(got) <= slack,
        _ => expected == got,
    };
    expected.len() == got.len() && expected.iter().zip(got).all(near)
}

/// The seconds of `expire=MM:SS`.
fn seconds(cell: &str) -> Option<u64> {
    let (minutes, seconds) = cell.strip_prefix("expire=")?.split_once(':')?;
    Some(minutes.parse::<u64>().ok()? * 60 + seconds.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deviations(steps: &str, expected: &str, got: &str) -> Vec<Deviation> {
        let scenario = Scenario::parse(&format!(
            r#"{{"name": "x", "setup": [], "steps": [{steps}]}}"#
        ))
        .unwrap();
        let read = |text: &str| {
            let recording = Recording::parse(&text.replace(' ', "\t").replace('_', " ")).unwrap();
            recording.check_against(&scenario).unwrap();
            recording
        };
        compare(&scenario, &read(expected), &read(got), SLACK)
    }

    #[test]
    fn the_server_and_the_outcome_decide() {
        let step = r#""open c 10.64.0.1:1 10.99.0.1:80""#;
        let row = |rest: &str| format!("1 open c tcp 10.64.0.1:1 10.99.0.1:80 {rest}");
        let differ = |one: &str, two: &str| !deviations(step, &row(one), &row(two)).is_empty();
        assert!(!differ("10.2.1.1:80 ok", "10.2.1.1:80 ok"));
        assert!(!differ("10.2.1.1:80 ok", "[fd00:2::1:1]:80 ok"));
        assert!(differ("10.2.1.1:80 ok", "10.2.1.2:80 ok"));
        assert!(differ("10.2.1.1:80 ok", "10.2.1.1:81 ok"));
        assert!(differ("10.2.1.1:80 ok", "refused none"));
        assert!(differ("timeout none", "refused none"));
        assert_eq!(
            deviations(step, &row("timeout none"), "")[0].to_string(),
            "step 1 `open c 10.64.0.1:1 10.99.0.1:80`: expected \"timeout none\", got \"nothing\""
        );
    }

    #[test]
    fn datagrams_tell_who_answered() {
        let step = r#""udp a 10.64.0.1:1 10.99.0.1:53""#;
        let row = |rest: &str| format!("1 udp a udp 10.64.0.1:1 10.99.0.1:53 {rest}");
        let differ = |one: &str, two: &str| !deviations(step, &row(one), &row(two)).is_empty();
        assert!(!differ(
            "10.2.1.1:53 from_10.2.1.1",
            "10.2.1.1:53 from_10.2.1.1:53"
        ));
        assert!(differ(
            "10.2.1.1:53 from_10.2.1.2",
            "10.2.1.1:53 from_10.2.1.1:53"
        ));
        assert!(differ("10.2.1.1:53 ok", "10.2.1.1:53 from_10.2.1.1:53"));
        assert!(!differ("timeout none", "refused none"));
        assert!(differ("refused none", "timeout none"));
    }

    #[test]
    fn services_may_change_places_and_servers_may_not() {
        let one = "1 list - - TCP a:80 rr\n1 list - - -> r1 1\n1 list - - -> r2 1\n";
        let two = "1 list - - FWM 1 rr\n1 list - - -> r1 1\n";
        let step = r#""list""#;
        let both = |first: &str, second: &str| format!("{first}{second}");
        assert!(deviations(step, &both(one, two), &both(two, one)).is_empty());
        assert_eq!(deviations(step, &both(one, two), one).len(), 1);
        assert_eq!(deviations(step, one, &both(one, two)).len(), 1);
        let turned = "1 list - - TCP a:80 rr\n1 list - - -> r2 1\n1 list - - -> r1 1\n";
        assert_eq!(deviations(step, one, turned).len(), 2);
        assert_eq!(deviations(step, "", "").len(), 0);
    }

    #[test]
    fn connections_agree_but_for_seconds() {
        let step = r#""conns""#;
        let row = |state: &str, time: &str| format!("1 conns - TCP a b c {state} expire={time}\n");
        let differ = |one: &str, two: &str| deviations(step, one, two).len();
        assert_eq!(differ(&row("NONE", "01:00"), &row("NONE", "00:57")), 0);
        assert_eq!(differ(&row("NONE", "01:00"), &row("NONE", "00:56")), 1);
        assert_eq!(differ(&row("NONE", "01:00"), &row("ASSURED", "01:00")), 1);
        let two = format!("{}{}", row("NONE", "01:00"), row("NONE", "05:00"));
        assert_eq!(differ(&two, &row("NONE", "05:01")), 1);
    }

    #[test]
    fn a_clients_second_invalid_template_may_be_missing() {
        let row = |server: &str| format!("1 conns - TCP c:0 v:65535 {server}:65535 NONE\n");
        let differ = |one: &str, two: &str| deviations(r#""conns""#, one, two).len();
        let both = row("a") + &row("b");
        assert_eq!(differ(&both, &row("b")), 0);
        assert_eq!(differ(&row("b"), &both), 1);
        assert_eq!(differ(&row("a"), ""), 1);
    }

    #[test]
    fn waiting_takes_time_and_nothing_comes_of_what_was_never_opened() {
        let steps = r#""open c 10.64.0.1:1 10.99.0.1:80", "close c", "conns""#;
        let record = |open: &str, close: &str, time: &str| {
            format!(
                "1 open c tcp 10.64.0.1:1 10.99.0.1:80 {open}\n\
                 2 close c tcp 10.64.0.1:1 10.99.0.1:80 {close} -\n\
                 3 conns - TCP a b c NONE expire={time}\n"
            )
        };
        let differ = |one: &str, two: &str| deviations(steps, one, two).len();
        let timeout = record("timeout none", "none", "01:00");
        assert_eq!(
            differ(&timeout, &record("timeout none", "done", "00:54")),
            0
        );
        assert_eq!(
            differ(&timeout, &record("timeout none", "done", "00:53")),
            1
        );
        let opened = record("10.2.1.1:80 ok", "done", "01:00");
        assert_eq!(
            differ(&opened, &record("10.2.1.1:80 ok", "none", "00:54")),
            2
        );
    }

    #[test]
    fn messages_are_those_of_ipvsadm() {
        let step = r#""ipvsadm -A -t 10.99.0.1:80 -s no""#;
        let row = |rest: &str| format!("1 ipvsadm - - x - {rest}");
        let differ = |one: &str, two: &str| !deviations(step, &row(one), &row(two)).is_empty();
        assert!(!differ("error No_such_service", "error No_such_service"));
        assert!(!differ(
            "error No_such_service",
            "error hint_/_No_such_service"
        ));
        assert!(differ(
            "error No_such_service",
            "error Memory_allocation_problem"
        ));
        assert!(differ("error No_such_service", "ok -"));
        let printed = |line: &str| format!("{}\n1 out - - {line}\n", row("ok -"));
        assert_eq!(
            deviations(step, &printed("Timeout:_1"), &printed("Timeout:_2")).len(),
            1
        );
        let title = |text: &str| printed(&format!("IP_Virtual_Server_version_{text}"));
        let titles = |one: &str, two: &str| deviations(step, &title(one), &title(two)).len();
        assert_eq!(titles("1.2.1_(size=4096)", "1.2.1_(size=32768)"), 0);
        assert_eq!(titles("1.2.1_(size=4096)", "1.2.2_(size=4096)"), 1);
    }
}
