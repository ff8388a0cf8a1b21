//! What kernels say they dropped.

use std::collections::BTreeMap;

use super::{KernelDrop, Observed, Witness, counted, elsewhere, witnessed};
use crate::catalogue::Code;
use crate::finding::{Evidence, Finding};

/// Reasons for which kernels let packets go that did what they were for, or that say nothing.
const NOISE: [&str; 4] = ["NOT_SPECIFIED", "OTHERHOST", "SKB_CONSUMED", "CONSUMED"];

/// Functions that tell by themselves why they let a packet go, also where the kernel has no reason for it.
fn places(code: Code) -> &'static [&'static str] {
    match code {
        Code::NotRouted => &["ip_error", "ip6_pkt_discard", "dst_discard"],
        Code::PortIsolated | Code::Hairpin => &["br_handle_frame_finish", "br_forward"],
        Code::LinkMtu => &["br_dev_queue_push_xmit", "__dev_forward_skb"],
        Code::XdpVethSilent => &["xdp_bulk_tx", "xdp_devmap_xmit"],
        _ => &[],
    }
}

/// Packets of the virtual service that the finding's node dropped for a reason that fits.
pub(super) fn see(finding: &Finding, observed: &Observed<'_>) -> Option<Evidence> {
    let mut found: BTreeMap<(&str, &str, &str, &str), usize> = BTreeMap::new();
    for drop in observed.drops.iter().filter(|drop| {
        drop.node == finding.node
            || elsewhere::is_shown_at(finding.code, &drop.node, observed)
            || elsewhere::is_sent_to(finding, &drop.node, &drop.device, observed)
    }) {
        if fits(finding, drop) {
            let key = (&*drop.node, &*drop.reason, &*drop.location, &*drop.device);
            *found.entry(key).or_default() += 1;
        }
    }
    let ((node, reason, location, device), count) =
        found.into_iter().max_by_key(|(_, count)| *count)?;
    let at = if device.is_empty() {
        String::new()
    } else {
        format!(" on {device}")
    };
    let fact = format!(
        "the kernel of {} dropped {}{at}: {reason} in {location}",
        node,
        counted(count, "packet"),
    );
    let command = "perf trace --no-syscalls --event skb:kfree_skb";
    Some(Evidence {
        node: (node != finding.node).then(|| node.to_owned()),
        ..witnessed(Witness::Kernel, fact, command)
    })
}

fn fits(finding: &Finding, drop: &KernelDrop) -> bool {
    let reason = drop.reason.as_str();
    let by_filter = reason == "NETFILTER_DROP"
        || ["nft_do_chain", "nf_hook_slow", "ebt_", "ipt_", "br_nf_"]
            .iter()
            .any(|start| drop.location.starts_with(start));
    if finding.rule.is_some() {
        const ARP: u16 = 0x0806;
        // One port's filter has rules for both, and each is a finding of its own.
        let is_its_kind = match finding.code {
            Code::HostArpSpoof => drop.protocol == ARP,
            Code::HostMacSpoof | Code::CniEbtables => true,
            _ => drop.protocol != ARP,
        };
        return by_filter && is_its_kind;
    }
    let starts = |place: &&str| drop.location.starts_with(*place);
    if places(finding.code).iter().any(starts) {
        return true;
    }
    // Only a program sends by XDP.
    if drop.location.starts_with("xdp_") {
        return false;
    }
    let wanted: &[&str] = match finding.code {
        Code::VipMissing | Code::VipMissingForwarding | Code::NatNoForward => {
            &["IP_INADDRERRORS", "IP_INNOROUTES"]
        }
        Code::ReversePath | Code::TunnelReversePath | Code::CniReversePath => {
            &["IP_RPFILTER", "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE"]
        }
        Code::ServiceBind
        | Code::PortMismatch
        | Code::UdpSource
        | Code::VipNetmask
        | Code::NatGateway
        | Code::NatSameSubnet
        | Code::StickyDead => &["NO_SOCKET", "TCP_CLOSE", "SOCKET_RCVBUFF"],
        Code::Backlog => &["TCP_LISTEN_OVERFLOW", "TCP_OVERFLOW", "LISTEN_OVERFLOW"],
        Code::LinkMtu | Code::TunnelMtu => &["PKT_TOO_BIG", "DEV_READY"],
        Code::PartialChecksum => &["TCP_CSUM", "UDP_CSUM", "SKB_CSUM", "IP_CSUM"],
        Code::TtlExpired => &["IP_INHDR", "TTL"],
        Code::TunnelDown => &["IP_NOPROTO", "NO_SOCKET"],
        Code::NotRouted => &["IP_INNOROUTES", "IP_OUTNOROUTES"],
        Code::PolicyRoute => &["NEIGH_FAILED", "NEIGH_QUEUEFULL", "IP_OUTNOROUTES"],
        Code::PortIsolated | Code::Hairpin => &["BRIDGE_NO_EGRESS_PORT"],
        Code::XdpVethSilent => &[],
        // Without a rule of its own, anything that is no noise speaks for a fault at this node.
        _ => return !NOISE.contains(&reason),
    };
    wanted.contains(&reason)
}
