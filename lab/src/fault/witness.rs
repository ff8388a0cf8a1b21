//! What shows, while a fault stands, that it is this and nothing else.

use super::Witness;

/// Code, node, command, what a line of its output must have, and behind what its count stands.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

/// Hardware addresses in it follow from the order of nodes in their sites.
const ROWS: &[Row] = &[
    (
        "HOST_IP_SPOOF_DIR",
        "host1",
        "ebtables -t nat -L I-vnet0-ipv4-ip --Lc",
        "-j DROP",
        "pcnt =",
    ),
    (
        "HOST_IP_SPOOF_RS",
        "host2",
        "ebtables -t nat -L I-vnet0-ipv4-ip --Lc",
        "-j DROP",
        "pcnt =",
    ),
    (
        "HOST_ARP_SPOOF",
        "host1",
        "ebtables -t nat -L I-tap0678bf1d-41-arp-ip --Lc",
        "-j DROP",
        "pcnt =",
    ),
    (
        "HOST_IP_SPOOF_VIP",
        "host1",
        "ebtables -t nat -L I-tap0678bf1d-41-ipv4-ip --Lc",
        "-j DROP",
        "pcnt =",
    ),
    (
        "HOST_MAC_SPOOF",
        "host1",
        "ebtables -t nat -L I-vnet0-mac --Lc",
        "-j DROP",
        "pcnt =",
    ),
    (
        "NEUTRON_PORT_SECURITY",
        "host1",
        "iptables-save -c -t filter",
        "IP/MAC allow rule.\" -j DROP",
        "[",
    ),
    (
        "SG_INGRESS",
        "host1",
        "iptables-save -c -t filter",
        "-A neutron-linuxbri-sg-fallback -j DROP",
        "[",
    ),
    (
        "STATEFUL_ASYM_DIR",
        "host1",
        "iptables-save -c -t filter",
        "--ctstate INVALID -j DROP",
        "[",
    ),
    (
        "STATEFUL_ASYM_RETURN",
        "firewall",
        "iptables-save -c -t filter",
        "--ctstate INVALID -j DROP",
        "[",
    ),
    (
        "CNI_EBTABLES",
        "host1",
        "nft list chain bridge nat cni-br-iface-e3b0c442-mac",
        " drop comment",
        "packets",
    ),
    (
        "ARP_FLUX_RS",
        "gateway",
        "ip neighbour show 198.51.100.208",
        "02:00:00:00:08:00",
        "",
    ),
    (
        "ARP_ANNOUNCE_RS",
        "gateway",
        "ip neighbour show 198.51.100.208",
        "02:00:00:00:08:00",
        "",
    ),
    (
        "DUP_VIP",
        "gateway",
        "ip neighbour show 198.51.100.208",
        "02:00:00:00:08:00",
        "",
    ),
    (
        "IPVS_STRICT_ARP",
        "gateway",
        "ip neighbour show 198.51.100.208",
        "02:00:00:00:08:00",
        "",
    ),
    (
        "VRRP_SPLIT",
        "backup",
        "ip -o address show dev eth0",
        "198.51.100.208/32",
        "",
    ),
    (
        "STALE_NEIGH",
        "gateway",
        "ip neighbour show 198.51.100.208",
        "02:00:00:00:08:00",
        "",
    ),
    (
        "MAC_FLAP",
        "switch",
        "bridge fdb show br br0",
        "02:00:00:00:05:00 dev st ",
        "",
    ),
    (
        "HAIRPIN",
        "host1",
        "bridge -d link show dev vnet0",
        "hairpin off",
        "",
    ),
    (
        "PORT_ISOLATED",
        "switch",
        "bridge -d link show dev h1",
        "isolated on",
        "",
    ),
    (
        "L2_NOT_ADJACENT",
        "director",
        "pointsman verdicts",
        "ttl-exceeded",
        "ttl-exceeded",
    ),
    (
        "RS_VIP_MISSING",
        "rs1",
        "nstat -asz IpInAddrErrors",
        "IpInAddrErrors",
        "IpInAddrErrors",
    ),
    (
        "RS_VIP_MISSING_FWD",
        "rs1",
        "nstat -asz IpForwDatagrams",
        "IpForwDatagrams",
        "IpForwDatagrams",
    ),
    (
        "RS_VIP_NETMASK",
        "rs1",
        "ip route get 198.51.100.10",
        "local 198.51.100.10 dev lo",
        "",
    ),
    (
        "RS_RPFILTER",
        "rs1",
        "nstat -asz TcpExtIPReversePathFilter",
        "TcpExtIPReversePathFilter",
        "TcpExtIPReversePathFilter",
    ),
    (
        "TUN_RPFILTER",
        "rs1",
        "nstat -asz TcpExtIPReversePathFilter",
        "TcpExtIPReversePathFilter",
        "TcpExtIPReversePathFilter",
    ),
    (
        "RS_REPLY_URPF",
        "gateway",
        "nstat -asz TcpExtIPReversePathFilter",
        "TcpExtIPReversePathFilter",
        "TcpExtIPReversePathFilter",
    ),
    (
        "TUN_DOWN",
        "rs1",
        "nstat -asz IcmpOutDestUnreachs",
        "IcmpOutDestUnreachs",
        "IcmpOutDestUnreachs",
    ),
    (
        "TUN_FIREWALL",
        "host2",
        "ebtables -L FORWARD --Lc",
        "-j DROP",
        "pcnt =",
    ),
    (
        "TUN_MTU",
        "gateway",
        "iptables-save -c -t filter",
        "--icmp-type 3/4 -j DROP",
        "[",
    ),
    (
        "PORT_MISMATCH",
        "rs1",
        "nstat -asz TcpOutRsts",
        "TcpOutRsts",
        "TcpOutRsts",
    ),
    (
        "SERVICE_BIND",
        "rs1",
        "nstat -asz TcpOutRsts",
        "TcpOutRsts",
        "TcpOutRsts",
    ),
    (
        "RS_BACKLOG",
        "rs1",
        "nstat -asz TcpExtListenOverflows",
        "TcpExtListenOverflows",
        "TcpExtListenOverflows",
    ),
    (
        "RS_LOCAL_FW",
        "rs1",
        "iptables-save -c -t filter",
        "--dport 80 -j DROP",
        "[",
    ),
    (
        "NO_SERVICE_MATCH",
        "director",
        "pointsman verdicts",
        "no-service",
        "no-service",
    ),
    (
        "NO_RS_AVAILABLE",
        "director",
        "pointsman verdicts",
        "no-destination",
        "no-destination",
    ),
    (
        "RS_STICKY_DEAD",
        "rs1",
        "nstat -asz TcpOutRsts",
        "TcpOutRsts",
        "TcpOutRsts",
    ),
    (
        "NAT_BAD_GATEWAY",
        "client",
        "nstat -asz TcpOutRsts",
        "TcpOutRsts",
        "TcpOutRsts",
    ),
    (
        "NAT_SAME_SUBNET",
        "client",
        "nstat -asz TcpOutRsts",
        "TcpOutRsts",
        "TcpOutRsts",
    ),
    (
        "CSUM_PARTIAL",
        "rs1",
        "nstat -asz TcpInCsumErrors",
        "TcpInCsumErrors",
        "TcpInCsumErrors",
    ),
    (
        "BR_NF_DESNAT",
        "host",
        "conntrack -L",
        "SYN_RECV src=172.16.0.57 dst=10.43.113.238",
        "",
    ),
    (
        "BR_NF_FULL_UNNAT",
        "host",
        "conntrack -L",
        "src=172.16.0.57 dst=10.43.113.238",
        "",
    ),
    (
        "DOCKER_FORWARD_DROP",
        "host1",
        "iptables-save -c -t filter",
        ":FORWARD DROP",
        "[",
    ),
    (
        "KUBE_INVALID_DROP",
        "host1",
        "iptables-save -c -t filter",
        "--ctstate INVALID -j DROP",
        "[",
    ),
    (
        "KUBE_NO_ENDPOINT",
        "host",
        "iptables-save -c -t filter",
        "-j REJECT",
        "[",
    ),
    (
        "VIP_NOT_ROUTED",
        "gateway",
        "ip route show 198.51.100.208",
        "blackhole",
        "",
    ),
    (
        "POLICY_ROUTE",
        "rs1",
        "ip route get 192.0.2.10 from 198.51.100.208",
        "via 198.51.100.254",
        "",
    ),
    (
        "TTL_EXPIRED",
        "director",
        "pointsman verdicts",
        "ttl-exceeded",
        "ttl-exceeded",
    ),
    (
        "NAT_NO_FORWARD",
        "director",
        "nstat -asz IpInAddrErrors",
        "IpInAddrErrors",
        "IpInAddrErrors",
    ),
    (
        "IPVS_CT_OFF",
        "client",
        "nstat -asz TcpOutRsts",
        "TcpOutRsts",
        "TcpOutRsts",
    ),
    (
        "DIR_INPUT_DROP",
        "director",
        "iptables-save -c -t filter",
        "--dport 80 -j DROP",
        "[",
    ),
    (
        "DIR_FORWARD_DROP",
        "director",
        "iptables-save -c -t filter",
        ":FORWARD DROP",
        "[",
    ),
    (
        "DIR_INVALID_DROP",
        "director",
        "iptables-save -c -t filter",
        "--ctstate INVALID -j DROP",
        "[",
    ),
];

/// The witness of a fault, where one command tells it.
pub(crate) fn of(code: &str) -> Option<Witness> {
    let row = ROWS.iter().find(|row| row.0 == code)?;
    let &(_, node, command, line, count_after) = row;
    Some(Witness {
        node,
        command,
        line,
        count_after,
    })
}

impl Witness {
    /// Whether this output bears witness.
    pub fn is_borne_by(&self, output: &str) -> bool {
        let mut lines = output.lines().filter(|line| line.contains(self.line));
        lines.any(|line| self.count_after.is_empty() || self.count(line).is_some_and(|n| n > 0))
    }

    fn count(&self, line: &str) -> Option<u64> {
        let (_, behind) = line.split_once(self.count_after)?;
        let start = behind.find(|character: char| character.is_ascii_digit())?;
        let digits = behind[start..].split(|character: char| !character.is_ascii_digit());
        digits.into_iter().next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_counts_above_zero_bear_witness() {
        let witness = of("RS_LOCAL_FW").unwrap();
        let output = |count| {
            format!(":INPUT ACCEPT [9:9]\n[{count}:60] -A INPUT -p tcp --dport 80 -j DROP\n")
        };
        assert!(witness.is_borne_by(&output(3)));
        assert!(!witness.is_borne_by(&output(0)));
        assert!(!witness.is_borne_by(""));
        assert!(
            of("STALE_NEIGH")
                .unwrap()
                .is_borne_by("x 02:00:00:00:08:00 y")
        );
    }
}
