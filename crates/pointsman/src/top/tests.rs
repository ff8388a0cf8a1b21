//! What is drawn, on a terminal of memory, and what keys do.

use pointsman_daemon::status::{Status, TableStatus};
use pointsman_director::model::{
    ForwardingMethod, Protocol, RateView, RealServer, ServerView, ServiceId, ServiceView,
    StatsView, TunnelType, VirtualService,
};
use ratatui::{
    Terminal,
    backend::TestBackend,
    style::{Color, Modifier},
};

use super::{list::short, *};

fn server(number: u8, bytes: u64, active: u32) -> ServerView {
    ServerView {
        server: RealServer {
            address: [10, 1, 0, number].into(),
            port: 80,
            method: ForwardingMethod::Direct,
            weight: i32::from(number) - 1,
            upper: 0,
            lower: 0,
            tunnel: TunnelType::Ipip,
        },
        active,
        inactive: 1,
        persistent: 0,
        stats: StatsView::default(),
        rate: rate(bytes),
        next_hop: match number {
            3 => "unresolved: no route".to_owned(),
            _ => "eth0 02:00:00:00:00:02".to_owned(),
        },
    }
}

fn rate(bytes: u64) -> RateView {
    RateView {
        connections: 1,
        in_packets: bytes / 100,
        out_packets: 0,
        in_bytes: bytes,
        out_bytes: 7,
    }
}

fn service(port: u16, servers: Vec<ServerView>) -> ServiceView {
    let bytes = servers.iter().map(|server| server.rate.in_bytes).sum();
    ServiceView {
        service: VirtualService {
            id: ServiceId::Address {
                protocol: Protocol::Tcp,
                address: [10, 0, 0, 1].into(),
                port,
            },
            scheduler: "wlc".to_owned(),
            flags: Default::default(),
            persistence: None,
            one_packet: false,
            engine: None,
        },
        stats: StatsView::default(),
        rate: rate(bytes),
        servers,
    }
}

fn status() -> Status {
    Status {
        version: "1.2.3".to_owned(),
        uptime: 7,
        origin: "fresh".to_owned(),
        pin_dir: "/pins".to_owned(),
        interfaces: Vec::new(),
        connections: TableStatus {
            capacity: 1_048_576,
            used: 12_345,
        },
        answers: Default::default(),
        routers: Vec::new(),
        bfd: Default::default(),
        health: Vec::new(),
        state: Default::default(),
    }
}

/// A quiet service, and a busy one.
fn picture() -> Picture {
    let quiet = service(80, vec![server(1, 0, 9), server(2, 100, 0)]);
    let busy = service(443, vec![server(3, 20_000, 0), server(4, 1_500_000, 2)]);
    Picture::new(status(), true, vec![quiet, busy], Sorting::default())
}

fn top(picture: Picture) -> Top {
    let mut top = Top::new(Duration::from_secs(2));
    top.show(Ok(picture));
    top
}

fn drawn(top: &mut Top, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    top.resize(height);
    terminal
        .draw(|frame| screen::draw(frame, top))
        .expect("memory");
    terminal
}

fn lines(terminal: &Terminal<TestBackend>) -> Vec<String> {
    let buffer = terminal.backend().buffer();
    let area = buffer.area;
    let line = |y| -> String { (0..area.width).map(|x| buffer[(x, y)].symbol()).collect() };
    (0..area.height)
        .map(|y| line(y).trim_end().to_owned())
        .collect()
}

/// The first words of the rows.
fn names(top: &mut Top) -> Vec<String> {
    let lines = lines(&drawn(top, 120, 12));
    let rows = lines[3..].iter().filter(|line| line.contains("10."));
    rows.map(|row| row.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .collect()
}

fn press(top: &mut Top, code: KeyCode) -> Wish {
    top.press(KeyEvent::new(code, KeyModifiers::NONE))
}

#[test]
fn a_wide_screen_shows_everything() {
    let mut top = top(picture());
    let lines = lines(&drawn(&mut top, 130, 10));
    let expected = [
        "2 services, 4 servers, 12.3k of 1048k connections | 2 conn/s, 15.2k + 0 pkt/s, 1520k + 14 B/s",
        "sorted by bytes a second, every 2 s, row 1 of 6",
        "SERVICE, REAL SERVERS         CONN/s IN PKT/s OUT PKT/s  IN B/s OUT B/s  ACTIVE   INACT WEIGHT SCHEDULER, NEXT HOP",
        "TCP 10.0.0.1:443                   1    15.2k         0   1520k       7       2       2        wlc",
        "  -> 10.1.0.4:80                   1    15.0k         0   1500k       7       2       1      3 eth0 02:00:00:00:00:02",
        "  -> 10.1.0.3:80                   1      200         0   20.0k       7       0       1      2 unresolved: no route",
        "TCP 10.0.0.1:80                    1        1         0     100       7       9       2        wlc",
        "  -> 10.1.0.2:80                   1        1         0     100       7       0       1      1 eth0 02:00:00:00:00:02",
        "  -> 10.1.0.1:80                   1        0         0       0       7       9       1      0 eth0 02:00:00:00:00:02",
    ];
    assert_eq!(lines[..9], expected);
    assert!(lines[9].starts_with("q quit"), "{}", lines[9]);
}

#[test]
fn a_narrow_screen_keeps_what_matters() {
    let mut top = top(picture());
    let lines = lines(&drawn(&mut top, 80, 6));
    assert_eq!(
        lines[2],
        "SERVICE, REAL SERVERS            CONN/s IN PKT/s  IN B/s OUT B/s  ACTIVE   INACT"
    );
    assert_eq!(
        lines[4],
        "  -> 10.1.0.4:80                      1    15.0k   1500k       7       2       1"
    );
    // The smallest screens are no reason to end.
    for (width, height) in [(1, 1), (3, 2), (30, 3), (29, 4), (0, 0)] {
        drawn(&mut top, width, height);
    }
}

#[test]
fn what_is_wrong_is_seen() {
    let mut top = top(picture());
    let terminal = drawn(&mut top, 130, 10);
    let buffer = terminal.backend().buffer();
    assert_eq!(buffer[(2, 5)].fg, Color::Red, "no next hop");
    assert_eq!(buffer[(2, 4)].fg, Color::Reset);
    assert!(buffer[(0, 3)].modifier.contains(Modifier::BOLD));
    assert!(buffer[(2, 8)].modifier.contains(Modifier::DIM), "weight 0");

    top.show(Err("can't reach the daemon".to_owned()));
    let shown = lines(&drawn(&mut top, 130, 10));
    assert_eq!(shown[0], "can't reach the daemon");
    assert!(shown[3].starts_with("TCP 10.0.0.1:443"), "the last picture");
    let mut off = picture();
    off.estimating = false;
    top.show(Ok(off));
    press(&mut top, KeyCode::Char(' '));
    let shown = lines(&drawn(&mut top, 130, 10));
    assert!(shown[0].starts_with("2 services"), "{}", shown[0]);
    assert!(
        shown[1].ends_with(", NO RATES: run_estimation is 0, PAUSED"),
        "{}",
        shown[1]
    );
}

#[test]
fn keys_sort() {
    let mut top = top(picture());
    let by_traffic = [
        "TCP 10.0.0.1:443",
        "-> 10.1.0.4:80",
        "-> 10.1.0.3:80",
        "TCP 10.0.0.1:80",
        "-> 10.1.0.2:80",
        "-> 10.1.0.1:80",
    ];
    assert_eq!(names(&mut top), by_traffic);
    for _ in 0..3 {
        press(&mut top, KeyCode::Char('s'));
    }
    assert_eq!(top.sorting, Sorting::Active);
    let by_active = [
        "TCP 10.0.0.1:80",
        "-> 10.1.0.1:80",
        "-> 10.1.0.2:80",
        "TCP 10.0.0.1:443",
        "-> 10.1.0.4:80",
        "-> 10.1.0.3:80",
    ];
    assert_eq!(names(&mut top), by_active);
    top.show(Ok(picture()));
    assert_eq!(names(&mut top), by_active, "a newer picture, too");
    press(&mut top, KeyCode::Char('s'));
    press(&mut top, KeyCode::Char('s'));
    assert_eq!(top.sorting, Sorting::Name);
    assert_eq!(names(&mut top)[1], "-> 10.1.0.1:80");
    press(&mut top, KeyCode::Char('s'));
    assert_eq!(names(&mut top), by_traffic, "a circle");
    press(&mut top, KeyCode::Char('S'));
    assert_eq!(top.sorting, Sorting::Name);
}

#[test]
fn keys_scroll_as_far_as_there_is_something() {
    let services = (1..=20)
        .map(|port| service(port, vec![server(1, 0, 0), server(2, 0, 0)]))
        .collect();
    let mut top = top(Picture::new(status(), true, services, Sorting::Name));
    // Sixty rows, of which ten are seen.
    top.resize(10 + screen::FRAME_LINES);
    for (key, first) in [
        (KeyCode::Down, 1),
        (KeyCode::Char('j'), 2),
        (KeyCode::Up, 1),
        (KeyCode::Char('k'), 0),
        (KeyCode::Char('k'), 0),
        (KeyCode::PageDown, 9),
        (KeyCode::Char('n'), 12),
        (KeyCode::Char('n'), 15),
        (KeyCode::Char('p'), 12),
        (KeyCode::Down, 13),
        (KeyCode::Char('p'), 12),
        (KeyCode::PageUp, 3),
        (KeyCode::End, 50),
        (KeyCode::Down, 50),
        (KeyCode::Char('n'), 50),
        (KeyCode::Home, 0),
        (KeyCode::Char('p'), 0),
        (KeyCode::Char('x'), 0),
    ] {
        assert_eq!(press(&mut top, key), Wish::Nothing);
        assert_eq!(top.first, first, "after {key:?}");
    }
    press(&mut top, KeyCode::End);
    top.show(Ok(picture()));
    assert_eq!(top.first, 0, "there is less now");
}

#[test]
fn keys_quit() {
    let mut top = Top::new(Duration::from_secs(2));
    assert_eq!(press(&mut top, KeyCode::Char('q')), Wish::Quit);
    assert_eq!(press(&mut top, KeyCode::Esc), Wish::Quit);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(top.press(control_c), Wish::Quit);
    assert_eq!(press(&mut top, KeyCode::Char('c')), Wish::Nothing);
    // Without a picture nothing can be scrolled, and nothing breaks.
    for key in [
        KeyCode::Down,
        KeyCode::End,
        KeyCode::Char('n'),
        KeyCode::Char('p'),
    ] {
        assert_eq!(press(&mut top, key), Wish::Nothing);
    }
    assert_eq!(lines(&drawn(&mut top, 80, 5))[0], "asking the daemon ...");
}

#[test]
fn plain_text_has_all_columns() {
    let text = screen::plain(&picture());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 8);
    assert!(lines[0].starts_with("2 services, 4 servers"));
    assert_eq!(
        lines[3],
        "  -> 10.1.0.4:80                   1    15.0k         0   1500k       7       2       1      3 eth0 02:00:00:00:00:02"
    );
    assert_eq!(
        lines[5],
        "TCP 10.0.0.1:80                    1        1         0     100       7       9       2        wlc"
    );
}

#[test]
fn numbers_are_short() {
    for (number, text) in [
        (0, "0"),
        (9999, "9999"),
        (10_000, "10.0k"),
        (12_399, "12.3k"),
        (99_999, "99.9k"),
        (100_000, "100k"),
        (9_999_999, "9999k"),
        (10_000_000, "10.0M"),
        (1_234_567_890, "1234M"),
        (u64::MAX, "18.4E"),
    ] {
        assert_eq!(short(number), text);
    }
}
