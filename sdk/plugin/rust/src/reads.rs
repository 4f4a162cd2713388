//! What a plugin looks at.

/// What a plugin reads. The broker copies this for it and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    key: bool,
    value: Option<u32>,
    headers: bool,
    topic: bool,
}

/// The whole value, as its number of bytes.
const WHOLE: u32 = u32::MAX;

impl Reads {
    /// Nothing of the record; only how many there are.
    pub const NOTHING: Self = Self { key: false, value: None, headers: false, topic: false };
    /// The key.
    pub const KEY: Self = Self { key: true, ..Self::NOTHING };
    /// The whole value.
    pub const VALUE: Self = Self::value_prefix(WHOLE);
    /// All headers.
    pub const HEADERS: Self = Self { headers: true, ..Self::NOTHING };

    /// The name of the topic, once per call.
    pub const TOPIC: Self = Self { topic: true, ..Self::NOTHING };

    /// At most the first `bytes` bytes of the value, for rules that need only its beginning.
    pub const fn value_prefix(bytes: u32) -> Self {
        Self { value: Some(bytes), ..Self::NOTHING }
    }

    /// Both: `Reads::KEY.and(Reads::HEADERS)`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        let value = match (self.value, other.value) {
            (Some(a), Some(b)) => Some(if a > b { a } else { b }),
            (Some(bytes), None) | (None, Some(bytes)) => Some(bytes),
            (None, None) => None,
        };
        Self {
            key: self.key || other.key,
            value,
            headers: self.headers || other.headers,
            topic: self.topic || other.topic,
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

    pub(crate) fn topic(self) -> bool {
        self.topic
    }

    /// As the manifest writes it.
    #[cfg(any(test, target_arch = "wasm32"))]
    pub(crate) fn text(self) -> String {
        let value = self.value.map(|bytes| match bytes {
            WHOLE => "value".to_owned(),
            _ => format!("value-prefix:{bytes}"),
        });
        let name = |read: bool, name: &str| read.then(|| name.to_owned());
        let parts = [name(self.key, "key"), value, name(self.headers, "headers"), name(self.topic, "topic")];
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
    }
}
