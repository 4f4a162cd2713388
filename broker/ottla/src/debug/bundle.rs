//! The file that is written: a folder of small files, the first of which says what the others are.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

const CONTENTS: &str = "README.txt";
/// Only its owner reads it: names of topics, hosts and people's programs are in it.
const MODE: u32 = 0o600;

/// See the module.
pub(super) struct Bundle {
    folder: String,
    made_s: i64,
    files: Vec<Entry>,
    missing: Vec<String>,
}

struct Entry {
    name: String,
    what: String,
    bytes: Vec<u8>,
}

impl Bundle {
    /// One whose files lie in this folder.
    pub(super) fn new(folder: String, made_s: i64) -> Self {
        Self { folder, made_s, files: Vec::new(), missing: Vec::new() }
    }

    /// Adds a file, and for its reader what it is.
    pub(super) fn add(&mut self, name: &str, what: &str, bytes: impl Into<Vec<u8>>) {
        self.files.push(Entry { name: name.to_owned(), what: what.to_owned(), bytes: bytes.into() });
    }

    /// Adds a file with a JSON value.
    pub(super) fn add_json(&mut self, name: &str, what: &str, value: &Value) {
        self.add(name, what, format!("{value:#}\n"));
    }

    /// Says that a part could not be had.
    pub(super) fn missing(&mut self, part: &str, why: &str) {
        self.missing.push(format!("{part}: {why}"));
    }

    /// The names of the files that were added.
    pub(super) fn names(&self) -> Vec<String> {
        self.files.iter().map(|file| file.name.clone()).collect()
    }

    /// What could not be had, and why.
    pub(super) fn all_missing(&self) -> &[String] {
        &self.missing
    }

    /// Writes all of it to a new file; how many bytes it got.
    pub(super) fn write(self, path: &Path) -> io::Result<u64> {
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
        let written = self.write_to(&file).and_then(|()| file.sync_all());
        if written.is_err() {
            // Half of it helps no reader.
            let _ = std::fs::remove_file(path);
        }
        written.and_then(|()| Ok(file.metadata()?.len()))
    }

    fn write_to(&self, file: impl Write) -> io::Result<()> {
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        let contents = Entry { name: CONTENTS.to_owned(), what: String::new(), bytes: self.contents().into_bytes() };
        for Entry { name, bytes, .. } in std::iter::once(&contents).chain(&self.files) {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(MODE);
            header.set_mtime(self.made_s.cast_unsigned());
            archive.append_data(&mut header, format!("{}/{name}", self.folder), bytes.as_slice())?;
        }
        archive.into_inner()?.finish()?.flush()
    }

    fn contents(&self) -> String {
        let mut text = String::from(
            "Written by `ottla debug bundle`. No records, no keys of records and no components of plugins are in it.\n\
             Left out where they would be: values of settings that hold secrets or the configuration of a plugin, and the words\n\
             of plugins in log lines, which may quote records. Names of topics, groups, members, clients and hosts are in it.\n\n",
        );
        for Entry { name, what, .. } in &self.files {
            let _ = writeln!(text, "{name:<24}{what}");
        }
        if !self.missing.is_empty() {
            text.push_str("\nCould not be had:\n");
            for part in &self.missing {
                let _ = writeln!(text, "  {part}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_first_file_says_what_the_others_are_and_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar.gz");
        let mut bundle = Bundle::new("b".to_owned(), 1);
        bundle.add("machine.txt", "the machine", "linux");
        bundle.missing("the metrics", "they are off");
        bundle.write(&path).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(&path).unwrap()));
        let mut files = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        });
        let (name, contents) = files.next().unwrap();
        assert_eq!(name, "b/README.txt");
        assert!(contents.contains("machine.txt") && contents.contains("the machine"), "{contents}");
        assert!(contents.contains("the metrics: they are off"), "{contents}");
        assert_eq!(files.next(), Some(("b/machine.txt".to_owned(), "linux".to_owned())));
        let again = Bundle::new("b".to_owned(), 1).write(&path).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists, "an earlier bundle is not lost");
    }
}
