//! Routes Debian package stanzas by their `Section:` line. The README has the rule, word by word.

use ottla_plugin::{Partitioner, Placement, Reads, Record, hash, partitioner};

/// The rule; it takes no configuration.
struct BySection;

impl Partitioner for BySection {
    const READS: Reads = Reads::VALUE;
    const MANIFEST: &'static [(&'static str, &'static str)] =
        &[("config.schema", r#"{"type":"string","maxLength":0}"#), ("license", "Apache-2.0")];

    fn new(config: &str) -> Result<Self, String> {
        if config.is_empty() { Ok(Self) } else { Err("by-section takes no configuration".to_owned()) }
    }

    fn partition(&self, record: &Record<'_>, partitions: u32) -> Placement {
        hash::kafka_partition(section(record.value().unwrap_or_default()), partitions).into()
    }
}

partitioner!(BySection);

/// The text of the first `Section:` line, or the empty text.
fn section(stanza: &[u8]) -> &[u8] {
    stanza.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Section:")).unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use ottla_plugin::testing::{load, record};

    use super::*;

    #[test]
    fn the_section_is_the_text_of_its_line() {
        for (stanza, text) in [
            ("Package: zlib\nSection: libs\nPriority: optional\n", "libs"),
            ("Section: contrib/games", "contrib/games"),
            ("Section:net\nSection: web\n", "net"),
            ("Package: x\nSection: \t libs \r\n", "libs"),
            ("Package: x\nSection:\n", ""),
            ("Package: x\nDescription: y\n Section: no line of its own\n", ""),
            ("Package: x\nsection: lower case is another field\n", ""),
            ("", ""),
        ] {
            assert_eq!(section(stanza.as_bytes()), text.as_bytes(), "{stanza}");
        }
    }

    #[test]
    fn records_of_one_section_share_a_partition() {
        let plugin = load::<BySection>("").unwrap();
        let at = |stanza: &str| plugin.partition(record().key("ignored").value(stanza), 6);
        assert_eq!(at("Package: a\nSection: libs\n"), at("Package: b\nSection: libs\nSize: 1\n"));
        assert_eq!(at("Section: libs"), hash::kafka_partition(b"libs", 6));
        assert_eq!(plugin.partition(record().key("no value"), 6), hash::kafka_partition(b"", 6));
    }

    /// The README's table, computed in another language.
    #[test]
    fn partitions_are_those_of_the_readme() {
        let plugin = load::<BySection>("").unwrap();
        for (text, of_4, of_6) in [("", 1, 3), ("admin", 2, 4), ("contrib/games", 1, 3), ("libs", 1, 3), ("web", 0, 4)]
        {
            let stanza = || record().value(format!("Package: p\nSection: {text}\n"));
            assert_eq!((plugin.partition(stanza(), 4), plugin.partition(stanza(), 6)), (of_4, of_6), "{text}");
        }
    }

    #[test]
    fn configuration_is_refused_not_ignored() {
        assert!(load::<BySection>("field=Priority").is_err());
    }
}
