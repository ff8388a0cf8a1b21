//! What is refused before anything is written.

use std::net::IpAddr;

use crate::{
    model::{
        ControlError, ForwardingMethod, Protocol, RealServer, ServiceId, TunnelType, VirtualService,
    },
    record::settings_flag,
    schedule::Scheduler,
    service::FTP_PORT,
};

/// Flags that say which kinds of services there are.
pub(super) const KINDS: u32 = settings_flag::ANY_PORT
    | settings_flag::FTP
    | settings_flag::MARKS
    | settings_flag::SERVES_IPV4
    | settings_flag::SERVES_IPV6;

/// The flags that a service raises.
pub(super) fn kind_of(id: &ServiceId) -> u32 {
    let family = if id.is_ipv6() {
        settings_flag::SERVES_IPV6
    } else {
        settings_flag::SERVES_IPV4
    };
    let kind = match id {
        ServiceId::Address { port: 0, .. } => settings_flag::ANY_PORT,
        ServiceId::Address {
            port: FTP_PORT,
            protocol: Protocol::Tcp,
            ..
        } => settings_flag::FTP,
        ServiceId::Address { .. } => 0,
        ServiceId::Mark { .. } => settings_flag::MARKS,
    };
    family | kind
}

pub(super) fn full(what: &str, flag: &str) -> ControlError {
    ControlError::NoMemory(format!(
        "no room for more {what}; see `pointsman run {flag}`"
    ))
}

/// Refuses what the kernel refuses of a service, and what can't be done yet.
pub(super) fn check_service(config: &VirtualService) -> Result<Scheduler, ControlError> {
    let not_yet = |what: &str| Err(ControlError::NotYet(what.to_owned()));
    let scheduler =
        Scheduler::from_name(&config.scheduler).ok_or(ControlError::SchedulerNotFound)?;
    match config.id {
        ServiceId::Mark { mark: 0, .. } => return Err(ControlError::Invalid),
        ServiceId::Address { .. } | ServiceId::Mark { .. } => {}
    }
    if config.engine.is_some() {
        return not_yet("persistence engines");
    }
    Ok(scheduler)
}

/// Refuses what the kernel refuses of a real server, and what can't be done yet; direct routing
/// and tunnels get the service's port.
pub(super) fn check_server(
    id: &ServiceId,
    config: &RealServer,
) -> Result<RealServer, ControlError> {
    let mut config = config.clone();
    if config.weight < 0 || config.lower > config.upper {
        return Err(ControlError::Range);
    }
    let tunnel = config.method == ForwardingMethod::Tunnel;
    if !is_possible(config.address) || (config.address.is_ipv6() != id.is_ipv6() && !tunnel) {
        return Err(ControlError::Invalid);
    }
    if tunnel && config.tunnel != TunnelType::Ipip {
        return Err(ControlError::NotYet("GUE and GRE tunnels".to_owned()));
    }
    if let ServiceId::Address { port, .. } = id
        && config.method != ForwardingMethod::Masquerade
    {
        config.port = *port;
    }
    Ok(config)
}

/// Whether the kernel takes this address for a real server's.
pub(super) fn is_possible(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            // All of 0.0.0.0/8 counts as broadcast to the kernel (`inet_addr_type`).
            !address.is_multicast() && !address.is_broadcast() && address.octets()[0] != 0
        }
        // `ipv6_addr_type`: unicast, and not of the link only.
        IpAddr::V6(address) => {
            !address.is_multicast()
                && !address.is_unspecified()
                && !address.is_unicast_link_local()
                && address.to_ipv4_mapped().is_none()
        }
    }
}
