//! Route netlink against the running kernel, in namespaces of the test's own.

use std::time::{Duration, Instant};

use pointsman_linux::netlink::{
    Error, Event, Monitor, Neighbour, NeighbourAdded, Netlink, Route, RouteKind, nud,
};

#[path = "support/pair.rs"]
mod pair;
use pair::{LEFT_MAC, Pair, RIGHT_MAC, address, ip, is_root, namespace, netlink};

const PATIENCE: Duration = Duration::from_secs(10);

/// Reads events until one fits.
fn wait_for<T>(monitor: &mut Monitor, fits: impl Fn(Event) -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let event = monitor
            .next(left)
            .expect("monitor")
            .expect("the event within the deadline");
        if let Some(found) = fits(event) {
            return found;
        }
    }
}

fn monitor(pair: &Pair) -> Monitor {
    let _inside = pair.left.enter().expect("enter");
    Monitor::new().expect("monitor")
}

#[test]
fn links_tell_what_they_are() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    ip(&pair.left, "link add br0 type bridge");
    ip(&pair.left, "link set veth0 master br0");
    ip(&pair.left, "tuntap add tap0 mode tap");
    ip(&pair.left, "link add here type veth peer name there");
    ip(&pair.left, "link set veth0 mtu 1400");
    let mut netlink = netlink(&pair.left);
    let links = netlink.links().expect("links");
    let named = |name: &str| links.iter().find(|link| link.name == name).expect("listed");

    let (veth, bridge) = (named("veth0"), named("br0"));
    assert_eq!(veth.kind.as_deref(), Some("veth"));
    assert_eq!(veth.mac, Some(LEFT_MAC));
    assert_eq!(veth.mtu, 1400);
    assert!(veth.up && veth.has_carrier());
    assert_eq!(veth.master, Some(bridge.index));
    assert!(
        veth.lower.is_some() && veth.lower_netns.is_some(),
        "the peer is elsewhere: {veth:?}"
    );
    assert_eq!(bridge.kind.as_deref(), Some("bridge"));
    assert!(!bridge.up);
    assert_eq!(named("tap0").kind.as_deref(), Some("tun"));
    assert_eq!(named("lo").kind, None);
    let (here, there) = (named("here"), named("there"));
    assert_eq!((here.lower, here.lower_netns), (Some(there.index), None));

    assert_eq!(&netlink.link_by_name("veth0").expect("by name"), veth);
    assert_eq!(&netlink.link_by_index(veth.index).expect("by index"), veth);
    for name in ["nothing", "", "a-name-longer-than-fifteen", "nul\0"] {
        let error = netlink.link_by_name(name).expect_err("missing");
        assert!(
            matches!(error, Error::NoSuchLink { .. }),
            "{name:?}: {error}"
        );
    }
}

#[test]
fn an_alternative_name_finds_its_link() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    ip(
        &namespace,
        "link property add dev lo altname a-name-longer-than-fifteen",
    );
    let link = netlink(&namespace)
        .link_by_name("a-name-longer-than-fifteen")
        .expect("link");
    assert_eq!((link.name.as_str(), link.index), ("lo", 1));
}

#[test]
fn addresses_of_both_families_are_listed() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let index = pair.left_index();
    let addresses = netlink(&pair.left).addresses().expect("addresses");
    let has = |text, prefix| {
        addresses
            .iter()
            .any(|a| a.index == index && a.address == address(text) && a.prefix == prefix)
    };
    assert!(has("10.9.0.1", 24) && has("fd09::1", 64), "{addresses:?}");
}

#[test]
fn a_point_to_point_address_is_ones_own_end() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    ip(
        &pair.left,
        "address add 10.8.0.1 peer 10.8.0.2/32 dev veth0",
    );
    let addresses = netlink(&pair.left).addresses().expect("addresses");
    assert!(
        addresses
            .iter()
            .any(|a| a.address == address("10.8.0.1") && a.prefix == 32)
    );
    assert!(!addresses.iter().any(|a| a.address == address("10.8.0.2")));
}

#[test]
fn routes_lead_where_the_kernel_would_send() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    ip(&pair.left, "route add 10.20.0.0/16 via 10.9.0.2 mtu 1300");
    ip(
        &pair.left,
        "route add 10.21.0.0/16 via inet6 fd09::2 dev veth0",
    );
    ip(&pair.left, "route add fd20::/16 via fd09::2");
    for (kind, number) in [("unreachable", 30), ("prohibit", 31), ("blackhole", 32)] {
        ip(&pair.left, &format!("route add {kind} 10.{number}.0.0/16"));
        ip(&pair.left, &format!("route add {kind} fd{number}::/16"));
    }
    let index = pair.left_index();
    let mut netlink = netlink(&pair.left);
    let mut to = |destination: &str| netlink.route_to(address(destination), None).expect("route");

    assert_eq!(
        to("10.9.0.2"),
        Route {
            kind: RouteKind::Unicast,
            out_index: Some(index),
            gateway: None,
            source: Some(address("10.9.0.1")),
            mtu: None,
        }
    );
    let far = to("10.20.1.1");
    assert_eq!(
        (far.gateway, far.mtu),
        (Some(address("10.9.0.2")), Some(1300))
    );
    assert_eq!(to("10.21.1.1").gateway, Some(address("fd09::2")));
    let far = to("fd20::1");
    assert_eq!(
        (far.gateway, far.out_index),
        (Some(address("fd09::2")), Some(index))
    );
    assert_eq!(far.source, Some(address("fd09::1")));
    assert!(to("10.9.0.1").is_local() && to("fd09::1").is_local());
    for (prefix, kind) in [
        (30, RouteKind::Unreachable),
        (31, RouteKind::Prohibit),
        (32, RouteKind::Blackhole),
    ] {
        assert_eq!(to(&format!("10.{prefix}.0.1")).kind, kind);
        assert_eq!(to(&format!("fd{prefix}::1")).kind, kind);
    }
    assert_eq!(to("192.0.2.1").kind, RouteKind::NoRoute);
    assert_eq!(to("2001:db8::1").kind, RouteKind::NoRoute);
    assert!(to("192.0.2.1").is_unreachable() && !to("10.9.0.2").is_unreachable());

    let (near, ours) = (address("10.9.0.2"), address("10.9.0.1"));
    let route = netlink.route_to(near, Some(ours)).expect("route");
    assert_eq!((route.kind, route.source), (RouteKind::Unicast, Some(ours)));
    let blackhole = netlink
        .route_to(address("10.32.0.1"), Some(ours))
        .expect("route");
    assert_eq!(blackhole.kind, RouteKind::Blackhole);
    let error = netlink
        .route_to(near, Some(address("192.0.2.9")))
        .expect_err("not our address");
    assert!(matches!(error, Error::ForeignSource { .. }), "{error}");
    let nowhere = netlink
        .route_to(address("192.0.2.1"), Some(ours))
        .expect("route");
    assert_eq!(nowhere.kind, RouteKind::NoRoute);
}

#[test]
fn a_managed_neighbour_resolves_and_shows_in_list_and_monitor() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let index = pair.left_index();
    let mut monitor = monitor(&pair);
    let mut netlink = netlink(&pair.left);
    for neighbour in [address("10.9.0.2"), address("fd09::2")] {
        assert_eq!(netlink.neighbour(index, neighbour).expect("get"), None);
        let added = netlink
            .neighbour_add_managed(index, neighbour)
            .expect("add");
        assert_eq!(added, NeighbourAdded::Managed);
        let mac = wait_for(&mut monitor, |event| match event {
            Event::Neighbour {
                address,
                mac,
                state,
                deleted: false,
                ..
            } if address == neighbour && state & nud::REACHABLE != 0 => Some(mac),
            _ => None,
        });
        assert_eq!(mac, Some(RIGHT_MAC));

        let listed: Vec<Neighbour> = netlink
            .neighbours()
            .expect("list")
            .into_iter()
            .filter(|found| found.address == neighbour)
            .collect();
        assert_eq!(listed.len(), 1);
        assert!(listed[0].managed && listed[0].index == index, "{listed:?}");
        assert_eq!(listed[0].usable_mac(), Some(RIGHT_MAC));

        netlink.neighbour_probe(index, neighbour).expect("probe");
        let found = netlink
            .neighbour(index, neighbour)
            .expect("get")
            .expect("still there");
        assert!(!found.managed, "a plain probe ends management");

        assert!(netlink.neighbour_delete(index, neighbour).expect("delete"));
        wait_for(&mut monitor, |event| {
            matches!(event, Event::Neighbour { address, deleted: true, .. } if address == neighbour)
                .then_some(())
        });
        assert!(
            !netlink
                .neighbour_delete(index, neighbour)
                .expect("delete again")
        );
    }
}

#[test]
fn a_neighbour_that_does_not_answer_has_no_usable_address() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let index = pair.left_index();
    let mut monitor = monitor(&pair);
    let mut netlink = netlink(&pair.left);
    let nobody = address("10.9.0.77");
    netlink.neighbour_probe(index, nobody).expect("probe");
    wait_for(&mut monitor, |event| {
        matches!(event, Event::Neighbour { address, state: nud::FAILED, .. } if address == nobody)
            .then_some(())
    });
    let found = netlink
        .neighbour(index, nobody)
        .expect("get")
        .expect("kept as failed");
    assert_eq!(found.usable_mac(), None);
}

#[test]
fn the_administrators_neighbour_is_left_alone() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let index = pair.left_index();
    ip(
        &pair.left,
        "neighbour add 10.9.0.2 lladdr 02:00:00:00:00:99 dev veth0 nud permanent",
    );
    let mut netlink = netlink(&pair.left);
    let neighbour = address("10.9.0.2");
    let added = netlink
        .neighbour_add_managed(index, neighbour)
        .expect("add");
    assert_eq!(added, NeighbourAdded::Permanent);
    let found = netlink
        .neighbour(index, neighbour)
        .expect("get")
        .expect("there");
    assert_eq!((found.state, found.managed), (nud::PERMANENT, false));
    assert_eq!(found.usable_mac(), Some([2, 0, 0, 0, 0, 0x99]));
}

#[test]
fn the_monitor_tells_of_links_addresses_and_routes() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let mut monitor = monitor(&pair);
    ip(&pair.left, "address add 10.7.0.1/24 dev veth0");
    wait_for(&mut monitor, |event| match event {
        Event::Address {
            address: a,
            deleted: false,
        } => (a.address == address("10.7.0.1") && a.prefix == 24).then_some(()),
        _ => None,
    });
    ip(&pair.left, "route add default via 10.9.0.2");
    let default = Some((address("0.0.0.0"), 0));
    wait_for(&mut monitor, |event| {
        (event
            == Event::Route {
                destination: default,
                deleted: false,
            })
        .then_some(())
    });
    ip(&pair.left, "rule add to 10.1.0.0/16 table 100");
    wait_for(&mut monitor, |event| {
        (event
            == Event::Route {
                destination: None,
                deleted: false,
            })
        .then_some(())
    });
    ip(&pair.left, "link set veth0 mtu 1450");
    wait_for(&mut monitor, |event| match event {
        Event::Link {
            link,
            deleted: false,
        } => (link.name == "veth0" && link.mtu == 1450).then_some(()),
        _ => None,
    });
    ip(&pair.left, "link delete veth0");
    wait_for(&mut monitor, |event| match event {
        Event::Link {
            link,
            deleted: true,
        } => (link.name == "veth0").then_some(()),
        _ => None,
    });
}

#[test]
fn a_monitor_read_too_slowly_says_that_it_lost_events() {
    if !is_root() {
        return;
    }
    let pair = Pair::new();
    let mut monitor = monitor(&pair);
    let small: usize = 4096;
    nix::sys::socket::setsockopt(&monitor, nix::sys::socket::sockopt::RcvBuf, &small)
        .expect("shrink the buffer");
    let index = pair.left_index();
    let mut netlink = netlink(&pair.left);
    for host in 1..=200 {
        let nobody = address(&format!("10.9.0.{host}"));
        netlink.neighbour_probe(index, nobody).expect("probe");
    }
    wait_for(&mut monitor, |event| (event == Event::Lost).then_some(()));
    // It works on afterwards.
    while monitor.next(Duration::ZERO).expect("drain").is_some() {}
    ip(&pair.left, "link set lo down");
    wait_for(&mut monitor, |event| {
        matches!(event, Event::Link { link, .. } if link.name == "lo" && !link.up).then_some(())
    });
}

#[test]
fn waiting_ends_at_the_deadline() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    let _inside = namespace.enter().expect("enter");
    let mut monitor = Monitor::new().expect("monitor");
    let before = Instant::now();
    let timeout = Duration::from_millis(30);
    assert_eq!(monitor.next(timeout).expect("next"), None);
    assert!(before.elapsed() >= timeout);
    assert_eq!(monitor.next(Duration::ZERO).expect("next"), None);
}

#[test]
fn the_thread_decides_the_namespace() {
    if !is_root() {
        return;
    }
    let namespace = namespace();
    let links = namespace
        .run_in(|| Netlink::new().and_then(|mut netlink| netlink.links()))
        .expect("run")
        .expect("links");
    assert!(
        links.iter().any(|link| link.name == "lo" && !link.up),
        "{links:?}"
    );
    assert!(
        links
            .iter()
            .all(|link| link.kind.as_deref() != Some("veth")),
        "{links:?}"
    );
}
