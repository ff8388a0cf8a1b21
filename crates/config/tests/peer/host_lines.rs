//! Addresses, routes and rules of the host, line by line, as the real keepalived takes them.

use super::errors;
use super::keepalived::Keepalived;
use super::read;

/// Addresses, of which some can't be.
const ADDRESSES: &[&str] = &[
    "10.1.0.1",
    "10.1.0.2/24 dev eth0 brd + label eth0:1 scope site",
    "10.1.0.3/24 dev eth0 brd -",
    "10.1.0.4/32 brd +",
    "10.1.0.5 peer 10.1.0.6 dev eth0",
    "10.1.0.7/24 peer 10.1.0.8 dev eth0",
    "10.1.0.9 peer 10.1.0.10/24 dev eth0",
    "10.1.0.11 peer fd01::1",
    "10.1.0.12/33",
    "10.1.0.13 scope somewhere",
    "10.1.0.14 home -nodad mngtmpaddr noprefixroute autojoin no_track",
    "10.1.0.15 track_group GOOD dev eth0",
    "10.1.0.16 track_group BAD dev eth0",
    "10.1.0.17 no_track track_group GOOD dev eth0",
    "10.1.0.18 preferred_lft 5",
    "10.1.0.19 preferred_lft forever",
    "10.1.0.20 preferred_lft -1",
    "10.1.0.21 nonsense",
    "fd01::1/64 home -nodad mngtmpaddr noprefixroute preferred_lft 100",
    "fd01::2 scope link",
    "10.1.0.x",
];

/// Routes, of which some can't be.
const ROUTES: &[&str] = &[
    "10.2.0.0/24 via 10.77.0.9 dev eth0",
    "10.2.0.0/24 dev eth0 track_group GOOD",
    "10.2.0.0/24 dev eth0 track_group BAD",
    "10.2.0.0/24 via 10.77.0.9 track_group GOOD no_track dev eth0",
    "src 10.2.0.1 to 10.2.0.0/24 dev eth0",
    "blackhole 10.2.0.0/24 no_track",
    "to blackhole 10.2.0.0/24 no_track",
    "unreachable 10.2.0.0/24 no_track metric 7",
    "throw fd02::/64 no_track",
    "10.2.0.0/33 dev eth0",
    "10.2.0.0/24 dev eth0 metric -1",
    "10.2.0.0/24 dev eth0 metric 0x10",
    "10.2.0.0/24 dev eth0 metric 4294967295",
    "10.2.0.0/24 dev eth0 metric 4294967296",
    "10.2.0.0/24 dev eth0 table 0x10",
    "10.2.0.0/24 dev eth0 table main",
    "10.2.0.0/24 dev eth0 table 0",
    "10.2.0.0/24 dev eth0 scope link",
    "10.2.0.0/24 dev eth0 scope 200",
    "10.2.0.0/24 dev eth0 scope 256",
    "10.2.0.0/24 dev eth0 scope somewhere",
    "10.2.0.0/24 dev eth0 protocol static no_track",
    "10.2.0.0/24 dev eth0 protocol keepalived",
    "10.2.0.0/24 dev eth0 protocol 300 no_track",
    "10.2.0.0/24 dev eth0 tos 16",
    "10.2.0.0/24 dev eth0 tos 0x10",
    "10.2.0.0/24 dev eth0 tos 256",
    "10.2.0.0/24 dev eth0 mtu 1400 advmss lock 1300 hoplimit 255 window 5 cwnd lock 5 ssthresh 6",
    "10.2.0.0/24 dev eth0 mtu 0x500",
    "10.2.0.0/24 dev eth0 hoplimit 256",
    "10.2.0.0/24 dev eth0 rtt 300ms rttvar 1s rto_min lock 250ms",
    "10.2.0.0/24 dev eth0 rtt soon",
    "10.2.0.0/24 dev eth0 initcwnd 5 initrwnd 6 reordering 7 quickack 1 congctl lock cubic",
    "10.2.0.0/24 dev eth0 quickack 2",
    "10.2.0.0/24 dev eth0 fastopen_no_cookie 1",
    "10.2.0.0/24 dev eth0 fastopen_no_cookie 2",
    "10.2.0.0/24 dev eth0 features ecn",
    "10.2.0.0/24 dev eth0 realms 1/2",
    "10.2.0.0/24 dev eth0 realms 5",
    "10.2.0.0/24 dev eth0 expires 5",
    "fd02::/64 dev eth0 expires 5 pref high",
    "fd02::/64 dev eth0 pref sometimes",
    "fd02::/64 dev eth0 realms 5",
    "fd02::/64 dev eth0 from fd03::/64",
    "10.2.0.0/24 dev eth0 from 10.3.0.0/24",
    "10.2.0.0/24 via fd02::1 dev eth0",
    "10.2.0.0/24 dev eth0 src fd02::1",
    "default dev eth0",
    "0.0.0.0/0 dev eth0 table 5",
    "dev eth0 table 5",
    "10.2 dev eth0",
    "10.2.0.0/24 dev eth0 append",
    "10.2.0.0/24 dev eth0 nonsense",
    "10.2.0.0/24 no_track nexthop via 10.77.0.1 dev eth0 weight 5 nexthop via 10.77.0.2 onlink dev eth0",
    "10.2.0.0/24 no_track nexthop via 10.77.0.1 weight 0",
    "10.2.0.0/24 no_track nexthop via 10.77.0.1 weight 256",
    "10.2.0.0/24 no_track nexthop via 10.77.0.1 weight 257",
    "10.2.0.0/24 no_track nexthop via fd02::1",
    "10.2.0.0/24 no_track nexthop via 10.77.0.1 realms 3 nexthop via 10.77.0.2 nonsense",
];

/// Rules, of which some can't be; each gets a preference of its own.
const RULES: &[&str] = &[
    "from 10.3.0.0/24 table 7",
    "to 10.3.0.0/24 lookup main iif eth0 track_group GOOD",
    "to 10.3.0.0/24 table 7 iif eth0 track_group BAD",
    "to 10.3.0.0/24 table 7 track_group GOOD",
    "to 10.3.0.0/24 table 7 iif eth0 track_group GOOD no_track",
    "from 10.3.0.0/33 table 7",
    "from 10.3.0.x table 7",
    "from 10.3.0.0/24 to fd03::/64 table 7",
    "from fd03::/64 table 7",
    "fwmark 5 table 7",
    "fwmark 0x5/0xff table 7",
    "fwmark -5 table 7",
    "fwmark 5/x table 7",
    "tos 16 table 7",
    "tos 300 table 7",
    "realms 1/2 table 7",
    "from fd03::/64 realms 1/2 table 7",
    "table 0",
    "table 7 table 8",
    "table 7 blackhole",
    "from 10.3.0.0/24",
    "suppress_prefixlength 0 table main",
    "suppress_ifgroup 3 table main",
    "suppress_prefixlength 0 blackhole",
    "uidrange 5-7 table 7",
    "uidrange 5 table 7",
    "ipproto tcp sport 5-9 dport 80-81 table 7",
    "ipproto 17 table 7",
    "ipproto 300 table 7",
    "sport 10 table 7",
    "sport x-9 table 7",
    "tunnel-id 5 table 7",
    "tunnel-id -5 table 7",
    "l3mdev",
    "l3mdev table 7",
    "nop",
    "blackhole",
    "type unreachable from 10.3.0.0/24",
    "prohibit to 10.3.0.0/24",
    "throw to 10.3.0.0/24",
    "goto 20000",
    "goto 5",
    "not from 10.3.0.0/24 table 7",
    "oif eth0 table 7",
    "protocol 5 no_track table 7",
    "protocol 18 table 7",
    "nonsense table 7",
];

const GROUPS: &str = "track_group GOOD {\n group {\n V\n }\n}\n";
const INSTANCE: &str = "interface eth0\nvirtual_router_id 5\nvirtual_ipaddress {\n10.0.0.1\n}\n";

/// What keepalived says of lines that it takes all the same.
const PUT_RIGHT: &[&str] = &["cannot track route", "not tracking"];

#[test]
fn both_name_the_same_lines_of_addresses_routes_and_rules() {
    let Some(peer) = Keepalived::new("host") else {
        return;
    };
    let mut lines: Vec<String> = GROUPS.lines().map(str::to_owned).collect();
    let mut at = Vec::new();
    let mut block = |lines: &mut Vec<String>, name: &str, all: Vec<String>| {
        lines.push(format!("{name} {{"));
        for line in all {
            lines.push(line);
            at.push(lines.len());
        }
        lines.push("}".to_owned());
    };
    let owned =
        |all: &[&str]| -> Vec<String> { all.iter().map(|line| (*line).to_owned()).collect() };
    let rules = |from: usize| -> Vec<String> {
        let numbered = RULES.iter().zip(from..);
        numbered
            .map(|(rule, number)| format!("preference {number} {rule}"))
            .collect()
    };
    let untracked = |all: &[&str]| -> Vec<String> {
        let all = all.iter().filter(|line| !line.contains("track_group"));
        all.map(|line| (*line).to_owned()).collect()
    };
    block(&mut lines, "static_ipaddress", owned(ADDRESSES));
    block(&mut lines, "static_routes", owned(ROUTES));
    block(&mut lines, "static_rules", rules(1000));
    lines.push("vrrp_instance V {".to_owned());
    lines.extend(INSTANCE.lines().map(str::to_owned));
    block(
        &mut lines,
        "virtual_ipaddress_excluded",
        untracked(ADDRESSES),
    );
    block(&mut lines, "virtual_routes", untracked(ROUTES));
    let without = rules(2000);
    let without = without
        .into_iter()
        .filter(|line| !line.contains("track_group"));
    block(&mut lines, "virtual_rules", without.collect());
    lines.push("}".to_owned());
    let text = lines.join("\n") + "\n";
    let verdict = peer.test(&peer.file(&text));
    let ours = errors(&read(&text).1);
    let mut differences = Vec::new();
    for number in &at {
        let said = verdict
            .text
            .lines()
            .filter(|line| line.contains(&format!("Line {number})")));
        let theirs = said
            .filter(|line| !PUT_RIGHT.iter().any(|known| line.contains(known)))
            .count()
            > 0;
        let here = u32::try_from(*number).is_ok_and(|number| ours.contains(&number));
        if theirs != here {
            differences.push(format!("{}: keepalived {theirs}", lines[number - 1]));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}\n{}", verdict.text);
    assert!(at.len() > 240, "only {} lines were compared", at.len());
}
