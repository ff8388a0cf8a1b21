use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use pointsman_wire::{Mac, verify_checksums};

use super::*;
use crate::judge::Verdict;
use crate::{ebtables, iptables};

const OWN: Mac = Mac([0x02, 0, 0x73, 0xb6, 0x53, 0xc8]);
const PORT: Port<'static> = Port {
    name: "vnet0",
    bridge: None,
    peer: None,
};

fn known(role: Role, method: Method) -> Known {
    Known {
        roles: vec![role],
        method: Some(method),
        vips: vec![
            vip("192.0.2.208", Protocol::Tcp),
            vip("2001:db8:1::208", Protocol::Udp),
        ],
        mac: OWN,
        addresses: vec!["192.0.2.200".parse().unwrap()],
        ..Known::default()
    }
}

fn vip(address: &str, protocol: Protocol) -> Vip {
    Vip {
        address: address.parse().unwrap(),
        port: 80,
        protocol,
    }
}

fn scenes() -> impl Iterator<Item = Scene> {
    let roles = [Role::Director, Role::RealServer, Role::Vrrp];
    let methods = [Method::Direct, Method::Tunnel, Method::Masquerade];
    roles.into_iter().flat_map(move |role| {
        methods.into_iter().flat_map(move |method| {
            [false, true].into_iter().map(move |vmac| {
                Scene::new(&Known {
                    vmac,
                    ..known(role, method)
                })
            })
        })
    })
}

/// The rules of `clean-traffic` that matter here, one address.
const CLEAN: &str = "*nat\n:PREROUTING ACCEPT\n:libvirt-I-vnet0 ACCEPT\n:I-vnet0-mac ACCEPT\n\
    :I-vnet0-ipv4-ip ACCEPT\n:I-vnet0-arp-mac ACCEPT\n:I-vnet0-arp-ip ACCEPT\n\
    -A PREROUTING -i vnet0 -j libvirt-I-vnet0\n\
    -A libvirt-I-vnet0 -j I-vnet0-mac\n\
    -A libvirt-I-vnet0 -p IPv4 -j I-vnet0-ipv4-ip\n\
    -A libvirt-I-vnet0 -p IPv4 -j ACCEPT\n\
    -A libvirt-I-vnet0 -p ARP -j I-vnet0-arp-mac\n\
    -A libvirt-I-vnet0 -p ARP -j I-vnet0-arp-ip\n\
    -A libvirt-I-vnet0 -p ARP -j ACCEPT\n\
    -A libvirt-I-vnet0 -j DROP\n\
    -A I-vnet0-mac -s 02:00:73:b6:53:c8 -j RETURN\n-A I-vnet0-mac -j DROP\n\
    -A I-vnet0-ipv4-ip -p IPv4 --ip-src 0.0.0.0 --ip-proto udp -j RETURN\n\
    -A I-vnet0-ipv4-ip -p IPv4 --ip-src 192.0.2.200 -j RETURN\n-A I-vnet0-ipv4-ip -j DROP\n\
    -A I-vnet0-arp-mac -p ARP --arp-mac-src 02:00:73:b6:53:c8 -j RETURN\n\
    -A I-vnet0-arp-mac -j DROP\n\
    -A I-vnet0-arp-ip -p ARP --arp-ip-src 192.0.2.200 -j RETURN\n-A I-vnet0-arp-ip -j DROP\n";

fn v4_dropped(role: Role, method: Method, vmac: bool) -> Vec<&'static str> {
    let rules = ebtables::read("f", CLEAN).unwrap();
    let mut known = known(role, method);
    known.vips.truncate(1);
    known.vmac = vmac;
    let host = Host::default();
    let mut dropped = Vec::new();
    for kind in kinds(&Scene::new(&known)) {
        let judgement = kind.judge(PORT, &rules, &host).unwrap();
        assert_ne!(judgement.verdict, Verdict::Unknown, "{}", kind.words);
        if kind.need == Need::Must && judgement.verdict == Verdict::Drop {
            dropped.push(kind.id);
        }
    }
    dropped
}

#[test]
fn every_example_is_a_sound_frame_told_once() {
    for scene in scenes() {
        let kinds = kinds(&scene);
        assert!(kinds.len() > 40, "{}", kinds.len());
        let mut seen = HashSet::new();
        for kind in &kinds {
            assert!(kind.frame.len() >= 14, "{}", kind.words);
            if kind.id != "client-fragment-in" && kind.id != "forward-fragment-out" {
                verify_checksums(&kind.frame).unwrap_or_else(|error| {
                    panic!("{}: {error:?}", kind.words);
                });
            }
            assert!(
                seen.insert((kind.direction, &kind.frame, &kind.before)),
                "{}",
                kind.words
            );
            assert!(
                kind.part == Part::Work || kind.need >= Need::Free,
                "{}",
                kind.words
            );
        }
    }
}

#[test]
fn what_nobody_told_is_assumed_and_said() {
    let scene = Scene::new(&known(Role::Director, Method::Direct));
    let [v4, v6] = &scene.casts[..] else {
        panic!("{scene:?}");
    };
    assert_eq!(v4.own, IpAddr::from([192, 0, 2, 200]));
    assert_eq!(v4.gateway.address, IpAddr::from([192, 0, 2, 1]));
    assert!(scene.assumed.contains(&"the router is 192.0.2.1".into()));
    assert!(
        !scene
            .assumed
            .iter()
            .any(|what| what.contains("192.0.2.200"))
    );
    assert_eq!(v6.own, "2001:db8:1::14".parse::<IpAddr>().unwrap());
    // What is assumed is nobody's.
    let mut known = known(Role::Director, Method::Direct);
    known.vips[0].address = Ipv4Addr::new(203, 0, 113, 1).into();
    let scene = Scene::new(&known);
    assert_eq!(
        scene.casts[0].gateway.address,
        IpAddr::from([203, 0, 113, 2])
    );
    assert_eq!(scene.casts[0].client, IpAddr::from([198, 51, 100, 77]));
}

#[test]
fn a_filter_that_pins_one_address_breaks_each_role_where_it_does_in_life() {
    let arp = ["vip-answer-out", "vip-announcement-out"];
    let with = |more: &[&'static str]| [&arp[..], more].concat();
    assert_eq!(
        v4_dropped(Role::Director, Method::Direct, false),
        with(&["forward-open-out", "forward-data-out"])
    );
    assert_eq!(
        v4_dropped(Role::Director, Method::Masquerade, false),
        with(&["forward-open-out", "reply-out", "forward-data-out"])
    );
    // Only what a director says to clients in its own tunnel has another source.
    assert_eq!(
        v4_dropped(Role::Director, Method::Tunnel, false),
        with(&["too-big-out"])
    );
    for method in [Method::Direct, Method::Tunnel] {
        assert_eq!(
            v4_dropped(Role::RealServer, method, false),
            ["server-reply-out"]
        );
    }
    assert!(v4_dropped(Role::RealServer, Method::Masquerade, false).is_empty());
    assert_eq!(
        v4_dropped(Role::Vrrp, Method::Direct, false),
        with(&["reply-out"])
    );
    // Advertisements from a virtual MAC: two masters.
    assert_eq!(
        v4_dropped(Role::Vrrp, Method::Direct, true),
        [
            &["advert-v2-out", "advert-v3-out"],
            &with(&["reply-out"])[..]
        ]
        .concat()
    );
}

#[test]
fn the_filter_stops_what_it_is_there_for() {
    let rules = ebtables::read("f", CLEAN).unwrap();
    let known = known(Role::Director, Method::Direct);
    let passing = |rules: &Ruleset| -> HashSet<&'static str> {
        kinds(&Scene::new(&known))
            .iter()
            .filter(|kind| kind.need == Need::MustNot)
            .filter(|kind| {
                let judgement = kind.judge(PORT, rules, &Host::default()).unwrap();
                judgement.verdict == Verdict::Pass
            })
            .map(|kind| kind.id)
            .collect()
    };
    let [filtered, bare] = [passing(&rules), passing(&Ruleset::default())];
    // What clean-traffic lets out, too.
    assert_eq!(filtered, HashSet::from(["dhcp-server", "foreign-advert"]));
    assert!(bare.len() > 15, "{bare:?}");
}

#[test]
fn a_director_that_never_sees_replies_is_out_of_step_with_connection_tracking() {
    let rules = "*filter\n:FORWARD ACCEPT\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\n";
    let rules = iptables::read_save(iptables::Version::V4, "f", rules).unwrap();
    let host = Host {
        call_iptables: true,
        ..Host::default()
    };
    let dropped = |method| -> Vec<&'static str> {
        let mut known = known(Role::Director, method);
        known.vips.truncate(1);
        kinds(&Scene::new(&known))
            .iter()
            .filter(|kind| kind.need == Need::Must)
            .filter(|kind| {
                let judgement = kind.judge(PORT, &rules, &host).unwrap();
                judgement.verdict == Verdict::Drop
            })
            .map(|kind| kind.id)
            .collect()
    };
    assert_eq!(
        dropped(Method::Direct),
        ["client-data-in", "forward-data-out"]
    );
}
