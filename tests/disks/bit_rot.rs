//! A bit flips in a file at rest: the first reader gets an error, for that batch alone.

use std::path::PathBuf;

use ottla_tests::Broker;
use ottla_tests::one_topic::{TOPIC, fetch, metric, produce};
use ottla_wire::ErrorCode;

/// In the middle of a segment that takes no appends.
const HIT: i64 = 6;
const BATCHES: i64 = 12;
const BATCHES_PER_SEGMENT: usize = 4;
const VALUE_BYTES: usize = 200;

/// What the batch at an offset has in it, and no other one.
fn value(offset: i64) -> Vec<u8> {
    format!("<{offset}>").into_bytes().repeat(VALUE_BYTES / 4)
}

fn holds(bytes: &[u8], offset: i64) -> bool {
    bytes.windows(4).any(|window| window.starts_with(format!("<{offset}>").as_bytes()))
}

/// The segment that holds an offset, where its records can be found in it.
fn find(broker: &Broker, offset: i64) -> (PathBuf, usize) {
    let directory = broker.data_dir().join(format!("log/{TOPIC}-0"));
    let files = std::fs::read_dir(directory).expect("the partition").map(|entry| entry.expect("an entry").path());
    let segments = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    let value = value(offset);
    let mut found = segments.filter_map(|path| {
        let bytes = std::fs::read(&path).expect("a segment");
        Some((path, bytes.windows(value.len()).position(|window| window == value)?))
    });
    found.next().expect("a segment with the batch")
}

#[test]
fn bit_rot_costs_a_reader_exactly_the_batch_that_it_hit() {
    for (sendfile_min_bytes, first_read) in [(1, 4), (u32::MAX, 4), (1, 6), (1, 7)] {
        let batch_bytes = 61 + VALUE_BYTES + 20;
        let mut broker = Broker::builder()
            .set("metrics.listener", "127.0.0.1:0")
            .set("ottla.deliver.sendfile.min.bytes", &sendfile_min_bytes.to_string())
            .start();
        let segment_bytes = (batch_bytes * BATCHES_PER_SEGMENT).to_string();
        broker.create_topic(TOPIC, 1, &[("internal.segment.bytes", &segment_bytes)]);
        for offset in 0..BATCHES {
            assert_eq!(produce(&broker, &value(offset)).0, ErrorCode::None);
        }
        broker.terminate();
        let (path, position) = find(&broker, HIT);
        assert_eq!(path, find(&broker, HIT - 1).0);
        assert_ne!(path, find(&broker, BATCHES - 1).0);
        let mut bytes = std::fs::read(&path).expect("the segment");
        bytes[position + 17] ^= 0x10;
        std::fs::write(&path, &bytes).expect("the segment takes a flipped bit");
        broker.restart();
        assert!(metric(&broker, "ottla_damaged_reads_total").abs() < f64::EPSILON, "a clean start reads no records");

        let in_turn = [first_read].into_iter().chain(0..BATCHES).chain([HIT]);
        for offset in in_turn {
            let fetched = fetch(&broker, 0, offset);
            if offset == HIT {
                assert_eq!(fetched, Err(ErrorCode::CorruptMessage));
                continue;
            }
            let bytes = fetched.expect("the others are sound");
            assert!(holds(&bytes, offset), "offset {offset} is delivered");
            assert!(!holds(&bytes, HIT), "nothing damaged is delivered");
        }
        assert!(metric(&broker, "ottla_damaged_reads_total") >= 2.0);
        broker.wait_for_line(0, &["damaged records: reads of them answer an error", TOPIC]);
        // What was there once is not given to other records, and what comes goes on behind it.
        assert_eq!(produce(&broker, &value(BATCHES)).0, ErrorCode::None);
        assert_eq!(broker.end_offsets(TOPIC, 1), [BATCHES + 1]);
        broker.terminate();
        broker.restart();
        assert_eq!(fetch(&broker, 0, HIT), Err(ErrorCode::CorruptMessage));
        assert!(holds(&fetch(&broker, 0, HIT + 1).expect("the next one"), HIT + 1));
    }
}
