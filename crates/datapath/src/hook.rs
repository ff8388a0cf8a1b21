//! Where to attach: the driver's XDP hook, tcx, or clsact; and why.

use std::{fmt, str::FromStr};

use pointsman_linux::{netlink::Link, offload::Device};

/// What the operator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HookChoice {
    /// Look at the devices, choose, and say why.
    #[default]
    Auto,
    /// Native XDP, or fail.
    Xdp,
    /// tcx (clsact before kernel 6.6), or fail.
    Tcx,
}

impl FromStr for HookChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "xdp" => Ok(Self::Xdp),
            "tcx" => Ok(Self::Tcx),
            _ => Err(format!("{text:?} is not a hook: auto, xdp or tcx")),
        }
    }
}

/// Where a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// The driver's XDP hook.
    Xdp,
    /// tcx ingress.
    Tcx,
    /// The clsact qdisc's ingress, on kernels without tcx.
    Clsact,
}

impl Hook {
    /// Its name in messages and pins.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is known of a device that decides about the hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traits {
    /// Interface name.
    pub interface: String,
    /// Kind of a virtual interface, as netlink calls it; hardware has none.
    pub kind: Option<String>,
    /// Driver name, if the device has one.
    pub driver: Option<String>,
}

impl Traits {
    /// Looks at a device.
    pub fn of(link: &Link) -> Self {
        let driver = Device::open(&link.name)
            .and_then(|device| device.driver())
            .ok();
        Self {
            interface: link.name.clone(),
            kind: link.kind.clone(),
            driver,
        }
    }
}

/// Drivers whose native XDP hook sees frames as they were on a wire, checksums complete, and that
/// transmit frames redirected to them.
const WIRES: &[&str] = &[
    "virtio_net",
    "ixgbe",
    "ixgbevf",
    "i40e",
    "ice",
    "igb",
    "igc",
    "mlx4_en",
    "mlx5_core",
    "bnxt_en",
    "ena",
    "nfp",
    "qede",
    "sfc",
    "thunder_nicvf",
    "mvneta",
    "mvpp2",
    "stmmac",
    "fec",
    "gve",
    "mana",
    "hv_netvsc",
    "vmxnet3",
    "netsec",
    "cpsw",
    "dpaa2_eth",
    "enetc",
    "tsnep",
    "lan966x",
];

/// What a device's own nature says, before trying.
pub fn advise(traits: &Traits) -> (Hook, String) {
    match (traits.kind.as_deref(), traits.driver.as_deref()) {
        (Some(kind), _) => (
            Hook::Tcx,
            format!(
                "{kind} hands over frames of local senders, with checksums pending and several \
                 segments in one; XDP would forward them broken, tcx completes them"
            ),
        ),
        (None, Some(driver)) if WIRES.contains(&driver) => (
            Hook::Xdp,
            format!("{driver} takes frames from a wire, checksums complete"),
        ),
        (None, Some(driver)) => (
            Hook::Tcx,
            format!("nothing is known of {driver}'s native XDP; --hook xdp tries it"),
        ),
        (None, None) => (Hook::Tcx, "the device does not name its driver".to_owned()),
    }
}

/// The hook for all of a director's devices: frames redirected from one by XDP are lost on another
/// that does not take them, so a single one that can't decides for tcx.
pub fn choose(all: &[Traits], choice: HookChoice) -> Vec<(Hook, String)> {
    match choice {
        HookChoice::Xdp => all
            .iter()
            .map(|_| (Hook::Xdp, "asked for".to_owned()))
            .collect(),
        HookChoice::Tcx => all
            .iter()
            .map(|_| (Hook::Tcx, "asked for".to_owned()))
            .collect(),
        HookChoice::Auto => {
            let advice: Vec<_> = all.iter().map(advise).collect();
            let other = all
                .iter()
                .zip(&advice)
                .find(|(_, (hook, _))| *hook != Hook::Xdp)
                .map(|(traits, _)| traits.interface.clone());
            match other {
                None => advice,
                Some(other) => advice
                    .into_iter()
                    .map(|(hook, why)| match hook {
                        Hook::Xdp => (
                            Hook::Tcx,
                            format!("{why}; but {other} can't take frames redirected by XDP"),
                        ),
                        Hook::Tcx | Hook::Clsact => (hook, why),
                    })
                    .collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traits(interface: &str, kind: Option<&str>, driver: Option<&str>) -> Traits {
        Traits {
            interface: interface.to_owned(),
            kind: kind.map(str::to_owned),
            driver: driver.map(str::to_owned),
        }
    }

    #[test]
    fn wires_get_xdp_and_local_senders_tcx() {
        let nic = traits("eth0", None, Some("virtio_net"));
        let veth = traits("veth0", Some("veth"), Some("veth"));
        assert_eq!(advise(&nic).0, Hook::Xdp);
        assert_eq!(advise(&veth).0, Hook::Tcx);
        assert!(advise(&veth).1.contains("checksums pending"));
    }

    #[test]
    fn one_device_that_cannot_decides_for_all() {
        let nic = traits("eth0", None, Some("virtio_net"));
        let veth = traits("veth0", Some("veth"), Some("veth"));
        let both = choose(&[nic.clone(), veth], HookChoice::Auto);
        assert_eq!(both[0].0, Hook::Tcx);
        assert!(both[0].1.contains("veth0"));
        assert_eq!(
            choose(std::slice::from_ref(&nic), HookChoice::Auto)[0].0,
            Hook::Xdp
        );
        assert_eq!(choose(&[nic], HookChoice::Tcx)[0].0, Hook::Tcx);
    }

    #[test]
    fn choices_are_read_from_text() {
        assert_eq!("xdp".parse(), Ok(HookChoice::Xdp));
        assert!(
            "generic"
                .parse::<HookChoice>()
                .unwrap_err()
                .contains("auto, xdp or tcx")
        );
    }
}
