//! Ratios of Ottla against raw ceilings, in interleaved runs.

fn main() {}
