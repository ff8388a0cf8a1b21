//! Static addresses, routes and rules, and those of masters, beside keepalived.

use std::collections::{BTreeMap, BTreeSet};

use pointsman_config::keepalived::{Alone, configure};
use pointsman_daemon::availability::Plan;
use pointsman_daemon::vrrp::{Board, Vrrp, VrrpConfig};
use pointsman_ha::vrrp::Notice;
use pointsman_linux::netlink::Netlink;
use pointsman_linux::netns::NetNs;
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::keepalived::Keepalived;
use super::segment::{Segment, ip, run, wait};

/// One of every kind; `{ROUTE}`, `{RULE}`, `{ADDRESS}` are what a reload changes.
const EVERYTHING: &str = "
track_group MINDS {
 group {
  VI_1
 }
}
static_ipaddress {
 10.70.0.1/24 dev eth1 brd +
 10.70.0.{ADDRESS}/24 dev eth1
 10.70.1.1 peer 10.70.1.2 dev eth1
 10.70.2.1/24 dev eth1 label eth1:two scope link no_track
 fd70::1/64 dev eth1 noprefixroute
 fd70:1::1/64 dev eth1 home mngtmpaddr
 fd70:2::1/128 dev eth1
 fd70:3::1/128 dev eth1 preferred_lft forever
}
static_routes {
 10.71.0.0/24 dev eth1 mtu {ROUTE} track_group MINDS
 10.71.{ROUTE2}.0/24 via 10.88.0.9 dev eth1 metric 5
 10.71.2.0/24 via 10.88.0.9 no_track protocol static
 blackhole 10.71.3.0/24
 unreachable 10.71.4.0/24 metric 7
 prohibit 10.71.5.0/24
 throw 10.71.6.0/24 table 77
 local 10.71.7.0/24 dev eth1
 src 10.88.0.1 to 10.71.8.0/24 via 10.88.0.9 dev eth1 onlink
 10.71.9.0/24 via 10.88.0.9 dev eth1 mtu lock 1400 advmss 1300 rtt 300ms window 5000 table 77 tos 16 initcwnd 12 initrwnd 13 hoplimit 5 quickack 1 congctl cubic features ecn rto_min 300ms cwnd lock 5 ssthresh lock 6 reordering 7 fastopen_no_cookie 1
 10.71.10.0/24 dev eth1 realms 3/4 scope link
 default via 10.88.0.9 dev eth1 table 78
 fd71::/64 via fd88::9 dev eth1 metric 5
 fd71:1::/64 dev eth1 pref high mtu 1400
 fd71:2::/64 dev eth1 from fd88::/64
 fd71:3::/64 dev eth1 src fd88::1
}
static_rules {
 from 10.70.0.0/24 table 77 preference 200
 to 10.71.0.0/24 lookup main order {RULE} iif eth1 track_group MINDS
 fwmark 0x10/0xff table 77 preference 202 no_track
 not from 10.0.0.0/8 tos 16 table 77 preference 203
 from all suppress_prefixlength 0 table main preference 204
 uidrange 5-7 table 77 preference 205
 ipproto tcp sport 5-9 dport 80-81 table 77 preference 206
 from 10.0.0.0/8 goto 300 preference 207
 blackhole from 10.5.0.0/16 preference 208 oif eth1
 realms 1/2 table 77 preference 209
 from fd00::/8 table 77 preference 210
 tunnel-id 5 table 77 preference 211
 l3mdev preference 212
 from 10.70.7.0/24 table 77
}
vrrp_instance VI_1 {
 interface eth0
 virtual_router_id 51
 priority 200
 version 3
 advert_int 0.1
 promote_secondaries
 virtual_ipaddress {
  10.77.0.100
  10.77.0.101 peer 10.77.0.200
  10.77.0.102/24 noprefixroute no_track brd +
 }
 virtual_ipaddress_excluded {
  fd77::100
  fd77::101/64 home mngtmpaddr noprefixroute
  fd77::102/128 preferred_lft forever
  10.88.0.100/24 dev eth1
 }
 virtual_routes {
  10.72.0.0/24 dev eth1 mtu {ROUTE}
  10.72.{ROUTE2}.0/24 via 10.77.0.9 dev eth0
  src 10.77.0.100 to 10.72.2.0/24 via 10.77.0.9 dev eth0
  10.72.3.0/24 via 10.88.0.9 no_track
  fd72::/64 via fd77::9 dev eth0
 }
 virtual_rules {
  from 10.72.0.0/24 table 78
  to 10.72.0.0/24 table 78 preference {RULE} oif eth1
  to 10.72.1.0/24 table 78 preference 303 no_track
  fwmark 5 table 78 preference 304
 }
}
";

fn text(address: u8, route: u32, second: u8, rule: u32) -> String {
    let numbers = [
        ("{ADDRESS}", u32::from(address)),
        ("{ROUTE}", route),
        ("{ROUTE2}", second.into()),
        ("{RULE}", rule),
    ];
    let text = EVERYTHING.to_owned();
    numbers.iter().fold(text, |text, (name, number)| {
        text.replace(name, &number.to_string())
    })
}

/// A configuration as the daemon takes it.
fn plan(text: &str) -> VrrpConfig {
    let (configuration, _, diagnostics) = configure("k", text, "west", &mut Alone);
    for diagnostic in &diagnostics {
        let level = diagnostic.severity;
        let fine = level < pointsman_config::keepalived::Severity::Unsupported;
        assert!(fine, "{diagnostic}");
    }
    Plan::new(&configuration).expect("a plan").vrrp
}

/// A host with a second cable, `eth1`, whose other end is `far` in the same namespace.
fn prepared() -> Option<Segment> {
    let segment = Segment::new(1)?;
    let host = &segment.hosts[0];
    ip(host, "link add eth1 type veth peer name far");
    super::segment::sysctl(host, "net/ipv6/conf/eth1/dad_transmits=0");
    ip(host, "link set far up");
    ip(host, "link set eth1 up");
    ip(host, "address add 10.88.0.1/24 dev eth1");
    ip(host, "address add fd88::1/64 dev eth1 nodad");
    Some(segment)
}

/// What `ip -j` lists of addresses, routes and rules, one a line, sorted; what changes by itself is left out.
fn listed(host: &NetNs) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let json = |words: &str| -> Vec<Value> {
        let text = ip(host, words);
        serde_json::from_str(&text).unwrap_or_default()
    };
    for device in ["eth0", "eth1"] {
        for link in json(&format!("-j address show dev {device}")) {
            let addresses = link["addr_info"].as_array().cloned().unwrap_or_default();
            for mut address in addresses {
                if address["scope"] == "link" && address["family"] == "inet6" {
                    continue;
                }
                if let Some(fields) = address.as_object_mut() {
                    fields.remove("tentative");
                }
                lines.insert(format!("{device}: {address}"));
            }
        }
    }
    for family in ["-4", "-6"] {
        for route in json(&format!("-j {family} route show table all")) {
            let destination = route["dst"].as_str().unwrap_or_default();
            let by_kernel = route["protocol"] == "kernel";
            if !by_kernel && !destination.starts_with("fe80") {
                lines.insert(route.to_string());
            }
        }
        for rule in json(&format!("-j {family} rule show")) {
            lines.insert(format!("rule {family}: {rule}"));
        }
    }
    lines
}

/// What is there besides `before`.
fn more(host: &NetNs, before: &BTreeSet<String>) -> Vec<String> {
    listed(host).difference(before).cloned().collect()
}

fn holds(host: &NetNs, family: &str, what: &str, word: &str) -> bool {
    ip(host, &format!("{family} {what}")).contains(word)
}

fn has_route(host: &NetNs, word: &str) -> bool {
    holds(host, "-4", "route show table all", word)
}

fn has_rule(host: &NetNs, preference: u32) -> bool {
    holds(host, "-4", "rule show", &format!("{preference}:\t"))
}

fn promotes(host: &NetNs) -> String {
    let text = run(host, "sysctl", "-n net.ipv4.conf.eth0.promote_secondaries");
    text.trim().to_owned()
}

fn start(
    host: &NetNs,
    config: &VrrpConfig,
    masters: &BTreeSet<String>,
) -> (Vrrp, UnboundedReceiver<Notice>) {
    let (sender, receiver) = unbounded_channel();
    let _inside = host.enter().expect("enter");
    let vrrp = Vrrp::start(config, masters, sender, Board::default()).expect("begin");
    (vrrp, receiver)
}

/// Waits until a list is what it is to be, and shows the difference if it does not come to that.
fn same(what: &str, host: &NetNs, before: &BTreeSet<String>, expected: &[String]) {
    let deadline = std::time::Instant::now() + super::segment::PATIENCE;
    loop {
        let found = more(host, before);
        if found == expected {
            return;
        }
        if std::time::Instant::now() > deadline {
            let missing: Vec<_> = expected.iter().filter(|l| !found.contains(l)).collect();
            let extra: Vec<_> = found.iter().filter(|l| !expected.contains(l)).collect();
            panic!("{what}: keepalived alone has {missing:#?}, ours alone {extra:#?}");
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[test]
fn the_host_is_as_with_keepalived() {
    let Some(segment) = prepared() else {
        return;
    };
    let host = &segment.hosts[0];
    let before = listed(host);
    let (first, second) = (text(2, 1400, 1, 201), text(3, 1300, 12, 221));
    // Theirs.
    let mut theirs = Keepalived::start(host, &first);
    let master = || has_rule(host, 304) && has_route(host, "10.72.3.0/24");
    wait("keepalived to be master", master);
    assert_eq!(promotes(host), "1");
    let as_master = more(host, &before);
    theirs.reload(&second);
    wait("keepalived to have reloaded", || {
        has_rule(host, 221) && !has_rule(host, 201) && has_route(host, "10.72.12.0/24")
    });
    let after_reload = more(host, &before);
    theirs.stop();
    // It forgets addresses that have a peer, and after a reload what it changed.
    super::segment::sysctl(host, "net/ipv4/conf/eth0/promote_secondaries=0");
    ip(host, "address delete 10.70.1.1 peer 10.70.1.2 dev eth1");
    ip(host, "address delete 10.77.0.101 peer 10.77.0.200 dev eth0");
    same("keepalived after its end", host, &before, &[]);
    assert!(as_master.len() > 45, "{as_master:#?}");
    assert_ne!(as_master, after_reload);
    // Ours.
    let none = BTreeSet::new();
    let (ours, _heard) = start(host, &plan(&first), &none);
    same("as master", host, &before, &as_master);
    assert_eq!(promotes(host), "1");
    let (tell, _told) = unbounded_channel();
    ours.set_config(&plan(&second), tell.clone())
        .expect("it can be");
    same("after a reload", host, &before, &after_reload);
    assert_eq!(ours.status()[0].became_master, 1);
    ours.set_config(&plan(&first), tell).expect("it can be");
    same("after a reload back", host, &before, &as_master);
    // Another daemon goes on with everything.
    let left = ours.leave();
    same("between daemons", host, &before, &as_master);
    assert_eq!(left.changed.len(), 1, "{:?}", left.changed);
    let (ours, _heard) = start(host, &plan(&first), &left.masters);
    same("another daemon", host, &before, &as_master);
    assert_eq!(ours.status()[0].state, "MASTER");
    ours.remote().inherit(&left.changed);
    ours.stop();
    same("after its end", host, &before, &[]);
    assert_eq!(promotes(host), "0");
}

#[test]
fn what_is_tracked_comes_back_and_its_interface_counts() {
    let Some(segment) = prepared() else {
        return;
    };
    let host = &segment.hosts[0];
    let before = listed(host);
    let (ours, _heard) = start(host, &plan(&text(2, 1400, 1, 201)), &BTreeSet::new());
    let is = |state: &str| ours.status()[0].state == state;
    let master = || is("MASTER") && has_rule(host, 304);
    wait("it to be master", master);
    let whole = more(host, &before);
    // Everything that is tracked goes, and what is not.
    for words in [
        "address delete 10.70.0.1/24 dev eth1",
        "address delete fd70::1/64 dev eth1",
        "address delete 10.77.0.100/32 dev eth0",
        "route delete 10.71.0.0/24",
        "route delete blackhole 10.71.3.0/24",
        "-6 route delete fd71::/64",
        "rule delete preference 200",
        "-6 rule delete preference 210",
        "route delete 10.72.0.0/24",
        "rule delete preference 304",
        // These are not tracked.
        "address delete 10.70.2.1/24 dev eth1",
        "address delete 10.77.0.102/24 dev eth0",
        "route delete 10.71.2.0/24",
        "rule delete preference 202",
        "route delete 10.72.3.0/24",
        "rule delete preference 303",
    ] {
        ip(host, words);
    }
    let parts = [
        "10.70.2.1",
        "10.77.0.102",
        "10.71.2.0",
        "\"priority\":202,",
        "10.72.3.0",
        "\"priority\":303,",
    ];
    // Which address is the first of its network is another one now.
    let plain = |line: &str| {
        line.replace(",\"secondary\":true", "")
            .replace("\"secondary\":true,", "")
    };
    let rest: BTreeSet<String> = whole
        .iter()
        .filter(|line| !parts.iter().any(|part| line.contains(part)))
        .map(|line| plain(line))
        .collect();
    wait("what is tracked to come back, and nothing else", || {
        let now: BTreeSet<String> = more(host, &before).iter().map(|line| plain(line)).collect();
        now == rest
    });
    assert_eq!(ours.status()[0].became_master, 1, "nobody else was master");
    // An interface of what is held goes down and comes back.
    ip(host, "link set eth1 down");
    wait("it to be in fault", || is("FAULT"));
    wait("its routes and rules to be gone", || {
        !has_rule(host, 304) && !has_route(host, "10.72.0.0/24")
    });
    assert!(has_rule(host, 200), "what is static stays");
    ip(host, "link set eth1 up");
    wait("it to be master again", master);
    wait("everything to be there again", || {
        let addresses = ip(host, "address show dev eth1");
        let words = ["10.70.0.1/24", "fd70::1/64", "fd70:3::1/128"];
        words.iter().all(|word| addresses.contains(word))
            && [
                "10.71.0.0/24",
                "10.71.8.0/24",
                "10.72.0.0/24",
                "10.72.3.0/24",
            ]
            .iter()
            .all(|word| has_route(host, word))
    });
    ours.stop();
    assert_eq!(promotes(host), "0");
}

#[test]
fn what_a_daemon_left_is_taken_away() {
    let Some(segment) = prepared() else {
        return;
    };
    let host = &segment.hosts[0];
    let before = listed(host);
    let first = plan(&text(2, 1400, 1, 201));
    let (ours, _heard) = start(host, &first, &BTreeSet::new());
    wait("it to be master", || has_rule(host, 304));
    // As if it was killed: the next is not master for long.
    let left = ours.leave();
    let mut slow = first.clone();
    slow.instances[0].router.interval = std::time::Duration::from_secs(30);
    slow.instances[0].router.priority = 1;
    let (ours, _heard) = start(host, &slow, &BTreeSet::new());
    assert!(!has_rule(host, 304) && !has_route(host, "10.72.0.0/24"));
    assert!(!segment.has(0, "10.77.0.100") && !segment.has(0, "10.77.0.101"));
    assert!(has_rule(host, 200) && has_route(host, "10.71.0.0/24"));
    assert!(segment.has(0, "10.70.1.1"));
    // Not to be followed by another: what it told is enough to take everything away.
    let own = ours.leave();
    assert!(own.items.len() > 30, "{:#?}", own.items);
    assert!(own.held.is_empty() && !left.held.is_empty());
    assert_eq!(
        left.peers,
        BTreeMap::from([(
            "10.77.0.101".parse().unwrap(),
            "10.77.0.200".parse().unwrap()
        )])
    );
    let _inside = host.enter().expect("enter");
    let mut netlink = Netlink::new().expect("netlink");
    let text = serde_json::to_string(&own).expect("json");
    let own: pointsman_daemon::vrrp::Left = serde_json::from_str(&text).expect("read");
    for item in own.items.iter().rev() {
        assert!(item.take_away(&mut netlink).expect("take away"), "{item}");
    }
    assert_eq!(more(host, &before), Vec::<String>::new());
}

/// Two virtual routers that want the same route, the second perhaps not there.
fn two(second: bool) -> String {
    let instance = |number: u8, more: &str| {
        format!(
            "vrrp_instance VI_{number} {{
 interface eth0
 virtual_router_id {number}
 priority 200
 version 3
 advert_int 0.1
 virtual_ipaddress {{
  10.77.0.10{number}
 }}
 virtual_routes {{
  10.73.0.0/24 via 10.88.0.9 dev eth1
{more}
 }}
}}
"
        )
    };
    let ways = "  10.73.1.0/24 nexthop via 10.88.0.8 dev eth1 weight 2 nexthop via 10.88.0.9 dev eth1 weight 256
  10.73.2.0/24 via 10.88.0.8 or 10.88.0.9
  fd73::/64 nexthop via fd88::8 dev eth1 weight 3 nexthop via fd88::9 dev eth1
  10.73.3.0/24 via 10.88.0.8 dev eth1
  10.73.3.0/24 via 10.88.0.9 dev eth1 append
  default inet6 via fd88::8 dev eth1 table 79";
    instance(1, ways)
        + &if second {
            instance(2, "")
        } else {
            String::new()
        }
}

#[test]
fn several_ways_and_several_owners_are_kept_apart() {
    let Some(segment) = prepared() else {
        return;
    };
    let host = &segment.hosts[0];
    let before = listed(host);
    // keepalived dies of the kernel's news about routes with several ways, so that `ip` says what is meant.
    let routes = [
        "route add 10.73.0.0/24 via 10.88.0.9 dev eth1",
        "route add 10.73.1.0/24 nexthop via 10.88.0.8 dev eth1 weight 2 nexthop via 10.88.0.9 dev eth1 weight 256",
        "route add 10.73.2.0/24 nexthop via 10.88.0.8 nexthop via 10.88.0.9",
        "-6 route add fd73::/64 nexthop via fd88::8 dev eth1 weight 3 nexthop via fd88::9 dev eth1",
        "route add 10.73.3.0/24 via 10.88.0.8 dev eth1",
        "route append 10.73.3.0/24 via 10.88.0.9 dev eth1",
        "-6 route add default via fd88::8 dev eth1 table 79",
    ];
    let by_us = |words: &str| words.replacen("24 ", "24 proto keepalived ", 1);
    let by_us = |words: &str| by_us(words).replacen("64 ", "64 proto keepalived ", 1);
    let by_us = |words: &str| by_us(words).replacen("default ", "default proto keepalived ", 1);
    for words in routes {
        ip(host, &by_us(words));
    }
    ip(host, "address add 10.77.0.101/32 dev eth0");
    ip(host, "address add 10.77.0.102/32 dev eth0");
    let meant = more(host, &before);
    assert_eq!(meant.len(), 9, "{meant:#?}");
    for words in routes {
        ip(
            host,
            &words
                .replace(" add ", " delete ")
                .replace(" append ", " delete "),
        );
    }
    ip(host, "address delete 10.77.0.101/32 dev eth0");
    ip(host, "address delete 10.77.0.102/32 dev eth0");
    let (ours, _heard) = start(host, &plan(&two(true)), &BTreeSet::new());
    same("both masters", host, &before, &meant);
    // What the other wants too stays when one goes.
    let (tell, _told) = unbounded_channel();
    ours.set_config(&plan(&two(false)), tell)
        .expect("it can be");
    wait("the second to be gone", || !segment.has(0, "10.77.0.102"));
    let rest: Vec<String> = meant
        .into_iter()
        .filter(|line| !line.contains("10.77.0.102"))
        .collect();
    same("the first alone", host, &before, &rest);
    ours.stop();
    same("after their end", host, &before, &[]);
}
