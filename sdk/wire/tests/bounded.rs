//! Every decoder, on damaged input, with a bound on memory: the stable twin of the fuzz targets in `fuzz/`.
//!
//! The inputs are random bytes and valid messages with some damage: flipped bits, cut ends, doubled pieces, and the
//! counts that hostile peers send. They come from a generator with a fixed seed, so a failure names the input and
//! stays a failure.

// The counting allocator needs `unsafe impl GlobalAlloc`; it only passes calls on to the system's allocator.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use ottla_fuzz::Target;
use ottla_wire::message::{MetadataRequest, MetadataRequestTopic, ProduceRequest};
use ottla_wire::record::{self, Codec, DecompressError};
use ottla_wire::{DecodeBudget, DecodeFault, Reader, Wire, Writer};

/// Damaged inputs per decoder.
const INPUTS: u64 = 3_000;

/// Counts the bytes that the thread has allocated, and the most it ever had since [`peak_bytes`] began.
struct Counting;

thread_local! {
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // During the end of a thread its counters are gone; nothing is measured then.
    let _ = LIVE_BYTES.try_with(|live| {
        live.set(live.get() + bytes);
        PEAK_BYTES.with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes to `System` with its arguments unchanged; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that `work` had at one time.
fn peak_bytes(work: impl FnOnce()) -> usize {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    work();
    (PEAK_BYTES.get() - before) as usize
}

/// A generator that gives the same numbers every time (xorshift64*).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// What hostile peers put where a count or a length belongs: 2^31 − 1, −1, 2^31, 2^32 − 1, 2 GiB, as fixed-size integers
/// of two widths, as unsigned varints and as the zigzag varints of records.
const HOSTILE_COUNTS: &[&[u8]] = &[
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x80, 0x00, 0x00, 0x00],
    &[0x00, 0x00, 0xff, 0xff],
    &[0x7f, 0xff],
    &[0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x08],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xfe, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
    &[0x01],
    &[0x00],
];

fn overwrite(input: &mut [u8], at: usize, bytes: &[u8]) {
    for (place, byte) in input.iter_mut().skip(at).zip(bytes) {
        *place = *byte;
    }
}

fn damage(input: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len());
        match dice.below(6) {
            0 if !input.is_empty() => input[at] ^= 1 << dice.below(8),
            1 => overwrite(input, at, HOSTILE_COUNTS[dice.below(HOSTILE_COUNTS.len())]),
            2 => drop(input.splice(at..at, HOSTILE_COUNTS[dice.below(HOSTILE_COUNTS.len())].iter().copied())),
            3 => input.truncate(at),
            4 => {
                let end = at + dice.below(input.len() - at);
                input.extend_from_within(at..end);
            }
            _ => {
                let random = dice.bytes(4);
                overwrite(input, at, &random);
            }
        }
    }
}

fn try_input(target: &Target, input: &[u8], what: &str) {
    let peak = peak_bytes(|| (target.decode)(input));
    let bytes_max = (target.memory_bytes_max)(input.len());
    assert!(
        peak <= bytes_max,
        "{} took {peak} bytes for {} bytes of input, {bytes_max} are allowed ({what}): {input:02x?}",
        target.name,
        input.len()
    );
    (target.check)(input);
}

#[test]
fn damaged_input_stays_within_its_memory() {
    for (number, target) in (1_u64..).zip(ottla_fuzz::targets()) {
        let mut dice = Dice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for turn in 0..INPUTS {
            let entropy_bytes = dice.below(if turn % 50 == 0 { 20_000 } else { 400 });
            let mut input = dice.bytes(entropy_bytes);
            if turn % 3 != 0 {
                input = (target.sample)(&input);
                if turn % 3 == 1 {
                    (target.check)(&input);
                }
                damage(&mut input, &mut dice);
            }
            try_input(&target, &input, &format!("input {turn}"));
        }
    }
}

#[test]
fn a_hostile_count_at_any_place_stays_within_its_memory() {
    for (number, target) in (1_u64..).zip(ottla_fuzz::targets()) {
        let mut dice = Dice(number.wrapping_mul(0xd134_2543_de82_ef95));
        // One sample per version and more, each with every hostile count at every place.
        for turn in 0..40_u8 {
            let mut entropy = dice.bytes(120);
            entropy[0] = turn;
            let sample = (target.sample)(&entropy);
            for at in 0..sample.len().min(400) {
                for hostile in HOSTILE_COUNTS {
                    let mut input = sample.clone();
                    overwrite(&mut input, at, hostile);
                    try_input(&target, &input, &format!("sample {turn}, {hostile:02x?} at {at}"));
                }
            }
        }
    }
}

#[test]
fn five_bytes_cannot_reserve_gigabytes() {
    // What aborts other decoders: Metadata v9 with a declared array of 2^32 − 2 topics, and the same in classic form.
    for (version, body) in [(9, [0xff, 0xff, 0xff, 0xff, 0x0f].as_slice()), (4, &[0x7f, 0xff, 0xff, 0xff])] {
        let peak = peak_bytes(|| {
            let error = ottla_wire::decode_request::<MetadataRequest<'_>>(version, body).unwrap_err();
            assert_eq!(error.place, "MetadataRequest.topics");
            assert!(matches!(error.fault, DecodeFault::CountTooLarge { remaining: 0, .. }));
        });
        assert_eq!(peak, 0);
    }
}

#[test]
fn an_array_that_could_fit_is_held_to_the_budget() {
    // A megabyte of topics without a name: each takes two bytes here and forty in memory.
    let count = 1_i32 << 19;
    let mut body = count.to_be_bytes().to_vec();
    body.resize(body.len() + 2 * count as usize, 0);
    let peak = peak_bytes(|| {
        let error = ottla_wire::decode_request::<MetadataRequest<'_>>(1, &body).unwrap_err();
        assert!(matches!(error.fault, DecodeFault::OverBudget { .. }), "{error}");
    });
    assert!(peak <= DecodeBudget::for_input(body.len()).bytes_left());
}

/// What kafka-python and aiokafka ask at their start on a cluster of many topics: each named, in a version without topic ids.
#[test]
fn ten_thousand_topics_of_short_names_may_be_asked_for_in_every_version() {
    let topic = |number: u32| MetadataRequestTopic { name: Some(format!("t{number}").into()), ..Default::default() };
    let request = MetadataRequest { topics: Some((0..10_000).map(topic).collect()), ..Default::default() };
    for version in 0..=13 {
        let mut body = Vec::new();
        request.encode(&mut Writer::new(&mut body, version, version >= 9));
        let read = ottla_wire::decode_request::<MetadataRequest<'_>>(version, &body).unwrap();
        assert_eq!(read.topics.map(|topics| topics.len()), Some(10_000), "version {version}");
    }
}

/// The fixed part of the budget belongs to frames whose elements are there, not to counts.
#[test]
fn small_frames_take_memory_in_proportion_to_their_bytes() {
    let count = 100_i32;
    let mut body = count.to_be_bytes().to_vec();
    body.resize(body.len() + count as usize, 0);
    let peak = peak_bytes(|| {
        let error = ottla_wire::decode_request::<MetadataRequest<'_>>(1, &body).unwrap_err();
        assert!(matches!(error.fault, DecodeFault::CountTooLarge { count: 100, remaining: 100 }), "{error}");
    });
    assert_eq!(peak, 0);
}

#[test]
fn two_to_the_31_tagged_fields_end_with_the_input() {
    let mut body = vec![0x01, 0x00, 0x00]; // Metadata v9: no topics, two flags
    body.push(0x00);
    body.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x07]);
    body.extend_from_slice(&[0x05, 0x00].repeat(100));
    let peak = peak_bytes(|| {
        let error = ottla_wire::decode_request::<MetadataRequest<'_>>(9, &body).unwrap_err();
        assert!(matches!(error.fault, DecodeFault::Truncated { .. }), "{error}");
    });
    assert_eq!(peak, 0);
}

#[test]
fn nested_arrays_share_one_budget() {
    // Topics of partitions: each level fits by itself, all of them together do not.
    let mut body = vec![0xff, 0xff, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00];
    let topics = 3_000_i32;
    body.extend_from_slice(&topics.to_be_bytes());
    for _ in 0..topics {
        body.extend_from_slice(&[0x00, 0x00, 0x00, 0x00, 0x00, 0x01, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    }
    let peak = peak_bytes(|| drop(ottla_wire::decode_request::<ProduceRequest<'_>>(3, &body)));
    assert!(peak <= DecodeBudget::for_input(body.len()).bytes_left());
}

#[test]
fn a_budget_can_be_tighter_than_usual() {
    let body = [&8_i32.to_be_bytes()[..], &[0; 32]].concat();
    let mut reader = Reader::new(&body, 0, false).with_budget(DecodeBudget::of_bytes(31));
    let refused: Result<Vec<i32>, _> = Wire::decode(&mut reader);
    assert_eq!(refused.unwrap_err().fault, DecodeFault::OverBudget { count: 8, bytes_left: 31 });
}

#[test]
fn a_bomb_is_refused_at_the_cap() {
    const UNPACKED: usize = 1 << 30;
    const CAP: usize = 8 << 20;
    let zeros = vec![0_u8; 4 << 20];
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut piece = Vec::new();
        record::compress(codec, None, &zeros, &mut piece).unwrap();
        // Every codec but Snappy takes several frames one after another; xerial's framing takes several streams.
        let bomb = piece.repeat(UNPACKED / zeros.len());
        let peak = peak_bytes(|| {
            let refused = record::decompress(codec, &bomb, CAP).unwrap_err();
            assert_eq!(refused, DecompressError::TooLarge { bytes_max: CAP }, "{}", codec.name());
        });
        assert!(peak <= CAP + 128 * 1024, "{} took {peak} bytes", codec.name());
    }
}

#[test]
fn a_declared_size_alone_takes_no_memory() {
    // Zstandard: one segment of 2^62 bytes, then nothing. Snappy: 2^32 − 1 bytes out of a few.
    let zstd = [&0xfd2f_b528_u32.to_le_bytes()[..], &[0xe0], &(1_u64 << 62).to_le_bytes()].concat();
    let snappy = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    for (codec, input) in [(Codec::Zstd, zstd.as_slice()), (Codec::Snappy, &snappy)] {
        let peak = peak_bytes(|| {
            record::decompress(codec, input, 1 << 30).unwrap_err();
        });
        assert!(peak < 64 * 1024, "{} took {peak} bytes", codec.name());
    }
}

#[test]
fn every_target_has_its_binary() {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/Cargo.toml")).unwrap();
    let binaries: Vec<String> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .map(|name| name.replace('_', ""))
        .collect();
    for target in ottla_fuzz::targets() {
        assert!(binaries.iter().any(|name| name.eq_ignore_ascii_case(target.binary)), "{}", target.binary);
    }
}
