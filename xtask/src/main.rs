//! Every chore has one name.

fn main() {}
