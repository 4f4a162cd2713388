//! The ottla broker and command line.

fn main() {}
