//! Takes names and addresses out of snapshots and reports, so that they can be given away.
//!
//! The same name becomes the same pseudonym everywhere in a bundle, and addresses that share a network
//! still share one of the same length: reasoning does not change. Private addresses stay as they
//! are, as do names of interfaces, chains and rules with their comments.

mod report;
mod table;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pointsman_wire::Mac;
use serde_json::Value;

use crate::bundle::Bundle;
use crate::report::Report;
use crate::snapshot::{Origin, Snapshot, SnapshotError};

/// Replaces names and addresses. The key decides which pseudonyms; who does not know it can't try
/// addresses out.
pub fn redact(bundle: &Bundle, key: u128) -> Result<Bundle, SnapshotError> {
    let cover = Cover::new(bundle, &[], key);
    let redacted = bundle.nodes.iter().map(|snapshot| {
        let mut value = serde_json::to_value(snapshot)?;
        cover.value(&mut value);
        let mut snapshot: Snapshot = serde_json::from_value(value)?;
        snapshot.redacted = true;
        Ok(snapshot)
    });
    Ok(Bundle {
        nodes: redacted.collect::<Result<_, SnapshotError>>()?,
    })
}

/// Replaces names and addresses in a report, by the pseudonyms that the same key gives its bundle.
///
/// `asked` are hosts that were to be read, of which the bundle tells nothing if that failed.
pub fn redact_report(report: &Report, bundle: &Bundle, asked: &[String], key: u128) -> Report {
    let cover = Cover::new(bundle, asked, key);
    let mut report = report.clone();
    report::redact(&mut report, &cover);
    report
}

/// Names of hosts and of guests; those of namespaces say nothing that links do not.
fn own_names(snapshot: &Snapshot) -> Vec<String> {
    let mut names = Vec::new();
    match &snapshot.origin {
        Origin::Here => names.push(snapshot.node.clone()),
        Origin::Host(host) => {
            names.push(snapshot.node.clone());
            names.extend(names_of_host(host));
        }
        Origin::Netns(_) => {}
    }
    for domain in &snapshot.domains {
        let name = domain
            .split_once("<name>")
            .and_then(|(_, rest)| rest.split_once("</name>"));
        names.extend(name.map(|(name, _)| name.to_owned()));
    }
    names.retain(|name| !name.is_empty());
    names
}

/// What a host is called that ssh is asked for: with its user or without, and with a namespace there or
/// without. `root` names nobody.
fn names_of_host(host: &str) -> Vec<String> {
    let station = host.split('/').next().unwrap_or(host);
    let (user, name) = station.rsplit_once('@').unwrap_or(("", station));
    let names = [host, station, name, user].into_iter();
    names
        .filter(|name| *name != "root")
        .map(str::to_owned)
        .collect()
}

struct Cover {
    key: u128,
    names: BTreeMap<String, String>,
}

impl Cover {
    fn new(bundle: &Bundle, asked: &[String], key: u128) -> Self {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let read = bundle.nodes.iter().flat_map(own_names);
        let asked = asked.iter().flat_map(|host| names_of_host(host));
        for name in read.chain(asked).filter(|name| !name.is_empty()) {
            let number = names.len() + 1;
            names.entry(name).or_insert_with(|| format!("node{number}"));
        }
        Self { key, names }
    }

    fn value(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(members) => members.iter_mut().for_each(|member| self.value(member)),
            Value::Object(members) => members.values_mut().for_each(|member| self.value(member)),
            _ => {}
        }
    }

    fn text(&self, text: &str) -> String {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        let mut covered = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let is_part = |c: char| c.is_ascii_alphanumeric() || ":.-_@".contains(c);
            let end = if is_part(character) {
                rest.find(|c: char| !is_part(c)).unwrap_or(rest.len())
            } else {
                character.len_utf8()
            };
            covered += &self.word(&rest[..end]);
            rest = &rest[end..];
        }
        covered
    }

    /// A run of what names and addresses are made of.
    fn word(&self, word: &str) -> String {
        if let Some(name) = self.names.get(word) {
            return name.clone();
        }
        if let Some(address) = self.address(word) {
            return address;
        }
        // Ranges, and names with a point or colon at their end.
        for mark in ['-', ':', '.'] {
            if let Some((left, right)) = word.rsplit_once(mark)
                && (self.is_known(left) || self.is_known(right) && mark == '-')
            {
                return format!("{}{mark}{}", self.word(left), self.word(right));
            }
        }
        if is_uuid(word) {
            let hash =
                u128::from(self.hash(&("uuid", word))) << 64 | u128::from(self.hash(&(word, 1)));
            let text = format!("{hash:032x}");
            let [a, b, c, d, e] =
                [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)].map(|(from, to)| &text[from..to]);
            return format!("{a}-{b}-{c}-{d}-{e}");
        }
        word.to_owned()
    }

    fn is_known(&self, word: &str) -> bool {
        self.names.contains_key(word) || self.address(word).is_some()
    }

    /// The pseudonym of an address, if the word is one.
    fn address(&self, word: &str) -> Option<String> {
        if let Ok(address) = word.parse::<IpAddr>() {
            return Some(self.ip(address).to_string());
        }
        // Only with colons, for dashes would make one of a UUID's part; ebtables leaves zeros out.
        let octets = word.split(':').map(|part| {
            let is_hex = part.bytes().all(|byte| byte.is_ascii_hexdigit());
            (is_hex && (1..=2).contains(&part.len())).then(|| u8::from_str_radix(part, 16).ok())?
        });
        let octets: Option<Vec<u8>> = octets.collect();
        let octets: Option<[u8; 6]> = octets.and_then(|octets| octets.try_into().ok());
        octets.map(|octets| self.mac(Mac(octets)).to_string())
    }

    fn ip(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => self.v4(address).into(),
            IpAddr::V6(address) => self.v6(address).into(),
        }
    }

    fn v4(&self, address: Ipv4Addr) -> Ipv4Addr {
        let [first, second, ..] = address.octets();
        let is_public = !(address.is_private()
            || address.is_loopback()
            || address.is_link_local()
            || address.is_documentation()
            || first == 0
            || first >= 224
            || first == 100 && second & 0xc0 == 64
            || first == 198 && second & 0xfe == 18);
        if !is_public {
            return address;
        }
        // The leading part stays, so that no pseudonym is an address of another kind.
        let kept = if [100, 169, 172, 192, 198, 203].contains(&first) {
            16
        } else {
            8
        };
        let covered = self.bits(u32::from(address).into(), 32, kept);
        // At most 32 bits are set.
        Ipv4Addr::from(covered as u32)
    }

    fn v6(&self, address: Ipv6Addr) -> Ipv6Addr {
        let mut octets = address.octets();
        let is_global = octets[0] & 0xe0 == 0x20 && !octets.starts_with(&[0x20, 1, 0xd, 0xb8]);
        if is_global {
            octets = self.bits(address.into(), 128, 16).to_be_bytes();
        }
        // A MAC address within stays that of its interface (RFC 4291, appendix A).
        if address.octets()[11..13] == [0xff, 0xfe] {
            let [.., a, b, c, _, _, d, e, f] = address.octets();
            let Mac([a, b, c, d, e, f]) = self.mac(Mac([a ^ 2, b, c, d, e, f]));
            octets[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
        }
        octets.into()
    }

    /// Keeps the vendor's part; a tap's address differs from its guest's in the first byte only.
    fn mac(&self, mac: Mac) -> Mac {
        let Mac([a, b, c, d, e, f]) = mac;
        let is_group = a & 1 == 1;
        let is_vrrp = [a, b, c, d] == [0, 0, 0x5e, 0];
        if is_group || is_vrrp || mac == Mac([0; 6]) {
            return mac;
        }
        let [x, y, z, ..] = self.hash(&("mac", [b, c, d, e, f])).to_be_bytes();
        Mac([a, b, c, x, y, z])
    }

    /// Turns each bit behind the first `kept` or not, by all bits before it: who shares a prefix
    /// shares one of the same length afterwards.
    fn bits(&self, address: u128, width: u32, kept: u32) -> u128 {
        let mut covered = address;
        for place in kept..width {
            let before = address >> (width - place);
            let turn = u128::from(self.hash(&(width, place, before)) & 1);
            covered ^= turn << (width - place - 1);
        }
        covered
    }

    fn hash(&self, what: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.key, what, self.key).hash(&mut hasher);
        hasher.finish()
    }
}

fn is_uuid(word: &str) -> bool {
    let parts: Vec<&str> = word.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Prefix, SavedRules};

    fn cover() -> Cover {
        Cover {
            key: 7,
            names: [("host1.example".to_owned(), "node1".to_owned())].into(),
        }
    }

    #[test]
    fn private_and_special_addresses_stay() {
        for word in [
            "10.1.2.3",
            "192.168.7.33",
            "172.16.0.1",
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.0",
            "224.0.0.18",
            "169.254.1.1",
            "100.64.0.1",
            "fd00:7::33",
            "::1",
            "ff02::12",
            "fe80::1",
            "00:00:5e:00:01:33",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:12",
            "eth0",
            "1.8.9",
            "2001:db8::1",
        ] {
            assert_eq!(cover().text(word), word);
        }
    }

    #[test]
    fn public_addresses_keep_who_shares_a_network() {
        let cover = cover();
        let covered = |text: &str| -> Ipv4Addr { cover.text(text).parse().unwrap() };
        assert_ne!(covered("8.8.8.8"), Ipv4Addr::new(8, 8, 8, 8));
        for length in 8..=32 {
            let network = |address| Prefix {
                address: IpAddr::V4(address),
                length,
            };
            let [a, b] = ["8.8.8.8", "8.8.9.77"].map(|text| text.parse::<Ipv4Addr>().unwrap());
            assert_eq!(
                network(a).contains(b.into()),
                network(covered("8.8.8.8")).contains(covered("8.8.9.77").into()),
                "{length}"
            );
        }
        assert!(cover.text("2600:1::9").starts_with("2600:"));
    }

    #[test]
    fn addresses_are_found_within_text() {
        let cover = cover();
        let [one, two] = ["8.8.8.8", "9.9.9.9"].map(|text| cover.text(text));
        let text = "-A f -s 8.8.8.8/32 -m iprange --src-range 8.8.8.8-9.9.9.9 --to 9.9.9.9:80 host1.example";
        assert_eq!(
            cover.text(text),
            format!("-A f -s {one}/32 -m iprange --src-range {one}-{two} --to {two}:80 node1")
        );
        assert_eq!(
            cover.text("src=8.8.8.8 dst=10.0.0.1"),
            format!("src={one} dst=10.0.0.1")
        );
    }

    #[test]
    fn a_tap_and_the_address_made_of_it_stay_its_guests() {
        let cover = cover();
        let (guest, tap) = (
            cover.text("52:54:00:12:34:56"),
            cover.text("fe:54:00:12:34:56"),
        );
        assert_eq!(guest[2..], tap[2..]);
        assert_ne!(guest, "52:54:00:12:34:56");
        let Mac([a, b, c, d, e, f]) = guest.parse().unwrap();
        let expected = Ipv6Addr::from([
            0xfe,
            0x80,
            0,
            0,
            0,
            0,
            0,
            0,
            a ^ 2,
            b,
            c,
            0xff,
            0xfe,
            d,
            e,
            f,
        ]);
        assert_eq!(cover.text("fe80::5054:ff:fe12:3456"), expected.to_string());
    }

    #[test]
    fn hosts_are_covered_however_they_are_called() {
        let asked = ["root@db7.example/blue".to_owned(), "ann@web".to_owned()];
        let cover = Cover::new(&Bundle::default(), &asked, 7);
        let text = "db7.example/blue as root, web: ann@web, db7.example";
        let covered = cover.text(text);
        for name in ["db7", "ann", "web"] {
            assert!(!covered.contains(name), "{covered}");
        }
        assert!(covered.contains("/blue as root, "), "{covered}");
    }

    #[test]
    fn addresses_that_ebtables_shortens_are_covered() {
        let cover = cover();
        assert_eq!(
            cover.text("-s 52:54:0:1:2:3"),
            cover.text("-s 52:54:00:01:02:03")
        );
        for word in ["12:34:56", "1:2:3:4:5:6:7:8", "::1:2:3:4:5", "a:b:c:d:e:g"] {
            assert_eq!(cover.text(word), word);
        }
    }

    #[test]
    fn whole_bundles_are_covered() {
        let snapshot = Snapshot {
            schema: crate::snapshot::SCHEMA.to_owned(),
            node: "secret-host".to_owned(),
            rules: crate::snapshot::RuleDumps {
                iptables: vec![SavedRules {
                    program: "iptables-nft-save".to_owned(),
                    text: "-A INPUT -s 8.8.8.8 -j DROP # secret-host".to_owned(),
                }],
                ..Default::default()
            },
            domains: vec!["<domain><name>mail</name><uuid>11111111-2222-3333-4444-555555555555</uuid></domain>".to_owned()],
            ..Snapshot::default()
        };
        let bundle = redact(
            &Bundle {
                nodes: vec![snapshot],
            },
            1,
        )
        .unwrap();
        let text = bundle.write();
        for secret in ["secret-host", "8.8.8.8", "mail", "11111111-2222"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
        assert!(bundle.nodes[0].redacted);
        assert_eq!(Bundle::read(text.as_bytes()).unwrap(), bundle);
    }
}
