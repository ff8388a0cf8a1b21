//! `use_vmac`, `vmac_xmit_base`: a virtual router's own link-layer address.

use pointsman_wire::Mac;
use pointsman_wire::vrrp;

use super::super::document::Word;
use super::super::model::{Global, Instance, VirtualMac};
use super::super::reader::Reader;

/// The longest name that an interface has.
const NAME_MAX: usize = 15;

/// What stands behind `use_vmac`.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    name: Option<String>,
    mac: Option<Mac>,
}

impl Wish {
    /// Leaves the link-layer address to the virtual router's id; true if another one was wished.
    pub(super) fn forget_mac(&mut self) -> bool {
        self.mac.take().is_some()
    }
}

/// Reads `[NAME [MAC]] [netlink_notify_msg] [group N]`.
pub(super) fn read(reader: &mut Reader<'_>, words: &[Word]) -> Wish {
    let mut wish = Wish::default();
    for word in words {
        let text = word.text.as_str();
        if let Ok(mac) = text.parse::<Mac>() {
            if mac.0[0] & 1 != 0 {
                let text = format!("`{text}` is a group's link-layer address, and is left out");
                reader.error(word.place, text);
            } else {
                wish.mac = Some(mac);
            }
        } else if text == "netlink_notify_msg" {
            let text =
                "`netlink_notify_msg` has no effect: the kernel tells of the interface anyway";
            reader.warning(word.place, text.to_owned());
        } else if text == "group" {
            let text = "`group`: interfaces are not put into groups".to_owned();
            return {
                reader.unsupported(word.place, text);
                wish
            };
        } else if wish.name.is_none() && text.len() <= NAME_MAX && !text.contains('/') {
            wish.name = Some(text.to_owned());
        } else {
            let text = format!("`{text}` is no name of an interface and no link-layer address");
            reader.error(word.place, text);
        }
    }
    wish
}

/// The interface that comes of it; `others` are the instances before.
pub(super) fn settle(
    wish: &Wish,
    instance: &Instance,
    global: &Global,
    others: &[Instance],
) -> VirtualMac {
    let v6 = instance.is_ipv6();
    let prefix = global.vmac_prefix.as_deref().unwrap_or("vrrp");
    let usual = format!("{prefix}.{}", instance.vrid);
    let mut taken = others.iter().filter_map(|other| other.vmac.as_ref());
    let name = match &wish.name {
        Some(name) => name.clone(),
        None if taken.any(|other| other.name == usual) => {
            let family = if v6 { 6 } else { 4 };
            format!("{prefix}{family}.{}", instance.vrid)
        }
        None => usual,
    };
    VirtualMac {
        name: name.chars().take(NAME_MAX).collect(),
        mac: wish
            .mac
            .unwrap_or_else(|| vrrp::virtual_mac(instance.vrid, v6)),
        // Peers are answered at the address below.
        advertise_below: instance.places.of("vmac_xmit_base").is_some() && !instance.strict
            || !instance.peers.is_empty(),
    }
}
