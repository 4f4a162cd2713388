//! The records of `__consumer_offsets`, the embedded consumer protocol, and the metrics that clients push.

use ottla_wire::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use ottla_wire::offsets_topic::GroupRecord;
use ottla_wire::otlp;
use ottla_wire::sample::{Entropy, Sample};

use super::Target;
use super::messages::budget;

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "GroupRecord",
        binary: "GroupRecord",
        decode: |input| {
            let _ = decode(input);
        },
        check: |input| {
            let Some(record) = decode(input) else { return };
            let once = encode(&record);
            let again = decode(&once).expect("what was encoded is decoded");
            assert_eq!(encode(&again), once, "encoding is stable");
        },
        sample: |entropy| encode(&GroupRecord::sample(&mut Entropy::new(entropy, 0))),
        // A budget for the key and one for the value.
        memory_bytes_max: |input_bytes| budget(input_bytes) + budget(0),
    },
    Target {
        name: "Otlp",
        binary: "Otlp",
        decode: |input| {
            let _ = otlp::points(input, drop);
        },
        check: |input| {
            let _ = otlp::points(input, drop);
        },
        sample: <[u8]>::to_vec,
        memory_bytes_max: budget,
    },
    Target {
        name: "ConsumerProtocolSubscription",
        binary: "ConsumerProtocol",
        decode: |input| drop(ConsumerProtocolSubscription::parse(input)),
        check: |input| drop(ConsumerProtocolSubscription::parse(input)),
        sample: |entropy| {
            let mut out = Vec::new();
            ConsumerProtocolSubscription::sample(&mut Entropy::new(entropy, 3)).write(3, &mut out);
            out
        },
        memory_bytes_max: budget,
    },
    Target {
        name: "ConsumerProtocolAssignment",
        binary: "ConsumerProtocol",
        decode: |input| drop(ConsumerProtocolAssignment::parse(input)),
        check: |input| drop(ConsumerProtocolAssignment::parse(input)),
        sample: |entropy| {
            let mut out = Vec::new();
            ConsumerProtocolAssignment::sample(&mut Entropy::new(entropy, 3)).write(3, &mut out);
            out
        },
        memory_bytes_max: budget,
    },
];

/// The first byte says how long the key is; the highest length says that there is no value.
fn decode(input: &[u8]) -> Option<GroupRecord<'_>> {
    let (&key_bytes, rest) = input.split_first()?;
    let (key, value) = match key_bytes {
        u8::MAX => (rest, None),
        bytes => {
            let (key, value) = rest.split_at_checked(usize::from(bytes))?;
            (key, Some(value))
        }
    };
    GroupRecord::decode(key, value).ok()?
}

fn encode(record: &GroupRecord<'_>) -> Vec<u8> {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    record.encode_key(&mut key);
    let has_value = record.encode_value(&mut value) && key.len() < usize::from(u8::MAX);
    let mut out = vec![if has_value { key.len() as u8 } else { u8::MAX }];
    out.extend(key);
    if has_value {
        out.extend(value);
    }
    out
}
