//! What a plugin looks at: the parts of a record that are copied for it, and the facts about the call that it is told.

/// Headers that a plugin may ask for by name.
pub const NAMED_HEADERS_MAX: usize = 16;
/// Bytes of such a name at most.
const HEADER_NAME_BYTES_MAX: usize = 256;

/// What a plugin looks at; only this is copied for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)]
pub struct Reads {
    /// The key.
    pub key: bool,
    /// The whole value.
    pub value: bool,
    /// This many first bytes of the value.
    pub value_prefix: Option<u32>,
    /// Names and values of all headers.
    pub headers: bool,
    /// The last value of each header of these names.
    pub named_headers: Vec<String>,
    /// The timestamp.
    pub timestamp: bool,
    /// The name of the topic, once per call.
    pub topic: bool,
    /// The partition that the batch was addressed to, once per call.
    pub partition: bool,
    /// What is known of a failure; for policies alone.
    pub facts: Vec<Fact>,
}

macro_rules! facts {
    ($($(#[doc = $doc:literal])+ $fact:ident $name:literal = $kind:literal,)+) => {
        /// A fact about a failed record, for dead-letter policies. Its number is the kind of its column; above 255 it is a
        /// pair of the context.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Fact {
            $($(#[doc = $doc])+ $fact = $kind,)+
        }

        impl Fact {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$fact,)+];

            /// As `reads` names it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$fact => $name,)+
                }
            }
        }
    };
}

facts! {
    /// Why it failed, as a number of the table of causes.
    Cause "cause" = 64,
    /// The code that the plugin gave.
    Code "code" = 65,
    /// What the plugin, or the host, says.
    Reason "reason" = 66,
    /// How often it was tried.
    Attempts "attempts" = 67,
    /// How many members failed it.
    Members "members" = 68,
    /// Recent failures of records with its key.
    KeyFailures "key-failures" = 69,
    /// How often it was dead-lettered before.
    Hops "hops" = 70,
    /// Milliseconds since its timestamp.
    AgeMs "age-ms" = 71,
    /// Milliseconds since its first failure.
    FailingMs "failing-ms" = 72,
    /// Its partition.
    Partition "partition" = 73,
    /// Its offset.
    Offset "offset" = 74,
    /// The pair `stage` of the context: produce, share, group, view or redrive.
    Stage "stage" = 1000,
    /// The pair `group` of the context.
    Group "group" = 1001,
    /// The pair `attempts-max` of the context.
    AttemptsMax "attempts-max" = 1002,
    /// The pairs `window-ms`, `window-records` and `window-failures` of the context.
    Window "window" = 1003,
}

impl Reads {
    /// Whether nothing of a record is looked at.
    pub fn nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The names of the parts, as the manifest writes them.
    pub fn names(&self) -> Vec<String> {
        let flag = |read: bool, name: &str| read.then(|| name.to_owned());
        let mut names: Vec<String> = [
            flag(self.key, "key"),
            flag(self.value, "value"),
            self.value_prefix.map(|bytes| format!("value-prefix:{bytes}")),
            flag(self.headers, "headers"),
        ]
        .into_iter()
        .flatten()
        .collect();
        names.extend(self.named_headers.iter().map(|name| format!("header:{name}")));
        names.extend([flag(self.timestamp, "timestamp"), flag(self.topic, "topic")].into_iter().flatten());
        names.extend(flag(self.partition, "partition"));
        names.extend(self.facts.iter().map(|fact| fact.name().to_owned()));
        names
    }

    /// Whether a plugin that reads `self` reads no more than `all`.
    pub fn is_within(&self, all: &Self) -> bool {
        let value = match (self.value, self.value_prefix) {
            (true, _) => all.value,
            (false, Some(bytes)) => all.value || all.value_prefix.is_some_and(|most| bytes <= most),
            (false, None) => true,
        };
        let within = |one: bool, other: bool| !one || other;
        value
            && within(self.key, all.key)
            && within(self.headers, all.headers)
            && within(self.timestamp, all.timestamp)
            && within(self.topic, all.topic)
            && within(self.partition, all.partition)
            && self.named_headers.iter().all(|name| all.headers || all.named_headers.contains(name))
            && self.facts.iter().all(|fact| all.facts.contains(fact))
    }

    /// Reads what a manifest says, of a policy where `has_facts`. The error is what is expected.
    pub(crate) fn parse(text: &str, has_facts: bool) -> Result<Self, &'static str> {
        let expected = if has_facts {
            "a list of `key`, `value`, `value-prefix:<bytes>`, `headers`, `header:<name>`, `timestamp`, `topic`, and facts about failures"
        } else {
            "a list of `key`, `value`, `value-prefix:<bytes>`, `headers`, `header:<name>`, `timestamp`, `topic`, `partition`"
        };
        let mut reads = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let fact = Fact::ALL.iter().find(|fact| has_facts && fact.name() == part);
            match part {
                "key" => reads.key = true,
                "value" => reads.value = true,
                "headers" => reads.headers = true,
                "timestamp" => reads.timestamp = true,
                "topic" => reads.topic = true,
                _ if fact.is_some() => reads.facts.extend(fact.filter(|fact| !reads.facts.contains(fact))),
                "partition" => reads.partition = true,
                _ => {
                    if let Some(name) = part.strip_prefix("header:") {
                        let fits = !name.is_empty() && name.len() <= HEADER_NAME_BYTES_MAX;
                        if !fits || reads.named_headers.len() == NAMED_HEADERS_MAX {
                            return Err(expected);
                        }
                        if !reads.named_headers.iter().any(|known| known == name) {
                            reads.named_headers.push(name.to_owned());
                        }
                    } else {
                        let bytes = part.strip_prefix("value-prefix:").ok_or(expected)?;
                        reads.value_prefix = Some(bytes.parse().map_err(|_| expected)?);
                    }
                }
            }
        }
        if reads.value && reads.value_prefix.is_some() {
            return Err("either `value` or `value-prefix:<bytes>`");
        }
        Ok(reads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Reads {
        Reads::parse(text, false).unwrap()
    }

    #[test]
    fn what_is_parsed_is_written_as_it_was() {
        let text = "key,value-prefix:16,headers,header:trace,header:tenant,timestamp,topic,partition";
        assert_eq!(parsed(text).names().join(","), text);
        let facts = "key,cause,code,reason,attempts,members,key-failures,hops,age-ms,failing-ms,partition,offset,stage,group,\
                     attempts-max,window";
        assert_eq!(Reads::parse(facts, true).unwrap().names().join(","), facts);
        assert!(Reads::parse("cause", false).is_err(), "for policies alone");
        assert!(Reads::parse("header:", false).is_err());
    }

    #[test]
    fn a_configuration_may_read_less_and_never_more() {
        for (narrow, all) in [
            ("", "key"),
            ("key", "key,value"),
            ("value-prefix:4", "value"),
            ("value-prefix:4", "value-prefix:4"),
            ("header:a", "headers"),
            ("header:a", "header:b,header:a"),
        ] {
            assert!(parsed(narrow).is_within(&parsed(all)), "{narrow} within {all}");
        }
        for (wide, all) in [
            ("key", ""),
            ("value", "value-prefix:99"),
            ("value-prefix:5", "value-prefix:4"),
            ("headers", "header:a"),
            ("header:a", "header:b"),
            ("timestamp", "topic"),
            ("partition", "topic"),
        ] {
            assert!(!parsed(wide).is_within(&parsed(all)), "{wide} within {all}");
        }
    }
}
