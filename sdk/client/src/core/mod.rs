//! Decisions without sockets and clocks: what goes where, in which order, under which sequence number. Time comes in as a
//! number, so that whole conversations can be replayed in tests.
//!
//! Producing: a `record` → `outbox` → `topics` (which partition) → `lane` (numbers by `sequence`, records in `batch`) →
//! `verdict` → `outcome`; the `ledger` counts. Consuming: `cursor` → `transactions` → `unpack` → `chunk`; in a group, `member`
//! says which partitions, by an `assignor` where the members share them out. All look at `metadata`.
//!
//! Nothing here knows of producer, consumer, admin or net: imports point down, and a test at the bottom keeps it so.

pub(crate) mod address;
pub(crate) mod assignor;
pub(crate) mod backoff;
pub(crate) mod batch;
pub(crate) mod chunk;
#[cfg(test)]
mod conversation;
pub(crate) mod cursor;
pub(crate) mod lane;
pub(crate) mod ledger;

pub(crate) mod member;
pub(crate) mod metadata;
pub(crate) mod murmur2;
pub(crate) mod outbox;
pub(crate) mod outcome;
pub(crate) mod record;
pub(crate) mod sequence;
#[cfg(test)]
mod simulation;
pub(crate) mod topic_partition;
pub(crate) mod topics;
pub(crate) mod transactions;
pub(crate) mod trouble;
pub(crate) mod unpack;
pub(crate) mod verdict;
pub(crate) mod waiting;

#[cfg(test)]
mod tests {
    #[test]
    fn decisions_import_nothing_from_above() {
        let core = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core");
        let files = [core.clone(), core.join("outbox"), core.join("assignor"), core.join("member")]
            .map(|directory| std::fs::read_dir(directory).unwrap());
        let paths = files.into_iter().flatten().map(|file| file.unwrap().path());
        for path in paths.filter(|path| path.is_file()) {
            let text = std::fs::read_to_string(&path).unwrap();
            for above in ["producer", "consumer", "admin", "net", "config"] {
                let import = format!("crate::{above}");
                assert!(!text.contains(&import), "{} imports {import}", path.display());
            }
        }
    }
}
