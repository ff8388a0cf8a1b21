//! `SSL`.

use super::super::keywords::Block;
use super::super::model::{Configuration, TlsIdentity};
use super::super::reader::Reader;
use super::super::values::Value;
use super::Opened;

/// Reads the names of the files; a certificate without a key, or the other way round, is left out.
pub(super) fn read(reader: &mut Reader<'_>, configuration: &mut Configuration, at: Opened<'_>) {
    let (mut certificate, mut key) = (None, None);
    for entry in reader.entries(Block::Tls, at.block) {
        match (entry.keyword.name, entry.value) {
            ("certificate", Value::Word(word)) => certificate = Some(word.text.clone()),
            ("key", Value::Word(word)) => key = Some(word.text.clone()),
            _ => {}
        }
    }
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            configuration.tls = Some(TlsIdentity { certificate, key });
        }
        (None, None) => {}
        _ => {
            let text = "`certificate` and `key` need each other; neither is used".to_owned();
            reader.warning(at.place, text);
        }
    }
}
