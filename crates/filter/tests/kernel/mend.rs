//! A mended filter in the kernel: what a role needs arrives, and what the filter is for is stopped.

use pointsman_filter::catalogue::{
    Kind, Known, Method, Need, Protocol, RealServer, Role, Scene, Vip, kinds,
};
use pointsman_filter::mend::{Document, Mend, Question, Source, Subject, Wishes, mend};
use pointsman_filter::model::Ruleset;
use pointsman_filter::nwfilter::{Backend, Library, compile, read_bindings};
use pointsman_filter::route::Direction;
use pointsman_wire::Mac;

use super::{Bridge, MAC};

/// As libvirt's `clean-traffic` is made, in one library: sources in IPv4 and ARP, MACs, nothing else.
const FILTERS: &[&str] = &[
    "<filter name='macs' chain='mac' priority='-800'><rule action='return' direction='out'><mac \
     srcmacaddr='$MAC'/></rule><rule action='drop' direction='out'><mac/></rule></filter>",
    "<filter name='sources' chain='ipv4-own' priority='-710'><rule action='return' \
     direction='out'><ip srcipaddr='$IP'/></rule><rule action='drop' direction='out' \
     priority='1000'/></filter>",
    "<filter name='arp-macs' chain='arp-own-mac' priority='-520'><rule action='return' \
     direction='out'><arp arpsrcmacaddr='$MAC'/></rule><rule action='drop' direction='out' \
     priority='1000'/></filter>",
    "<filter name='arp-ips' chain='arp-own-ip' priority='-510'><rule action='return' \
     direction='out'><arp arpsrcipaddr='$IP'/></rule><rule action='drop' direction='out' \
     priority='1000'/></filter>",
    "<filter name='incoming' chain='ipv4' priority='-700'><rule action='accept' \
     direction='in'/></filter>",
    "<filter name='clean'><filterref filter='macs'/><filterref filter='sources'/><rule \
     action='accept' direction='out' priority='-650'><mac protocolid='ipv4'/></rule><filterref \
     filter='incoming'/><filterref filter='arp-macs'/><filterref filter='arp-ips'/><rule \
     action='accept' direction='inout' priority='-500'><mac protocolid='arp'/></rule><rule \
     action='drop' direction='inout' priority='1000'/></filter>",
];

const BINDING: &str = "<filterbinding><owner><name>director</name></owner><portdev name='p0'/><mac \
    address='02:00:73:b6:53:c8'/><filterref filter='clean'><parameter name='IP' \
    value='192.0.2.200'/></filterref></filterbinding>";

#[test]
fn a_mended_filter_lets_the_role_work_and_stops_what_it_stopped() {
    if !super::can_run() {
        return;
    }
    let mut library = Library::new();
    for filter in FILTERS {
        library.add("filters", filter).unwrap();
    }
    let bridge = Bridge::new();
    for (role, method, vmac) in [
        (Role::Director, Method::Direct, false),
        (Role::Director, Method::Masquerade, false),
        (Role::RealServer, Method::Direct, false),
        (Role::Vrrp, Method::Direct, true),
    ] {
        let known = known(role, method, vmac);
        let answer = ask(&library, &known);
        let (new_library, text) = changed(&library, &answer.documents);
        for backend in [Backend::Ebiptables, Backend::Nftables] {
            let rules = |library: &Library, text: &str| {
                let binding = &read_bindings("binding", text).unwrap()[0];
                compile(library, binding, "p0", backend).unwrap().ruleset
            };
            let before = arriving(&bridge, &rules(&library, BINDING), &known);
            let after = arriving(&bridge, &rules(&new_library, &text), &known);
            let mut cured = 0;
            for (at, kind) in kinds(&Scene::new(&known)).iter().enumerate() {
                let words = format!("{role:?} {method:?} {backend:?}: {}", kind.words);
                // What can't be told apart from clients' packets to real servers.
                let is_excused = kind.id == "vip-to-others";
                match kind.need {
                    Need::Must => assert!(after[at], "{words}"),
                    Need::MustNot if !is_excused => assert!(!after[at] || before[at], "{words}"),
                    _ => {}
                }
                cured += usize::from(kind.need == Need::Must && !before[at]);
            }
            assert!(cured > 0);
        }
    }
}

fn known(role: Role, method: Method, vmac: bool) -> Known {
    Known {
        roles: vec![role],
        method: Some(method),
        vips: vec![Vip {
            address: "192.0.2.208".parse().unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
        }],
        mac: MAC.parse().unwrap(),
        addresses: vec!["192.0.2.200".parse().unwrap()],
        real_servers: vec![RealServer {
            address: "192.0.2.11".parse().unwrap(),
            mac: Some(Mac([2, 0, 0x73, 0xb6, 0x53, 0xe2])),
            port: None,
        }],
        vrid: Some(51),
        vmac,
        ..Known::default()
    }
}

fn ask(library: &Library, known: &Known) -> Mend {
    mend(&Question {
        library,
        binding: &read_bindings("binding", BINDING).unwrap()[0],
        source: Source {
            file: "binding",
            text: BINDING,
            number: 0,
        },
        known,
        backends: &[Backend::Ebiptables, Backend::Nftables],
        wishes: Wishes::default(),
    })
    .unwrap()
}

/// The library and the binding as the documents have them.
fn changed(library: &Library, documents: &[Document]) -> (Library, String) {
    let (mut library, mut binding) = (library.clone(), BINDING.to_owned());
    assert!(!documents.is_empty());
    for document in documents {
        match &document.subject {
            Subject::Binding => binding.clone_from(&document.after),
            _ => {
                library.add(&document.file, &document.after).unwrap();
            }
        }
    }
    (library, binding)
}

/// Which frames of the catalogue come through, in its order.
fn arriving(bridge: &Bridge, rules: &Ruleset, known: &Known) -> Vec<bool> {
    bridge.install(rules);
    let kinds = kinds(&Scene::new(known));
    let mut arriving = vec![false; kinds.len()];
    for direction in [Direction::Out, Direction::In] {
        // No bridge passes on what is for bridges.
        let own: Vec<(usize, &Kind)> = kinds
            .iter()
            .enumerate()
            .filter(|(_, kind)| kind.direction == direction && kind.id != "stp")
            .collect();
        let frames: Vec<Vec<u8>> = own.iter().map(|(_, kind)| kind.frame.clone()).collect();
        for ((at, _), passed) in own.iter().zip(bridge.pass(direction, &frames)) {
            arriving[*at] = passed;
        }
    }
    arriving
}
