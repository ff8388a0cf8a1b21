//! What the real ipvsadm said on a real kernel, said again by ours: every byte and exit code.
//!
//! `cargo xtask golden` records the files of `golden/` anew. A line `#: not yet` keeps a file for the
//! day when Pointsman can do what it is about; until then each of them has to be refused somewhere.

#[path = "support/host.rs"]
#[allow(dead_code)]
mod host;

use std::{
    fmt::Write,
    net::{SocketAddr, UdpSocket},
    os::unix::fs::symlink,
    path::Path,
    time::Instant,
};

use host::{Host, PATIENCE, Said, can_run};

/// A command of a golden file with all that the real program did.
#[derive(Debug)]
struct Step {
    /// Number of its line, from 1.
    line: usize,
    command: String,
    input: String,
    said: Said,
}

/// Reads a golden file; gives its steps, and whether it is about what is not there yet.
fn read(name: &str) -> (Vec<Step>, bool) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.txt"));
    let text = std::fs::read_to_string(&path).expect("a golden file");
    let mut steps: Vec<Step> = Vec::new();
    let mut is_later = false;
    for (index, line) in text.lines().enumerate() {
        let (mark, rest) = line.split_at(line.len().min(2));
        if line.is_empty() || mark == "# " {
            continue;
        }
        if mark == "#:" {
            is_later = true;
            continue;
        }
        if mark == "$ " {
            steps.push(Step {
                line: index + 1,
                command: rest.to_owned(),
                input: String::new(),
                said: Said {
                    out: String::new(),
                    err: String::new(),
                    code: 0,
                },
            });
            continue;
        }
        let step = steps.last_mut().expect("a command first");
        match mark {
            "< " => step.input += &format!("{rest}\n"),
            "| " => step.said.out += &format!("{rest}\n"),
            "! " => step.said.err += &format!("{rest}\n"),
            "= " => step.said.code = rest.parse().expect("an exit code"),
            _ => panic!("{}:{}: {line}", path.display(), index + 1),
        }
    }
    assert!(!steps.is_empty(), "{} is empty", path.display());
    (steps, is_later)
}

/// Room for what the files ask for; 4096 connections give the same first line as the kernel's
/// default table.
const ROOM: &[&str] = &["--connections", "4096", "--servers", "256"];

/// Says a file again and fails with every deviation.
fn replay(name: &str) {
    if !can_run() {
        return;
    }
    let (steps, is_later) = read(name);
    let deviations = deviations(&steps);
    if is_later {
        assert!(!deviations.is_empty(), "{name}.txt is no longer `not yet`");
        return;
    }
    assert!(
        deviations.is_empty(),
        "{} of {} commands of {name}.txt deviate:\n{}",
        deviations.len(),
        steps.len(),
        deviations.concat()
    );
}

fn deviations(steps: &[Step]) -> Vec<String> {
    let host = Host::new();
    let _daemon = host.run_with_room(ROOM, &[]);
    let links = tempfile::tempdir().expect("a directory");
    for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
        symlink(env!("CARGO_BIN_EXE_pointsman"), links.path().join(name)).expect("a link");
    }
    let mut deviations = Vec::new();
    let mut has_traffic = false;
    for step in steps {
        let (program, arguments) = step.command.split_once(' ').unwrap_or((&step.command, ""));
        match program {
            "ip" => host.ip(arguments),
            "send" => {
                send(&host, arguments);
                has_traffic = true;
            }
            // The kernel counts with a delay; we don't.
            "wait" => {}
            _ => {
                let program = links.path().join(program);
                // A packet may still be on its way, but not for ever.
                let patience = has_traffic && step.command.starts_with("ipvsadm -L");
                deviations.extend(deviation(&host, &program, arguments, step, patience));
            }
        }
    }
    deviations
}

fn deviation(
    host: &Host,
    program: &Path,
    arguments: &str,
    step: &Step,
    patience: bool,
) -> Option<String> {
    let deadline = Instant::now() + PATIENCE / 10;
    let wanted = comparable(&step.command, &step.said);
    let said = loop {
        let said = comparable(
            &step.command,
            &host.call_as(program, arguments, &step.input),
        );
        if said == wanted {
            return None;
        }
        if !patience || Instant::now() > deadline {
            break said;
        }
    };
    let mut text = format!("line {}: {}\n", step.line, step.command);
    if said.code != wanted.code {
        let _ = writeln!(text, "  exit code {} instead of {}", said.code, wanted.code);
    }
    for (stream, wanted, said) in [('|', &wanted.out, &said.out), ('!', &wanted.err, &said.err)] {
        let lacking = wanted.lines().filter(|line| !said.contains(line));
        lacking.for_each(|line| text += &format!("  -{stream} {line}\n"));
        let added = said.lines().filter(|line| !wanted.contains(line));
        added.for_each(|line| text += &format!("  +{stream} {line}\n"));
        if wanted != said {
            text +=
                "  (- lacks, + is too much; equal lines, though in another order, are left out)\n";
        }
    }
    Some(text)
}

/// What has to be the same: all but our own warnings, and in lists of connections their order and
/// remaining times.
fn comparable(command: &str, said: &Said) -> Said {
    let mut out = said.out.clone();
    if out.starts_with("IPVS connection entries\n") {
        let mut lines: Vec<String> = out.lines().map(without_time).collect();
        lines[2..].sort();
        out = lines.join("\n") + "\n";
    }
    let err = said
        .err
        .split_inclusive('\n')
        .filter(|line| !(line.starts_with("Warning: ") && command.starts_with("ipvsadm -")))
        .collect();
    Said {
        out,
        err,
        code: said.code,
    }
}

/// A connection's line with `--:--` instead of the minutes and seconds that are left.
fn without_time(line: &str) -> String {
    let bytes = line.as_bytes();
    let is_time = |time: &[u8]| {
        time.iter()
            .enumerate()
            .all(|(at, byte)| (at == 2) == (*byte == b':') && (at == 2 || byte.is_ascii_digit()))
    };
    match bytes.get(4..9) {
        Some(time) if is_time(time) => format!("{}--:--{}", &line[..4], &line[9..]),
        _ => line.to_owned(),
    }
}

/// Two bytes from a port of the server's namespace to an endpoint: `PORT ADDRESS:PORT`.
fn send(host: &Host, arguments: &str) {
    let (port, to) = arguments.split_once(' ').expect("a port and an endpoint");
    let port: u16 = port.parse().expect("a port");
    let to: SocketAddr = to.parse().expect("an endpoint");
    let from = match to {
        SocketAddr::V4(_) => SocketAddr::from(([10, 9, 0, 2], port)),
        SocketAddr::V6(_) => SocketAddr::from(([0xfd09, 0, 0, 0, 0, 0, 0, 2], port)),
    };
    let sent = host
        .server
        .run_in(|| UdpSocket::bind(from).and_then(|socket| socket.send_to(b"x\n", to)));
    sent.expect("enter the namespace").expect("send");
}

/// One test for each file.
macro_rules! files {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                replay(stringify!($name));
            }
        )*

        #[test]
        fn every_file_is_replayed() {
            let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
            let mut found: Vec<String> = std::fs::read_dir(directory)
                .expect("the golden files")
                .map(|entry| entry.expect("an entry").path())
                .map(|path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned())
                .collect();
            found.sort();
            assert_eq!(found, [$(stringify!($name)),*]);
        }
    };
}

files! {
    acceptance connections daemons edits lists names order persistence refusals restore schedulers
    sctp sip tunnels unscheduled values
}
