//! Connections of another director, taken into the tables by a program: only programs can count them
//! beside those that packets begin meanwhile.

use std::{path::Path, sync::Mutex, sync::PoisonError};

use aya::{Ebpf, EbpfLoader, VerifierLogLevel, programs::RawTracePoint};
use pointsman_director::{
    adopt::Adopted,
    record::{ConnectionRecord, FlowKey},
};
use zerocopy::IntoBytes as _;

use crate::{
    bpf,
    error::Error,
    object::{PINNED, program, program_fd, text_of, tick},
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/adopt.o"));

const ADOPT: &str = "adopt";
/// Words of a key and a record.
const WORDS: usize = 10;

/// The program, loaded when first needed.
#[derive(Default)]
pub(crate) struct Adopter {
    /// Its room is for one connection at a time.
    loaded: Mutex<Option<Ebpf>>,
}

impl Adopter {
    /// Takes connections into the tables pinned at `pins`; what became of each.
    pub(crate) fn adopt(
        &self,
        pins: &Path,
        told: &[(FlowKey, ConnectionRecord)],
    ) -> Result<Vec<Adopted>, Error> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let ebpf = match &mut *loaded {
            Some(ebpf) => ebpf,
            none => none.insert(load(pins)?),
        };
        let fd = program_fd(ebpf, ADOPT)?;
        let failed = |source| Error::Run {
            name: ADOPT,
            source,
        };
        let each = told.iter().map(|(key, record)| {
            let number = bpf::run_with_arguments(fd, words(key, record)).map_err(failed)?;
            let known = Adopted::ALL.into_iter().find(|a| *a as u32 == number);
            Ok(known.unwrap_or(Adopted::Contended))
        });
        each.collect()
    }
}

fn load(pins: &Path) -> Result<Ebpf, Error> {
    let mut loader = EbpfLoader::new();
    loader.verifier_log_level(if std::env::var_os("POINTSMAN_VERIFIER_LOG").is_some() {
        VerifierLogLevel::default()
    } else {
        VerifierLogLevel::STATS
    });
    let tick = tick();
    loader.override_global("TICK", &tick, true);
    // Nobody records by this object: the smallest that there is.
    loader.map_max_entries("RECORDS", 4096);
    for name in PINNED {
        loader.map_pin_path(name, pins.join(name));
    }
    let mut ebpf = loader
        .load(OBJECT)
        .map_err(|error| Error::Load(text_of(&error)))?;
    let loaded = program::<RawTracePoint>(&mut ebpf, ADOPT)?.load();
    loaded.map_err(|error| Error::Program {
        name: ADOPT,
        reason: text_of(&error),
    })?;
    Ok(ebpf)
}

/// The program's arguments.
fn words(key: &FlowKey, record: &ConnectionRecord) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let mut record = record.clone();
    let bytes = key.as_bytes().iter().chain(record.as_mut_bytes().iter());
    for (place, byte) in words.as_mut_bytes().iter_mut().zip(bytes) {
        *place = *byte;
    }
    words
}
