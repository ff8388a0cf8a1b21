//! Writing of pcapng capture files, as Wireshark and tcpdump read them.
//! [draft-ietf-opsawg-pcapng](https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/).
//!
//! All numbers are little-endian; timestamps are nanoseconds since 1970.

use std::io::{self, Write};
use std::net::IpAddr;

use pointsman_wire::Mac;

use crate::observation::{Observation, Way};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_IPV4: u16 = 4;
const IF_IPV6: u16 = 5;
const IF_MAC: u16 = 6;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const ISB_DROPPED: u16 = 5;
/// Timestamps count in units of ten to the minus nine seconds.
const NANOSECONDS: u8 = 9;

/// Why a capture file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Writing failed.
    #[error("writing the {block} block of a capture file: {source}")]
    Write {
        /// The kind of block.
        block: &'static str,
        /// What the writer returned.
        source: io::Error,
    },
    /// The frame names an interface that was not described.
    #[error("the capture file has no interface {index}; add it before its frames")]
    UnknownInterface {
        /// The number given.
        index: u32,
    },
    /// The frame does not fit into a block.
    #[error("a frame of {length} bytes is too long for a capture file")]
    TooLong {
        /// Its length.
        length: usize,
    },
}

/// An interface described in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceId(u32);

/// One frame to be written.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When it was seen, in nanoseconds since 1970.
    pub timestamp_ns: u64,
    /// The bytes of it that are there.
    pub bytes: &'a [u8],
    /// Its length before it was cut, at least that of `bytes`.
    pub length: usize,
    /// Which way it went, where known.
    pub way: Way,
    /// A remark shown with the frame.
    pub comment: Option<&'a str>,
}

impl<'a> From<&'a Observation> for Record<'a> {
    fn from(seen: &'a Observation) -> Self {
        Self {
            timestamp_ns: seen.at_ns,
            bytes: &seen.bytes,
            length: seen.length,
            way: seen.way,
            comment: None,
        }
    }
}

/// An Ethernet interface to be described.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interface<'a> {
    /// Its name.
    pub name: &'a str,
    /// What else people should know of it.
    pub description: Option<&'a str>,
    /// The most bytes kept of a frame, if limited.
    pub snaplen: Option<u32>,
    /// Its link-layer address.
    pub mac: Option<Mac>,
    /// Its addresses, with no word about their networks.
    pub addresses: &'a [IpAddr],
}

/// Writes one capture file.
///
/// Each block goes out in a single `write_all`; give a `BufWriter` to have fewer system calls.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
    interfaces: u32,
    block: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Starts a file, noting the program that writes it.
    pub fn new(out: W, application: &str) -> Result<Self, Error> {
        Self::commented(out, application, None)
    }

    /// Starts a file with a remark about all of it.
    pub fn commented(out: W, application: &str, comment: Option<&str>) -> Result<Self, Error> {
        let mut writer = Self {
            out,
            interfaces: 0,
            block: Vec::new(),
        };
        writer.begin(SECTION_HEADER);
        writer.put(&BYTE_ORDER_MAGIC.to_le_bytes());
        // Version 1.0; a section length of -1 is unknown.
        writer.put(&1_u16.to_le_bytes());
        writer.put(&0_u16.to_le_bytes());
        writer.put(&(-1_i64).to_le_bytes());
        if let Some(comment) = comment {
            writer.option(OPT_COMMENT, comment.as_bytes());
        }
        writer.option(SHB_USERAPPL, application.as_bytes());
        writer.end("section header")?;
        Ok(writer)
    }

    /// Describes an interface.
    pub fn add_interface(&mut self, interface: &Interface<'_>) -> Result<InterfaceId, Error> {
        self.begin(INTERFACE_DESCRIPTION);
        self.put(&LINKTYPE_ETHERNET.to_le_bytes());
        self.put(&0_u16.to_le_bytes());
        self.put(&interface.snaplen.unwrap_or(0).to_le_bytes());
        self.option(IF_NAME, interface.name.as_bytes());
        if let Some(description) = interface.description {
            self.option(IF_DESCRIPTION, description.as_bytes());
        }
        for address in interface.addresses {
            match address {
                IpAddr::V4(address) => {
                    let with_mask = [address.octets(), [255; 4]].concat();
                    self.option(IF_IPV4, &with_mask);
                }
                IpAddr::V6(address) => {
                    let with_prefix = [&address.octets()[..], &[128]].concat();
                    self.option(IF_IPV6, &with_prefix);
                }
            }
        }
        if let Some(mac) = interface.mac {
            self.option(IF_MAC, &mac.0);
        }
        self.option(IF_TSRESOL, &[NANOSECONDS]);
        self.end("interface description")?;
        let id = InterfaceId(self.interfaces);
        self.interfaces += 1;
        Ok(id)
    }

    /// Says how many frames an interface's capture lost until a time, nanoseconds since 1970.
    pub fn statistics(
        &mut self,
        interface: InterfaceId,
        at_ns: u64,
        lost: u64,
    ) -> Result<(), Error> {
        if interface.0 >= self.interfaces {
            return Err(Error::UnknownInterface { index: interface.0 });
        }
        self.begin(INTERFACE_STATISTICS);
        self.put(&interface.0.to_le_bytes());
        self.put(&((at_ns >> 32) as u32).to_le_bytes());
        self.put(&(at_ns as u32).to_le_bytes());
        self.option(ISB_DROPPED, &lost.to_le_bytes());
        self.end("interface statistics")
    }

    /// Writes one frame of an interface.
    pub fn write(&mut self, interface: InterfaceId, record: &Record<'_>) -> Result<(), Error> {
        if interface.0 >= self.interfaces {
            return Err(Error::UnknownInterface { index: interface.0 });
        }
        // Leaves room for header and options below the 4 GiB a block can have.
        let too_long = Error::TooLong {
            length: record.length.max(record.bytes.len()),
        };
        let captured = u32::try_from(record.bytes.len())
            .ok()
            .filter(|n| *n < u32::MAX - (1 << 20));
        let original = u32::try_from(record.length.max(record.bytes.len())).ok();
        let (Some(captured), Some(original)) = (captured, original) else {
            return Err(too_long);
        };
        self.begin(ENHANCED_PACKET);
        self.put(&interface.0.to_le_bytes());
        self.put(&((record.timestamp_ns >> 32) as u32).to_le_bytes());
        self.put(&(record.timestamp_ns as u32).to_le_bytes());
        self.put(&captured.to_le_bytes());
        self.put(&original.to_le_bytes());
        self.put(record.bytes);
        self.pad();
        // Bits 0-1 are the direction, bits 2-4 the reception: 4 is "promiscuous".
        let flags: Option<u32> = match record.way {
            Way::In => Some(0b01),
            Way::Out => Some(0b10),
            Way::OtherHost => Some(0b01 | 4 << 2),
            Way::Unknown => None,
        };
        if let Some(flags) = flags {
            self.option(EPB_FLAGS, &flags.to_le_bytes());
        }
        if let Some(comment) = record.comment {
            self.option(OPT_COMMENT, comment.as_bytes());
        }
        self.end("packet")
    }

    /// Hands everything written so far on to the system.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.out.flush().map_err(|source| Error::Write {
            block: "last",
            source,
        })
    }

    /// Flushes and gives the underlying writer back.
    pub fn into_inner(mut self) -> Result<W, Error> {
        self.flush()?;
        Ok(self.out)
    }

    /// Starts a block with room for its length.
    fn begin(&mut self, kind: u32) {
        self.block.clear();
        self.put(&kind.to_le_bytes());
        self.put(&[0; 4]);
    }

    fn put(&mut self, bytes: &[u8]) {
        self.block.extend_from_slice(bytes);
    }

    fn pad(&mut self) {
        self.block.resize(self.block.len().next_multiple_of(4), 0);
    }

    /// Adds an option; text past the 64 KiB an option can have is cut at a character.
    fn option(&mut self, code: u16, value: &[u8]) {
        let mut end = value.len().min(usize::from(u16::MAX));
        while end < value.len() && end > 0 && value[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        self.put(&code.to_le_bytes());
        self.put(&(end as u16).to_le_bytes());
        self.put(&value[..end]);
        self.pad();
    }

    /// Ends options and block, fills its length in at both ends and writes it out.
    fn end(&mut self, block: &'static str) -> Result<(), Error> {
        self.put(&OPT_END.to_le_bytes());
        self.put(&[0; 2]);
        let length = (self.block.len() as u32 + 4).to_le_bytes();
        self.block[4..8].copy_from_slice(&length);
        self.put(&length);
        self.out
            .write_all(&self.block)
            .map_err(|source| Error::Write { block, source })
    }
}
