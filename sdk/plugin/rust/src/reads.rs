//! What a plugin looks at.

/// What a plugin reads. The broker copies this for it and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a part that is read or not")]
pub struct Reads {
    key: bool,
    value: Option<u32>,
    headers: bool,
    named_headers: &'static [&'static str],
    timestamp: bool,
    topic: bool,
    partition: bool,
    /// Facts about failures, as bits.
    facts: u16,
}

const CAUSE: u16 = 1;
const CODE: u16 = 2;
const REASON: u16 = 4;
const ATTEMPTS: u16 = 8;
const HOPS: u16 = 16;
const STAGE: u16 = 32;
/// As the manifest names them.
#[cfg(any(test, target_arch = "wasm32"))]
const FACTS: [(u16, &str); 6] =
    [(CAUSE, "cause"), (CODE, "code"), (REASON, "reason"), (ATTEMPTS, "attempts"), (HOPS, "hops"), (STAGE, "stage")];

/// The whole value, as its number of bytes.
const WHOLE: u32 = u32::MAX;

impl Reads {
    /// Nothing of the record; only how many there are.
    pub const NOTHING: Self = Self {
        key: false,
        value: None,
        headers: false,
        named_headers: &[],
        timestamp: false,
        topic: false,
        partition: false,
        facts: 0,
    };
    /// The key.
    pub const KEY: Self = Self { key: true, ..Self::NOTHING };
    /// The whole value.
    pub const VALUE: Self = Self::value_prefix(WHOLE);
    /// All headers.
    pub const HEADERS: Self = Self { headers: true, ..Self::NOTHING };

    /// The timestamp.
    pub const TIMESTAMP: Self = Self { timestamp: true, ..Self::NOTHING };
    /// The name of the topic, once per call.
    pub const TOPIC: Self = Self { topic: true, ..Self::NOTHING };
    /// The partition that the batch was addressed to, once per call; not for dead-letter policies.
    pub const PARTITION: Self = Self { partition: true, ..Self::NOTHING };
    /// Why a record failed: cause, code and reason; for dead-letter policies alone.
    pub const FAILURE: Self = Self { facts: CAUSE | CODE | REASON, ..Self::NOTHING };
    /// How often a record was tried and dead-lettered; for dead-letter policies alone.
    pub const ATTEMPTS: Self = Self { facts: ATTEMPTS | HOPS, ..Self::NOTHING };
    /// At which point of their way records failed; for dead-letter policies alone.
    pub const STAGE: Self = Self { facts: STAGE, ..Self::NOTHING };

    /// The last value of each header of these names, which costs less than all headers. All of them are named at once.
    pub const fn named_headers(names: &'static [&'static str]) -> Self {
        Self { named_headers: names, ..Self::NOTHING }
    }

    /// At most the first `bytes` bytes of the value, for rules that need only its beginning.
    pub const fn value_prefix(bytes: u32) -> Self {
        Self { value: Some(bytes), ..Self::NOTHING }
    }

    /// Both: `Reads::KEY.and(Reads::HEADERS)`.
    ///
    /// # Panics
    /// If both name headers: that is an error of the compiler where `READS` is set.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        let value = match (self.value, other.value) {
            (Some(a), Some(b)) => Some(if a > b { a } else { b }),
            (Some(bytes), None) | (None, Some(bytes)) => Some(bytes),
            (None, None) => None,
        };
        assert!(
            self.named_headers.is_empty() || other.named_headers.is_empty(),
            "name all headers in one Reads::named_headers"
        );
        let named_headers = if self.named_headers.is_empty() { other.named_headers } else { self.named_headers };
        Self {
            key: self.key || other.key,
            value,
            headers: self.headers || other.headers,
            named_headers,
            timestamp: self.timestamp || other.timestamp,
            topic: self.topic || other.topic,
            partition: self.partition || other.partition,
            facts: self.facts | other.facts,
        }
    }

    pub(crate) fn key(self) -> bool {
        self.key
    }

    /// How many bytes of the value.
    pub(crate) fn value(self) -> Option<usize> {
        self.value.map(|bytes| if bytes == WHOLE { usize::MAX } else { bytes as usize })
    }

    pub(crate) fn headers(self) -> bool {
        self.headers
    }

    pub(crate) fn header_names(self) -> &'static [&'static str] {
        self.named_headers
    }

    pub(crate) fn timestamp(self) -> bool {
        self.timestamp
    }

    pub(crate) fn topic(self) -> bool {
        self.topic
    }

    pub(crate) fn partition(self) -> bool {
        self.partition
    }

    pub(crate) fn failure(self) -> bool {
        self.facts & CAUSE != 0
    }

    pub(crate) fn attempts(self) -> bool {
        self.facts & ATTEMPTS != 0
    }

    pub(crate) fn stage(self) -> bool {
        self.facts & STAGE != 0
    }

    /// As the manifest writes it.
    #[cfg(any(test, target_arch = "wasm32"))]
    pub(crate) fn text(self) -> String {
        let value = self.value.map(|bytes| match bytes {
            WHOLE => "value".to_owned(),
            _ => format!("value-prefix:{bytes}"),
        });
        let name = |read: bool, name: &str| read.then(|| name.to_owned());
        let mut parts = vec![name(self.key, "key"), value, name(self.headers, "headers")];
        parts.extend(self.named_headers.iter().map(|header| Some(format!("header:{header}"))));
        parts.extend([name(self.timestamp, "timestamp"), name(self.topic, "topic"), name(self.partition, "partition")]);
        parts.extend(FACTS.iter().map(|(bit, fact)| name(self.facts & bit != 0, fact)));
        parts.into_iter().flatten().collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        assert_eq!(Reads::NOTHING.text(), "");
        assert_eq!(Reads::KEY.and(Reads::HEADERS).and(Reads::TOPIC).text(), "key,headers,topic");
        assert_eq!(Reads::value_prefix(8).and(Reads::value_prefix(16)).and(Reads::KEY).text(), "key,value-prefix:16");
        assert_eq!(Reads::value_prefix(8).and(Reads::VALUE).text(), "value");
        let headers = Reads::named_headers(&["trace", "tenant"]).and(Reads::TIMESTAMP).and(Reads::PARTITION);
        assert_eq!(headers.text(), "header:trace,header:tenant,timestamp,partition");
        assert_eq!(Reads::FAILURE.and(Reads::ATTEMPTS).text(), "cause,code,reason,attempts,hops");
    }
}
