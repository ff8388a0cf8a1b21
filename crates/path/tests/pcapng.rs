//! Capture files, read back by a small parser and by tshark.

use std::io::{self, ErrorKind, Write};
use std::process::Command;

use pointsman_path::observation::{Observation, Way};
use pointsman_path::pcapng::{Error, Interface, Record, Writer};

/// 2024-05-06 07:08:09.123456789 UTC.
const TIME_NS: u64 = 1_714_979_289_123_456_789;

/// One block: its type, its body up to the options, its options.
#[derive(Debug)]
struct Block {
    kind: u32,
    body: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
}

impl Block {
    fn option(&self, code: u16) -> Option<&[u8]> {
        let found = self.options.iter().find(|(found, _)| *found == code);
        found.map(|(_, value)| value.as_slice())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn parse(mut file: &[u8]) -> Vec<Block> {
    let mut blocks = Vec::new();
    while !file.is_empty() {
        let kind = u32_at(file, 0);
        let length = u32_at(file, 4) as usize;
        assert_eq!(length % 4, 0);
        assert_eq!(
            u32_at(file, length - 4) as usize,
            length,
            "both lengths agree"
        );
        let content = &file[8..length - 4];
        let fixed = match kind {
            0x0a0d_0d0a => 16,
            1 => 8,
            6 => 20 + (u32_at(content, 12) as usize).next_multiple_of(4),
            _ => panic!("block type {kind}"),
        };
        let (body, mut rest) = content.split_at(fixed);
        let mut options = Vec::new();
        while !rest.is_empty() {
            let (code, length) = (u16_at(rest, 0), usize::from(u16_at(rest, 2)));
            if code == 0 {
                assert_eq!(
                    (length, rest.len()),
                    (0, 4),
                    "the end of options ends the block"
                );
                break;
            }
            options.push((code, rest[4..4 + length].to_vec()));
            rest = &rest[4 + length.next_multiple_of(4)..];
        }
        blocks.push(Block {
            kind,
            body: body.to_vec(),
            options,
        });
        file = &file[length..];
    }
    blocks
}

/// An ARP request of 42 bytes.
fn arp() -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([2, 0, 0, 0, 0, 1, 10, 9, 0, 1, 0, 0, 0, 0, 0, 0, 10, 9, 0, 2]);
    frame
}

fn interface<'a>(
    name: &'a str,
    description: Option<&'a str>,
    snaplen: Option<u32>,
) -> Interface<'a> {
    Interface {
        name,
        description,
        snaplen,
        ..Interface::default()
    }
}

fn sample() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), "pointsman test").expect("start");
    let left = writer
        .add_interface(&interface("veth0", Some("before the director"), None))
        .expect("left");
    let right = writer
        .add_interface(&interface("lan", None, Some(20)))
        .expect("right");
    let frame = Observation {
        point: 0,
        way: Way::Out,
        at_ns: TIME_NS,
        bytes: arp(),
        length: 42,
        checksum_pending: false,
        gso: false,
        note: None,
    };
    let comment = Some("chosen: größer");
    writer
        .write(
            left,
            &Record {
                comment,
                ..Record::from(&frame)
            },
        )
        .expect("write");
    let cut = Record {
        timestamp_ns: TIME_NS + 1,
        bytes: &frame.bytes[..19],
        length: 42,
        way: Way::OtherHost,
        comment: None,
    };
    writer.write(right, &cut).expect("write");
    writer
        .write(
            right,
            &Record {
                way: Way::Unknown,
                ..cut
            },
        )
        .expect("write");
    writer.into_inner().expect("flush")
}

#[test]
fn a_file_reads_back_as_written() {
    let blocks = parse(&sample());
    let kinds: Vec<u32> = blocks.iter().map(|block| block.kind).collect();
    assert_eq!(kinds, [0x0a0d_0d0a, 1, 1, 6, 6, 6]);
    assert_eq!(u32_at(&blocks[0].body, 0), 0x1a2b_3c4d);
    assert_eq!(
        (u16_at(&blocks[0].body, 4), u16_at(&blocks[0].body, 6)),
        (1, 0)
    );
    assert_eq!(blocks[0].option(4), Some(&b"pointsman test"[..]));

    for (block, name, snaplen) in [(&blocks[1], "veth0", 0), (&blocks[2], "lan", 20)] {
        assert_eq!(
            (u16_at(&block.body, 0), u32_at(&block.body, 4)),
            (1, snaplen)
        );
        assert_eq!(block.option(2), Some(name.as_bytes()));
        assert_eq!(block.option(9), Some(&[9][..]), "nanoseconds");
    }
    assert_eq!(blocks[1].option(3), Some(&b"before the director"[..]));

    let facts = |block: &Block| {
        let time = u64::from(u32_at(&block.body, 4)) << 32 | u64::from(u32_at(&block.body, 8));
        let captured = u32_at(&block.body, 12) as usize;
        let bytes = block.body[20..20 + captured].to_vec();
        (u32_at(&block.body, 0), time, bytes, u32_at(&block.body, 16))
    };
    assert_eq!(facts(&blocks[3]), (0, TIME_NS, arp(), 42));
    assert_eq!(
        facts(&blocks[4]),
        (1, TIME_NS + 1, arp()[..19].to_vec(), 42)
    );
    let flags = |block: &Block| block.option(2).map(|value| u32_at(value, 0));
    assert_eq!(flags(&blocks[3]), Some(2), "outbound");
    assert_eq!(flags(&blocks[4]), Some(1 | 4 << 2), "inbound, promiscuous");
    assert_eq!(flags(&blocks[5]), None);
    assert_eq!(blocks[3].option(1), Some("chosen: größer".as_bytes()));
}

#[test]
fn a_comment_too_long_is_cut_at_a_character() {
    let mut writer = Writer::new(Vec::new(), "test").expect("start");
    let interface = writer
        .add_interface(&self::interface("a", None, None))
        .expect("interface");
    let text = "ö".repeat(40_000);
    let record = Record {
        timestamp_ns: 0,
        bytes: &[],
        length: 0,
        way: Way::Unknown,
        comment: Some(&text),
    };
    writer.write(interface, &record).expect("write");
    let blocks = parse(&writer.into_inner().expect("flush"));
    let comment = blocks[2].option(1).expect("a comment");
    assert_eq!(comment.len(), 65_534);
    assert!(std::str::from_utf8(comment).is_ok());
}

#[test]
fn a_length_shorter_than_the_bytes_is_mended() {
    let mut writer = Writer::new(Vec::new(), "test").expect("start");
    let interface = writer
        .add_interface(&self::interface("a", None, None))
        .expect("interface");
    let bytes = arp();
    let record = Record {
        timestamp_ns: 0,
        bytes: &bytes,
        length: 3,
        way: Way::Unknown,
        comment: None,
    };
    writer.write(interface, &record).expect("write");
    let blocks = parse(&writer.into_inner().expect("flush"));
    assert_eq!(u32_at(&blocks[2].body, 16), 42);
}

#[test]
fn another_files_interface_and_a_full_disk_are_errors() {
    let mut first = Writer::new(Vec::new(), "test").expect("start");
    let interface = first
        .add_interface(&self::interface("a", None, None))
        .expect("interface");
    let mut second = Writer::new(Vec::new(), "test").expect("start");
    let record = Record {
        timestamp_ns: 0,
        bytes: &[],
        length: 0,
        way: Way::Unknown,
        comment: None,
    };
    let error = second.write(interface, &record).expect_err("unknown");
    assert!(matches!(error, Error::UnknownInterface { index: 0 }));

    #[derive(Debug)]
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(28))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let error = Writer::new(Full, "test").expect_err("full");
    assert!(error.to_string().contains("section header"), "{error}");
}

#[test]
fn tshark_reads_it() {
    let mut file = tempfile::NamedTempFile::new().expect("temporary file");
    file.write_all(&sample()).expect("write");
    let fields = [
        "frame.time_epoch",
        "frame.len",
        "frame.cap_len",
        "frame.interface_name",
    ];
    let more = [
        "frame.packet_flags_direction",
        "frame.comment",
        "arp.dst.proto_ipv4",
    ];
    let mut command = Command::new("tshark");
    command
        .args(["-n", "-T", "fields", "-E", "separator=|", "-r"])
        .arg(file.path());
    for field in fields.iter().chain(&more) {
        command.args(["-e", field]);
    }
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("skipped: tshark is not installed");
            return;
        }
        output => output.expect("run tshark"),
    };
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('|').collect()).collect();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0][..4], ["1714979289.123456789", "42", "42", "veth0"]);
    assert!(lines[0][4].ends_with('2'), "outbound: {text}");
    assert_eq!(lines[0][5..], ["chosen: größer", "10.9.0.2"]);
    assert_eq!(lines[1][..4], ["1714979289.123456790", "42", "19", "lan"]);
}
