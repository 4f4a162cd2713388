//! A record on its way to the broker.

/// A name and a value that travel with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name; names may repeat.
    pub key: &'a str,
    /// Its value; none is a null.
    pub value: Option<&'a [u8]>,
}

/// A record to be sent. It borrows: `send` copies it once, into the batch that travels.
///
/// ```
/// use ottla_client::ProducerRecord;
/// let record = ProducerRecord::new("packages").key(b"bash").value(b"Package: bash\nSection: shells\n");
/// assert_eq!(record.partition, None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord<'a> {
    /// Where it goes.
    pub topic: &'a str,
    /// An explicit partition; none lets the key decide, or, without a key, the batch.
    pub partition: Option<i32>,
    /// The key; none is a null.
    pub key: Option<&'a [u8]>,
    /// The value; none is a null (a tombstone, on a compacted topic).
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [Header<'a>],
    /// Milliseconds since 1970; none means now.
    pub timestamp_ms: Option<i64>,
}

impl<'a> ProducerRecord<'a> {
    /// A record without key and value for this topic.
    pub fn new(topic: &'a str) -> Self {
        Self { topic, ..Self::default() }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Sets the headers.
    #[must_use]
    pub fn headers(mut self, headers: &'a [Header<'a>]) -> Self {
        self.headers = headers;
        self
    }

    /// Addresses one partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}
