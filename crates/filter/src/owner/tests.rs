use super::*;

fn found(engine: Engine, table: &str, chain: &str) -> Option<(Program, String)> {
    of_names(engine, table, chain).map(|owner| {
        let port = owner.port.unwrap_or_default();
        (owner.program, port)
    })
}

#[test]
fn names_of_the_field_tell_who_installed_them() {
    for (chain, program, port) in [
        ("libvirt-I-vnet0", Program::Nwfilter, "vnet0"),
        ("libvirt-P-vnet0", Program::Nwfilter, "vnet0"),
        ("I-vnet0-ipv4-ip", Program::Nwfilter, "vnet0"),
        (
            "I-tap0678bf1d-41-arp-ip",
            Program::Nwfilter,
            "tap0678bf1d-41",
        ),
        ("O-macvtap0-rarp", Program::Nwfilter, "macvtap0"),
        ("FI-vnet0", Program::Nwfilter, "vnet0"),
        ("HI-vnet12", Program::Nwfilter, "vnet12"),
        ("libvirt-in-post", Program::Nwfilter, ""),
        ("LIBVIRT_FWO", Program::LibvirtNetwork, ""),
        ("nova-filter-top", Program::Nova, ""),
        ("nova-compute-inst-42", Program::Nova, ""),
        ("nova-compute-sg-fallback", Program::Nova, ""),
        (
            "neutron-openvswi-i0678bf1d-4",
            Program::Neutron,
            "tap0678bf1d-4",
        ),
        (
            "neutron-linuxbri-s0678bf1d-4",
            Program::Neutron,
            "tap0678bf1d-4",
        ),
        ("neutron-linuxbri-sg-fallback", Program::Neutron, ""),
        (
            "neutronARP-tap0678bf1d-41",
            Program::Neutron,
            "tap0678bf1d-41",
        ),
        ("KUBE-MARK-MASQ", Program::Kubernetes, ""),
        ("DOCKER-ISOLATION-STAGE-1", Program::Docker, ""),
        ("cni-br-iface-0a1b-mac", Program::Cni, ""),
        ("cali-FORWARD", Program::Calico, ""),
        ("FORWARD_IN_ZONES", Program::Firewalld, ""),
        ("IN_public_allow", Program::Firewalld, ""),
        ("ufw-before-input", Program::Ufw, ""),
    ] {
        assert_eq!(
            found(Engine::Iptables, "filter", chain),
            Some((program, port.to_owned())),
            "{chain}"
        );
    }
    for chain in [
        "INPUT", "FORWARD", "I-vnet0", "my-chain", "neutrons", "I--mac",
    ] {
        assert_eq!(found(Engine::Ebtables, "nat", chain), None, "{chain}");
    }
}

#[test]
fn tables_of_nftables_tell_who_installed_them() {
    for (table, chain, program, port) in [
        (
            "libvirt_nwfilter_ethernet",
            "vnet0-out",
            Program::Nwfilter,
            "vnet0",
        ),
        (
            "libvirt_nwfilter_ethernet",
            "vnet0-ipv4-ip-out",
            Program::Nwfilter,
            "vnet0",
        ),
        (
            "libvirt_nwfilter_inet",
            "n-vnet0-in",
            Program::Nwfilter,
            "vnet0",
        ),
        ("libvirt_nwfilter_inet", "prerouting", Program::Nwfilter, ""),
        (
            "pointsman_vnet0",
            "I-vnet0-mac",
            Program::Pointsman,
            "vnet0",
        ),
        ("pointsman_br/2dx", "prerouting", Program::Pointsman, "br-x"),
        ("firewalld", "filter_INPUT", Program::Firewalld, ""),
    ] {
        assert_eq!(
            found(Engine::Nftables, table, chain),
            Some((program, port.to_owned())),
            "{table} {chain}"
        );
    }
}

#[test]
fn filters_of_nova_are_novas() {
    let path = [
        "nova-instance-instance-0f-fa163e5801ac",
        "nova-base",
        "no-ip-spoofing",
    ];
    let owner = of_filters(path).unwrap();
    assert_eq!(owner.to_string(), "OpenStack nova: filter nova-base");
    assert!(
        owner
            .knob
            .unwrap()
            .contains("nova-instance-instance-0f-fa163e5801ac")
    );
    assert_eq!(of_filters(["clean-traffic", "no-ip-spoofing"]), None);
}

#[test]
fn a_chain_of_libvirt_names_its_filter_and_where_it_is_changed() {
    let owner = of_names(Engine::Ebtables, "nat", "I-tap0678bf1d-41-arp-ip").unwrap();
    assert_eq!(owner.filter, Some("no-arp-ip-spoofing"));
    assert_eq!(
        owner.to_string(),
        "libvirt nwfilter: what the guest sends at port tap0678bf1d-41, chain arp-ip, by its \
         name filter no-arp-ip-spoofing"
    );
    assert!(owner.knob.unwrap().contains("neutron port 0678bf1d-41..."));
    let owner = of_names(Engine::Ebtables, "nat", "I-vnet0-ipv4-dr").unwrap();
    assert_eq!(owner.filter, None);
}
