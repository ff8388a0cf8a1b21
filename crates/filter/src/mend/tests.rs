use std::collections::HashSet;

use super::*;
use crate::catalogue::{Protocol, RealServer, Vip};
use crate::nwfilter::read_bindings;
use pointsman_wire::Mac;

const BOTH: &[Backend] = &[Backend::Ebiptables, Backend::Nftables];
const VIP4: &str = "192.0.2.208";
const VIP6: &str = "2001:db8::208";

/// Where libvirt's own filters are: installed, or unpacked by `cargo xtask setup`.
fn builtin() -> Option<Library> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let library = [
        "/usr/share/libvirt/nwfilter".to_owned(),
        "/etc/libvirt/nwfilter".to_owned(),
        format!("{root}/target/libvirt/usr/share/libvirt/nwfilter"),
        format!("{root}/target/libvirt/etc/libvirt/nwfilter"),
    ]
    .iter()
    .find_map(|folder| {
        let mut library = Library::new();
        for entry in std::fs::read_dir(folder).ok()? {
            let path = entry.ok()?.path();
            let text = std::fs::read_to_string(&path).ok()?;
            library.add(&path.display().to_string(), &text).ok()?;
        }
        library.get("clean-traffic").is_some().then_some(library)
    });
    if library.is_none() {
        println!("skipped: needs libvirt's own filters; `cargo xtask setup` gets them");
    }
    library
}

/// A domain with a filtered interface.
fn domain(filter: &str, parameters: &[(&str, &str)]) -> String {
    let parameters: String = parameters
        .iter()
        .map(|(name, value)| format!("        <parameter name='{name}' value='{value}'/>\n"))
        .collect();
    format!(
        "<domain type='kvm'>\n  <name>director</name>\n  <devices>\n    <interface type='bridge'>\n      \
         <mac address='02:00:73:b6:53:c8'/>\n      <target dev='vnet0'/>\n      <filterref \
         filter='{filter}'>\n{parameters}      </filterref>\n    </interface>\n  </devices>\n</domain>\n"
    )
}

fn vip(address: &str, protocol: Protocol) -> Vip {
    Vip {
        address: address.parse().unwrap(),
        port: 80,
        protocol,
    }
}

fn known(role: Role, method: Method, vips: &[&str]) -> Known {
    let server = |address: &str, last| RealServer {
        address: address.parse().unwrap(),
        mac: Some(Mac([2, 0, 0x73, 0xb6, 0x53, last])),
        port: None,
    };
    Known {
        roles: vec![role],
        method: Some(method),
        vips: vips
            .iter()
            .map(|address| vip(address, Protocol::Tcp))
            .collect(),
        mac: Mac([2, 0, 0x73, 0xb6, 0x53, 0xc8]),
        addresses: vec![
            "192.0.2.200".parse().unwrap(),
            "2001:db8::200".parse().unwrap(),
        ],
        real_servers: vec![
            server("192.0.2.11", 0xe2),
            server("192.0.2.12", 0xe3),
            server("2001:db8::11", 0xe2),
        ],
        ..Known::default()
    }
}

/// Asks, and judges the answer's documents by other means than the search does.
fn ask(library: &Library, text: &str, known: &Known, backends: &[Backend], wishes: Wishes) -> Mend {
    let binding = &read_bindings("director.xml", text).unwrap()[0];
    let source = Source {
        file: "director.xml",
        text,
        number: 0,
    };
    let answer = mend(&Question {
        library,
        binding,
        source,
        known,
        backends,
        wishes,
    })
    .unwrap();
    if answer.outcome != Outcome::Change {
        assert!(answer.documents.is_empty());
        return answer;
    }
    assert!(!answer.documents.is_empty());
    let (mut new_library, mut new_binding) = (library.clone(), binding.clone());
    for document in &answer.documents {
        match &document.subject {
            Subject::NewFilter(name) => {
                assert!(library.get(name).is_none() && document.before.is_none());
                new_library.add(&document.file, &document.after).unwrap();
            }
            Subject::Filter { name, .. } => {
                let before = document.before.as_deref().unwrap().trim_end();
                assert_eq!(before, library.get(name).unwrap().text.trim_end());
                new_library.add(&document.file, &document.after).unwrap();
            }
            Subject::Interface => {
                let domain = format!("<domain><devices>{}</devices></domain>", document.after);
                new_binding = read_bindings("new", &domain).unwrap().remove(0);
            }
            Subject::Binding => {
                new_binding = read_bindings("new", &document.after).unwrap().remove(0);
            }
        }
    }
    let host = Host {
        call_iptables: true,
        call_ip6tables: true,
        ..Host::default()
    };
    let port = Port {
        name: "vnet0",
        bridge: None,
        peer: None,
    };
    for &backend in backends {
        let before = compile(library, binding, "vnet0", backend).unwrap();
        let after = compile(&new_library, &new_binding, "vnet0", backend).unwrap();
        assert_eq!(after.learning, None);
        for kind in catalogue::kinds(&Scene::new(known)) {
            let by = |rules| kind.judge(port, rules, &host).unwrap().verdict;
            let (was, is) = (by(&before.ruleset), by(&after.ruleset));
            if kind.need == Need::Must {
                assert_eq!(is, Verdict::Pass, "{backend:?} {}: {text}", kind.words);
            }
            let excused = match kind.id {
                "vip-to-others" => !wishes.tight,
                "vip-other-port" => {
                    wishes.fragments
                        || kind.frame[12..14] == [0x86, 0xdd]
                            && known.vips.iter().any(|vip| vip.protocol == Protocol::Udp)
                }
                _ => false,
            };
            if kind.need == Need::MustNot && was == Verdict::Drop && !excused {
                assert_eq!(is, Verdict::Drop, "{backend:?} {}: {text}", kind.words);
            }
        }
    }
    answer
}

/// What [`ask`] checks holds for filters by chance, too.
#[test]
fn filters_by_chance_are_mended_safely_or_not_at_all() {
    let mut counts = [0; 3];
    for seed in 0..60 {
        let mut chance = Chance(seed);
        let mut library = Library::new();
        let chains = 1 + chance.below(3);
        let mut top = String::from("<filter name='top'>");
        for chain in 0..chains {
            let (name, rules) = chance.of(CHAINS);
            let priority = chance.below(1800) as i32 - 900;
            let mut text =
                format!("<filter name='f{chain}' chain='{name}{chain}' priority='{priority}'>");
            for _ in 0..1 + chance.below(4) {
                text += &chance.rule(rules);
            }
            library.add("f", &(text + "</filter>")).unwrap();
            top += &format!("<filterref filter='f{chain}'/>");
        }
        for _ in 0..chance.below(5) {
            let (_, rules) = chance.of(CHAINS);
            top += &chance.rule(rules);
        }
        library.add("top", &(top + "</filter>")).unwrap();
        let role = chance.of(&[Role::Director, Role::RealServer, Role::Vrrp]);
        let method = chance.of(&[Method::Direct, Method::Tunnel, Method::Masquerade]);
        let known = Known {
            roles: if chance.below(4) == 0 {
                vec![role, Role::Vrrp]
            } else {
                vec![role]
            },
            vmac: chance.below(4) == 0,
            vrid: Some(7),
            ..known(role, method, chance.of(&[&[VIP4][..], &[VIP6], &[VIP4]]))
        };
        let wishes = Wishes {
            tight: chance.below(3) == 0,
            fragments: chance.below(3) == 0,
            icmp: chance.below(3) == 0,
        };
        let text = domain("top", &[("IP", "192.0.2.200"), ("IPV6", "2001:db8::200")]);
        let answer = ask(&library, &text, &known, BOTH, wishes);
        counts[match answer.outcome {
            Outcome::Nothing => 0,
            Outcome::Change => 1,
            Outcome::None(_) => 2,
        }] += 1;
    }
    // Neither only what needs no change nor only what has none.
    assert!(counts[0] >= 3 && counts[1] >= 15, "{counts:?}");
}

/// Chains, and what rules in them are about.
const CHAINS: &[(&str, &[&str])] = &[
    (
        "ipv4-x",
        &[
            "",
            "<ip srcipaddr='$IP'/>",
            "<ip match='no' srcipaddr='$IP'/>",
            "<ip protocol='tcp'/>",
            "<ip dstipaddr='224.0.0.0' dstipmask='4'/>",
            "<ip protocol='tcp' dstportstart='80'/>",
            "<ip protocol='icmp'/>",
        ],
    ),
    (
        "arp-x",
        &[
            "",
            "<arp arpsrcipaddr='$IP'/>",
            "<arp match='no' arpsrcipaddr='$IP'/>",
            "<arp arpsrcmacaddr='$MAC'/>",
            "<arp opcode='Request'/>",
            "<arp arpdstipaddr='$IP'/>",
        ],
    ),
    (
        "mac-x",
        &[
            "<mac srcmacaddr='$MAC'/>",
            "<mac match='no' srcmacaddr='$MAC'/>",
            "<mac protocolid='arp'/>",
            "<mac protocolid='ipv4'/>",
            "<mac protocolid='ipv6'/>",
            "<mac dstmacaddr='ff:ff:ff:ff:ff:ff'/>",
        ],
    ),
    (
        "ipv6-x",
        &[
            "",
            "<ipv6 srcipaddr='$IPV6'/>",
            "<ipv6 srcipaddr='fe80::' srcipmask='10'/>",
            "<ipv6 protocol='icmpv6'/>",
        ],
    ),
    (
        "ipv4-l4",
        &[
            "<tcp dstportstart='80'/>",
            "<all srcipaddr='192.0.2.200'/>",
            "<all/>",
            "<icmp/>",
            "<all state='INVALID'/>",
        ],
    ),
];

/// splitmix64
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((word ^ word >> 31) >> 8) as usize % limit
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    fn rule(&mut self, about: &[&str]) -> String {
        let action = self.of(&["accept", "return", "drop", "drop", "reject"]);
        let direction = self.of(&["in", "out", "out", "inout"]);
        let priority = self.below(2000) as i32 - 1000;
        let about = self.of(about);
        format!(
            "<rule action='{action}' direction='{direction}' priority='{priority}'>{about}</rule>"
        )
    }
}

fn new_ids(answer: &Mend) -> HashSet<&'static str> {
    let rows = answer.rows.iter().filter(|row| row.is_new());
    rows.map(|row| row.kind.id).collect()
}

#[test]
fn a_director_with_direct_routing_gets_one_rule_and_one_value() {
    let Some(library) = builtin() else { return };
    let text = domain("clean-traffic", &[("IP", "192.0.2.200")]);
    let known = known(Role::Director, Method::Direct, &[VIP4]);
    let answer = ask(&library, &text, &known, BOTH, Wishes::default());
    let diffs: Vec<String> = answer.documents.iter().map(Document::diff).collect();
    assert_eq!(
        diffs[0],
        "--- /dev/null
+++ pointsman-dr-director.xml
@@ -0,0 +1,8 @@
+<filter name='pointsman-dr-director' chain='root'>
+  <uuid>743c4c05-0de1-8d24-b842-39efb61c3512</uuid>
+  <!-- clients' packets on their way to real servers, with the clients' addresses -->
+  <rule action='accept' direction='out' priority='-711'>
+    <ip dstipaddr='192.0.2.208' protocol='tcp' dstportstart='80'/>
+  </rule>
+  <filterref filter='clean-traffic'/>
+</filter>
"
    );
    assert_eq!(
        diffs[1],
        "--- director-interface.before.xml
+++ director-interface.xml
@@ -1,7 +1,8 @@
 <interface type='bridge'>
   <mac address='02:00:73:b6:53:c8'/>
   <target dev='vnet0'/>
-  <filterref filter='clean-traffic'>
+  <filterref filter='pointsman-dr-director'>
     <parameter name='IP' value='192.0.2.200'/>
+    <parameter name='IP' value='192.0.2.208'/>
   </filterref>
 </interface>
"
    );
    assert_eq!(
        answer.virsh.apply,
        [
            "virsh nwfilter-define pointsman-dr-director.xml",
            "virsh update-device director director-interface.xml --live --config"
        ]
    );
    // The tempting change helps with ARP only, none at all lets everything pass.
    let row = |id: &str| answer.rows.iter().find(|row| row.kind.id == id).unwrap();
    let forwarded = row("forward-open-out");
    assert_eq!(forwarded.before, [Verdict::Drop; 2]);
    assert_eq!(forwarded.mended, [Verdict::Pass; 2]);
    assert_eq!(forwarded.listed, [Verdict::Drop; 2]);
    assert_eq!(row("vip-answer-out").listed, [Verdict::Pass; 2]);
    assert_eq!(row("foreign-source").mended, [Verdict::Drop; 2]);
    assert_eq!(row("foreign-source").deleted, [Verdict::Pass; 2]);
    assert!(answer.neutron.notes[0].contains("0.0.0.0/0"));
    let tempting = answer.notes.last().unwrap();
    assert!(
        tempting.contains("does not do it") && tempting.contains("SYN of client"),
        "{tempting}"
    );
}

#[test]
fn every_role_and_method_is_mended_with_every_filter() {
    let Some(mut library) = builtin() else { return };
    for text in OWN {
        library.add("own", text).unwrap();
    }
    let ip = ("IP", "192.0.2.200");
    let gateway = ("GATEWAY_MAC", "02:70:6d:00:00:01");
    let ip6 = ("IPV6", "2001:db8::200");
    for (filter, parameters) in [
        ("clean-traffic", &[ip][..]),
        ("clean-traffic-gateway", &[ip, gateway]),
        ("no-ip-spoofing", &[ip]),
        ("no-arp-spoofing", &[ip]),
        ("no-mac-spoofing", &[]),
        ("no-ipv6-spoofing", &[ip6]),
        ("allow-ipv4", &[]),
        ("nova-base", &[ip, ("DHCPSERVER", "192.0.2.2")]),
        ("clean-v6", &[ip, ip6]),
        ("one-chain", &[ip]),
        ("late-mac", &[ip]),
        ("web-only", &[]),
        ("no-vrrp", &[]),
    ] {
        let text = domain(filter, parameters);
        for role in [Role::Director, Role::RealServer, Role::Vrrp] {
            for method in [Method::Direct, Method::Tunnel, Method::Masquerade] {
                // What is not of libvirt's kind is mended the same way whatever the method.
                let is_common = filter.starts_with("clean") || filter == "web-only";
                if method != Method::Direct && !is_common {
                    continue;
                }
                // Many addresses of both families once for each filter and role.
                let (vips, vmac) = if method == Method::Direct {
                    (&[VIP4, "192.0.2.209", VIP6][..], role == Role::Vrrp)
                } else {
                    (&[VIP4][..], false)
                };
                let known = Known {
                    vmac,
                    vrid: Some(51),
                    ..known(role, method, vips)
                };
                let answer = ask(&library, &text, &known, BOTH, Wishes::default());
                assert!(
                    !matches!(answer.outcome, Outcome::None(_)),
                    "{filter} {role:?} {method:?}: {:?}",
                    answer.outcome
                );
            }
        }
    }
}

/// Filters that people write.
const OWN: &[&str] = &[
    "<filter name='nova-base' chain='root'><filterref filter='no-mac-spoofing'/><filterref \
     filter='no-ip-spoofing'/><filterref filter='no-arp-spoofing'/><filterref \
     filter='allow-dhcp-server'/></filter>",
    "<filter name='clean-v6'><filterref filter='clean-traffic'/><filterref \
     filter='no-ipv6-spoofing'/><rule action='accept' direction='out' priority='-550'><mac \
     protocolid='ipv6'/></rule><filterref filter='allow-incoming-ipv6'/></filter>",
    // Everything in the root chain, in one priority.
    "<filter name='one-chain'><rule action='drop' direction='out' priority='10'><mac match='no' \
     srcmacaddr='$MAC'/></rule><rule action='accept' direction='out' priority='20'><ip \
     srcipaddr='$IP'/></rule><rule action='accept' direction='out' priority='20'><arp \
     arpsrcipaddr='$IP' arpsrcmacaddr='$MAC'/></rule><rule action='accept' direction='in' \
     priority='20'/><rule action='drop' direction='out' priority='30'/></filter>",
    // What a rule before the addresses' lets pass is not asked for its MAC.
    "<filter name='late-mac'><rule action='drop' direction='out' priority='-400'><ip match='no' \
     srcipaddr='$IP'/></rule><rule action='drop' direction='out' priority='100'><mac match='no' \
     srcmacaddr='$MAC'/></rule></filter>",
    // Packets, with connections.
    "<filter name='web-only'><rule action='accept' direction='in' priority='100'><tcp \
     dstportstart='80'/></rule><rule action='accept' direction='out' priority='200'><all \
     srcipaddr='192.0.2.200' state='NEW,ESTABLISHED'/></rule><rule action='accept' \
     direction='in' priority='200'><all state='ESTABLISHED'/></rule><rule action='drop' \
     direction='inout' priority='1000'><all/></rule></filter>",
    "<filter name='no-vrrp'><rule action='drop' direction='out' priority='-100'><ip \
     dstipaddr='224.0.0.0' dstipmask='4'/></rule></filter>",
];

#[test]
fn a_floating_address_and_a_tunnelling_director_need_a_value_only() {
    let Some(library) = builtin() else { return };
    let text = domain("clean-traffic", &[("IP", "192.0.2.200")]);
    for (role, method) in [
        (Role::Vrrp, Method::Direct),
        (Role::Director, Method::Tunnel),
    ] {
        let known = known(role, method, &[VIP4]);
        let answer = ask(&library, &text, &known, BOTH, Wishes::default());
        assert_eq!(answer.parts, ["IP: 192.0.2.208 added to the list"]);
        let [document] = &answer.documents[..] else {
            panic!("{:?}", answer.documents);
        };
        assert_eq!(document.subject, Subject::Interface);
    }
}

#[test]
fn a_real_server_may_send_with_the_address_but_not_speak_for_it() {
    let Some(library) = builtin() else { return };
    let text = domain("clean-traffic", &[("IP", "192.0.2.200")]);
    for method in [Method::Direct, Method::Tunnel] {
        let known = known(Role::RealServer, method, &[VIP4]);
        let answer = ask(&library, &text, &known, BOTH, Wishes::default());
        assert_eq!(
            answer.parts,
            ["accept out <ip> srcipaddr 192.0.2.208, protocol tcp, srcportstart 80"]
        );
        assert_eq!(new_ids(&answer), HashSet::from(["server-reply-out"]));
        assert!(answer.notes[0].contains("not put into the list"));
        let tempting = answer.notes.last().unwrap();
        assert!(tempting.contains("would also permit"), "{tempting}");
    }
    let known = known(Role::RealServer, Method::Masquerade, &[VIP4]);
    let answer = ask(&library, &text, &known, BOTH, Wishes::default());
    assert_eq!(answer.outcome, Outcome::Nothing);
}

#[test]
fn a_virtual_router_is_a_second_link_layer_address() {
    let Some(library) = builtin() else { return };
    let text = domain("clean-traffic", &[("IP", "192.0.2.200")]);
    let known = Known {
        vmac: true,
        vrid: Some(0x33),
        ..known(Role::Vrrp, Method::Direct, &[VIP4])
    };
    let answer = ask(&library, &text, &known, BOTH, Wishes::default());
    assert_eq!(
        answer.parts,
        [
            "MAC: 02:00:73:b6:53:c8, 00:00:5e:00:01:33 added to the list",
            "IP: 192.0.2.208 added to the list"
        ]
    );
    assert!(answer.notes[0].contains("Without use_vmac"));
    let nobody = Known {
        vrid: None,
        ..known
    };
    let binding = &read_bindings("f", &text).unwrap()[0];
    let question = Question {
        library: &library,
        binding,
        source: Source {
            file: "f",
            text: &text,
            number: 0,
        },
        known: &nobody,
        backends: BOTH,
        wishes: Wishes::default(),
    };
    assert_eq!(mend(&question).unwrap_err(), MendError::NoVrid);
}

#[test]
fn wishes_make_rules_narrower_or_wider() {
    let Some(library) = builtin() else { return };
    let text = domain("clean-traffic", &[("IP", "192.0.2.200")]);
    let known = known(Role::Director, Method::Direct, &[VIP4]);
    let parts = |wishes| ask(&library, &text, &known, BOTH, wishes).parts[1..].join("\n");
    assert_eq!(
        parts(Wishes {
            tight: true,
            ..Wishes::default()
        }),
        "accept out <ip> dstmacaddr 02:00:73:b6:53:e2, dstipaddr 192.0.2.208, protocol tcp, \
         dstportstart 80\naccept out <ip> dstmacaddr 02:00:73:b6:53:e3, dstipaddr 192.0.2.208, \
         protocol tcp, dstportstart 80"
    );
    assert_eq!(
        parts(Wishes {
            fragments: true,
            icmp: true,
            ..Wishes::default()
        }),
        "accept out <ip> dstipaddr 192.0.2.208, protocol tcp\naccept out <ip> dstipaddr 192.0.2.208, \
         protocol icmp"
    );
    // UDP is fragmented in earnest.
    let udp = Known {
        vips: vec![vip(VIP4, Protocol::Udp)],
        ..known.clone()
    };
    let answer = ask(&library, &text, &udp, BOTH, Wishes::default());
    assert_eq!(
        answer.parts[1],
        "accept out <ip> dstipaddr 192.0.2.208, protocol udp"
    );
}

#[test]
fn the_list_of_novas_own_filter_grows_where_it_is() {
    let Some(mut library) = builtin() else { return };
    library.add("own", OWN[0]).unwrap();
    let instance = "<filter name='nova-instance-instance-0000000f-020073b653c8' chain='root'>
  <uuid>9e0a25e1-8c6a-4ae2-9a3a-4d2f7e4f4d11</uuid>
  <filterref filter='nova-base'>
    <parameter name='IP' value='192.0.2.200'/>
    <parameter name='DHCPSERVER' value='192.0.2.2'/>
  </filterref>
</filter>
";
    library.add("instance.xml", instance).unwrap();
    let text = domain("nova-instance-instance-0000000f-020073b653c8", &[]);
    let known = known(Role::Director, Method::Direct, &[VIP4]);
    let answer = ask(&library, &text, &known, BOTH, Wishes::default());
    let [document] = &answer.documents[..] else {
        panic!("{:?}", answer.documents);
    };
    assert_eq!(
        document.after,
        "<filter name='nova-instance-instance-0000000f-020073b653c8' chain='root'>
  <uuid>9e0a25e1-8c6a-4ae2-9a3a-4d2f7e4f4d11</uuid>
  <!-- clients' packets on their way to real servers, with the clients' addresses -->
  <rule action='accept' direction='out' priority='-711'>
    <ip dstipaddr='192.0.2.208' protocol='tcp' dstportstart='80'/>
  </rule>
  <filterref filter='nova-base'>
    <parameter name='IP' value='192.0.2.200'/>
    <parameter name='IP' value='192.0.2.208'/>
    <parameter name='DHCPSERVER' value='192.0.2.2'/>
  </filterref>
</filter>
"
    );
    assert_eq!(answer.virsh.apply.len(), 1);
    assert!(answer.virsh.notes[1].contains("nova writes this filter anew"));
    // Without its uuid libvirt refuses to define it again.
    let bare = instance.replace("  <uuid>9e0a25e1-8c6a-4ae2-9a3a-4d2f7e4f4d11</uuid>\n", "");
    library.add("instance.xml", &bare).unwrap();
    let answer = ask(&library, &text, &known, BOTH, Wishes::default());
    assert!(answer.virsh.apply[0].contains("nwfilter-dumpxml"));
    // Once mended there is nothing to mend.
    library
        .add("instance.xml", &answer.documents[0].after)
        .unwrap();
    let answer = ask(&library, &text, &known, BOTH, Wishes::default());
    assert_eq!(answer.outcome, Outcome::Nothing);
}

#[test]
fn values_in_a_filter_of_many_guests_are_overridden_at_the_port() {
    let mut library = Library::new();
    let own = "<filter name='own' chain='ipv4-own'><rule action='return' direction='out'><ip \
               srcipaddr='$IP'/></rule><rule action='drop' direction='out' priority='1000'/></filter>";
    let farm = "<filter name='farm'><filterref filter='own'><parameter name='IP' \
                value='192.0.2.200'/><parameter name='IP' value='192.0.2.201'/></filterref></filter>";
    for filter in [own, farm] {
        library.add("f", filter).unwrap();
    }
    let known = known(Role::Vrrp, Method::Direct, &[VIP4]);
    let answer = ask(
        &library,
        &domain("farm", &[]),
        &known,
        BOTH,
        Wishes::default(),
    );
    assert_eq!(
        answer.parts,
        ["IP: 192.0.2.200, 192.0.2.201, 192.0.2.208 added to the list"]
    );
    assert_eq!(answer.documents[0].subject, Subject::Interface);
}

#[test]
fn a_binding_is_answered_with_a_binding() {
    let Some(library) = builtin() else { return };
    let text = "<filterbinding>
  <owner><name>director</name><uuid>6f5a3c1e-0000-4000-8000-000000000001</uuid></owner>
  <portdev name='vnet0'/>
  <mac address='02:00:73:b6:53:c8'/>
  <filterref filter='clean-traffic'><parameter name='IP' value='192.0.2.200'/></filterref>
</filterbinding>
";
    let known = known(Role::Vrrp, Method::Direct, &[VIP4]);
    let answer = ask(&library, text, &known, BOTH, Wishes::default());
    let [document] = &answer.documents[..] else {
        panic!("{:?}", answer.documents);
    };
    assert_eq!(document.before.as_deref(), Some(text));
    assert_eq!(
        answer.virsh.apply,
        [
            "virsh nwfilter-binding-delete vnet0",
            "virsh nwfilter-binding-create vnet0-binding.xml"
        ]
    );
}

#[test]
fn an_address_that_is_learned_must_be_told() {
    let Some(library) = builtin() else { return };
    let text = domain("clean-traffic", &[]);
    let told = known(Role::Director, Method::Direct, &[VIP4]);
    let nobody = Known {
        addresses: Vec::new(),
        ..told.clone()
    };
    let answer = ask(&library, &text, &nobody, BOTH, Wishes::default());
    let Outcome::None(reasons) = &answer.outcome else {
        panic!("{:?}", answer.outcome);
    };
    assert!(reasons[0].contains("--address"), "{reasons:?}");
    let answer = ask(&library, &text, &told, BOTH, Wishes::default());
    assert_eq!(
        answer.parts[0],
        "IP: 192.0.2.200, 192.0.2.208 added to the list"
    );
    // Two lists for a port that has none.
    let binding = "<filterbinding><portdev name='vnet0'/><mac address='02:00:73:b6:53:c8'/><filterref \
                   filter='clean-traffic'/></filterbinding>";
    let told = Known {
        vmac: true,
        vrid: Some(1),
        ..told
    };
    let answer = ask(&library, binding, &told, BOTH, Wishes::default());
    assert!(
        answer.parts[..2]
            .iter()
            .all(|part| part.ends_with("added to the list"))
    );
}

#[test]
fn what_nobody_told_stands_in_no_rule() {
    let Some(library) = builtin() else { return };
    let text = domain("clean-traffic", &[("IP", "192.0.2.200")]);
    let known = Known {
        real_servers: Vec::new(),
        ..known(Role::Director, Method::Masquerade, &[VIP4])
    };
    let answer = ask(&library, &text, &known, BOTH, Wishes::default());
    let Outcome::None(reasons) = &answer.outcome else {
        panic!("{:?}", answer.outcome);
    };
    assert!(reasons[0].contains("--real-server"), "{reasons:?}");
}

#[test]
fn what_drops_everything_also_asks_for_macs() {
    let mut library = Library::new();
    let all = "<filter name='none'><rule action='drop' direction='out'><all/></rule></filter>";
    library.add("none", all).unwrap();
    let known = known(Role::Director, Method::Direct, &[VIP4]);
    let text = domain("none", &[]);
    let one = &[Backend::Ebiptables];
    let answer = ask(&library, &text, &known, one, Wishes::default());
    assert_eq!(answer.outcome, Outcome::Change);
    let of_clients =
        "accept out <tcp> srcmacaddr $MAC, dstipaddr 192.0.2.208, dstportstart 80, state NONE";
    assert!(answer.parts.iter().any(|part| part == of_clients));
    // With the other backend rules for packets are for both directions, and one of them asks for no MAC.
    let answer = ask(&library, &text, &known, BOTH, Wishes::default());
    let Outcome::None(reasons) = &answer.outcome else {
        panic!("{:?}", answer.outcome);
    };
    assert!(reasons[0].ends_with("dropped now: source MAC of another host"));
}

#[test]
fn lists_of_one_rule_must_stay_equally_long() {
    let mut library = Library::new();
    library.add("own", OWN[2]).unwrap();
    let text = domain("one-chain", &[("IP", "192.0.2.200")]);
    let known = known(Role::Vrrp, Method::Direct, &[VIP4]);
    let answer = ask(&library, &text, &known, BOTH, Wishes::default());
    // `arpsrcipaddr='$IP' arpsrcmacaddr='$MAC'`: two addresses would want two MACs.
    assert!(
        answer
            .parts
            .iter()
            .all(|part| part.starts_with("accept out"))
    );
    assert!(answer.rows.iter().all(|row| row.listed.is_empty()));
}

#[test]
fn where_no_safe_change_is_there_is_none() {
    // What depends on a set that is somewhere else is not known here.
    let mut library = Library::new();
    let set = "<filter name='set'><rule action='drop' direction='out'><all ipset='bad' ipsetflags='src'/></rule></filter>";
    library.add("set", set).unwrap();
    let known = known(Role::Director, Method::Direct, &[VIP4]);
    let text = domain("set", &[]);
    let one = &[Backend::Ebiptables];
    let answer = ask(&library, &text, &known, one, Wishes::default());
    let Outcome::None(reasons) = &answer.outcome else {
        panic!("{:?}", answer.outcome);
    };
    assert!(reasons[0].contains("match-set"), "{reasons:?}");
}
