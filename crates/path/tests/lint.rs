//! Faults that fault labs can't have on every kernel, made in a recorded snapshot of a healthy site:
//! client, gateway, switch, two hosts, a director and a real server with direct routing.

use pointsman_director::model::{
    ForwardingMethod, Persistence, Protocol, ServiceId, VirtualService,
};
use pointsman_path::bundle::Bundle;
use pointsman_path::catalogue::Code;
use pointsman_path::finding::{Confidence, Finding};
use pointsman_path::lint::{Case, lint};
use pointsman_path::snapshot::{
    Balancer, Bridge, Part, PortVlan, PortVlans, SavedRules, Service, Snapshot,
};

const VIP: &str = "198.51.100.208";

fn healthy() -> Bundle {
    Bundle::read(include_bytes!("golden/direct.json")).unwrap()
}

fn node<'a>(bundle: &'a mut Bundle, name: &str) -> &'a mut Snapshot {
    let mut nodes = bundle.nodes.iter_mut();
    nodes.find(|node| node.node == name).unwrap()
}

fn case() -> Case {
    Case {
        client: Some("192.0.2.10".parse().unwrap()),
        ..Case::default()
    }
}

/// What is found after a change of the healthy bundle.
fn after(change: impl FnOnce(&mut Bundle)) -> Vec<Finding> {
    let mut bundle = healthy();
    change(&mut bundle);
    lint(&bundle, &case())
}

fn codes(findings: &[Finding]) -> Vec<(Code, &str)> {
    findings.iter().map(|own| (own.code, &*own.node)).collect()
}

/// The director's kernel masquerades.
fn by_kernel(bundle: &mut Bundle) {
    let director = node(bundle, "director");
    for service in &mut director.services {
        service.balancer = Balancer::Kernel;
        for server in &mut service.servers {
            server.method = ForwardingMethod::Masquerade;
        }
    }
    set(director, "net/ipv4/ip_forward", "1");
    set(director, "net/ipv4/vs/conntrack", "0");
    let own = director.links.iter().flat_map(|link| &link.addresses);
    let own = own
        .map(|own| own.prefix.address)
        .find(|own| own.is_ipv4() && !own.is_loopback());
    let rs1 = node(bundle, "rs1");
    for route in rs1.routes.iter_mut().filter(|route| route.to.length == 0) {
        route.via = own;
    }
}

fn set(node: &mut Snapshot, path: &str, value: &str) {
    node.sysctls.insert(path.to_owned(), value.to_owned());
}

fn iptables(node: &mut Snapshot, table: &str, rules: &str) {
    let text = format!(
        "*{table}\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n{rules}\nCOMMIT\n"
    );
    node.rules.iptables.push(SavedRules {
        program: "iptables-nft-save".to_owned(),
        text,
    });
}

#[test]
fn the_healthy_site_is_healthy() {
    assert_eq!(codes(&after(|_| {})), []);
    assert_eq!(codes(&after(by_kernel)), []);
}

#[test]
fn a_masquerading_kernel_needs_forwarding_and_rules_that_let_it() {
    let found = after(|bundle| {
        by_kernel(bundle);
        set(node(bundle, "director"), "net/ipv4/ip_forward", "0");
    });
    assert_eq!(codes(&found), [(Code::NatNoForward, "director")]);
    let fix = &found[0].fixes[0];
    assert_eq!(fix.commands, ["sysctl -w net.ipv4.ip_forward=1"]);
    assert_eq!(fix.undo, ["sysctl -w net.ipv4.ip_forward=0"]);
    for (table, rules, code) in [
        (
            "filter",
            "-A INPUT -d 198.51.100.208/32 -p tcp -j DROP",
            Code::DirectorInput,
        ),
        (
            "filter",
            "-A FORWARD -p tcp --sport 80 -j DROP",
            Code::DirectorForward,
        ),
        (
            "filter",
            "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
            Code::DirectorInvalid,
        ),
        (
            "nat",
            "-A POSTROUTING -m ipvs --vaddr 198.51.100.208/32 -j MASQUERADE",
            Code::IpvsConntrackOff,
        ),
    ] {
        let found = after(|bundle| {
            by_kernel(bundle);
            iptables(node(bundle, "director"), table, rules);
        });
        assert_eq!(codes(&found), [(code, "director")], "{rules}");
    }
}

#[test]
fn rules_for_others_are_nobodys_fault() {
    let found = after(|bundle| {
        by_kernel(bundle);
        let rules = "-A INPUT -p tcp --dport 22 -j DROP\n-A FORWARD -d 203.0.113.9/32 -j DROP\n\
                     -A INPUT -m set --match-set known src -j DROP";
        iptables(node(bundle, "director"), "filter", rules);
        iptables(node(bundle, "rs1"), "filter", rules);
    });
    assert_eq!(codes(&found), []);
}

#[test]
fn clients_that_stick_to_a_quiesced_server() {
    let found = after(|bundle| {
        let director = node(bundle, "director");
        director
            .settings
            .insert("expire_quiescent_template".to_owned(), 0);
        let service = &mut director.services[0];
        service.service.persistence = Some(Persistence {
            timeout: 300,
            prefix: 32,
            netmask: !0,
        });
        let mut spare = service.servers[0].clone();
        spare.address = "198.51.100.229".parse().unwrap();
        spare.weight = 0;
        service.servers.push(spare);
    });
    assert_eq!(codes(&found), [(Code::StickyDead, "director")]);
}

/// The hosts' bridge tells VLANs apart, the guest in one, the uplink with another.
#[test]
fn ports_that_do_not_share_a_vlan() {
    let vlan = |id, untagged| PortVlan {
        first: id,
        last: id,
        pvid: untagged,
        untagged,
    };
    let filtering = |bundle: &mut Bundle, uplink: PortVlan| {
        let host = node(bundle, "host2");
        for link in &mut host.links {
            if let Some(bridge) = &mut link.bridge {
                *bridge = Bridge {
                    vlan_filtering: true,
                    ..bridge.clone()
                };
            }
        }
        host.parts.insert(Part::Vlans);
        host.vlans = vec![
            PortVlans {
                port: "eth0".to_owned(),
                vlans: vec![uplink],
            },
            PortVlans {
                port: "vnet0".to_owned(),
                vlans: vec![vlan(178, true)],
            },
        ];
    };
    assert_eq!(
        codes(&after(|bundle| filtering(bundle, vlan(178, true)))),
        []
    );
    let found = after(|bundle| filtering(bundle, vlan(7, true)));
    assert_eq!(codes(&found)[0], (Code::VlanMismatch, "host2"));
    // What was not read is no fault.
    let found = after(|bundle| {
        filtering(bundle, vlan(7, true));
        node(bundle, "host2").parts.remove(&Part::Vlans);
    });
    assert_eq!(codes(&found), []);
}

#[test]
fn tables_and_queues_that_are_full() {
    let found = after(|bundle| {
        let host = node(bundle, "host1");
        set(host, "net/netfilter/nf_conntrack_count", "262000");
        set(host, "net/netfilter/nf_conntrack_max", "262144");
    });
    assert_eq!(codes(&found), [(Code::ConntrackFull, "host1")]);
    assert_eq!(found[0].confidence, Confidence::Likely);
    let found = after(|bundle| {
        let server = node(bundle, "rs1");
        let socket = server
            .sockets
            .iter_mut()
            .find(|own| own.protocol == "tcp" && own.port == 80);
        let socket = socket.unwrap();
        (socket.waiting, socket.backlog) = (129, 128);
    });
    assert_eq!(codes(&found), [(Code::Backlog, "rs1")]);
}

#[test]
fn names_that_a_shell_would_run_are_in_no_command() {
    for (name, has_commands) in [
        ("vnet-7.x", true),
        ("$(reboot)", false),
        ("a;b", false),
        ("`x`", false),
    ] {
        let found = after(|bundle| {
            let host = node(bundle, "host2");
            for link in host.links.iter_mut().filter(|link| link.name == "vnet0") {
                link.name = name.to_owned();
                link.mtu = 1000;
            }
        });
        assert_eq!(codes(&found), [(Code::LinkMtu, "host2")]);
        assert!(found[0].words.contains(name));
        let commands = [&found[0].fixes[0].commands[..], &found[0].fixes[0].undo].concat();
        assert_eq!(!commands.is_empty(), has_commands, "{commands:?}");
        let shown = found[0].evidence.iter().map(|evidence| &evidence.command);
        let all: Vec<_> = commands.iter().chain(shown).collect();
        assert!(has_commands || all.iter().all(|command| !command.contains(name)));
    }
}

#[test]
fn the_greater_of_all_and_the_interface_counts() {
    for (all, own, expected) in [("0", "0", 1), ("1", "0", 0), ("0", "1", 0), ("2", "1", 0)] {
        let found = after(|bundle| {
            let server = node(bundle, "rs1");
            set(server, "net/ipv4/conf/all/arp_ignore", all);
            set(server, "net/ipv4/conf/eth0/arp_ignore", own);
        });
        assert_eq!(found.len(), expected, "{all} {own}: {:?}", codes(&found));
    }
}

#[test]
fn what_was_not_read_is_not_missing() {
    let found = after(|bundle| {
        for node in &mut bundle.nodes {
            node.parts.clear();
            node.sysctls.clear();
            if node.node == "rs1" {
                for link in &mut node.links {
                    let vip: std::net::IpAddr = VIP.parse().unwrap();
                    link.addresses.retain(|own| own.prefix.address != vip);
                }
                node.sockets.clear();
                node.routes.clear();
            }
        }
    });
    assert_eq!(codes(&found), []);
}

#[test]
fn services_of_others_are_left_alone() {
    let mut bundle = healthy();
    let service = Service {
        balancer: Balancer::Kernel,
        service: VirtualService {
            id: ServiceId::Address {
                protocol: Protocol::Tcp,
                address: "203.0.113.1".parse().unwrap(),
                port: 443,
            },
            scheduler: "rr".to_owned(),
            flags: Default::default(),
            persistence: None,
            one_packet: false,
            engine: None,
        },
        servers: Vec::new(),
    };
    node(&mut bundle, "director").services.push(service);
    let asked = Case {
        vip: Some(VIP.parse().unwrap()),
        port: Some(80),
        ..case()
    };
    assert_eq!(codes(&lint(&bundle, &asked)), []);
    assert_eq!(
        codes(&lint(&bundle, &case())),
        [(Code::NoServer, "director")]
    );
}

/// Kubernetes: the host masquerades to a guest on its own bridge, and reaches it around the bridge.
#[test]
fn a_bridge_that_translates_answers_back() {
    let kube = "-A PREROUTING -j KUBE-SERVICES\n\
        -A KUBE-SERVICES -d 10.43.113.238/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A\n\
        -A KUBE-SVC-A -j KUBE-SEP-B\n\
        -A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination 198.51.100.226:80\n\
        -A POSTROUTING -j MASQUERADE --random-fully";
    let asked = Case {
        vip: Some("10.43.113.238".parse().unwrap()),
        port: Some(80),
        ..Case::default()
    };
    let make = |tagged: bool, calls: &str| {
        let mut bundle = healthy();
        node(&mut bundle, "director").services.clear();
        let route = node(&mut bundle, "client")
            .routes
            .iter()
            .find(|route| route.via.is_some())
            .cloned();
        let host = node(&mut bundle, "host2");
        host.routes.extend(route);
        set(host, "net/bridge/bridge-nf-call-iptables", calls);
        set(host, "net/bridge/bridge-nf-filter-vlan-tagged", "0");
        iptables(host, "nat", kube);
        for link in &mut host.links {
            if let Some(bridge) = &mut link.bridge {
                bridge.vlan_filtering = tagged;
            }
        }
        let vlan = |untagged| PortVlan {
            first: 178,
            last: 178,
            pvid: untagged,
            untagged,
        };
        host.vlans = vec![
            PortVlans {
                port: "eth0".to_owned(),
                vlans: vec![vlan(false)],
            },
            PortVlans {
                port: "vnet0".to_owned(),
                vlans: vec![vlan(true)],
            },
        ];
        let mut found = lint(&bundle, &asked);
        found.retain(|finding| finding.node == "host2");
        found
    };
    let found = make(true, "1");
    assert_eq!(
        codes(&found),
        [
            (Code::BridgeDestinationNat, "host2"),
            (Code::BridgeAsymmetricVlan, "host2")
        ]
    );
    assert_eq!(found[0].owner.as_deref(), Some("kube-proxy"));
    assert_eq!(codes(&make(true, "0")), []);
    // Both directions meet the rules: translated twice, and it works.
    assert_eq!(codes(&make(false, "1")), []);
}

/// Each field in turn is something else: whatever is still read as a bundle is reasoned about.
#[test]
fn damaged_bundles_are_refused_or_reasoned_about() {
    let whole = include_str!("golden/direct.json");
    let (mut read, mut refused) = (0, 0);
    let marks: Vec<usize> = whole.match_indices(':').map(|(at, _)| at + 1).collect();
    for (round, at) in marks.iter().step_by(7).enumerate() {
        let end = whole[*at..]
            .find([',', '\n'])
            .map_or(whole.len(), |end| at + end);
        let other = [
            "0",
            "\"\"",
            "null",
            "[]",
            "{}",
            "\"::/0\"",
            "4294967295",
            "true",
        ][round % 8];
        let text = format!("{}{other}{}", &whole[..*at], &whole[end..]);
        match Bundle::read(text.as_bytes()) {
            Ok(bundle) => {
                lint(&bundle, &case());
                let covered = pointsman_path::redact::redact(&bundle, 1).unwrap();
                Bundle::read(covered.write().as_bytes()).unwrap();
                read += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
        }
    }
    assert!(read > 20 && refused > 20, "{read} read, {refused} refused");
}
