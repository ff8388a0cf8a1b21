//! What a master tells and what a backup keeps.

use std::time::Duration;

use pointsman_ha::sync::{Backup, BackupCounts, Master, Policy, Seen};
use pointsman_wire::sync::{Batch, SyncConnection, decode};

const SYN_RECV: u8 = 3;
const ESTABLISHED: u8 = 1;
const FIN_WAIT: u8 = 4;
const TIME_WAIT: u8 = 5;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A TCP connection whose latest packet came at `now`.
fn tcp(state: u8, packets: u32, now: u64) -> Seen {
    Seen {
        id: 1,
        protocol: 6,
        state,
        packets,
        timeout: at(900),
        ends: at(now + 900),
        template: None,
        controlled: false,
        synced: false,
    }
}

fn template(state: u8, ends: u64, used: bool) -> Seen {
    Seen {
        packets: 0,
        timeout: at(60),
        ends: at(ends),
        template: Some(used),
        ..tcp(state, 0, 0)
    }
}

/// Looks one second after the other; which looks had the connection told.
fn told(policy: &Policy, looks: &[Seen]) -> Vec<bool> {
    let mut master = Master::new(0, 1472);
    let looked = (0..).zip(looks).map(|(now, seen)| {
        let told = master.look(policy, seen, at(now));
        master.end_round();
        told
    });
    looked.collect()
}

fn connection(port: u16) -> SyncConnection {
    let address = |text: &str| text.parse().unwrap();
    SyncConnection {
        protocol: 6,
        flags: 0x83,
        state: 1,
        client: address("192.168.1.10"),
        client_port: port,
        address: address("192.168.1.100"),
        port: 80,
        server: address("10.1.0.11"),
        server_port: 80,
        mark: 0,
        timeout: 900,
        sequences: None,
        engine: Vec::new(),
        engine_data: Vec::new(),
    }
}

#[test]
fn a_connection_is_told_at_its_third_packet_and_then_every_fifty() {
    let policy = Policy::default();
    let packets = [1, 2, 3, 4, 52, 53, 53, 102, 160, 160];
    let looks = packets.map(|packets| tcp(ESTABLISHED, packets, 0));
    let expected = [
        false, false, true, false, false, true, false, false, true, false,
    ];
    assert_eq!(told(&policy, &looks), expected);
    let udp = packets.map(|packets| Seen {
        protocol: 17,
        state: 0,
        ..tcp(0, packets, 0)
    });
    assert_eq!(told(&policy, &udp), expected);
}

#[test]
fn a_handshake_is_not_told_and_its_packets_count() {
    let policy = Policy::default();
    let looks = [
        tcp(SYN_RECV, 1, 0),
        tcp(SYN_RECV, 3, 1),
        tcp(ESTABLISHED, 4, 2),
        tcp(ESTABLISHED, 5, 3),
    ];
    assert_eq!(told(&policy, &looks), [false, false, true, false]);
}

#[test]
fn the_end_is_told_at_once() {
    let policy = Policy::default();
    let looks = [
        tcp(ESTABLISHED, 2, 0),
        tcp(FIN_WAIT, 3, 1),
        tcp(FIN_WAIT, 4, 2),
        tcp(TIME_WAIT, 4, 2),
        tcp(TIME_WAIT, 4, 2),
        // Another one of the same ports.
        tcp(SYN_RECV, 1, 3),
        tcp(ESTABLISHED, 3, 4),
    ];
    let expected = [false, true, false, true, false, false, true];
    assert_eq!(told(&policy, &looks), expected);
    let sctp = |state| Seen {
        protocol: 132,
        ..tcp(state, 1, 0)
    };
    assert_eq!(
        told(&policy, &[sctp(2), sctp(8), sctp(9), sctp(13)]),
        [false, false, true, true]
    );
}

#[test]
fn without_a_period_it_is_told_once() {
    let policy = Policy {
        period: 0,
        ..Policy::default()
    };
    let looks = [1, 5, 60, 200].map(|packets| tcp(ESTABLISHED, packets, 0));
    assert_eq!(told(&policy, &looks), [false, true, false, false]);
}

#[test]
fn a_refresh_period_waits_for_the_end_to_move() {
    let policy = Policy {
        period: 0,
        refresh: 20,
        ..Policy::default()
    };
    let looks: Vec<Seen> = (0..60)
        .map(|now| tcp(ESTABLISHED, now as u32 + 1, now))
        .collect();
    let told_at = |policy: &Policy| -> Vec<usize> {
        let told = told(policy, &looks).into_iter().enumerate();
        told.filter_map(|(at, told)| told.then_some(at)).collect()
    };
    assert_eq!(told_at(&policy), [0, 20, 40]);
    let repeating = Policy {
        retries: 2,
        ..policy
    };
    // Two repetitions, an eighth of the period apart each.
    assert_eq!(told_at(&repeating)[..3], [0, 3, 6]);
    let gap = told_at(&repeating)[3] - told_at(&repeating)[2];
    assert_eq!(gap, 20, "then the end has to move");
}

#[test]
fn what_another_told_is_not_told_back() {
    let policy = Policy::default();
    let synced = |state, packets| Seen {
        synced: true,
        ..tcp(state, packets, 0)
    };
    let looks = [
        synced(ESTABLISHED, 3),
        synced(ESTABLISHED, 52),
        synced(ESTABLISHED, 53),
        synced(FIN_WAIT, 54),
    ];
    assert_eq!(told(&policy, &looks), [false, false, true, true]);
}

#[test]
fn templates_are_told_while_they_are_used() {
    let policy = Policy::default();
    let looks = [
        template(0, 60, true),
        template(0, 60, false),
        template(0, 60, true),
        template(1, 60, false),
        template(1, 63, false),
        template(1, 63, false),
    ];
    assert_eq!(
        told(&policy, &looks),
        [true, false, true, true, true, false]
    );
    let once = Policy {
        period: 0,
        ..policy
    };
    assert_eq!(
        told(&once, &looks),
        [true, false, false, true, false, false]
    );
    let mut child = tcp(ESTABLISHED, 3, 0);
    child.controlled = true;
    let only = Policy {
        templates_only: true,
        ..policy
    };
    assert_eq!(told(&only, &[child]), [false]);
    assert_eq!(told(&policy, &[child]), [true]);
}

#[test]
fn messages_are_filled_to_their_limit() {
    let mut master = Master::new(42, 8 + 3 * 36);
    for port in 0..7 {
        master.tell(&connection(port));
    }
    let mut sizes = Vec::new();
    let mut ports = Vec::new();
    let mut poll = |master: &mut Master| {
        while let Some(message) = master.poll_message() {
            let decoded = decode(&message).unwrap();
            assert_eq!(decoded.sync_id, 42);
            sizes.push(decoded.connections.len());
            ports.extend(decoded.connections.iter().map(|c| c.client_port));
        }
    };
    poll(&mut master);
    master.end_round();
    poll(&mut master);
    master.end_round();
    poll(&mut master);
    assert_eq!(sizes, [3, 3, 1]);
    assert_eq!(ports, [0, 1, 2, 3, 4, 5, 6]);
    let mut tiny = Master::new(1, 20);
    tiny.tell(&connection(1));
    tiny.end_round();
    assert_eq!(tiny.poll_message(), None, "it fits nowhere");
}

#[test]
fn what_is_gone_is_forgotten() {
    let policy = Policy::default();
    let mut master = Master::new(0, 1472);
    assert!(master.look(&policy, &tcp(ESTABLISHED, 3, 0), at(0)));
    for _ in 0..3 {
        master.end_round();
        assert_eq!(master.known(), 1, "a look may miss it");
    }
    master.end_round();
    assert_eq!(master.known(), 0);
    assert!(master.has_moved(&tcp(ESTABLISHED, 3, 0)));
}

#[test]
fn a_backup_hears_its_own_sync_id() {
    let message = |id| {
        let mut batch = Batch::new(id, 1472);
        assert!(batch.push(&connection(1)));
        batch.finish()
    };
    let mut all = Backup::new(0);
    assert_eq!(all.handle_message(&message(7)), [connection(1)]);
    let mut one = Backup::new(8);
    assert_eq!(one.handle_message(&message(7)), []);
    assert_eq!(one.handle_message(&message(8)), [connection(1)]);
    assert_eq!(one.handle_message(b"\x01"), []);
    let mut cut = message(8);
    cut[4] = 2;
    assert_eq!(one.handle_message(&cut), [connection(1)]);
    let expected = BackupCounts {
        messages: 2,
        foreign: 1,
        faulty: 2,
        connections: 2,
        skipped: 0,
    };
    assert_eq!(one.counts(), expected);
}

#[test]
fn connections_wait_for_their_real_server() {
    let mut backup = Backup::new(0);
    for port in 1..=3 {
        assert!(backup.wait(connection(port), at(100)));
    }
    assert!(backup.wait(connection(3), at(200)), "told again");
    assert_eq!(backup.waiting(at(200)).count(), 3);
    backup.forget(&connection(1));
    let bound = backup.take_bound(at(300), |one| one.client_port == 3);
    assert_eq!(bound.len(), 1);
    assert_eq!((bound[0].client_port, bound[0].timeout), (3, 800));
    assert_eq!(backup.waiting(at(999)).count(), 1);
    assert_eq!(backup.waiting(at(1000)).count(), 0);
    assert_eq!(backup.take_bound(at(1000), |_| true), []);
    assert_eq!(backup.waiting(at(300)).count(), 0, "dropped with its time");
}
