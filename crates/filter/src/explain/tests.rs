use super::*;
use crate::judge::judge;
use crate::nwfilter::{Backend, Library, compile, reach, read_bindings};
use crate::route::{Direction, Host, Port};
use crate::{ebtables, iptables};

const PORT: Port<'static> = Port {
    name: "vnet0",
    bridge: None,
    peer: None,
};

/// TCP from 203.0.113.77:1024 to 192.0.2.208:80, SYN, from 02:00:73:b6:53:c8.
fn frame() -> Vec<u8> {
    pointsman_wire::Frame::ipv4([203, 0, 113, 77], [192, 0, 2, 208])
        .macs(
            "02:00:73:b6:53:c8".parse().unwrap(),
            "02:00:73:b6:53:e2".parse().unwrap(),
        )
        .tcp(1024, 80)
        .flags(pointsman_wire::tcp::SYN)
        .build()
}

fn explained(rules: &Ruleset, filters: &[Reached<'_>]) -> Explanation {
    let host = Host {
        call_iptables: true,
        ..Host::default()
    };
    let frame = frame();
    let judgement = judge(&frame, PORT, Direction::Out, rules, &host).unwrap();
    explain(&judgement, &frame, rules, filters)
}

fn in_chain(name: &str, end: &str, rules: &[&str]) -> Explanation {
    let mut text =
        format!("*nat\n:PREROUTING ACCEPT\n:{name} {end}\n-A PREROUTING -i vnet0 -j {name}\n");
    for rule in rules {
        text += &format!("-A {name} {rule}\n");
    }
    explained(&ebtables::read("f", &text).unwrap(), &[])
}

#[test]
fn a_last_rule_that_drops_is_explained_by_what_comes_before_it() {
    let explanation = in_chain(
        "I-vnet0-ipv4-ip",
        "ACCEPT",
        &[
            "-p IPv4 --ip-src 0.0.0.0 --ip-proto udp -j RETURN",
            "-p IPv4 --ip-src 192.0.2.200 -j RETURN",
            "-j DROP",
        ],
    );
    assert_eq!(
        explanation.to_string(),
        "drop: source address 203.0.113.77 is neither 0.0.0.0 with protocol udp nor 192.0.2.200; \
         ebtables nat, chain I-vnet0-ipv4-ip, rule 3: -j DROP"
    );
    assert_eq!(explanation.pins, Some(Pinned::Source));
    assert_eq!(explanation.owner.unwrap().filter, Some("no-ip-spoofing"));
    assert_eq!(explanation.rule.unwrap().place.unwrap(), "f:7:1");
}

#[test]
fn a_rule_of_a_filter_is_named_with_its_parameter() {
    let mut library = Library::new();
    for text in [
        "<filter name='clean'><filterref filter='pin'/></filter>",
        "<filter name='pin' chain='ipv4-ip' priority='-710'>\
         <rule action='return' direction='out'><ip srcipaddr='$IP'/></rule>\
         <rule action='drop' direction='out' priority='1000'/></filter>",
    ] {
        library.add("pin.xml", text).unwrap();
    }
    let binding = "<filterbinding><mac address='2:0:73:b6:53:c8'/><filterref filter='clean'>\
                   <parameter name='IP' value='192.0.2.200'/>\
                   <parameter name='IP' value='192.0.2.201'/></filterref></filterbinding>";
    let binding = &read_bindings("f", binding).unwrap()[0];
    let filters = reach(&library, binding);
    let said = |backend| {
        let compiled = compile(&library, binding, "vnet0", backend).unwrap();
        explained(&compiled.ruleset, &filters).to_string()
    };
    let words = "drop: filter pin (by way of clean), rule `drop out`, priority 1000: \
                 source address 203.0.113.77 is neither IP=192.0.2.200 nor IP=192.0.2.201; ";
    assert_eq!(
        said(Backend::Ebiptables),
        format!("{words}ebtables nat, chain I-vnet0-ipv4-ip, rule 3: -j DROP")
    );
    assert_eq!(
        said(Backend::Nftables),
        format!(
            "{words}nft bridge libvirt_nwfilter_ethernet, chain vnet0-ipv4-ip-out, rule 3: drop"
        )
    );
}

#[test]
fn every_way_to_end_has_its_words() {
    let chain = |end: &str, rules: &[&str]| in_chain("x", end, rules).to_string();
    for (end, rules, words) in [
        (
            "ACCEPT",
            &["-s ! 2:0:0:0:0:1 -j DROP"][..],
            "drop: source MAC 02:00:73:b6:53:c8 is not 02:00:00:00:00:01; ebtables nat, chain x, \
             rule 1: -s ! 2:0:0:0:0:1 -j DROP",
        ),
        (
            "ACCEPT",
            &["-p IPv4 --ip-proto tcp --ip-dport 80 -j DROP"],
            "drop: protocol is tcp and destination port is 80; ebtables nat, chain x, rule 1: \
             -p IPv4 --ip-proto tcp --ip-dport 80 -j DROP",
        ),
        (
            "ACCEPT",
            &["-p ARP -j DROP"],
            "pass: no rule of the chain is about it, and the end of a user chain of ebtables \
             accepts: rules behind it are not asked; ebtables nat, chain x, (end of chain: policy \
             ACCEPT)",
        ),
        (
            "DROP",
            &["-p IPv4 --ip-src 192.0.2.0/24 -j ACCEPT"],
            "drop: source address 203.0.113.77 is not 192.0.2.0/24; the chain's policy drops the \
             rest; ebtables nat, chain x, (end of chain: policy DROP)",
        ),
        (
            "ACCEPT",
            &["-p IPv4 --ip-dst 192.0.2.208 -j ACCEPT", "-j DROP"],
            "pass: destination address is 192.0.2.208; ebtables nat, chain x, rule 1: \
             -p IPv4 --ip-dst 192.0.2.208 -j ACCEPT",
        ),
        ("RETURN", &[], "pass: no rule drops it"),
        (
            "RETURN",
            &["-j DROP"],
            "drop: everything that gets here is dropped; ebtables nat, chain x, rule 1: -j DROP",
        ),
    ] {
        assert_eq!(chain(end, rules), words);
    }
    assert_eq!(
        explained(&Ruleset::default(), &[]).to_string(),
        "pass: no rule is about it"
    );
}

#[test]
fn a_chain_that_only_drops_is_explained_by_the_one_that_calls_it() {
    let text = "*filter\n:FORWARD ACCEPT\n:in - [0:0]\n:fallback - [0:0]\n-A FORWARD -j in\n\
                -A in -p tcp -m tcp --dport 22 -j RETURN\n-A in -p udp -j RETURN\n\
                -A in -j fallback\n-A fallback -j DROP\n";
    let rules = iptables::read_save(iptables::Version::V4, "f", text).unwrap();
    assert_eq!(
        explained(&rules, &[]).to_string(),
        "drop: destination port 80 is not 22 with protocol tcp; iptables filter, chain fallback, \
         rule 1: -j DROP"
    );
}

#[test]
fn doubts_are_said() {
    let said = |rule: &str| {
        let text = format!("*filter\n:FORWARD ACCEPT\n-A FORWARD {rule}\n");
        let rules = iptables::read_save(iptables::Version::V4, "f", &text).unwrap();
        explained(&rules, &[]).to_string()
    };
    for (rule, words) in [
        (
            "-m set --match-set x src -j DROP",
            "unknown here: `--match-set x src` is not understood; ",
        ),
        (
            "-m conntrack --ctstate INVALID -j DROP",
            "unknown here: whether connection state is invalid is not known here; ",
        ),
        (
            "-j NFQUEUE --queue-num 1",
            "unknown here: what `NFQUEUE --queue-num 1` does is not known; ",
        ),
    ] {
        assert!(said(rule).starts_with(words), "{}", said(rule));
    }
    assert_eq!(
        said("-p tcp -j REJECT --reject-with tcp-reset"),
        "drop: protocol is tcp, and the sender is told; iptables filter, chain FORWARD, rule 1: \
         -p tcp -j REJECT --reject-with tcp-reset"
    );
}
