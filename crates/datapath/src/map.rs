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
            position: None,
            more: true,
            batch: Vec::new(),
            size: 1024,
        }
    }
}

impl<V: Plain> TypedMap<u32, V> {
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
}

/// A map's elements, read in batches.
#[derive(Debug)]
pub struct Elements<'a, K, V> {
    map: &'a TypedMap<K, V>,
    position: Option<[u8; 64]>,
    more: bool,
    batch: Vec<(K, V)>,
    size: usize,
}

impl<K: Plain, V: Plain> Elements<'_, K, V> {
    fn fill(&mut self) -> Result<(), Error> {
        let mut keys = vec![0; self.size * size_of::<K>()];
        let mut values = vec![0; self.size * size_of::<V>()];
        let read = bpf::lookup_batch(
            self.map.fd(),
            &mut self.position,
            self.size as u32,
            &mut keys,
            &mut values,
        );
        let (count, more) = match read {
            // A bucket larger than the batch: take larger ones.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && self.size < 1 << 20 => {
                self.size *= 2;
                return self.fill();
            }
            read => read.map_err(self.map.failed("lookup batch"))?,
        };
        self.more = more;
        let keys = keys.chunks_exact(size_of::<K>());
        let values = values.chunks_exact(size_of::<V>());
        self.batch = keys
            .zip(values)
            .take(count as usize)
            .filter_map(|(k, v)| Some((K::read_from_bytes(k).ok()?, V::read_from_bytes(v).ok()?)))
            .collect();
        self.batch.reverse();
        Ok(())
    }
}

impl<K: Plain, V: Plain> Iterator for Elements<'_, K, V> {
    type Item = Result<(K, V), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(element) = self.batch.pop() {
                return Some(Ok(element));
            }
            if !self.more {
                return None;
            }
            if let Err(error) = self.fill() {
                self.more = false;
                return Some(Err(error));
            }
        }
    }
}
