//! Faults of routing between client, director and real servers.

use super::Fault;
use super::action::{run, sysctl};
use super::site::{Site, VIP};

pub(crate) fn faults() -> Vec<Fault> {
    vec![not_routed(), policy_route(), short_lived()]
}

fn not_routed() -> Fault {
    let route = format!("blackhole {VIP}/32");
    Fault::single(
        "VIP_NOT_ROUTED",
        "the gateway has no way to the VIP",
        Site::direct(),
        ("gateway", "lan0", &route),
        vec![run("gateway", &format!("ip route add {route}"))],
        vec![run("gateway", &format!("ip route del {route}"))],
    )
}

fn policy_route() -> Fault {
    let rule = format!("from {VIP} table 100");
    let site = Site::direct().with(|site| {
        // Left from a provider who is gone.
        site.at("rs1")
            .line("route add default via 198.51.100.254 dev eth0 table 100");
    });
    Fault::single(
        "POLICY_ROUTE",
        "a rule of the real server sends answers from the VIP to a gateway that is gone",
        site,
        ("rs1", "eth0", &format!("from {VIP} lookup 100")),
        vec![run("rs1", &format!("ip rule add {rule}"))],
        vec![run("rs1", &format!("ip rule del {rule}"))],
    )
}

fn short_lived() -> Fault {
    let key = "net.ipv4.ip_default_ttl";
    Fault::single(
        "TTL_EXPIRED",
        "the client's packets may pass two routers, and the director is the second",
        Site::direct(),
        ("director", "eth0", &format!("{key} = 2")),
        vec![sysctl("client", key, "2")],
        vec![sysctl("client", key, "64")],
    )
    .refused()
}
