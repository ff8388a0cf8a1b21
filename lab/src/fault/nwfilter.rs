//! The rules of libvirt's `clean-traffic` for a port, as libvirt writes them with ebtables.

use super::action::{Action, feed};

/// Whose port it is, and what it may say it is.
#[derive(Debug, Clone)]
pub(crate) struct Port<'a> {
    /// The host.
    pub(crate) host: &'static str,
    /// Interface name there.
    pub(crate) port: &'a str,
    /// The guest's hardware address.
    pub(crate) mac: String,
    /// Addresses that it may say by ARP are its own.
    pub(crate) arp: &'a [&'a str],
    /// Addresses that it may send from.
    pub(crate) ip: &'a [&'a str],
}

impl Port<'_> {
    /// Installs the filter.
    pub(crate) fn clean_traffic(&self) -> Action {
        feed(self.host, "ebtables-restore", &self.rules())
    }

    /// What `ebtables-save` shows: chains entered from PREROUTING for what the guest sends (`I`),
    /// from POSTROUTING for what it gets (`O`).
    fn rules(&self) -> String {
        let Self { port, mac, .. } = self;
        let rarp = format!(
            "--arp-op Request_Reverse --arp-ip-src 0.0.0.0 --arp-ip-dst 0.0.0.0 \
             --arp-mac-src {mac} --arp-mac-dst {mac} -j ACCEPT"
        );
        let mut lines = vec!["*nat".to_owned()];
        for chain in ["PREROUTING", "OUTPUT", "POSTROUTING"] {
            lines.push(format!(":{chain} ACCEPT"));
        }
        for chain in ["arp-ip", "arp-mac", "ipv4-ip", "mac", "rarp"] {
            lines.push(format!(":I-{port}-{chain} ACCEPT"));
        }
        for chain in ["ipv4", "rarp"] {
            lines.push(format!(":O-{port}-{chain} ACCEPT"));
        }
        lines.push(format!(":libvirt-I-{port} ACCEPT"));
        lines.push(format!(":libvirt-O-{port} ACCEPT"));
        let mut rule = |chain: &str, rest: &str| lines.push(format!("-A {chain} {rest}"));
        rule("PREROUTING", &format!("-i {port} -j libvirt-I-{port}"));
        rule("POSTROUTING", &format!("-o {port} -j libvirt-O-{port}"));
        let inner = |name: &str| format!("I-{port}-{name}");
        for address in self.arp {
            let test = format!("-p ARP --arp-ip-src {address} -j RETURN");
            rule(&inner("arp-ip"), &test);
        }
        rule(&inner("arp-ip"), "-j DROP");
        let own = format!("-p ARP --arp-mac-src {mac} -j RETURN");
        rule(&inner("arp-mac"), &own);
        rule(&inner("arp-mac"), "-j DROP");
        let dhcp = "-p IPv4 --ip-src 0.0.0.0 --ip-proto udp -j RETURN";
        rule(&inner("ipv4-ip"), dhcp);
        for address in self.ip {
            let test = format!("-p IPv4 --ip-src {address} -j RETURN");
            rule(&inner("ipv4-ip"), &test);
        }
        rule(&inner("ipv4-ip"), "-j DROP");
        rule(&inner("mac"), &format!("-s {mac} -j RETURN"));
        rule(&inner("mac"), "-j DROP");
        let broadcast = "ff:ff:ff:ff:ff:ff";
        let announce = format!("-p RARP -s {mac} -d {broadcast} {rarp}");
        rule(&inner("rarp"), &announce);
        rule(&inner("rarp"), "-j DROP");
        rule(&format!("O-{port}-ipv4"), "-j ACCEPT");
        let announce = format!("-p RARP -d {broadcast} {rarp}");
        rule(&format!("O-{port}-rarp"), &announce);
        rule(&format!("O-{port}-rarp"), "-j DROP");
        let root = format!("libvirt-I-{port}");
        for (test, target) in [
            ("", inner("mac")),
            ("-p IPv4 ", inner("ipv4-ip")),
            ("-p IPv4 ", "ACCEPT".to_owned()),
            ("-p ARP ", inner("arp-mac")),
            ("-p ARP ", inner("arp-ip")),
            ("-p ARP ", "ACCEPT".to_owned()),
            ("-p RARP ", inner("rarp")),
            ("-p 0x835 ", "ACCEPT".to_owned()),
            ("", "DROP".to_owned()),
        ] {
            rule(&root, &format!("{test}-j {target}"));
        }
        let root = format!("libvirt-O-{port}");
        rule(&root, &format!("-p IPv4 -j O-{port}-ipv4"));
        rule(&root, "-p ARP -j ACCEPT");
        rule(&root, &format!("-p RARP -j O-{port}-rarp"));
        rule(&root, "-j DROP");
        lines.push("COMMIT\n".to_owned());
        lines.join("\n")
    }
}
