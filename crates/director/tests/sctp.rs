//! SCTP: states by direction, what begins an association, and the CRC under masquerade.

mod bench;

use bench::{BACK, Bench, CLIENT, CLIENT_MAC, DIRECTOR_MAC, VIP, id, real, rs, rs_mac};
use pointsman_director::{
    Reason,
    model::{ForwardingMethod, Protocol, ServiceId},
    record::settings_flag,
    sctp::{self, NAMES, event},
    tcp::Direction::{self, Input, InputOnly, Output},
};
use pointsman_wire::{Frame, build::SctpPart, sctp as wire, verify_checksums};

const MASQUERADE: ForwardingMethod = ForwardingMethod::Masquerade;
const DIRECT: ForwardingMethod = ForwardingMethod::Direct;

fn service() -> ServiceId {
    id(Protocol::Sctp, VIP, 9000)
}

fn chunk(kind: u8) -> [u8; 8] {
    [kind, 0, 0, 8, 1, 2, 3, 4]
}

fn packet(port: u16, kinds: &[u8]) -> Frame<SctpPart> {
    let chunks: Vec<u8> = kinds.iter().copied().flat_map(chunk).collect();
    Frame::ipv4(CLIENT, VIP)
        .macs(CLIENT_MAC, DIRECTOR_MAC)
        .sctp(port, 9000, 7)
        .payload(&chunks)
}

fn reply(port: u16, kind: u8) -> Vec<u8> {
    let std::net::IpAddr::V4(server) = rs(1) else {
        unreachable!("an IPv4 server")
    };
    Frame::ipv4(server, CLIENT)
        .macs(rs_mac(1), DIRECTOR_MAC)
        .sctp(9001, port, 7)
        .payload(&chunk(kind))
        .build()
}

/// States after events from NONE, by name.
fn walk(steps: &[(Direction, u8)]) -> Vec<&'static str> {
    let mut state = sctp::NONE;
    let states = steps.iter().map(|(direction, event)| {
        state = sctp::next(state, *event, *direction);
        NAMES[usize::from(state)]
    });
    states.collect()
}

#[test]
fn an_association_is_followed_in_both_directions() {
    let handshake = [
        (Input, event::INIT),
        (Output, event::INIT_ACK),
        (Input, event::COOKIE_ECHO),
        (Output, event::COOKIE_ACK),
        (Input, event::DATA),
        (Input, event::SHUTDOWN),
        (Output, event::SHUTDOWN_ACK),
        (Input, event::SHUTDOWN_COMPLETE),
    ];
    let states = [
        "INIT1",
        "C-SENT",
        "C-REPLIED",
        "ESTABLISHED",
        "ESTABLISHED",
        "S-RECEIVED",
        "S-ACK-SENT",
        "CLOSED",
    ];
    assert_eq!(walk(&handshake), states);
}

#[test]
fn a_one_sided_view_gets_there_as_well() {
    let seen = [
        (InputOnly, event::INIT),
        (InputOnly, event::COOKIE_ECHO),
        (InputOnly, event::DATA),
        (InputOnly, event::SHUTDOWN),
        (InputOnly, event::SHUTDOWN_COMPLETE),
        (InputOnly, event::INIT),
    ];
    let states = [
        "INIT1",
        "ESTABLISHED",
        "ESTABLISHED",
        "S-RECEIVED",
        "CLOSED",
        "INIT",
    ];
    assert_eq!(walk(&seen), states);
    assert_eq!(
        walk(&[(Output, event::INIT), (Input, event::ABORT)]),
        ["C-WAIT", "REJECTED"]
    );
}

#[test]
fn only_an_init_begins() {
    let mut bench = Bench::single(service(), rs(1), 9000, DIRECT);
    for kind in [wire::DATA, wire::COOKIE_ECHO, wire::ABORT] {
        assert_eq!(
            bench.reason(&packet(1, &[kind]).build()),
            Reason::NoConnection
        );
    }
    bench.settings(|s| s.flags |= settings_flag::SLOPPY_SCTP);
    assert_eq!(
        bench.reason(&packet(1, &[wire::ABORT]).build()),
        Reason::NoConnection
    );
    assert_eq!(
        bench.reason(&packet(1, &[wire::DATA]).build()),
        Reason::Direct
    );
    assert_eq!(bench.counts(rs(1)), (1, 0), "data means established");
    assert_eq!(
        bench.reason(&packet(2, &[wire::INIT]).build()),
        Reason::Direct
    );
    assert_eq!(bench.counts(rs(1)), (1, 1), "a handshake is not");
}

#[test]
fn an_abort_behind_a_cookie_counts() {
    let mut bench = Bench::single(service(), rs(1), 9000, DIRECT);
    bench.reason(&packet(1, &[wire::INIT]).build());
    bench.reason(&packet(1, &[wire::COOKIE_ECHO, wire::ABORT]).build());
    let state = bench.connection().state();
    assert_eq!(NAMES[usize::from(state)], "CLOSED");
    assert_eq!(bench.connection().timeout.load(), 61);
    // An INIT begins anew, with the next server.
    bench.server(service(), real(rs(2), 9000, DIRECT, 1));
    bench.server(service(), real(rs(3), 9000, DIRECT, 1));
    let first = bench.pick(&packet(1, &[wire::INIT]).build());
    assert_ne!(first, Ok(1));
    assert_eq!(bench.connections(), 1);
}

#[test]
fn the_crc_follows_a_changed_port() {
    let mut bench = Bench::single(service(), rs(1), 9001, MASQUERADE);
    let mut lengths = vec![vec![wire::INIT]];
    lengths.extend((1..40).map(|count| vec![wire::DATA; count * 4]));
    for kinds in lengths {
        let (verdict, out) = bench.send(&packet(5000, &kinds).build());
        assert_eq!(verdict.reason, Reason::Masquerade);
        assert_eq!(verify_checksums(&out), Ok(()), "{} chunks", kinds.len());
        assert_eq!(out[34..38], [0x13, 0x88, 0x23, 0x29], "ports");
    }
    let (verdict, out) = bench.send_by(BACK, &reply(5000, wire::INIT_ACK));
    assert_eq!(verdict.reason, Reason::Reply);
    assert_eq!(verify_checksums(&out), Ok(()));
    assert_eq!(out[34..38], [0x23, 0x28, 0x13, 0x88], "ports");
    assert_eq!(NAMES[usize::from(bench.connection().state())], "C-SENT");
}

#[test]
fn what_is_cut_short_is_passed() {
    let mut bench = Bench::single(service(), rs(1), 9000, DIRECT);
    let bare = Frame::ipv4(CLIENT, VIP).macs(CLIENT_MAC, DIRECTOR_MAC);
    assert_eq!(
        bench.reason(&bare.sctp(1, 9000, 7).build()),
        Reason::Malformed
    );
}
