//! Typed access to one map.

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use zerocopy::{FromBytes, IntoBytes};

use crate::{bpf, error::Error};

/// What keys and values are: plain records, readable from and writable as bytes.
pub trait Plain: FromBytes + IntoBytes + Sized {}
impl<T: FromBytes + IntoBytes + Sized> Plain for T {}

/// A map with keys `K` and values `V`.
#[derive(Debug)]
pub struct TypedMap<K, V> {
    fd: OwnedFd,
    name: &'static str,
    room: u32,
    _types: PhantomData<(K, V)>,
}

/// The bytes of a record; records with shared words can only be seen through `&mut`.
fn bytes<T: Plain>(record: &mut T) -> &mut [u8] {
    record.as_mut_bytes()
}

impl<K: Plain, V: Plain> TypedMap<K, V> {
    /// Wraps a map after checking its sizes.
    ///
    /// # Errors
    ///
    /// When the kernel's map has other sizes than `K` and `V`.
    pub(crate) fn new(fd: OwnedFd, name: &'static str) -> Result<Self, Error> {
        let failed = |source| Error::Map {
            map: name,
            call: "info",
            source,
        };
        let (key, value, room) = bpf::map_shape(fd.as_fd()).map_err(failed)?;
        if key as usize != size_of::<K>() || value as usize != size_of::<V>() {
            let text = format!(
                "has keys of {key} and values of {value} bytes, not {} and {}",
                size_of::<K>(),
                size_of::<V>()
            );
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        Ok(Self {
            fd,
            name,
            room,
            _types: PhantomData,
        })
    }

    /// The kernel's number of the map.
    ///
    /// # Errors
    ///
    /// When the kernel does not say.
    pub fn id(&self) -> Result<u32, Error> {
        bpf::map_id(self.fd()).map_err(self.failed("info"))
    }

    /// The most elements it holds.
    pub fn room(&self) -> u32 {
        self.room
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn failed(&self, call: &'static str) -> impl FnOnce(io::Error) -> Error {
        let map = self.name;
        move |source| Error::Map { map, call, source }
    }

    /// The value of `key`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn get(&self, mut key: K) -> Result<Option<V>, Error> {
        let mut value = V::new_zeroed();
        let found = bpf::lookup(self.fd(), bytes(&mut key), bytes(&mut value));
        Ok(found.map_err(self.failed("lookup"))?.then_some(value))
    }

    /// Every processor's value of `key`, for a per-CPU map.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn get_each(&self, mut key: K, processors: usize) -> Result<Vec<V>, Error> {
        let stride = size_of::<V>().next_multiple_of(8);
        let mut buffer = vec![0; stride * processors];
        bpf::lookup(self.fd(), bytes(&mut key), &mut buffer).map_err(self.failed("lookup"))?;
        Ok(buffer
            .chunks_exact(stride)
            .filter_map(|bytes| V::read_from_prefix(bytes).ok().map(|(value, _)| value))
            .collect())
    }

    /// Writes `value` as every processor's value of `key`, for a per-CPU map.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set_each(&self, mut key: K, mut value: V, processors: usize) -> Result<(), Error> {
        let stride = size_of::<V>().next_multiple_of(8);
        let mut buffer = vec![0; stride * processors];
        for copy in buffer.chunks_exact_mut(stride) {
            copy[..size_of::<V>()].copy_from_slice(bytes(&mut value));
        }
        bpf::update(self.fd(), bytes(&mut key), &buffer).map_err(self.failed("update"))
    }

    /// Writes `value` at `key`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; E2BIG when a hash map is full.
    pub fn set(&self, mut key: K, mut value: V) -> Result<(), Error> {
        bpf::update(self.fd(), bytes(&mut key), bytes(&mut value)).map_err(self.failed("update"))
    }

    /// Removes `key`; false when it was not there.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn remove(&self, mut key: K) -> Result<bool, Error> {
        bpf::delete(self.fd(), bytes(&mut key)).map_err(self.failed("delete"))
    }

    /// Reads the map in batches; elements that come and go meanwhile may be missed or seen.
    pub fn iter(&self) -> Elements<'_, K, V> {
        Elements {
            map: self,
            position: Position::default(),
            batch: Vec::new(),
        }
    }

    /// The elements behind `position`, some at a time, and none at the end.
    ///
    /// # Errors
    ///
    /// When the kernel refuses; then the end is reached.
    pub fn read_on(&self, position: &mut Position) -> Result<Vec<(K, V)>, Error> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        while position.more {
            let size = position.size;
            keys.resize(size * size_of::<K>(), 0);
            values.resize(size * size_of::<V>(), 0);
            let read = bpf::lookup_batch(
                self.fd(),
                &mut position.key,
                size as u32,
                &mut keys,
                &mut values,
            );
            let (count, more) = match read {
                // A bucket larger than the batch: take larger ones.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && size < 1 << 20 => {
                    position.size *= 2;
                    continue;
                }
                read => read
                    .inspect_err(|_| position.more = false)
                    .map_err(self.failed("lookup batch"))?,
            };
            position.more = more;
            if count == 0 {
                continue;
            }
            let keys = keys.chunks_exact(size_of::<K>());
            let values = values.chunks_exact(size_of::<V>());
            let element = |(k, v)| Some((K::read_from_bytes(k).ok()?, V::read_from_bytes(v).ok()?));
            return Ok(keys
                .zip(values)
                .take(count as usize)
                .filter_map(element)
                .collect());
        }
        Ok(Vec::new())
    }
}

impl<V: Plain> TypedMap<u32, V> {
    /// Writes `value` as every processor's value at `first` and the `count - 1` places behind, for a
    /// per-CPU array.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set_each_of(
        &self,
        first: u32,
        count: u32,
        mut value: V,
        processors: usize,
    ) -> Result<(), Error> {
        let stride = size_of::<V>().next_multiple_of(8);
        let mut values = vec![0; stride * processors * count as usize];
        for copy in values.chunks_exact_mut(stride) {
            copy[..size_of::<V>()].copy_from_slice(bytes(&mut value));
        }
        let keys: Vec<u32> = (first..first + count).collect();
        bpf::update_batch(self.fd(), count, keys.as_bytes(), &values)
            .map_err(self.failed("update batch"))
    }

    /// Writes `values` at `first`, `first + 1`, ... of an array map.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set_range(&self, first: u32, values: &mut [V]) -> Result<(), Error>
    where
        [V]: IntoBytes + FromBytes,
    {
        match values {
            [] => Ok(()),
            [value] => bpf::update(self.fd(), &first.to_ne_bytes(), bytes(value))
                .map_err(self.failed("update")),
            values => {
                let count = values.len() as u32;
                let mut keys: Vec<u32> = (first..first + count).collect();
                bpf::update_batch(self.fd(), count, keys.as_mut_bytes(), values.as_mut_bytes())
                    .map_err(self.failed("update batch"))
            }
        }
    }

    /// Gives the values at `indices`, which rise, to `take`; an array is read in batches, of a
    /// per-CPU one with `processors` every copy in turn. Indices in between may be given, too.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn each_at(
        &self,
        indices: &[u32],
        processors: Option<usize>,
        mut take: impl FnMut(u32, V),
    ) -> Result<(), Error> {
        let (copy, copies) = match processors {
            Some(processors) => (size_of::<V>().next_multiple_of(8), processors),
            None => (size_of::<V>(), 1),
        };
        let most = (BATCH_BYTES / (copy * copies)).clamp(1, 4096) as u32;
        let mut keys = vec![0; most as usize * size_of::<u32>()];
        let mut values = vec![0; most as usize * copy * copies];
        for (first, end) in runs(indices) {
            let mut next = first;
            while next < end {
                // The position is the key before; an array's first has none.
                let mut position = next.checked_sub(1).map(|before| {
                    let mut key = [0; 64];
                    key[..size_of::<u32>()].copy_from_slice(&before.to_ne_bytes());
                    key
                });
                let count = most.min(end - next);
                let (read, _) =
                    bpf::lookup_batch(self.fd(), &mut position, count, &mut keys, &mut values)
                        .map_err(self.failed("lookup batch"))?;
                if read == 0 {
                    // Behind the end of the array.
                    return Ok(());
                }
                let elements = values.chunks_exact(copy * copies).take(read as usize);
                for (index, element) in (next..).zip(elements) {
                    for value in element.chunks_exact(copy) {
                        if let Ok((value, _)) = V::read_from_prefix(value) {
                            take(index, value);
                        }
                    }
                }
                next += read;
            }
        }
        Ok(())
    }
}

/// Bytes that a batch of values may have: enough that calls cost nothing, and in the cache.
const BATCH_BYTES: usize = 256 << 10;

/// Unused elements that are sooner read than left out by another call.
const GAP: u32 = 16;

/// Ranges that hold all of `indices`, which rise.
fn runs(indices: &[u32]) -> impl Iterator<Item = (u32, u32)> {
    indices
        .chunk_by(|a, b| b - a <= GAP)
        .filter_map(|run| Some((*run.first()?, run.last()? + 1)))
}

/// Where reading a map in batches has come to.
#[derive(Debug, Clone)]
pub struct Position {
    key: Option<[u8; 64]>,
    more: bool,
    size: usize,
}

impl Default for Position {
    /// The beginning.
    fn default() -> Self {
        Self {
            key: None,
            more: true,
            size: 1024,
        }
    }
}

/// A map's elements, read in batches.
#[derive(Debug)]
pub struct Elements<'a, K, V> {
    map: &'a TypedMap<K, V>,
    position: Position,
    batch: Vec<(K, V)>,
}

impl<K: Plain, V: Plain> Iterator for Elements<'_, K, V> {
    type Item = Result<(K, V), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.batch.is_empty() {
            match self.map.read_on(&mut self.position) {
                Ok(batch) => self.batch = batch,
                Err(error) => return Some(Err(error)),
            }
            self.batch.reverse();
        }
        self.batch.pop().map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_near_is_read_together() {
        let all = |indices: &[u32]| runs(indices).collect::<Vec<_>>();
        assert_eq!(all(&[]), []);
        assert_eq!(all(&[7]), [(7, 8)]);
        assert_eq!(all(&[0, 1, 2, 18, 35, 36]), [(0, 19), (35, 37)]);
    }

    #[test]
    fn a_per_cpu_array_is_read_in_batches() {
        // SAFETY: has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            println!("skipped: needs root");
            return;
        }
        let processors = bpf::processors().expect("/sys");
        let room = 20_000;
        let fd = bpf::create_per_cpu_array(8, room).expect("a map");
        let map: TypedMap<u32, u64> = TypedMap::new(fd, "TEST").expect("fits");
        for index in (0..room).step_by(3) {
            map.set_each(index, u64::from(index) + 1, processors)
                .expect("in range");
        }
        for indices in [
            vec![],
            vec![0],
            vec![room - 1],
            vec![2, 3, 4, 900, 903, room - 1],
            (0..room).collect::<Vec<u32>>(),
            (0..room).step_by(97).collect(),
            // Behind the end there is nothing.
            vec![room - 2, room - 1, room, room + 100],
        ] {
            let mut seen = std::collections::HashMap::<u32, Vec<u64>>::new();
            let take = |index, value| seen.entry(index).or_default().push(value);
            map.each_at(&indices, Some(processors), take)
                .expect("readable");
            for index in indices.into_iter().filter(|index| *index < room) {
                let value = if index % 3 == 0 {
                    u64::from(index) + 1
                } else {
                    0
                };
                assert_eq!(seen.get(&index), Some(&vec![value; processors]), "{index}");
            }
        }
    }
}
