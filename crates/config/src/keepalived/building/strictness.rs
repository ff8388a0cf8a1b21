//! `vrrp_strict`, `strict_mode`: a virtual router held to the RFCs; `accept`, `no_accept`.

use std::time::Duration;

use super::super::model::{Global, Instance};
use super::super::reader::Reader;
use super::virtual_mac;

/// Intervals of silence until the master is down, by the RFCs.
const DOWN_ADVERTS: u8 = 3;
/// The priority of whoever owns the addresses.
const OWNER: u8 = 255;

/// What strictness says before anything else: the version of IPv6, and who begins as master.
pub(super) fn begin(reader: &mut Reader<'_>, instance: &mut Instance) {
    if !instance.strict {
        return;
    }
    if instance.is_ipv6() && instance.version == 2 {
        let text = "IPv6 is version 3's alone in strict mode: version 3 is used; say `version 3`, or nothing";
        reader.error(instance.places.near("version"), text.to_owned());
        instance.version = 3;
    }
    let owner = instance.priority == OWNER;
    if instance.begins_as_master != owner {
        let text = match owner {
            true => "in strict mode priority 255, which owns the addresses, begins as master",
            false => "in strict mode only priority 255, which owns the addresses, begins as master",
        };
        reader.error(instance.places.near("state"), text.to_owned());
        instance.begins_as_master = owner;
    }
}

/// What the RFCs don't have: it is as if nobody had said it. `accept` is what was said of that.
pub(super) fn hold(
    reader: &mut Reader<'_>,
    instance: &mut Instance,
    accept: Option<bool>,
    vmac: Option<&mut virtual_mac::Wish>,
) {
    let owner = instance.priority == OWNER;
    instance.accept = accept.unwrap_or(!instance.strict || owner);
    if !instance.strict {
        return;
    }
    let mut refuse = |instance: &Instance, keyword: &str, what: &str| {
        let text = format!("{what} is not the RFC's: it has no effect in strict mode");
        reader.error(instance.places.near(keyword), text);
    };
    if instance.accept && !owner && instance.version == 2 {
        refuse(instance, "accept", "`accept` with version 2");
        instance.accept = false;
    }
    if !instance.preempt_delay.is_zero() {
        refuse(instance, "preempt_delay", "`preempt_delay`");
        instance.preempt_delay = Duration::ZERO;
    }
    if instance.down_adverts != DOWN_ADVERTS {
        let keyword = "down_timer_adverts";
        refuse(instance, keyword, "another `down_timer_adverts` than 3");
        instance.down_adverts = DOWN_ADVERTS;
    }
    let said = |instance: &Instance, keyword: &str| instance.places.of(keyword).is_some();
    for keyword in ["garp_lower_prio_repeat", "garp_lower_prio_delay"] {
        let announce = &instance.announce;
        let is_off = match keyword {
            "garp_lower_prio_repeat" => announce.lower_repeat == 0,
            _ => announce.lower_delay.is_zero(),
        };
        if said(instance, keyword) && !is_off {
            refuse(instance, keyword, &format!("`{keyword}`"));
        }
    }
    instance.announce.lower_repeat = 0;
    instance.announce.lower_delay = Duration::ZERO;
    if said(instance, "lower_prio_no_advert") && !instance.lower_no_advert {
        let what = "`lower_prio_no_advert off`";
        refuse(instance, "lower_prio_no_advert", what);
    }
    instance.lower_no_advert = true;
    if said(instance, "higher_prio_send_advert") && instance.higher_send_advert {
        let what = "`higher_prio_send_advert`";
        refuse(instance, "higher_prio_send_advert", what);
    }
    instance.higher_send_advert = false;
    if said(instance, "vmac_xmit_base") {
        refuse(instance, "vmac_xmit_base", "`vmac_xmit_base`");
    }
    if let Some(wish) = vmac
        && wish.forget_mac()
    {
        let what = "a link-layer address behind `use_vmac`";
        refuse(instance, "use_vmac", what);
    }
    let first = instance.addresses.first().map(|first| first.address);
    if let Some(std::net::IpAddr::V6(address)) = first
        && !address.is_unicast_link_local()
    {
        let text =
            format!("`{address}`: the first address of IPv6 has to be link-local in strict mode");
        reader.error(instance.places.near("virtual_ipaddress"), text);
    }
    if !instance.peers.is_empty() {
        let text = "unicast is not the RFC's; keepalived's manual refuses it in strict mode, and \
                    keepalived 2.2.7 does it all the same, as is done here";
        reader.warning(instance.places.near("unicast_peer"), text.to_owned());
    }
}

/// Says that strictness leaves a segment that was told something wrong as it is.
pub(super) fn warn(reader: &mut Reader<'_>, instance: &Instance, global: &Global) {
    if !instance.strict {
        return;
    }
    let place = match (
        instance.places.of("strict_mode"),
        global.places.of("vrrp_strict"),
    ) {
        (Some(place), _) | (None, Some(place)) => place,
        (None, None) => instance.places.begin(),
    };
    let text = "in strict mode a master that was paused and comes back is not answered: the segment may believe \
                it, and lose the addresses";
    reader.warning(place, text.to_owned());
}
