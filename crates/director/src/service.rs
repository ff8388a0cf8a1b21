//! Which virtual service a packet is for (`ip_vs_service_find` in `ip_vs_ctl.c`).

use crate::{
    headers::TCP,
    record::{FlowKey, ServiceKey, ServiceRecord, Settings, control, settings_flag},
    tables::Tables,
};

/// Port of FTP's control connection, host order.
pub const FTP_PORT: u16 = 21;
/// Port of FTP's data connection, host order.
pub const FTP_DATA_PORT: u16 = 20;
/// First port that is not reserved, host order.
pub const FIRST_FREE_PORT: u16 = 1024;

/// By what a virtual service was found.
#[derive(Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "std", derive(Debug))]
#[repr(u8)]
pub enum By {
    /// By the packet's firewall mark.
    Mark,
    /// By exact port.
    Port,
    /// FTP's service, for what may be a data connection.
    Ftp,
    /// By address alone: the service is for every port.
    Address,
}

impl By {
    /// How the key of a connection's template is made when its packet is for `port` (network
    /// order); see [`control`].
    #[inline(always)]
    pub fn control(self, port: u16) -> u8 {
        match self {
            Self::Mark => control::MARK,
            Self::Port if port != FTP_PORT.to_be() => control::PORT,
            Self::Port | Self::Ftp | Self::Address => control::ANY_PORT,
        }
    }
}

/// A virtual service, and by what it was found.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The service.
    pub service: &'a ServiceRecord,
    /// By what.
    pub by: By,
}

/// True when `key`, by which [`find`] found a service, is that of FTP's service and the packet is not
/// for its port.
#[inline(always)]
pub fn is_ftp_data(key: &ServiceKey, flow: &FlowKey) -> bool {
    key.port == FTP_PORT.to_be() && flow.destination_port != key.port
}

/// The virtual service of a client's packet: by mark, by exact port, FTP's, then for every port.
/// `key` is room for the keys looked up.
#[inline(always)]
pub fn find<'a, T: Tables>(
    tables: &'a T,
    settings: &Settings,
    flow: &FlowKey,
    mark: u32,
    key: &mut ServiceKey,
) -> Option<Found<'a>> {
    *key = ServiceKey {
        address: [mark, 0, 0, 0],
        port: 0,
        protocol: 0,
        ipv6: flow.ipv6,
    };
    if mark != 0
        && let Some(service) = tables.service(key)
    {
        let by = By::Mark;
        return Some(Found { service, by });
    }
    key.address = flow.destination;
    key.port = flow.destination_port;
    key.protocol = flow.protocol;
    if let Some(service) = tables.service(key) {
        let by = By::Port;
        return Some(Found { service, by });
    }
    let port = u16::from_be(flow.destination_port);
    if settings.flags & settings_flag::FTP != 0
        && flow.protocol == TCP
        && (port == FTP_DATA_PORT || port >= FIRST_FREE_PORT)
    {
        key.port = FTP_PORT.to_be();
        if let Some(service) = tables.service(key) {
            let by = By::Ftp;
            return Some(Found { service, by });
        }
    }
    if settings.flags & settings_flag::ANY_PORT != 0 {
        key.port = 0;
        if let Some(service) = tables.service(key) {
            let by = By::Address;
            return Some(Found { service, by });
        }
    }
    None
}
