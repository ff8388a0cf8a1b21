//! The `bpf(2)` commands that the loading library does not offer, or hides the errno of.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;
const MAP_NEXT_KEY: i32 = 4;
const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const TEST_RUN: i32 = 10;
const PROG_NEXT_ID: i32 = 11;
const PROG_BY_ID: i32 = 13;
const MAP_BY_ID: i32 = 14;
const GET_INFO: i32 = 15;
const PROG_QUERY: i32 = 16;
const MAP_LOOKUP_BATCH: i32 = 24;
const MAP_UPDATE_BATCH: i32 = 26;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;

/// `BPF_XDP` of `enum bpf_attach_type`.
pub const ATTACH_XDP: u32 = 37;
/// `BPF_TCX_INGRESS` of `enum bpf_attach_type`.
pub const ATTACH_TCX_INGRESS: u32 = 46;
/// `XDP_FLAGS_DRV_MODE`: the driver's own hook, never the generic one.
pub const XDP_DRIVER: u32 = 4;
/// `BPF_F_BEFORE`: in front of all others.
pub const TCX_FIRST: u32 = 8;

/// Calls `bpf(2)` with `attribute`, a prefix of `union bpf_attr`.
fn call<T>(command: i32, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: `attribute` is a `repr(C)` prefix of `union bpf_attr` of the length passed; the
    // pointers in it are valid for the command, which the functions below see to.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attribute),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

fn descriptor(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn address<T>(value: &T) -> u64 {
    std::ptr::from_ref(value) as u64
}

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Reads the value of `key` into `value`; false when there is none.
///
/// # Errors
///
/// The errno of `BPF_MAP_LOOKUP_ELEM`, ENOENT aside.
pub fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut element = Element {
        map: map.as_raw_fd() as u32,
        pad: 0,
        key: key.as_ptr() as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    match call(MAP_LOOKUP, &mut element) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes `value` at `key`.
///
/// # Errors
///
/// The errno of `BPF_MAP_UPDATE_ELEM`.
pub fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut element = Element {
        map: map.as_raw_fd() as u32,
        pad: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    call(MAP_UPDATE, &mut element).map(drop)
}

/// Removes `key`; false when it was not there.
///
/// # Errors
///
/// The errno of `BPF_MAP_DELETE_ELEM`, ENOENT aside.
pub fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    let mut element = Element {
        map: map.as_raw_fd() as u32,
        pad: 0,
        key: key.as_ptr() as u64,
        value: 0,
        flags: 0,
    };
    match call(MAP_DELETE, &mut element) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Some key of a map, into `key`; false when it is empty.
///
/// # Errors
///
/// The errno of `BPF_MAP_GET_NEXT_KEY`, ENOENT aside.
pub fn any_key(map: BorrowedFd<'_>, key: &mut [u8]) -> io::Result<bool> {
    let mut element = Element {
        map: map.as_raw_fd() as u32,
        pad: 0,
        key: 0,
        value: key.as_mut_ptr() as u64,
        flags: 0,
    };
    match call(MAP_NEXT_KEY, &mut element) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// Reads up to `count` elements behind `position` (none: from the start) into `keys` and `values`,
/// and moves `position`. Returns how many, and whether the map has more.
///
/// # Errors
///
/// The errno of `BPF_MAP_LOOKUP_BATCH`; ENOSPC when a hash bucket does not fit into `count`.
pub fn lookup_batch(
    map: BorrowedFd<'_>,
    position: &mut Option<[u8; 64]>,
    count: u32,
    keys: &mut [u8],
    values: &mut [u8],
) -> io::Result<(u32, bool)> {
    let mut next = [0u8; 64];
    let mut batch = Batch {
        from: position.as_ref().map_or(0, |p| p.as_ptr() as u64),
        to: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    let more = match call(MAP_LOOKUP_BATCH, &mut batch) {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => return Err(error),
    };
    *position = Some(next);
    Ok((batch.count, more))
}

/// Writes `count` elements of an array map at once.
///
/// # Errors
///
/// The errno of `BPF_MAP_UPDATE_BATCH`.
pub fn update_batch(map: BorrowedFd<'_>, count: u32, keys: &[u8], values: &[u8]) -> io::Result<()> {
    let mut batch = Batch {
        from: 0,
        to: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map: map.as_raw_fd() as u32,
        element_flags: 0,
        flags: 0,
    };
    call(MAP_UPDATE_BATCH, &mut batch).map(drop)
}

/// Makes a per-CPU array of `room` values of `size` bytes.
///
/// # Errors
///
/// The errno of `BPF_MAP_CREATE`.
#[cfg(test)]
pub(crate) fn create_per_cpu_array(size: u32, room: u32) -> io::Result<OwnedFd> {
    const MAP_CREATE: i32 = 0;
    const PER_CPU_ARRAY: u32 = 6;
    // Type, sizes of key and value, room.
    call(MAP_CREATE, &mut [PER_CPU_ARRAY, 4, size, room]).map(descriptor)
}

/// The number of the program after `id`; none after the last.
///
/// # Errors
///
/// The errno of `BPF_PROG_GET_NEXT_ID`.
pub fn next_program(id: u32) -> io::Result<Option<u32>> {
    // Where to start, what comes next, flags.
    let mut next = [id, 0, 0];
    match call(PROG_NEXT_ID, &mut next) {
        Ok(_) => Ok(Some(next[1])),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The program with a number.
///
/// # Errors
///
/// The errno of `BPF_PROG_GET_FD_BY_ID`: ENOENT when it is gone.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    call(PROG_BY_ID, &mut [id, 0, 0]).map(descriptor)
}

/// The map with a number.
///
/// # Errors
///
/// The errno of `BPF_MAP_GET_FD_BY_ID`: ENOENT when it is gone.
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    call(MAP_BY_ID, &mut [id, 0, 0]).map(descriptor)
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
    tag: u64,
    machine_size: u32,
    translated_size: u32,
    machine: u64,
    translated: u64,
    loaded_at: u64,
    owner: u32,
    maps: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// What a program is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFacts {
    /// The kernel's number of it.
    pub id: u32,
    /// Of `enum bpf_prog_type`.
    pub kind: u32,
    /// Its name, at most 15 characters.
    pub name: String,
    /// Numbers of its maps.
    pub maps: Vec<u32>,
}

/// Says what a program is.
///
/// # Errors
///
/// The errno of `BPF_OBJ_GET_INFO_BY_FD`.
pub fn program_facts(program: BorrowedFd<'_>) -> io::Result<ProgramFacts> {
    let mut maps = vec![0_u32; 128];
    let mut info = ProgInfo {
        maps: maps.len() as u32,
        map_ids: maps.as_mut_ptr() as u64,
        ..ProgInfo::default()
    };
    let mut get = GetInfo {
        fd: program.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    call(GET_INFO, &mut get)?;
    maps.truncate(info.maps as usize);
    Ok(ProgramFacts {
        id: info.id,
        kind: info.kind,
        name: text(&info.name),
        maps,
    })
}

/// What is in front of the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

#[repr(C)]
#[derive(Default)]
struct Query {
    ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// Numbers of the programs at a hook of a device in the calling thread's network namespace.
///
/// # Errors
///
/// The errno of `BPF_PROG_QUERY`: EINVAL when the kernel does not know the hook.
pub fn programs_at(ifindex: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut programs = vec![0_u32; 64];
    let mut query = Query {
        ifindex,
        attach_type,
        programs: programs.as_mut_ptr() as u64,
        count: programs.len() as u32,
        ..Query::default()
    };
    match call(PROG_QUERY, &mut query) {
        Ok(_) => programs.truncate(query.count as usize),
        // Nothing was ever attached there.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => programs.clear(),
        Err(error) => return Err(error),
    }
    Ok(programs)
}

#[repr(C)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Pins an object at `path` on a bpffs.
///
/// # Errors
///
/// The errno of `BPF_OBJ_PIN`.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut object = Object {
        path: path.as_ptr() as u64,
        fd: fd.as_raw_fd() as u32,
        flags: 0,
    };
    call(OBJ_PIN, &mut object).map(drop)
}

/// Opens the object pinned at `path`.
///
/// # Errors
///
/// The errno of `BPF_OBJ_GET`.
pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut object = Object {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    call(OBJ_GET, &mut object).map(descriptor)
}

#[repr(C)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

/// Attaches a program to a device.
///
/// # Errors
///
/// The errno of `BPF_LINK_CREATE`: EOPNOTSUPP when the driver has no native XDP, EBUSY when another
/// program is there, EINVAL when the kernel does not know the attach type.
pub fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut create = LinkCreate {
        program: program.as_raw_fd() as u32,
        ifindex,
        attach_type,
        flags,
        relative: 0,
        pad: 0,
        revision: 0,
    };
    call(LINK_CREATE, &mut create).map(descriptor)
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

/// Replaces the program of a link; no packet meets neither.
///
/// # Errors
///
/// The errno of `BPF_LINK_UPDATE`.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut update = LinkUpdate {
        link: link.as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        flags: 0,
        old: 0,
    };
    call(LINK_UPDATE, &mut update).map(drop)
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The device of an XDP or tcx link, 0 when that device is gone.
///
/// # Errors
///
/// The errno of `BPF_OBJ_GET_INFO_BY_FD`.
pub fn link_ifindex(link: BorrowedFd<'_>) -> io::Result<u32> {
    // struct bpf_link_info: type, id, prog_id, pad, then a union that starts with the ifindex.
    let mut info = [0u32; 16];
    let mut get = GetInfo {
        fd: link.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    call(GET_INFO, &mut get)?;
    Ok(info[4])
}

/// Key size, value size and room of a map.
///
/// # Errors
///
/// The errno of `BPF_OBJ_GET_INFO_BY_FD`.
pub fn map_shape(map: BorrowedFd<'_>) -> io::Result<(u32, u32, u32)> {
    let info = map_info(map)?;
    Ok((info[2], info[3], info[4]))
}

/// The name of a map, at most 15 characters.
///
/// # Errors
///
/// The errno of `BPF_OBJ_GET_INFO_BY_FD`.
pub fn map_name(map: BorrowedFd<'_>) -> io::Result<String> {
    let info = map_info(map)?;
    let bytes: Vec<u8> = info[6..10]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    Ok(text(&bytes))
}

/// The kernel's number of a map; none that is given back returns before all others were given.
///
/// # Errors
///
/// The errno of `BPF_OBJ_GET_INFO_BY_FD`.
pub fn map_id(map: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(map_info(map)?[1])
}

/// `struct bpf_map_info`: type, id, key_size, value_size, max_entries, ...
fn map_info(map: BorrowedFd<'_>) -> io::Result<[u32; 32]> {
    let mut info = [0u32; 32];
    let mut get = GetInfo {
        fd: map.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    call(GET_INFO, &mut get)?;
    Ok(info)
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    data_in_size: u32,
    data_out_size: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// What a test run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What the program returned.
    pub result: u32,
    /// Bytes of the frame after the (last) run.
    pub length: u32,
    /// Nanoseconds per run.
    pub duration: u32,
}

/// Runs an XDP or tc program `repeat` times on `frame`; the frame afterwards goes to `out`.
/// `context` is the head of the program's context, or empty.
///
/// # Errors
///
/// The errno of `BPF_PROG_TEST_RUN`.
pub fn run_on_frame(
    program: BorrowedFd<'_>,
    frame: &[u8],
    context: &[u32],
    out: &mut [u8],
    repeat: u32,
) -> io::Result<Run> {
    let mut run = TestRun {
        program: program.as_raw_fd() as u32,
        data_in_size: frame.len() as u32,
        data_out_size: out.len() as u32,
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        context_in_size: size_of_val(context) as u32,
        context_in: if context.is_empty() {
            0
        } else {
            context.as_ptr() as u64
        },
        repeat,
        ..TestRun::default()
    };
    call(TEST_RUN, &mut run)?;
    Ok(Run {
        result: run.result,
        length: run.data_out_size,
        duration: run.duration,
    })
}

/// Runs a raw tracepoint program with arguments, twelve at most; returns what it returned.
///
/// # Errors
///
/// The errno of `BPF_PROG_TEST_RUN`.
pub fn run_with_arguments<const N: usize>(
    program: BorrowedFd<'_>,
    arguments: [u64; N],
) -> io::Result<u32> {
    let mut run = TestRun {
        program: program.as_raw_fd() as u32,
        context_in_size: size_of_val(&arguments) as u32,
        context_in: address(&arguments),
        ..TestRun::default()
    };
    call(TEST_RUN, &mut run)?;
    Ok(run.result)
}

/// Possible processors: how many copies a per-CPU value has.
///
/// # Errors
///
/// When `/sys/devices/system/cpu/possible` can't be read or understood.
pub fn processors() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text.trim().rsplit([',', '-']).next().unwrap_or_default();
    last.parse::<usize>()
        .map(|last| last + 1)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("processors {text:?}")))
}
