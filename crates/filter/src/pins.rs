//! Which addresses a port's rules pin the guest to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::Mac;

use crate::field::Field;
use crate::model::{Action, Ruleset, Table};
use crate::owner::{self, Program};
use crate::test::Test;

/// Addresses that rules let a guest send from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pins {
    /// Link-layer addresses, in the order of the rules.
    pub macs: Vec<Mac>,
    /// Addresses, in the order of the rules.
    pub addresses: Vec<IpAddr>,
}

impl Pins {
    /// What the chains of a port let pass by its source, as far as their names tell whose they are.
    pub fn of(rules: &Ruleset, port: &str) -> Self {
        let mut pins = Self::default();
        for table in &rules.tables {
            pins.table(table, port);
        }
        pins
    }

    fn table(&mut self, table: &Table, port: &str) {
        for chain in &table.chains {
            let Some(owner) = owner::owner(table, &chain.name) else {
                continue;
            };
            let is_about = |name: &String| match owner.program {
                // Its chains have lost the last digit of the port's name.
                Program::Neutron => port.starts_with(name.as_str()),
                _ => port == name,
            };
            if !owner.port.as_ref().is_some_and(is_about) {
                continue;
            }
            for rule in &chain.rules {
                if matches!(rule.action, Action::Return | Action::Accept) {
                    for test in &rule.tests {
                        self.test(test);
                    }
                }
            }
        }
    }

    fn test(&mut self, test: &Test) {
        let Test::Compare {
            key,
            negated: false,
            ranges,
        } = test
        else {
            return;
        };
        for &(first, last) in ranges.iter().filter(|_| key.mask.is_none()) {
            if first != last || first == 0 {
                continue;
            }
            match key.field {
                Field::EtherSource | Field::ArpSenderMac => {
                    let [_, _, a, b, c, d, e, f] = (first as u64).to_be_bytes();
                    push(&mut self.macs, Mac([a, b, c, d, e, f]));
                }
                Field::Ip4Source | Field::ArpSenderIp => push(
                    &mut self.addresses,
                    Ipv4Addr::from_bits(first as u32).into(),
                ),
                Field::Ip6Source => {
                    push(&mut self.addresses, Ipv6Addr::from_bits(first).into());
                }
                _ => {}
            }
        }
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ebtables;

    #[test]
    fn a_port_is_pinned_to_what_its_own_chains_return() {
        let text = "*nat\n:PREROUTING ACCEPT\n:I-tap1-mac ACCEPT\n:I-tap1-ipv4-ip ACCEPT\n\
            :I-tap12-ipv4-ip ACCEPT\n\
            -A I-tap1-mac -s 2:0:0:0:0:1 -j RETURN\n-A I-tap1-mac -j DROP\n\
            -A I-tap1-ipv4-ip -p IPv4 --ip-src 0.0.0.0 --ip-proto udp -j RETURN\n\
            -A I-tap1-ipv4-ip -p IPv4 --ip-src 10.0.0.1 -j RETURN\n\
            -A I-tap1-ipv4-ip -p IPv4 --ip-src 10.0.1.0/24 -j RETURN\n\
            -A I-tap1-ipv4-ip -p IPv4 --ip-src 10.0.0.9 -j DROP\n\
            -A I-tap12-ipv4-ip -p IPv4 --ip-src 10.0.0.2 -j RETURN\n";
        let rules = ebtables::read("f", text).unwrap();
        let pins = Pins::of(&rules, "tap1");
        assert_eq!(pins.macs, [Mac([2, 0, 0, 0, 0, 1])]);
        assert_eq!(pins.addresses, [IpAddr::from([10, 0, 0, 1])]);
    }
}
