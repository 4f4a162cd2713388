//! Write Ottla plugins in Rust.
