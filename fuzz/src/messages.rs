//! Requests and responses of every API, request headers and frame lengths.

use ottla_wire::message::*;
use ottla_wire::sample::{Entropy, Sample};
use ottla_wire::{DecodeBudget, Message, Writer, for_every_api, split_request};

use super::Target;

/// The promise: four times the input and 64 KiB.
pub(crate) fn budget(input_bytes: usize) -> usize {
    DecodeBudget::for_input(input_bytes).bytes_left()
}

macro_rules! message_targets {
    ($($key:ident: $request:ident => $response:ident,)*) => {
        pub(crate) const TARGETS: &[Target] = &[
            $(message_target!($key, $request), message_target!($key, $response),)*
            Target {
                name: "RequestHeader",
                binary: "RequestHeader",
                decode: |input| drop(split_request(input)),
                check: |input| drop(split_request(input)),
                sample: header,
                memory_bytes_max: budget,
            },
        ];
    };
}

macro_rules! message_target {
    ($key:ident, $message:ident) => {
        Target {
            name: stringify!($message),
            binary: stringify!($key),
            decode: |input| {
                let _ = decode::<$message>(input);
            },
            // What was decoded is encoded and decoded again, and then encodes to the same bytes. (The input itself may
            // differ: varints may be longer than they need to be, unknown tags are dropped.)
            check: |input| {
                let Some((version, message)) = decode::<$message>(input) else { return };
                let once = encode(version, &message);
                let (_, again) = decode::<$message>(&once).expect("what was encoded is decoded");
                assert_eq!(encode(version, &again), once, "encoding is stable");
            },
            sample: |entropy| sample::<$message>(entropy),
            memory_bytes_max: budget,
        }
    };
}
for_every_api!(message_targets);

/// The first byte chooses one of the versions of `M`.
fn version_of<'a, M: Message<'a>>(selector: u8) -> i16 {
    let versions = M::VERSIONS;
    versions.min + i16::from(selector) % (versions.max - versions.min + 1)
}

fn decode<'a, M: Message<'a>>(input: &'a [u8]) -> Option<(i16, M)> {
    let (&selector, body) = input.split_first()?;
    let version = version_of::<M>(selector);
    Some((version, ottla_wire::decode_request(version, body).ok()?))
}

fn encode<'a, M: Message<'a>>(version: i16, message: &M) -> Vec<u8> {
    let mut out = vec![(version - M::VERSIONS.min) as u8];
    message.encode(&mut Writer::new(&mut out, version, version >= M::FLEXIBLE_FROM));
    out
}

fn sample<'a, M: Message<'a> + Sample<'a>>(entropy: &'a [u8]) -> Vec<u8> {
    let (selector, entropy) = entropy.split_first().unwrap_or((&0, &[]));
    let version = version_of::<M>(*selector);
    encode(version, &M::sample(&mut Entropy::new(entropy, version)))
}

fn header(entropy: &[u8]) -> Vec<u8> {
    let mut entropy = Entropy::new(entropy, 0);
    let mut out = Vec::new();
    let header = ottla_wire::RequestHeader {
        api_key: i16::sample(&mut entropy) & 63,
        api_version: i16::sample(&mut entropy) & 15,
        correlation_id: i32::sample(&mut entropy),
        client_id: Option::sample(&mut entropy),
    };
    ottla_wire::encode_request(&header, &ListOffsetsRequest::default(), &mut out);
    // The length in front is not part of what is split.
    out.split_off(4)
}
