//! A plugin that panics in the way that the key of a record names, for the tests of what its producers are told.

use ottla_plugin::{Partitioner, Placement, Reads, Record, partitioner};

struct Panics;

impl Partitioner for Panics {
    const READS: Reads = Reads::KEY;

    fn new(_config: &str) -> Result<Self, String> {
        Ok(Self)
    }

    fn partition(&self, record: &Record<'_>, partitions: u32) -> Placement {
        let partition = match record.key().unwrap_or_default() {
            b"says-why" => tenant_of("acme"),
            b"unwraps" => first_digit("no digit").unwrap() % partitions,
            b"reads-more" => record.value().map_or(0, |value| value.len() as u32) % partitions,
            b"is-long" => panic!("{}", "long ".repeat(1000)),
            _ => 0,
        };
        partition.into()
    }
}

#[inline(never)]
fn tenant_of(name: &str) -> u32 {
    panic!("there is no tenant {name}")
}

#[inline(never)]
fn first_digit(text: &str) -> Option<u32> {
    text.chars().find_map(|character| character.to_digit(10))
}

partitioner!(Panics);
