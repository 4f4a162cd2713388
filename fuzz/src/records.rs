//! Record batches, and what the codecs unpack.

use ottla_wire::record::{self, BatchBuilder, Codec, Header, RecordIter};

use super::Target;

/// What a codec may take beside its output: its own tables and windows.
const CODEC_STATE_BYTES: usize = 128 * 1024;

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "Batch",
        binary: "Batch",
        decode: |input| read_batches(input, 4 * input.len()),
        check: check_batches,
        sample: |entropy| {
            let mut out = Vec::new();
            for (index, entropy) in entropy.chunks(200).enumerate() {
                batch(Codec::ALL[index % 5], entropy, &mut out);
            }
            out
        },
        memory_bytes_max: |input_bytes| 4 * input_bytes + CODEC_STATE_BYTES,
    },
    Target {
        name: "Records",
        binary: "Records",
        decode: read_records,
        check: read_records,
        sample: |entropy| {
            let mut out = Vec::new();
            batch(Codec::None, entropy, &mut out);
            // As many records as were built, give or take what the count byte says.
            let count = out.get(60).copied().unwrap_or(0);
            std::iter::once(count).chain(out.into_iter().skip(61)).collect()
        },
        memory_bytes_max: |_| 0,
    },
    codec_target("Gzip", |input| unpack(Codec::Gzip, input), |entropy| pack(Codec::Gzip, entropy)),
    codec_target("Snappy", |input| unpack(Codec::Snappy, input), |entropy| pack(Codec::Snappy, entropy)),
    codec_target("Lz4", |input| unpack(Codec::Lz4, input), |entropy| pack(Codec::Lz4, entropy)),
    Target {
        // The C library is a black box to the fuzzer, which would hardly guess its magic.
        check: |input| unpack(Codec::Zstd, &[&ZSTD_MAGIC, input].concat()),
        ..codec_target("Zstd", |input| unpack(Codec::Zstd, input), |entropy| pack(Codec::Zstd, entropy))
    },
];

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

const fn codec_target(name: &'static str, decode: fn(&[u8]), sample: fn(&[u8]) -> Vec<u8>) -> Target {
    Target {
        name,
        binary: name,
        decode,
        check: decode,
        sample,
        memory_bytes_max: |input_bytes| 4 * input_bytes + CODEC_STATE_BYTES,
    }
}

fn unpack(codec: Codec, input: &[u8]) {
    let bytes_max = 4 * input.len();
    if let Ok(unpacked) = record::decompress(codec, input, bytes_max) {
        assert!(unpacked.len() <= bytes_max);
    }
}

fn pack(codec: Codec, entropy: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    record::compress(codec, None, entropy, &mut out).expect("it compresses");
    out
}

/// Everything a reader of batches does, damaged checksums notwithstanding.
fn read_batches(input: &[u8], unpacked_bytes_max: usize) {
    for batch in record::batches(input) {
        let Ok(batch) = batch else { return };
        let _ = batch.check_crc();
        let _ = batch.header.check_as_produced();
        let Ok(records) = batch.records(unpacked_bytes_max) else { continue };
        for record in records.iter().flatten() {
            let _ = (batch.header.offset_of(&record), batch.header.timestamp_of(&record));
            assert!(record.headers.iter().count() == record.headers.len());
        }
    }
}

fn read_records(input: &[u8]) {
    let Some((&count, payload)) = input.split_first() else { return };
    // The largest value stands for a count that no payload can hold.
    let count = if count == u8::MAX { i32::MAX } else { i32::from(count) };
    for record in RecordIter::new(payload, count) {
        let Ok(record) = record else { return };
        assert!(record.raw.ends_with(record.content));
        assert!(record.headers.iter().count() == record.headers.len());
    }
}

/// Records that can be read can be put into a new batch, and come out of it the same.
fn check_batches(input: &[u8]) {
    read_batches(input, 1 << 20);
    for batch in record::batches(input).flatten() {
        let Ok(records) = batch.records(1 << 20) else { continue };
        let Ok(all) = records.iter().collect::<Result<Vec<_>, _>>() else { continue };
        let mut builder = BatchBuilder::like(&batch.header);
        for record in &all {
            builder.append_record(batch.header.timestamp_of(record), record).expect("it fits, it did before");
        }
        let mut out = Vec::new();
        if builder.finish(&mut out).is_err() {
            assert!(all.is_empty());
            continue;
        }
        let rebuilt = record::batches(&out).next().expect("a batch").expect("a valid one");
        rebuilt.check_crc().expect("a sealed one");
        let records = rebuilt.records(usize::MAX >> 1).expect("what was packed is unpacked");
        for (old, new) in all.iter().zip(&records) {
            assert_eq!(new.expect("a whole record").content, old.content);
        }
    }
}

/// A batch whose records, keys and headers are pieces of `entropy`.
fn batch(codec: Codec, entropy: &[u8], out: &mut Vec<u8>) {
    let mut builder = BatchBuilder::new(codec);
    for (index, piece) in entropy.chunks(23).enumerate() {
        let (key, value) = piece.split_at(piece.len() / 3);
        let headers = value.chunks(5).take(index % 4).map(|piece| Header { key: &piece[..1], value: piece.get(1..) });
        let headers: Vec<_> = headers.collect();
        let key = (index % 3 != 0).then_some(key);
        builder.append(i64::from(piece[0]), key, Some(value), headers.into_iter()).expect("it fits");
    }
    // Nothing comes from nothing: without records there is no batch.
    let _ = builder.finish(out);
}
