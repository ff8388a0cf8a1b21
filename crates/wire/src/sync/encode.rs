//! Writing of messages: connections are gathered until one no longer fits.

use std::net::IpAddr;

use super::{
    ENGINE_NAME, FIXED, HEADER, INET6, SIZE_MASK, SyncConnection, VERSION, option, sync_flag,
};

/// A message of version 1 being filled.
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    limit: usize,
}

impl Batch {
    /// An empty message of at most `limit` bytes from a director with this sync id.
    pub fn new(sync_id: u8, limit: usize) -> Self {
        Self {
            bytes: vec![0, sync_id, 0, 0, 0, VERSION, 0, 0],
            limit: limit.min(usize::from(u16::MAX)),
        }
    }

    /// True before the first connection.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Connections in it.
    pub fn count(&self) -> u8 {
        self.bytes[4]
    }

    /// Adds a connection; false when it does not fit, or could not be told: its addresses are of
    /// different families, or what its persistence engine says is too long.
    pub fn push(&mut self, connection: &SyncConnection) -> bool {
        let start = self.bytes.len().next_multiple_of(4);
        let entry = entry(connection);
        let Some(entry) = entry.filter(|entry| start + entry.len() <= self.limit) else {
            return false;
        };
        if self.count() == u8::MAX {
            return false;
        }
        self.bytes.resize(start, 0);
        self.bytes.extend_from_slice(&entry);
        self.bytes[4] += 1;
        true
    }

    /// The message.
    pub fn finish(mut self) -> Vec<u8> {
        let size = self.bytes.len() as u16;
        self.bytes[2..4].copy_from_slice(&size.to_be_bytes());
        self.bytes
    }
}

fn entry(connection: &SyncConnection) -> Option<Vec<u8>> {
    let addresses = [connection.client, connection.address, connection.server];
    let ipv6 = connection.client.is_ipv6();
    if addresses.iter().any(|address| address.is_ipv6() != ipv6)
        || connection.engine.len() > ENGINE_NAME
    {
        return None;
    }
    let mut out = Vec::with_capacity(HEADER + FIXED + 48);
    out.extend([if ipv6 { INET6 } else { 0 }, connection.protocol, 0, 0]);
    let flags = connection.flags & (sync_flag::TAKEN | sync_flag::SYNC);
    out.extend(flags.to_be_bytes());
    let words = [
        connection.state,
        connection.client_port,
        connection.port,
        connection.server_port,
    ];
    out.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    out.extend(connection.mark.to_be_bytes());
    out.extend(connection.timeout.to_be_bytes());
    for address in addresses {
        match address {
            IpAddr::V4(address) => out.extend(address.octets()),
            IpAddr::V6(address) => out.extend(address.octets()),
        }
    }
    if let Some(sequences) = &connection.sequences {
        let numbers = sequences
            .iter()
            .flat_map(|one| [one.initial, one.delta, one.previous_delta]);
        let data: Vec<u8> = numbers.flat_map(u32::to_be_bytes).collect();
        put_option(&mut out, option::SEQUENCES, &data)?;
    }
    put_option(&mut out, option::ENGINE_DATA, &connection.engine_data)?;
    put_option(&mut out, option::ENGINE, &connection.engine)?;
    let size = u16::try_from(out.len()).ok()?;
    if size > SIZE_MASK {
        return None;
    }
    out[2..4].copy_from_slice(&size.to_be_bytes());
    Some(out)
}

/// Nothing for no data.
fn put_option(out: &mut Vec<u8>, kind: u8, data: &[u8]) -> Option<()> {
    if !data.is_empty() {
        out.extend([kind, u8::try_from(data.len()).ok()?]);
        out.extend(data);
    }
    Some(())
}
