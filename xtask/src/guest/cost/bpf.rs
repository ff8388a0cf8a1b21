//! Just enough of the bpf system call: tiny XDP programs, links, and live-frame test runs.

use std::ffi::c_long;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};

use super::frame;

const COMMAND_MAP_CREATE: c_long = 0;
const COMMAND_MAP_LOOKUP: c_long = 1;
const COMMAND_PROGRAM_LOAD: c_long = 5;
const COMMAND_TEST_RUN: c_long = 10;
const COMMAND_LINK_CREATE: c_long = 28;
const MAP_TYPE_ARRAY: u32 = 2;
const PROGRAM_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
const TEST_RUN_LIVE_FRAMES: u32 = 2;
const FLAG_DRIVER_MODE: u32 = 4;

const HELPER_TIME: i32 = 5;
const HELPER_REDIRECT: i32 = 23;

/// Frames the generator sends before they are worked on: as many as a network driver polls.
pub(crate) const BATCH: u32 = 64;

/// XDP verdicts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    Drop = 1,
    Pass = 2,
    Transmit = 3,
}

/// A loaded XDP program.
#[derive(Debug)]
pub(crate) struct Program(OwnedFd);

/// An attached program; dropping it detaches.
#[derive(Debug)]
pub(crate) struct Link(#[expect(dead_code, reason = "held open")] OwnedFd);

impl Program {
    /// Does nothing but say `verdict`.
    pub(crate) fn verdict(verdict: Verdict) -> Result<Self> {
        Self::load(&[move_number(0, verdict as i32), EXIT])
    }

    /// Swaps the Ethernet addresses and sends the frame back where it came from.
    pub(crate) fn reflect() -> Result<Self> {
        let mut code = checked_data();
        for offset in [0, 2, 4] {
            code.push(load(SIZE_16, 3, 2, offset));
            code.push(load(SIZE_16, 4, 2, offset + 6));
            code.push(store(SIZE_16, 2, offset, 4));
            code.push(store(SIZE_16, 2, offset + 6, 3));
        }
        code.extend([move_number(0, Verdict::Transmit as i32), EXIT]);
        Self::load(&code)
    }

    /// Sends every frame out of the device `index`.
    pub(crate) fn redirect(index: u32) -> Result<Self> {
        Self::load(&[
            move_number(1, index as i32),
            move_number(2, 0),
            call(HELPER_REDIRECT),
            EXIT,
        ])
    }

    fn load(code: &[u64]) -> Result<Self> {
        #[repr(C)]
        struct Attributes {
            program_type: u32,
            count: u32,
            code: u64,
            license: u64,
            log_level: u32,
            log_size: u32,
            log: u64,
        }
        let mut log = vec![0_u8; 65536];
        let mut attributes = Attributes {
            program_type: PROGRAM_TYPE_XDP,
            count: code.len() as u32,
            code: code.as_ptr() as u64,
            license: c"Dual MIT/GPL".as_ptr() as u64,
            log_level: 1,
            log_size: log.len() as u32,
            log: log.as_mut_ptr() as u64,
        };
        match call_bpf(COMMAND_PROGRAM_LOAD, &mut attributes) {
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(fd) => Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) })),
            Err(error) => {
                let log = String::from_utf8_lossy(&log);
                bail!(
                    "the kernel refuses a program: {error}\n{}",
                    log.trim_end_matches('\0')
                )
            }
        }
    }

    /// Attaches to the device `index` of the current network namespace, in the driver.
    pub(crate) fn attach(&self, index: u32) -> Result<Link> {
        #[repr(C)]
        struct Attributes {
            program: i32,
            device: u32,
            attach_type: u32,
            flags: u32,
        }
        let mut attributes = Attributes {
            program: self.0.as_raw_fd(),
            device: index,
            attach_type: ATTACH_TYPE_XDP,
            flags: FLAG_DRIVER_MODE,
        };
        let fd = call_bpf(COMMAND_LINK_CREATE, &mut attributes).context("cannot attach XDP")?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Link(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

/// Sends frames from the current network namespace and takes the time of every batch.
#[derive(Debug)]
pub(crate) struct Generator {
    program: Program,
    clock: OwnedFd,
}

/// What a generator notes: frames so far, guest time of the first batch and of the latest.
#[repr(C)]
#[derive(Debug, Default)]
struct Clock {
    frames: u64,
    first: u64,
    latest: u64,
}

impl Generator {
    /// Sends `frame` out of the device `index`; with `count_port` each has the next TCP source
    /// port, and its checksum is left wrong.
    pub(crate) fn new(frame: &[u8; frame::LENGTH], index: u32, count_port: bool) -> Result<Self> {
        let clock = Clock::map()?;
        let mut code = vec![move_register(6, 1)];
        code.extend(Clock::note(&clock));
        code.push(move_register(1, 6));
        code.extend(checked_data());
        // Anew each time: pages come back as the director left them.
        for (at, word) in frame.chunks_exact(4).enumerate() {
            let word = i32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            code.push(store_number(2, at as i16 * 4, word));
        }
        if count_port {
            code.push(load(SIZE_64, 7, 7, 0));
            code.push(store(SIZE_16, 2, frame::SOURCE_PORT, 7));
        }
        code.extend([
            move_number(1, index as i32),
            move_number(2, 0),
            call(HELPER_REDIRECT),
            EXIT,
        ]);
        Ok(Self {
            program: Program::load(&code)?,
            clock,
        })
    }

    /// Sends `count` frames; use a generator once. Gives the guest time per frame between the
    /// starts of the first batch and the last one, not a number if there was only one.
    ///
    /// The system call's own duration would not do: it sleeps at its start and end.
    pub(crate) fn send(&self, count: u32) -> Result<f64> {
        #[repr(C)]
        struct Attributes {
            program: i32,
            result: u32,
            data_size_in: u32,
            data_size_out: u32,
            data_in: u64,
            data_out: u64,
            repeat: u32,
            duration: u32,
            context_sizes: [u32; 2],
            contexts: [u64; 2],
            flags: u32,
            cpu: u32,
            batch: u32,
            rest: u32,
        }
        let data = [0_u8; frame::LENGTH];
        let mut attributes = Attributes {
            program: self.program.0.as_raw_fd(),
            result: 0,
            data_size_in: data.len() as u32,
            data_size_out: 0,
            data_in: data.as_ptr() as u64,
            data_out: 0,
            repeat: count,
            duration: 0,
            context_sizes: [0; 2],
            contexts: [0; 2],
            flags: TEST_RUN_LIVE_FRAMES,
            cpu: 0,
            batch: BATCH.min(count),
            rest: 0,
        };
        call_bpf(COMMAND_TEST_RUN, &mut attributes).context("cannot send live frames")?;
        let clock = Clock::read(&self.clock)?;
        ensure!(
            clock.frames == count.into(),
            "{} frames sent of {count}",
            clock.frames
        );
        let timed = count.saturating_sub(1) / BATCH * BATCH;
        Ok((clock.latest - clock.first) as f64 / f64::from(timed))
    }
}

impl Clock {
    fn map() -> Result<OwnedFd> {
        let mut attributes = [MAP_TYPE_ARRAY, 4, size_of::<Self>() as u32, 1];
        let fd = call_bpf(COMMAND_MAP_CREATE, &mut attributes).context("cannot create a map")?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Counts the frame; takes the time if it begins a batch. Register 7 is the map value then;
    /// uses registers 0 to 5 and 8 too.
    fn note(map: &OwnedFd) -> [u64; 13] {
        const VALUE_OF_MAP: u8 = 2;
        [
            instruction(0x18, 7, VALUE_OF_MAP, 0, map.as_raw_fd()),
            0,
            load(SIZE_64, 8, 7, 0),
            instruction(0x07, 8, 0, 0, 1),
            store(SIZE_64, 7, 0, 8),
            // Unless (frames - 1) % BATCH = 0, skip the rest.
            instruction(0x07, 8, 0, 0, -1),
            instruction(0x57, 8, 0, 0, BATCH as i32 - 1),
            instruction(0x55, 8, 0, 5, 0),
            call(HELPER_TIME),
            load(SIZE_64, 3, 7, 8),
            instruction(0x55, 3, 0, 1, 0),
            store(SIZE_64, 7, 8, 0),
            store(SIZE_64, 7, 16, 0),
        ]
    }

    fn read(map: &OwnedFd) -> Result<Self> {
        #[repr(C)]
        struct Attributes {
            map: i32,
            key: u64,
            value: u64,
            flags: u64,
        }
        let (key, mut clock) = (0_u32, Self::default());
        let mut attributes = Attributes {
            map: map.as_raw_fd(),
            key: &raw const key as u64,
            value: &raw mut clock as u64,
            flags: 0,
        };
        call_bpf(COMMAND_MAP_LOOKUP, &mut attributes).context("cannot read the clock")?;
        Ok(clock)
    }
}

fn call_bpf<T>(command: c_long, attributes: &mut T) -> std::io::Result<i32> {
    let size = size_of::<T>();
    // SAFETY: `attributes` is a live `repr(C)` prefix of the kernel's union for this command, and
    // the addresses in it point to memory its maker keeps for the length of the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size) };
    if result < 0 {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

const SIZE_16: u8 = 0x08;
const SIZE_32: u8 = 0x00;
const SIZE_64: u8 = 0x18;
const EXIT: u64 = 0x95;

/// Register 2 = start of the frame, which is known to be long enough afterwards.
fn checked_data() -> Vec<u64> {
    vec![
        load(SIZE_32, 2, 1, 0),
        load(SIZE_32, 3, 1, 4),
        move_register(4, 2),
        instruction(0x07, 4, 0, 0, frame::LENGTH as i32),
        // if r4 <= r3, skip the exit
        instruction(0xbd, 4, 3, 2, 0),
        move_number(0, Verdict::Drop as i32),
        EXIT,
    ]
}

fn move_number(to: u8, number: i32) -> u64 {
    instruction(0xb7, to, 0, 0, number)
}

fn move_register(to: u8, from: u8) -> u64 {
    instruction(0xbf, to, from, 0, 0)
}

fn load(size: u8, to: u8, base: u8, offset: i16) -> u64 {
    instruction(0x61 | size, to, base, offset, 0)
}

fn store(size: u8, base: u8, offset: i16, from: u8) -> u64 {
    instruction(0x63 | size, base, from, offset, 0)
}

fn store_number(base: u8, offset: i16, number: i32) -> u64 {
    instruction(0x62, base, 0, offset, number)
}

fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    u64::from(code)
        | u64::from(from << 4 | to) << 8
        | u64::from(offset as u16) << 16
        | u64::from(number as u32) << 32
}
