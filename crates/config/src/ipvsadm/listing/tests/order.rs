//! The order of services and real servers.

use super::*;

#[test]
fn unsorted_lists_keep_the_order() {
    let options = ListOptions {
        unsorted: true,
        ..NUMERIC
    };
    let text = list(&everything(), options);
    let starts: Vec<&str> = text
        .lines()
        .skip(3)
        .map(|line| line.split_at_checked(12).map_or(line, |(start, _)| start))
        .collect();
    assert_eq!(
        starts,
        [
            "TCP  [fd00::",
            "FWM  2 IPv6 ",
            "SCTP 10.0.0.",
            "FWM  1 wlc o",
            "UDP  10.0.0.",
            "FWM  -1 wlc",
            "TCP  10.0.0.",
            "TCP  10.0.0.",
            "TCP  10.0.0.",
            "TCP  10.0.0.",
            "  -> 10.1.0.",
            "  -> [fd00::",
            "  -> 10.1.0.",
            "TCP  10.0.0.",
        ]
    );
}

#[test]
fn servers_are_sorted_by_a_difference_that_wraps() {
    let mut service = at(Protocol::Tcp, "10.0.0.1", 80, "wlc");
    let added = [
        ("10.1.0.2", 80),
        ("192.168.9.9", 80),
        ("127.0.0.5", 80),
        ("172.16.0.1", 80),
        ("10.1.0.1", 80),
        ("10.1.0.10", 80),
        ("10.1.0.2", 81),
    ];
    for (address, port) in added {
        service
            .servers
            .insert(0, server(address, port, ForwardingMethod::Direct, 1));
    }
    let text = list(&[service], NUMERIC);
    let order: Vec<&str> = text
        .lines()
        .skip(4)
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(
        order,
        [
            "10.1.0.1:80",
            "10.1.0.2:81",
            "10.1.0.10:80",
            "127.0.0.5:80",
            "172.16.0.1:80",
            "192.168.9.9:80",
            "10.1.0.2:80",
        ]
    );
}
