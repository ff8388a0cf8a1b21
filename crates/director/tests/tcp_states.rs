//! What a connection remembers: TCP states, timers, counts, reuse.

mod bench;

use bench::{Bench, answer, datagram, dns, real, rs, segment, web};
use pointsman_director::{
    Reason,
    model::{Change, ForwardingMethod},
    record::connection_flag,
    tcp::{Direction, NAMES, is_active, next},
};
use pointsman_wire::tcp::{ACK, FIN, PSH, RST, SYN, URG};

const DIRECT: ForwardingMethod = ForwardingMethod::Direct;
const TUNNEL: ForwardingMethod = ForwardingMethod::Tunnel;
const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;
/// The client's port.
const PORT: u16 = 40_000;

/// State before, then after SYN, FIN, ACK and RST, for input, output and input only.
const TRANSITIONS: &str = "
NO | SR | CL | ES | CL | SS | TW | ES | CL | SR | CL | ES | CL
ES | ES | CW | ES | CL | ES | FW | ES | CL | ES | FW | ES | CL
SS | ES | SS | SS | CL | SS | SS | SS | SS | ES | SS | SS | CL
SR | SR | TW | ES | SR | SR | TW | ES | CL | SR | TW | ES | SR
FW | SR | TW | FW | CL | SS | FW | FW | CL | SR | FW | FW | CL
TW | SR | TW | TW | CL | SS | TW | TW | TW | SR | TW | TW | CL
CL | SR | CL | CL | CL | SS | CL | CL | CL | SR | CL | CL | CL
CW | SR | CW | CW | CL | SS | TW | CW | CL | SR | CW | CW | CL
LA | SR | LA | CL | LA | SS | LA | LA | CL | SR | LA | CL | LA
LI | SR | LI | LI | LI | LI | LI | ES | CL | SR | LI | LI | LI
SA | SR | TW | ES | SR | SR | TW | ES | CL | SR | TW | ES | CL
";

const SHORT: [&str; 11] = [
    "NO", "ES", "SS", "SR", "FW", "TW", "CL", "CW", "LA", "LI", "SA",
];

fn number(short: &str) -> u8 {
    let at = SHORT.iter().position(|name| *name == short);
    at.expect("a state") as u8
}

#[test]
fn every_transition_is_the_kernels() {
    let directions = [Direction::Input, Direction::Output, Direction::InputOnly];
    let mut rows = 0;
    for row in TRANSITIONS.trim().lines() {
        let cells: Vec<u8> = row.split('|').map(|cell| number(cell.trim())).collect();
        let (from, cells) = (cells[0], &cells[1..]);
        assert_eq!((from, cells.len()), (rows, 12));
        rows += 1;
        for (direction, cells) in directions.iter().zip(cells.chunks(4)) {
            // The first of RST, SYN, FIN, ACK that is set decides, whatever else is.
            for flags in 0..=255u8 {
                let expected = if flags & RST != 0 {
                    cells[3]
                } else if flags & SYN != 0 {
                    cells[0]
                } else if flags & FIN != 0 {
                    cells[1]
                } else if flags & ACK != 0 {
                    cells[2]
                } else {
                    number("CL")
                };
                assert_eq!(
                    NAMES[usize::from(next(from, flags, *direction))],
                    NAMES[usize::from(expected)],
                    "{} {flags:#04x} {direction:?}",
                    NAMES[usize::from(from)],
                );
            }
        }
    }
    assert_eq!(rows, 11);
}

#[test]
fn established_and_half_open_are_active() {
    let active = (0..11).filter(|state| is_active(*state));
    assert_eq!(
        active.map(|s| SHORT[usize::from(s)]).collect::<Vec<_>>(),
        ["ES", "SS", "SR", "SA"]
    );
}

/// A bench with one server that is reached by `method`.
fn bench(method: ForwardingMethod) -> Bench {
    let port = if method == MASQUERADE { 8080 } else { 80 };
    Bench::single(web(), rs(1), port, method)
}

/// Packets of the client (flags) and of the server (`>` and flags), and the states after them.
fn assert_walk(method: ForwardingMethod, steps: &[(&str, &str)]) {
    let mut bench = bench(method);
    for (at, (packet, state)) in steps.iter().enumerate() {
        let (from_server, letters) = match packet.strip_prefix('>') {
            Some(letters) => (true, letters),
            None => (false, *packet),
        };
        let flags = letters.chars().fold(0, |flags, letter| {
            flags
                | match letter {
                    'S' => SYN,
                    'A' => ACK,
                    'F' => FIN,
                    'R' => RST,
                    'P' => PSH,
                    '-' => 0,
                    other => panic!("{other}"),
                }
        });
        let frame = if from_server {
            answer(1, 8080, PORT, flags).build()
        } else {
            segment(PORT, flags).build()
        };
        let reason = bench.reason(&frame);
        let forwarded = pointsman_director::Verdict::of(reason).action();
        assert_eq!(
            forwarded,
            pointsman_director::Action::Forward,
            "{reason:?} at {at}"
        );
        assert_eq!(bench.state(), *state, "{method:?}, step {at} ({packet})");
        let active = matches!(*state, "ESTABLISHED" | "SYN_SENT" | "SYN_RECV" | "SYNACK");
        let expected = if active { (1, 0) } else { (0, 1) };
        assert_eq!(
            bench.counts(rs(1)),
            expected,
            "counts after step {at} ({packet})"
        );
        let inactive = bench.connection().word.load() & connection_flag::INACTIVE != 0;
        assert_eq!(inactive, !active);
    }
}

#[test]
fn masqueraded_walks() {
    assert_walk(
        MASQUERADE,
        &[
            ("S", "SYN_RECV"),
            (">SA", "SYN_RECV"),
            ("A", "ESTABLISHED"),
            ("PA", "ESTABLISHED"),
            (">PA", "ESTABLISHED"),
            ("FA", "CLOSE_WAIT"),
            (">FA", "TIME_WAIT"),
            ("A", "TIME_WAIT"),
        ],
    );
    assert_walk(
        MASQUERADE,
        &[
            ("S", "SYN_RECV"),
            ("A", "ESTABLISHED"),
            (">FA", "FIN_WAIT"),
            ("FA", "TIME_WAIT"),
        ],
    );
    assert_walk(MASQUERADE, &[("S", "SYN_RECV"), ("F", "TIME_WAIT")]);
    assert_walk(MASQUERADE, &[("SF", "SYN_RECV"), ("-", "CLOSE")]);
    assert_walk(MASQUERADE, &[("S", "SYN_RECV"), (">R", "CLOSE")]);
    assert_walk(MASQUERADE, &[("S", "SYN_RECV"), ("R", "SYN_RECV")]);
}

#[test]
fn walks_without_replies() {
    for method in [DIRECT, TUNNEL] {
        assert_walk(
            method,
            &[
                ("S", "SYN_RECV"),
                ("S", "SYN_RECV"),
                ("A", "ESTABLISHED"),
                ("FA", "FIN_WAIT"),
                ("A", "FIN_WAIT"),
                ("S", "SYN_RECV"),
                ("A", "ESTABLISHED"),
                ("RA", "CLOSE"),
            ],
        );
        assert_walk(method, &[("SA", "SYN_RECV"), ("R", "SYN_RECV")]);
        assert_walk(method, &[("S", "SYN_RECV"), ("-", "CLOSE"), ("P", "CLOSE")]);
    }
}

#[test]
fn every_state_has_its_timeout() {
    let seconds = |bench: &Bench| {
        let connection = bench.connection();
        assert_eq!(
            connection.expires.load() - bench.env.now.get(),
            u64::from(connection.timeout.load()) * bench::SECOND,
        );
        (bench.state(), connection.timeout.load())
    };
    let mut bench = bench(MASQUERADE);
    let mut seen = Vec::new();
    for (server, flags) in [
        (false, SYN),
        (false, ACK),
        (false, FIN),
        (true, FIN),
        (false, RST),
    ] {
        bench.wait(1);
        if server {
            bench.send(&answer(1, 8080, PORT, flags).build());
        } else {
            bench.send(&segment(PORT, flags).build());
        }
        seen.push(seconds(&bench));
    }
    assert_eq!(
        seen,
        [
            ("SYN_RECV", 60),
            ("ESTABLISHED", 900),
            ("CLOSE_WAIT", 60),
            ("TIME_WAIT", 120),
            ("CLOSE", 10),
        ]
    );
    let mut bench = self::bench(DIRECT);
    for flags in [SYN, ACK, FIN] {
        bench.send(&segment(PORT, flags).build());
    }
    assert_eq!(seconds(&bench), ("FIN_WAIT", 120));
}

#[test]
fn timeouts_can_be_set() {
    let mut bench = bench(DIRECT);
    let set = |tcp, tcp_fin, udp| Change::SetTimeouts { tcp, tcp_fin, udp };
    bench.apply(&set(5, 0, 0)).expect("valid");
    bench.apply(&set(0, 7, 9)).expect("valid");
    let mut timeouts = Vec::new();
    for flags in [SYN, ACK, FIN] {
        bench.send(&segment(PORT, flags).build());
        timeouts.push(bench.connection().timeout.load());
    }
    assert_eq!(timeouts, [60, 5, 7]);
    let mut bench = Bench::single(dns(), rs(1), 53, DIRECT);
    bench.send(&datagram(PORT).build());
    assert_eq!(bench.connection().timeout.load(), 300);
    bench.apply(&set(0, 0, 9)).expect("valid");
    bench.send(&datagram(PORT).build());
    assert_eq!(bench.connection().timeout.load(), 9);
}

#[test]
fn datagrams_are_inactive() {
    for method in [DIRECT, TUNNEL, MASQUERADE] {
        let mut bench = Bench::single(dns(), rs(1), 53, method);
        for port in 1000..1003 {
            bench.send(&datagram(port).build());
            bench.send(&datagram(port).build());
        }
        assert_eq!(bench.counts(rs(1)), (0, 3), "{method:?}");
    }
}

#[test]
fn expiry_takes_the_connection_out() {
    for method in [DIRECT, TUNNEL, MASQUERADE] {
        let mut bench = bench(method);
        bench.send(&segment(PORT, SYN).build());
        bench.wait(59);
        bench.sweep();
        assert_eq!((bench.connections(), bench.counts(rs(1))), (1, (1, 0)));
        bench.wait(1);
        // Over, though not swept yet: a packet that can't begin one belongs to none.
        assert_eq!(
            bench.reason(&segment(PORT, ACK).build()),
            Reason::NoConnection
        );
        assert_eq!((bench.connections(), bench.counts(rs(1))), (0, (0, 0)));
        bench.send(&segment(PORT, SYN).build());
        bench.wait(60);
        bench.sweep();
        assert_eq!((bench.connections(), bench.counts(rs(1))), (0, (0, 0)));
        assert!(bench.tables.replies.borrow().is_empty(), "{method:?}");
    }
}

#[test]
fn every_packet_starts_the_timer_anew() {
    let mut bench = bench(MASQUERADE);
    bench.send(&segment(PORT, SYN).build());
    for at in 0..4 {
        bench.wait(50);
        let frame = if at % 2 == 0 {
            answer(1, 8080, PORT, SYN | ACK).build()
        } else {
            segment(PORT, SYN).build()
        };
        bench.send(&frame);
        assert_eq!(
            bench.connection().expires.load(),
            bench.env.now.get() + 60 * bench::SECOND
        );
    }
}

#[test]
fn a_reply_after_the_end_is_not_translated() {
    let mut bench = bench(MASQUERADE);
    bench.send(&segment(PORT, SYN).build());
    bench.wait(60);
    let reply = answer(1, 8080, PORT, SYN | ACK).build();
    let (verdict, out) = bench.send(&reply);
    assert_eq!(verdict.reason, Reason::NoConnection);
    assert_eq!(out, reply);
}

#[test]
fn a_retransmitted_syn_stays() {
    let mut bench = Bench::balanced("rr", &[1, 1, 1]);
    assert_eq!(bench.picks(PORT, 1), "3");
    assert_eq!(bench.picks(PORT, 1), "3");
    // Of weight 0 too, once begun.
    bench.edit(web(), real(rs(3), 80, DIRECT, 0));
    assert_eq!(bench.picks(PORT, 1), "3");
    assert_eq!(bench.connection().packets.load(), 3);
}

/// Which server a SYN goes to after `flags` on a connection to r3, in reuse mode `mode`.
fn reused(mode: u32, method: ForwardingMethod, flags: &[u8], reply: Option<u8>) -> char {
    let mut bench = Bench::balanced("rr", &[]);
    for number in 1..=3 {
        bench.server(web(), real(rs(number), 80, method, 1));
    }
    bench.settings(|settings| settings.reuse_mode = mode);
    assert_eq!(bench.picks(PORT, 1), "3");
    for flags in flags {
        bench.send(&segment(PORT, *flags).build());
    }
    if let Some(flags) = reply {
        bench.send(&answer(3, 80, PORT, flags).build());
    }
    let picked = bench.picks(PORT, 1).chars().next();
    assert_eq!(bench.connections(), 1);
    let sum = (1..=3).map(|n| bench.counts(rs(n)));
    assert_eq!(sum.fold((0, 0), |s, c| (s.0 + c.0, s.1 + c.1)), (1, 0));
    picked.expect("one pick")
}

#[test]
fn reuse_modes() {
    for (mode, closed, waiting, direct_fin, masqueraded_fin) in [
        (0, '3', '3', '3', '3'),
        (1, '2', '2', '3', '3'),
        (2, '2', '2', '2', '3'),
        (3, '2', '2', '2', '3'),
    ] {
        assert_eq!(
            reused(mode, DIRECT, &[ACK, RST], None),
            closed,
            "CLOSE, mode {mode}"
        );
        assert_eq!(
            reused(mode, MASQUERADE, &[ACK, FIN], Some(FIN)),
            waiting,
            "TIME_WAIT, mode {mode}",
        );
        assert_eq!(
            reused(mode, DIRECT, &[ACK, FIN], None),
            direct_fin,
            "FIN_WAIT, mode {mode}"
        );
        assert_eq!(
            reused(mode, MASQUERADE, &[ACK], Some(FIN)),
            masqueraded_fin,
            "FIN_WAIT with replies, mode {mode}",
        );
        assert_eq!(
            reused(mode, DIRECT, &[ACK], None),
            '3',
            "ESTABLISHED, mode {mode}"
        );
        assert_eq!(
            reused(mode, MASQUERADE, &[ACK, FIN], None),
            '3',
            "CLOSE_WAIT, mode {mode}"
        );
    }
}

#[test]
fn only_a_syn_begins() {
    for flags in [ACK, FIN, RST, FIN | ACK, PSH | ACK, URG, 0, SYN | RST] {
        let mut bench = bench(DIRECT);
        assert_eq!(
            bench.reason(&segment(PORT, flags).build()),
            Reason::NoConnection
        );
        assert_eq!((bench.connections(), bench.counts(rs(1))), (0, (0, 0)));
    }
    for flags in [SYN, SYN | ACK, SYN | FIN] {
        assert_eq!(
            bench(DIRECT).reason(&segment(PORT, flags).build()),
            Reason::Direct
        );
    }
}

#[test]
fn sloppy_tcp_begins_with_anything_but_rst() {
    use pointsman_director::record::settings_flag::SLOPPY_TCP;
    for (flags, reason) in [
        (ACK, Reason::Direct),
        (FIN, Reason::Direct),
        (0, Reason::Direct),
        (RST, Reason::NoConnection),
        (SYN | RST, Reason::NoConnection),
    ] {
        let mut bench = bench(DIRECT);
        bench.settings(|settings| settings.flags |= SLOPPY_TCP);
        assert_eq!(
            bench.reason(&segment(PORT, flags).build()),
            reason,
            "{flags:#04x}"
        );
    }
}

#[test]
fn port_20_never_begins() {
    assert_eq!(
        bench(DIRECT).reason(&segment(20, SYN).build()),
        Reason::SourcePort20
    );
    let mut bench = Bench::single(dns(), rs(1), 53, DIRECT);
    assert_eq!(bench.reason(&datagram(20).build()), Reason::SourcePort20);
    assert_eq!(bench.connections(), 0);
}
