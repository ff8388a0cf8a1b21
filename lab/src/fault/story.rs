//! Stories: what happened to people, with every blocker of it.

use super::action::run;
use super::site::{DIRECTOR, Site, VIP};
use super::{Fault, hypervisor, kubernetes};

pub(crate) fn stories() -> Vec<Fault> {
    vec![kvm(), openstack(), harvester()]
}

/// Direct routing between guests of libvirt, all of them with `clean-traffic`.
fn kvm() -> Fault {
    let mut site = Site::direct();
    let mac = site.mac("director", "eth0");
    // The router learned it before the filters came; they let nobody ask again.
    site.last.push(run(
        "gateway",
        &format!("ip neighbour replace {VIP} lladdr {mac} dev lan1 nud permanent"),
    ));
    let director = hypervisor::blocked_director(&site, &[DIRECTOR]);
    let server = hypervisor::blocked_real_server(&site);
    Fault::new(
        "KVM",
        "guests with clean-traffic: the director's host drops requests, and behind it the real \
         server's host drops answers",
        site,
    )
    .blocked(director)
    .blocked(server)
}

/// A VIP that floats to a guest whose port allows one address.
fn openstack() -> Fault {
    let site = hypervisor::openstack_site();
    let arp = hypervisor::blocked_arp(&site, &[DIRECTOR]);
    Fault::new(
        "OPENSTACK",
        "a VIP floats to a guest whose port allows one address: first ARP, then IP is dropped",
        site,
    )
    .blocked(arp)
    .blocked(hypervisor::blocked_vip())
    .refused()
}

/// A service of Kubernetes whose endpoint is a guest of the same host.
fn harvester() -> Fault {
    Fault::new(
        "HARVESTER",
        "a service of the cluster leads to a guest of the host, whose answers the host's own \
         bridge translates too early",
        kubernetes::with_programs(),
    )
    .blocked(kubernetes::unnat("BR_NF_FULL_UNNAT"))
}
