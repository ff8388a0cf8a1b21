//! Reading of messages: whatever bytes come, what is whole in them is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    ENGINE_NAME, HEADER, INET6, OLD_HEADER, SEQUENCE_DATA, SIZE_MASK, Sequence, SyncConnection,
    VERSION, option, sync_flag,
};

/// What a message says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decoded {
    /// The sender's sync id.
    pub sync_id: u8,
    /// 0 or 1.
    pub version: u8,
    /// What could be read.
    pub connections: Vec<SyncConnection>,
    /// Entries left out because of an option that nobody here knows.
    pub skipped: usize,
    /// Why reading ended before the last entry.
    pub fault: Option<SyncFault>,
}

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SyncFault {
    /// It has not even a header.
    #[error("it is cut short")]
    Short,
    /// It says that it is longer than it is.
    #[error("its size says more than came")]
    Size,
    /// The header is of no version known.
    #[error("it is of an unknown version")]
    Version,
    /// An entry reaches beyond the message, or is too small.
    #[error("entry {0} does not fit")]
    Entry(usize),
    /// An entry is of another version or type.
    #[error("entry {0} is of an unknown type")]
    Type(usize),
    /// An option is cut short, comes twice, or has an impossible length.
    #[error("an option of entry {0} does not fit")]
    Option(usize),
}

/// Reads a message. Entries before a faulty one count, as in the kernel.
///
/// # Errors
///
/// When the header can't be read.
pub fn decode(bytes: &[u8]) -> Result<Decoded, SyncFault> {
    let [first, sync_id, high, low, ..] = *bytes else {
        return Err(SyncFault::Short);
    };
    let size = usize::from(u16::from_be_bytes([high, low]));
    let bytes = bytes.get(..size).ok_or(SyncFault::Size)?;
    if first != 0 {
        return Ok(decode_old(bytes, first, sync_id));
    }
    let [_, _, _, _, count, version, spare @ ..] = bytes else {
        return Err(SyncFault::Short);
    };
    if *version != VERSION || spare.get(..2) != Some(&[0, 0]) {
        return Err(SyncFault::Version);
    }
    let mut decoded = Decoded {
        sync_id,
        version: VERSION,
        ..Decoded::default()
    };
    let mut at = HEADER;
    for number in 0..usize::from(*count) {
        match entry(bytes, at, number) {
            Ok((connection, size)) => {
                match connection {
                    Some(connection) => decoded.connections.push(connection),
                    None => decoded.skipped += 1,
                }
                at += size.next_multiple_of(4);
            }
            Err(fault) => {
                decoded.fault = Some(fault);
                break;
            }
        }
    }
    Ok(decoded)
}

/// The entry at `at` and its size without padding; none for one with an unknown option.
fn entry(
    bytes: &[u8],
    at: usize,
    number: usize,
) -> Result<(Option<SyncConnection>, usize), SyncFault> {
    let rest = bytes.get(at..).ok_or(SyncFault::Entry(number))?;
    let mut head = Reader(rest);
    let mut fixed = || -> Option<(u8, u8, u16)> { Some((head.u8()?, head.u8()?, head.u16()?)) };
    let (kind, protocol, sized) = fixed().ok_or(SyncFault::Entry(number))?;
    if sized & !SIZE_MASK != 0 || kind & !INET6 != 0 {
        return Err(SyncFault::Type(number));
    }
    let size = usize::from(sized & SIZE_MASK);
    let rest = rest.get(4..size).ok_or(SyncFault::Entry(number))?;
    let mut reader = Reader(rest);
    let connection = connection(&mut reader, kind, protocol).ok_or(SyncFault::Entry(number))?;
    let connection = options(reader, connection).ok_or(SyncFault::Option(number))?;
    Ok((connection, size))
}

fn connection(reader: &mut Reader<'_>, kind: u8, protocol: u8) -> Option<SyncConnection> {
    let flags = reader.u32()?;
    let state = reader.u16()?;
    let (client_port, port, server_port) = (reader.u16()?, reader.u16()?, reader.u16()?);
    let (mark, timeout) = (reader.u32()?, reader.u32()?);
    let mut address = || -> Option<IpAddr> {
        Some(match kind {
            0 => Ipv4Addr::from(reader.take::<4>()?).into(),
            _ => Ipv6Addr::from(reader.take::<16>()?).into(),
        })
    };
    Some(SyncConnection {
        protocol,
        flags,
        state,
        client: address()?,
        client_port,
        address: address()?,
        port,
        server: address()?,
        server_port,
        mark,
        timeout,
        sequences: None,
        engine: Vec::new(),
        engine_data: Vec::new(),
    })
}

/// Adds what the options say; the inner `None` for one that nobody here knows.
fn options(mut reader: Reader<'_>, mut to: SyncConnection) -> Option<Option<SyncConnection>> {
    let mut is_known = true;
    while !reader.0.is_empty() {
        let kind = reader.u8()?;
        let length = usize::from(reader.u8()?);
        let (data, rest) = reader.0.split_at_checked(length)?;
        reader.0 = rest;
        match kind & !option::OPTIONAL {
            _ if length == 0 => return None,
            option::SEQUENCES if length == SEQUENCE_DATA && to.sequences.is_none() => {
                to.sequences = Some(sequences(data, u32::from_be_bytes)?);
            }
            option::ENGINE_DATA if to.engine_data.is_empty() => to.engine_data = data.to_vec(),
            option::ENGINE if length <= ENGINE_NAME && to.engine.is_empty() => {
                to.engine = data.to_vec();
            }
            option::SEQUENCES | option::ENGINE_DATA | option::ENGINE => return None,
            _ => is_known &= kind & option::OPTIONAL != 0,
        }
    }
    Some(is_known.then_some(to))
}

fn sequences(data: &[u8], number: fn([u8; 4]) -> u32) -> Option<[Sequence; 2]> {
    let mut reader = Reader(data);
    let mut one = || -> Option<Sequence> {
        Some(Sequence {
            initial: number(reader.take()?),
            delta: number(reader.take()?),
            previous_delta: number(reader.take()?),
        })
    };
    Some([one()?, one()?])
}

/// Reads a message of version 0, `count` entries with IPv4 addresses.
fn decode_old(bytes: &[u8], count: u8, sync_id: u8) -> Decoded {
    let mut decoded = Decoded {
        sync_id,
        ..Decoded::default()
    };
    let mut reader = Reader(bytes.get(OLD_HEADER..).unwrap_or_default());
    for number in 0..usize::from(count) {
        match old_entry(&mut reader) {
            Some(connection) => decoded.connections.push(connection),
            None => {
                decoded.fault = Some(SyncFault::Entry(number));
                break;
            }
        }
    }
    decoded
}

fn old_entry(reader: &mut Reader<'_>) -> Option<SyncConnection> {
    let [_, protocol] = reader.take()?;
    let (client_port, port, server_port) = (reader.u16()?, reader.u16()?, reader.u16()?);
    let mut address = || -> Option<IpAddr> { Some(Ipv4Addr::from(reader.take::<4>()?).into()) };
    let (client, virtual_address, server) = (address()?, address()?, address()?);
    let flags = u32::from(reader.u16()?);
    let state = reader.u16()?;
    let sequences = match flags & sync_flag::SEQUENCES {
        0 => None,
        _ => sequences(&reader.take::<SEQUENCE_DATA>()?, u32::from_ne_bytes),
    };
    Some(SyncConnection {
        protocol,
        flags,
        state,
        client,
        client_port,
        address: virtual_address,
        port,
        server,
        server_port,
        mark: 0,
        timeout: 0,
        sequences,
        engine: Vec::new(),
        engine_data: Vec::new(),
    })
}

/// Bytes not read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }
}
