//! The Kafka protocol: bounded decoding, encoding, record batches. No I/O, no async, no unsafe.
