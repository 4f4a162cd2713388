//! Records as tests compare them, the files in which they travel to client programs and back, and their hash.

use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

/// What a record is to a test. `partition` and `offset` are −1 where they are not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it is, or where it shall go.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// A record that the client places.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Record {
        Record { partition: -1, offset: -1, key: Some(key.into()), value: Some(value.into()) }
    }

    /// A record for one partition.
    pub fn to(partition: i32, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Record {
        Record { partition, ..Record::new(key, value) }
    }

    /// Key and value: what must be the same at both ends.
    pub fn content(&self) -> (Option<&[u8]>, Option<&[u8]>) {
        (self.key.as_deref(), self.value.as_deref())
    }
}

/// SHA-256 over the sorted contents: equal for two sets of records exactly when each record is in both, equally often.
pub fn content_hash(records: &[Record]) -> String {
    let mut contents: Vec<_> = records.iter().map(Record::content).collect();
    contents.sort_unstable();
    let mut hash = Sha256::new();
    for (key, value) in contents {
        for part in [key, value] {
            hash.update(part.map_or(-1, |part| part.len() as i64).to_be_bytes());
            hash.update(part.unwrap_or_default());
        }
    }
    hex(&hash.finalize())
}

/// Bytes as digests are written.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// Writes the format of `tests/clients/record_file.py`.
pub fn write_file(path: &Path, records: &[Record]) {
    let mut bytes = Vec::with_capacity(records.len() * 1024);
    for record in records {
        bytes.extend(record.partition.to_be_bytes());
        bytes.extend(record.offset.to_be_bytes());
        for part in [&record.key, &record.value] {
            bytes.extend(part.as_ref().map_or(-1, |part| part.len() as i32).to_be_bytes());
        }
        bytes.extend(record.key.iter().flatten());
        bytes.extend(record.value.iter().flatten());
    }
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Reads the format of `tests/clients/record_file.py`.
pub fn read_file(path: &Path) -> Vec<Record> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let mut rest = bytes.as_slice();
    let mut records = Vec::new();
    while !rest.is_empty() {
        let partition = i32::from_be_bytes(take(&mut rest));
        let offset = i64::from_be_bytes(take(&mut rest));
        let key_bytes = i32::from_be_bytes(take(&mut rest));
        let value_bytes = i32::from_be_bytes(take(&mut rest));
        let key = take_part(&mut rest, key_bytes);
        let value = take_part(&mut rest, value_bytes);
        records.push(Record { partition, offset, key, value });
    }
    records
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (head, tail) = rest.split_first_chunk().expect("the record file ends inside a record");
    *rest = tail;
    *head
}

fn take_part(rest: &mut &[u8], bytes: i32) -> Option<Vec<u8>> {
    let bytes = usize::try_from(bytes).ok()?;
    let (head, tail) = rest.split_at_checked(bytes).expect("the record file ends inside a record");
    *rest = tail;
    Some(head.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_every_difference_but_the_order() {
        let one = Record::new("a", "1");
        let other = Record::new("a1", "");
        let none = Record { value: None, ..Record::new("a1", "") };
        assert_eq!(content_hash(&[one.clone(), other.clone()]), content_hash(&[other.clone(), one.clone()]));
        assert_ne!(content_hash(std::slice::from_ref(&one)), content_hash(std::slice::from_ref(&other)));
        assert_ne!(content_hash(std::slice::from_ref(&other)), content_hash(&[none]));
        assert_ne!(content_hash(&[one.clone(), one.clone()]), content_hash(&[one]));
    }

    #[test]
    fn record_files_come_back_as_they_went() {
        let records = [
            Record { partition: 3, offset: 1 << 40, key: None, value: Some(b"v".to_vec()) },
            Record { partition: -1, offset: -1, key: Some(Vec::new()), value: None },
        ];
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("records");
        write_file(&path, &records);
        assert_eq!(read_file(&path), records);
    }
}
