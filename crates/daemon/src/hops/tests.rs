//! Ways are planned in made-up worlds.

use std::net::IpAddr;

use pointsman_director::{
    control::HopRequest,
    model::ForwardingMethod,
    record::{NextHop, hop_flag},
};
use pointsman_linux::netlink::{Link, Route, RouteKind};
use pointsman_wire::Mac;

use super::{Obstacle, Way, World, plan};

const ROUTER: &str = "10.0.0.254";
const SERVER: &str = "10.1.0.2";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: Some([2, 0, 0, 0, 1, index as u8]),
        mtu: 1500,
        up: true,
        kind: None,
        master: None,
        lower: None,
        lower_netns: None,
        vlan_id: None,
        flags: 0,
        hardware: libc::ARPHRD_ETHER,
        xdp: None,
    }
}

fn route(index: u32, gateway: Option<&str>) -> Route {
    Route {
        kind: RouteKind::Unicast,
        out_index: Some(index),
        gateway: gateway.map(ip),
        source: Some(ip("10.0.0.1")),
        mtu: None,
    }
}

fn world(route: Route) -> World {
    let mut world = World::default();
    for link in [link(2, "eth0"), link(3, "eth1")] {
        world.links.insert(link.index, link);
    }
    world.routes.insert(ip(SERVER), route);
    world.neighbours.insert((2, ip(ROUTER)), [2, 0, 0, 0, 9, 9]);
    world.neighbours.insert((2, ip(SERVER)), [2, 0, 0, 0, 9, 2]);
    world
}

fn ask(world: &World, method: ForwardingMethod) -> Way {
    let request = HopRequest {
        server: 5,
        address: ip(SERVER),
        method,
    };
    plan(&request, world).unwrap()
}

#[test]
fn a_server_on_the_link_is_its_own_next_hop() {
    let world = world(route(2, None));
    let way = ask(&world, ForwardingMethod::Direct);
    assert_eq!(
        way.hop,
        NextHop {
            ifindex: 2,
            mtu: 1500,
            destination: Mac([2, 0, 0, 0, 9, 2]),
            source: Mac([2, 0, 0, 0, 1, 2]),
            vlan: 0,
            flags: hop_flag::RESOLVED,
        }
    );
    assert_eq!((way.gateway, way.source), (ip(SERVER), None));
    assert_eq!(way.neighbour, Some((2, ip(SERVER))));
    assert_eq!(world.describe(&way, ip(SERVER)), "eth0 02:00:00:00:09:02");
}

#[test]
fn a_router_stands_for_a_distant_server() {
    let world = world(route(2, Some(ROUTER)));
    let way = ask(&world, ForwardingMethod::Masquerade);
    assert_eq!(way.hop.destination, Mac([2, 0, 0, 0, 9, 9]));
    assert_eq!(way.gateway, ip(ROUTER));
    assert_eq!(way.neighbour, Some((2, ip(ROUTER))));
    assert_eq!(
        world.describe(&way, ip(SERVER)),
        "eth0 02:00:00:00:09:09 via 10.0.0.254"
    );
}

#[test]
fn only_tunnels_have_a_source_and_need_one() {
    let mut world = world(route(2, Some(ROUTER)));
    let way = ask(&world, ForwardingMethod::Tunnel);
    assert_eq!(way.source, Some(ip("10.0.0.1")));
    assert_eq!(way.hop.flags, hop_flag::RESOLVED);
    world.routes.get_mut(&ip(SERVER)).unwrap().source = None;
    let way = ask(&world, ForwardingMethod::Tunnel);
    assert_eq!(way.obstacle, Some(Obstacle::NoSource));
    assert_eq!(ask(&world, ForwardingMethod::Direct).obstacle, None);
}

#[test]
fn the_smaller_mtu_counts() {
    for (of_route, expected) in [(Some(1400), 1400), (Some(9000), 1500), (None, 1500)] {
        let mut route = route(2, None);
        route.mtu = of_route;
        let way = ask(&world(route), ForwardingMethod::Direct);
        assert_eq!(way.hop.mtu, expected);
    }
}

#[test]
fn an_unknown_neighbour_leaves_the_device_for_the_kernel_to_try() {
    let mut world = world(route(3, None));
    let way = ask(&world, ForwardingMethod::Direct);
    let neighbour = (3, ip(SERVER));
    assert_eq!(way.obstacle, Some(Obstacle::Asking(neighbour)));
    assert_eq!((way.hop.ifindex, way.hop.flags), (3, 0));
    assert_eq!(way.neighbour, Some(neighbour), "to be asked for");
    world.failed.insert(neighbour);
    let way = ask(&world, ForwardingMethod::Direct);
    assert_eq!(
        world.describe(&way, ip(SERVER)),
        "unresolved: 10.1.0.2 does not answer on eth1"
    );
}

#[test]
fn this_host_and_dead_ends_have_no_device() {
    let kind = |kind| Route {
        kind,
        ..route(2, None)
    };
    let way = ask(&world(kind(RouteKind::Local)), ForwardingMethod::Direct);
    assert_eq!((way.hop.flags, way.obstacle), (hop_flag::LOCAL, None));
    assert_eq!(way.neighbour, None);
    for (of_route, obstacle) in [
        (RouteKind::NoRoute, Obstacle::NoRoute),
        (RouteKind::Blackhole, Obstacle::NoRoute),
        (RouteKind::Prohibit, Obstacle::NoRoute),
        (RouteKind::Broadcast, Obstacle::NotUnicast),
        (RouteKind::Multicast, Obstacle::NotUnicast),
    ] {
        let way = ask(&world(kind(of_route)), ForwardingMethod::Direct);
        assert_eq!(way.obstacle, Some(obstacle), "{of_route:?}");
        assert_eq!((way.hop, way.neighbour), (NextHop::default(), None));
    }
}

#[test]
fn devices_that_are_gone_down_or_no_ethernet_are_said() {
    let mut world = world(route(2, None));
    world.links.get_mut(&2).unwrap().mac = None;
    let way = ask(&world, ForwardingMethod::Direct);
    assert_eq!(way.obstacle, Some(Obstacle::NotEthernet(2)));
    assert_eq!(way.hop.ifindex, 0);
    world.links.get_mut(&2).unwrap().up = false;
    let way = ask(&world, ForwardingMethod::Direct);
    assert_eq!(way.obstacle, Some(Obstacle::Down(2)));
    world.links.remove(&2);
    let way = ask(&world, ForwardingMethod::Direct);
    assert_eq!(way.obstacle, Some(Obstacle::NoLink(2)));
    assert_eq!(
        world.describe(&way, ip(SERVER)),
        "unresolved: interface #2 is gone"
    );
}

#[test]
fn a_vlan_interface_is_the_one_below_and_a_tag() {
    let mut world = world(route(7, None));
    let mut vlan = link(7, "eth0.42");
    vlan.vlan_id = Some(42);
    vlan.lower = Some(2);
    vlan.mtu = 1496;
    world.links.insert(7, vlan.clone());
    let way = ask(&world, ForwardingMethod::Direct);
    assert_eq!(way.hop.ifindex, 0, "the kernel can't resolve below the tag");
    assert_eq!(way.neighbour, Some((7, ip(SERVER))));

    world.neighbours.insert((7, ip(SERVER)), [2; 6]);
    let way = ask(&world, ForwardingMethod::Direct);
    assert_eq!((way.hop.ifindex, way.hop.vlan), (2, 42));
    assert_eq!(way.hop.mtu, 1496);
    assert_eq!(way.hop.source, Mac([2, 0, 0, 0, 1, 7]));
    assert_eq!(
        world.describe(&way, ip(SERVER)),
        "eth0.42 02:02:02:02:02:02 vlan 42"
    );

    // In another namespace the lower interface's number means nothing here.
    vlan.lower_netns = Some(0);
    world.links.insert(7, vlan.clone());
    let way = ask(&world, ForwardingMethod::Direct);
    assert_eq!((way.hop.ifindex, way.hop.vlan), (7, 0));

    // A tag within a tag stays with its interface.
    vlan.lower_netns = None;
    world.links.insert(7, vlan);
    world.links.get_mut(&2).unwrap().vlan_id = Some(1);
    let way = ask(&world, ForwardingMethod::Direct);
    assert_eq!((way.hop.ifindex, way.hop.vlan), (7, 0));
}

#[test]
fn a_route_not_asked_for_yet_is_no_way() {
    let request = HopRequest {
        server: 1,
        address: ip("10.9.9.9"),
        method: ForwardingMethod::Direct,
    };
    assert_eq!(plan(&request, &world(route(2, None))), None);
}
