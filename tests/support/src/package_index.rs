//! The real records: the machine's Debian package index, about 60 000 stanzas and 50 MB. Key: the package's name; value:
//! the stanza as it stands, newlines included.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use crate::Record;

const LISTS: &str = "/var/lib/apt/lists";
/// Reads a list however it is compressed.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
const MADE_RECORDS: u32 = 60_000;

/// The records, and a line that says where they are from.
pub struct PackageIndex {
    /// In the order of the files.
    pub records: Vec<Record>,
    /// Real or made.
    pub origin: String,
}

/// Loads the machine's index; where there is none, makes records of the same shape and says so.
pub fn load() -> PackageIndex {
    let files = files();
    let mut records = Vec::new();
    for file in &files {
        let output = Command::new(APT_HELPER).arg("cat-file").arg(file).output();
        if let Some(output) = output.ok().filter(|output| output.status.success()) {
            records.extend(stanzas(&output.stdout));
        }
    }
    let origin = if records.is_empty() {
        records = made();
        format!("no package index under {LISTS}: {MADE_RECORDS} made records of the same shape")
    } else {
        format!("{} stanzas of {} files under {LISTS}", records.len(), files.len())
    };
    eprintln!("records: {origin}");
    PackageIndex { records, origin }
}

fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(LISTS).into_iter().flatten().flatten();
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().contains("_Packages"));
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(named).collect();
    files.sort();
    files
}

/// Stanzas are separated by an empty line and keep the newline of their last line.
fn stanzas(index: &[u8]) -> impl Iterator<Item = Record> {
    let mut rest = index;
    std::iter::from_fn(move || {
        while let [b'\n', tail @ ..] = rest {
            rest = tail;
        }
        if rest.is_empty() {
            return None;
        }
        let end = rest.windows(2).position(|pair| pair == b"\n\n").map_or(rest.len(), |at| at + 1);
        let (stanza, tail) = rest.split_at(end);
        rest = tail;
        Some(Record::new(field(stanza, b"Package: ").unwrap_or_default(), stanza))
    })
}

/// The text of a field, if the stanza has a line that starts with `name`.
pub fn field<'a>(stanza: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    stanza.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name))
}

/// The same shape: names that repeat now and then, a few dozen sections of very different sizes, some without a
/// section, and 200 to 3 000 bytes of text. The same every time.
fn made() -> Vec<Record> {
    let mut state: u32 = 2_463_534_242;
    let mut random = move |below: u32| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state % below
    };
    let mut records = Vec::with_capacity(MADE_RECORDS as usize);
    for number in 0..MADE_RECORDS {
        let name = if random(20) == 0 { random(number + 1) } else { number };
        let mut stanza = format!("Package: made-{name}\nVersion: {}.{}\n", random(9), random(99));
        if random(200) > 0 {
            let section = random(60).min(random(60));
            writeln!(stanza, "Section: section-{section}").ok();
        }
        stanza.push_str("Description: ");
        for _ in 0..=random(400) {
            write!(stanza, "w{} ", random(1000)).ok();
        }
        stanza.push('\n');
        records.push(Record::new(format!("made-{name}"), stanza));
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stanzas_keep_their_newlines_and_lose_the_empty_line_between() {
        let index = b"Package: a\nSection: x\n\nPackage: b\nDescription: y\n more\n\n";
        let records: Vec<_> = stanzas(index).collect();
        assert_eq!(
            records,
            [Record::new("a", "Package: a\nSection: x\n"), Record::new("b", "Package: b\nDescription: y\n more\n"),]
        );
    }

    #[test]
    fn made_records_have_the_shape_of_real_ones() {
        let records = made();
        assert_eq!(records.len(), MADE_RECORDS as usize);
        let without = records.iter().filter(|record| field(record.value.as_deref().unwrap(), b"Section: ").is_none());
        assert!(without.count() > 100);
        assert_eq!(records, made());
    }
}
