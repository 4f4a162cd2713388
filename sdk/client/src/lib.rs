//! The client core: producer, consumer and admin in Rust, under every Ottla binding.
