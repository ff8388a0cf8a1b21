//! Two network namespaces with a veth pair between them, gone when dropped.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use pointsman_linux::netlink::Netlink;
use pointsman_linux::netns::{NetNs, Temporary};

/// Hardware address of the left end.
#[allow(dead_code)]
pub(crate) const LEFT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Hardware address of the right end.
#[allow(dead_code)]
pub(crate) const RIGHT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// `left` (10.9.0.1, fd09::1) --veth-- `right` (10.9.0.2, fd09::2).
pub(crate) struct Pair {
    pub(crate) left: Temporary,
    pub(crate) right: Temporary,
}

/// Whether the test can make namespaces; says so when not.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// Makes an empty namespace with a name no other test has.
pub(crate) fn namespace() -> Temporary {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("pmt-{}-{number}", std::process::id());
    NetNs::create(&name)
        .expect("create a namespace")
        .delete_on_drop()
}

#[allow(dead_code)]
impl Pair {
    /// Makes both namespaces with the pair up on both sides.
    pub(crate) fn new() -> Self {
        let pair = Self {
            left: namespace(),
            right: namespace(),
        };
        let right = pair.right.name().expect("name").to_owned();
        ip(
            &pair.left,
            &format!(
                "link add veth0 address 02:00:00:00:00:01 type veth \
                 peer name veth0 netns {right} address 02:00:00:00:00:02"
            ),
        );
        for (namespace, number) in [(&pair.left, 1), (&pair.right, 2)] {
            ip(namespace, "link set lo up");
            ip(
                namespace,
                &format!("address add 10.9.0.{number}/24 dev veth0"),
            );
            ip(
                namespace,
                &format!("address add fd09::{number}/64 dev veth0 nodad"),
            );
            ip(namespace, "link set veth0 up");
        }
        pair
    }

    /// The number of the left end.
    pub(crate) fn left_index(&self) -> u32 {
        netlink(&self.left)
            .link_by_name("veth0")
            .expect("veth0")
            .index
    }
}

/// Opens a netlink socket in a namespace.
#[allow(dead_code)]
pub(crate) fn netlink(namespace: &NetNs) -> Netlink {
    let _inside = namespace.enter().expect("enter");
    Netlink::new().expect("open netlink")
}

/// Runs `ip` with words split at spaces in a namespace.
#[allow(dead_code)]
pub(crate) fn ip(namespace: &NetNs, arguments: &str) {
    let status = namespace
        .command("ip")
        .args(arguments.split_whitespace())
        .status()
        .expect("run ip (package iproute2)");
    assert!(status.success(), "ip {arguments}: {status}");
}

/// Parses an address.
#[allow(dead_code)]
pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}
