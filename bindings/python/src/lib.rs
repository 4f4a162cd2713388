//! The Python client, on the shared Rust core.
