//! Where members of the kernel's structures lie, by its own type information (BTF).

use std::{fs, io};

/// Where the kernel tells its types.
const KERNEL: &str = "/sys/kernel/btf/vmlinux";
const MAGIC: u16 = 0xeb9f;
/// Structures within structures that are followed, at most.
const DEPTH: usize = 8;

const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// The kernel's types.
pub(crate) struct Btf {
    bytes: Vec<u8>,
    strings: usize,
    /// Where each type begins; type 1 is the first.
    types: Vec<usize>,
}

impl Btf {
    /// Reads those of the running kernel.
    pub(crate) fn kernel() -> io::Result<Self> {
        Self::read(fs::read(KERNEL)?).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{KERNEL} is unreadable"),
            )
        })
    }

    fn read(bytes: Vec<u8>) -> Option<Self> {
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let header = word(&bytes, 4)? as usize;
        let start = header + word(&bytes, 8)? as usize;
        let end = start + word(&bytes, 12)? as usize;
        let strings = header + word(&bytes, 16)? as usize;
        let mut types = vec![0];
        let mut at = start;
        while at < end {
            types.push(at);
            let info = word(&bytes, at + 4)?;
            let count = (info & 0xffff) as usize;
            at += 12
                + match kind(info) {
                    INT | VAR | DECL_TAG => 4,
                    ARRAY => 12,
                    STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                    ENUM | FUNC_PROTO => 8 * count,
                    _ => 0,
                };
        }
        Some(Self {
            bytes,
            strings,
            types,
        })
    }

    /// Bytes from the start of structure `name` to its member, those of unnamed members included.
    pub(crate) fn offset(&self, name: &str, member: &str) -> Option<u32> {
        let found = self.types.iter().skip(1).find(|at| {
            let info = word(&self.bytes, **at + 4).unwrap_or(0);
            kind(info) == STRUCT && info & 0xffff != 0 && self.is_named(**at, name)
        })?;
        Some(self.find(*found, member, DEPTH)? / 8)
    }

    /// The name of a value of an enumeration.
    pub(crate) fn enumerator(&self, name: &str, value: u32) -> Option<&str> {
        let at = *self.types.iter().skip(1).find(|at| {
            kind(word(&self.bytes, **at + 4).unwrap_or(0)) == ENUM && self.is_named(**at, name)
        })?;
        let count = (word(&self.bytes, at + 4)? & 0xffff) as usize;
        let members = (0..count).map(|number| at + 12 + 8 * number);
        let mut equal = members.filter(|member| word(&self.bytes, member + 4) == Some(value));
        self.string(word(&self.bytes, equal.next()?)?)
    }

    /// Bits from the start of the structure at `at` to the member.
    fn find(&self, at: usize, member: &str, depth: usize) -> Option<u32> {
        let info = word(&self.bytes, at + 4)?;
        if depth == 0 || !matches!(kind(info), STRUCT | UNION) {
            return None;
        }
        let count = (info & 0xffff) as usize;
        for entry in (0..count).map(|number| at + 12 + 12 * number) {
            let (name, type_id) = (word(&self.bytes, entry)?, word(&self.bytes, entry + 4)?);
            let mut offset = word(&self.bytes, entry + 8)?;
            // With the flag the upper byte is the width of a bit field.
            if info >> 31 != 0 {
                offset &= 0x00ff_ffff;
            }
            if name == 0 {
                let inner = self.resolve(type_id)?;
                if let Some(within) = self.find(inner, member, depth - 1) {
                    return Some(offset + within);
                }
            } else if self.string(name) == Some(member) {
                return Some(offset);
            }
        }
        None
    }

    /// The type behind names and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<usize> {
        for _ in 0..DEPTH {
            let at = *self.types.get(id as usize)?;
            match kind(word(&self.bytes, at + 4)?) {
                TYPEDEF | VOLATILE | CONST => id = word(&self.bytes, at + 8)?,
                _ => return Some(at),
            }
        }
        None
    }

    fn is_named(&self, at: usize, name: &str) -> bool {
        let found = word(&self.bytes, at).and_then(|offset| self.string(offset));
        found == Some(name)
    }

    fn string(&self, offset: u32) -> Option<&str> {
        let rest = self.bytes.get(self.strings + offset as usize..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        std::str::from_utf8(&rest[..end]).ok()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

const fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_the_running_kernel_are_found() {
        let Ok(btf) = Btf::kernel() else {
            eprintln!("skipped: this kernel does not tell its types");
            return;
        };
        // First in its structure by the kernel's own assertion; the other one in an unnamed member.
        assert_eq!(btf.offset("net_device", "no such member"), None);
        assert_eq!(btf.offset("list_head", "next"), Some(0));
        assert_eq!(btf.offset("list_head", "prev"), Some(8));
        assert!(btf.offset("sk_buff", "network_header").expect("it has one") > 8);
        assert_eq!(btf.enumerator("pid_type", 0), Some("PIDTYPE_PID"));
        assert_eq!(btf.enumerator("pid_type", 77), None);
    }

    #[test]
    fn damaged_information_is_refused() {
        for bytes in [&b""[..], b"\x9f\xeb", b"\x9f\xeb\x01\x00\x18\0\0\0\xff\xff"] {
            assert!(Btf::read(bytes.to_vec()).is_none());
        }
    }
}
