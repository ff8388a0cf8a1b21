//! Which interfaces to attach to when none is named.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use pointsman_linux::netlink::{Link, Netlink};

/// The interfaces named, or all that can be meant.
pub(super) fn choose(named: &[String]) -> Result<Vec<String>> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let links = Netlink::new()
        .and_then(|mut netlink| netlink.links())
        .context("listing interfaces")?;
    let chosen = suitable(&links);
    if chosen.is_empty() {
        bail!("no Ethernet interface is up; name one with --interface");
    }
    Ok(chosen)
}

/// Ethernet interfaces that are up and take frames for this host themselves: a bridge or bond does
/// so for its ports.
fn suitable(links: &[Link]) -> Vec<String> {
    let by_index: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
    links
        .iter()
        .filter(|link| link.up && link.mac.is_some())
        .filter(|link| link.flags & libc::IFF_LOOPBACK as u32 == 0)
        .filter(|link| {
            let master = link.master.and_then(|master| by_index.get(&master));
            !master.is_some_and(|master| {
                matches!(
                    master.kind.as_deref(),
                    Some("bridge" | "bond" | "team" | "openvswitch")
                )
            })
        })
        // Frames for a VLAN interface are seen on the one below, tag and all.
        .filter(|link| link.vlan_id.is_none())
        .map(|link| link.name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: Some([2, 0, 0, 0, 0, index as u8]),
            mtu: 1500,
            up: true,
            kind: kind.map(str::to_owned),
            master: None,
            lower: None,
            lower_netns: None,
            vlan_id: None,
            flags: libc::IFF_UP as u32,
            hardware: libc::ARPHRD_ETHER,
            xdp: None,
        }
    }

    #[test]
    fn ports_loopback_and_what_is_down_are_left_out() {
        let mut loopback = link(1, "lo", None);
        loopback.flags |= libc::IFF_LOOPBACK as u32;
        let mut down = link(2, "eth1", None);
        down.up = false;
        let bridge = link(3, "br0", Some("bridge"));
        let mut port = link(4, "tap0", Some("tun"));
        port.master = Some(3);
        let mut in_vrf = link(6, "eth2", None);
        in_vrf.master = Some(5);
        let mut vlan = link(7, "eth2.7", Some("vlan"));
        vlan.vlan_id = Some(7);
        let mut tun = link(8, "tun0", Some("tun"));
        tun.mac = None;
        let mut vrf = link(5, "vrf0", Some("vrf"));
        vrf.up = false;
        let all = [loopback, down, bridge, port, vrf, in_vrf, vlan, tun];
        assert_eq!(suitable(&all), ["br0", "eth2"]);
    }
}
