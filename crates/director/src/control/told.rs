//! Connections as directors tell each other of them, and as records.

use std::net::IpAddr;

use pointsman_wire::sync::{SyncConnection, sync_flag};

use super::{Director, Server, address_words, words_address};
use crate::{
    model::{Protocol, ServiceId},
    record::{ConnectionRecord, FlowKey, connection_flag as flag, method},
    sctp,
    service::{FIRST_FREE_PORT, FTP_DATA_PORT, FTP_PORT},
    tcp,
};

/// Seconds that a template lives whose time a message does not tell.
const TEMPLATE_TIMEOUT: u32 = 180;

/// Why a connection that was told can't be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untaken {
    /// Its real server is not there, or not yet.
    Unbound,
    /// Its protocol, its state or what it needs is unknown here.
    Unknown,
}

impl Director {
    /// A connection that another director told of, as records of this one. Where it goes by which
    /// method is as the real server is configured here; the message decides the rest.
    ///
    /// # Errors
    ///
    /// When it can't be taken, with why.
    pub fn take_told(&self, told: &SyncConnection) -> Result<(FlowKey, ConnectionRecord), Untaken> {
        let template = told.is_template();
        if !is_known(told) {
            return Err(Untaken::Unknown);
        }
        let server = self.server_told(told).ok_or(Untaken::Unbound)?;
        let mut word = flag::SYNC;
        if template {
            word |= flag::TEMPLATE | flag::INACTIVE | u32::from(told.state == 1);
        } else {
            word |= u32::from(told.state);
            if told.flags & sync_flag::INACTIVE != 0 {
                word |= flag::INACTIVE;
            }
            if server.record.method != method::MASQUERADE {
                word |= flag::NO_OUTPUT;
            }
        }
        let key = FlowKey {
            source: address_words(told.client),
            destination: address_words(told.address),
            source_port: if template {
                0
            } else {
                told.client_port.to_be()
            },
            destination_port: told.port.to_be(),
            protocol: if template {
                !told.protocol
            } else {
                told.protocol
            },
            ipv6: u8::from(told.client.is_ipv6()),
            pad: 0,
        };
        let record = ConnectionRecord {
            server: server.index,
            server_port: told.server_port.to_be(),
            method: server.record.method,
            mark: told.mark,
            ..ConnectionRecord::default()
        };
        record.word.store(word);
        record.timeout.store(match told.timeout {
            0 => self.timeout_told(told),
            timeout => timeout.min(i32::MAX as u32),
        });
        Ok((key, record))
    }

    /// The timeout of a state, for messages that do not tell.
    fn timeout_told(&self, told: &SyncConnection) -> u32 {
        match (told.is_template(), Protocol::from_number(told.protocol)) {
            (true, _) => TEMPLATE_TIMEOUT,
            (_, Some(Protocol::Tcp)) => self.settings.tcp_timeouts[usize::from(told.state & 15)],
            (_, Some(Protocol::Sctp)) => sctp::timeout(told.state as u8),
            _ => self.settings.udp_timeout,
        }
    }

    /// The real server that a message means (`ip_vs_find_dest`).
    fn server_told(&self, told: &SyncConnection) -> Option<&Server> {
        let service = self.service_told(told)?;
        let translated = told.flags & sync_flag::METHOD == u32::from(method::MASQUERADE);
        let port = match told.mark {
            0 => told.server_port,
            _ if translated => told.server_port,
            _ => 0,
        };
        let at = |port| service.servers.iter().find(|s| s.is_at(told.server, port));
        at(port).or_else(|| at(port ^ told.server_port))
    }

    /// The virtual service that a message means (`ip_vs_service_find`).
    fn service_told(&self, told: &SyncConnection) -> Option<&super::Service> {
        let mark = ServiceId::Mark {
            mark: told.mark,
            ipv6: told.client.is_ipv6(),
        };
        if told.mark != 0
            && let Some(service) = self.services.get(&mark)
        {
            return Some(service);
        }
        let protocol = Protocol::from_number(told.protocol)?;
        let may_be_data = protocol == Protocol::Tcp
            && (told.port == FTP_DATA_PORT || told.port >= FIRST_FREE_PORT);
        let ports = [Some(told.port), may_be_data.then_some(FTP_PORT), Some(0)];
        let mut services = ports.into_iter().flatten().filter_map(|port| {
            self.services.get(&ServiceId::Address {
                protocol,
                address: told.address,
                port,
            })
        });
        services.next()
    }
}

/// True when a connection like this one can be here.
fn is_known(told: &SyncConnection) -> bool {
    let states = match Protocol::from_number(told.protocol) {
        Some(Protocol::Tcp) => tcp::NAMES.len(),
        Some(Protocol::Sctp) => sctp::NAMES.len(),
        Some(Protocol::Udp) => 1,
        None => 0,
    };
    let changes = told.sequences.iter().flatten();
    let mut changes = changes.filter(|one| one.delta != 0 || one.previous_delta != 0);
    let families = [told.address, told.server].map(|address| address.is_ipv6());
    let possible = if told.is_template() {
        states != 0 || (told.protocol == 0 && told.mark != 0)
    } else {
        usize::from(told.state) < states && told.flags & sync_flag::NO_CLIENT_PORT == 0
    };
    possible
        && told.engine.is_empty()
        && changes.next().is_none()
        && families == [told.client.is_ipv6(); 2]
}

/// A connection as other directors are told of it; `server` is its real server's address.
pub fn tell(key: &FlowKey, record: &ConnectionRecord, server: IpAddr) -> SyncConnection {
    let ipv6 = key.ipv6 != 0;
    let word = record.word.load();
    let template = word & flag::TEMPLATE != 0;
    let mut flags = u32::from(record.method);
    if word & flag::INACTIVE != 0 {
        flags |= sync_flag::INACTIVE;
    }
    // Templates have no packets; the kernel sets this by the method alone.
    if word & flag::NO_OUTPUT != 0 || (template && record.method != method::MASQUERADE) {
        flags |= sync_flag::NO_OUTPUT;
    }
    if template {
        flags |= sync_flag::TEMPLATE;
    }
    if word & flag::SYNC != 0 {
        flags |= sync_flag::SYNC;
    }
    SyncConnection {
        protocol: if template {
            !key.protocol
        } else {
            key.protocol
        },
        flags,
        state: u16::from(record.state()),
        client: words_address(&key.source, ipv6),
        client_port: u16::from_be(key.source_port),
        address: words_address(&key.destination, ipv6),
        port: u16::from_be(key.destination_port),
        server,
        server_port: u16::from_be(record.server_port),
        mark: record.mark,
        timeout: record.timeout.load(),
        sequences: None,
        engine: Vec::new(),
        engine_data: Vec::new(),
    }
}
