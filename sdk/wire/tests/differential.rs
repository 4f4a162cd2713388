//! Every API, version and direction against another implementation: the crate `kafka-protocol`, made from Kafka's own
//! schemas (4.1).
//!
//! For each, a random message is written by us, read by them, written by them and read by us: the bytes have to be equal
//! and so has the message. They only ever get bytes that our decoder has accepted, since hostile input aborts them.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ottla_wire::message::*;
use ottla_wire::sample::{Entropy, Sample};
use ottla_wire::{
    APIS, ApiKey, ApiVersion, Message, Reader, RequestHeader, VersionRange, Writer, encode_request, encode_response,
    for_every_api,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Placements in Produce: the one tagged field that Kafka does not have.
const OUR_TAG: &str = "20000: ";

/// Plain fields that Kafka has in versions later than ours, at their defaults.
const LATER_FIELDS: &[(&str, &str)] = &[
    ("enable_2_pc", "false"),
    ("keep_prepared_txn", "false"),
    ("ongoing_txn_producer_id", "-1"),
    ("ongoing_txn_producer_epoch", "-1"),
];

/// The versions that the other implementation does not have: `vectors/messages_java.hex` stands in for it.
const BEYOND_THEIRS: &[(ApiKey, i16)] =
    &[(ApiKey::OffsetCommit, 10), (ApiKey::OffsetFetch, 10), (ApiKey::ListOffsets, 11)];

/// Random messages per API, version and direction.
const MESSAGES: u32 = 200;

fn encode<'a, M: Message<'a>>(message: &M, version: i16) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut Writer::new(&mut out, version, version >= M::FLEXIBLE_FROM));
    out
}

/// What the other implementation makes of our bytes, written again, and how it prints.
fn through_theirs<T: Decodable + Encodable + Debug>(
    bytes: &[u8],
    version: i16,
) -> Result<(Vec<u8>, String), TestCaseError> {
    let mut input = Bytes::copy_from_slice(bytes);
    let fail = |what: &str, error: &dyn Debug| TestCaseError::fail(format!("v{version}: {what}: {error:?}"));
    let message = T::decode(&mut input, version).map_err(|error| fail("they cannot read", &error))?;
    prop_assert!(input.is_empty(), "v{}: they leave {} bytes unread", version, input.len());
    // A tag they do not know would come back as it was, and so prove nothing.
    let debug = format!("{message:?}");
    for unknown in debug.split("unknown_tagged_fields: {").skip(1) {
        prop_assert!(
            unknown.starts_with('}') || unknown.starts_with(OUR_TAG),
            "v{}: a tag is unknown: {}",
            version,
            debug
        );
    }
    let mut out = BytesMut::new();
    message.encode(&mut out, version).map_err(|error| fail("they cannot write", &error))?;
    Ok((out.to_vec(), debug))
}

/// Compares numbers and truth values by name, in order. Bytes alone do not show a wrong default: of a field that the
/// version does not have, or of a tagged one.
fn compare_plain_fields(ours: &str, theirs: &str) -> Result<(), TestCaseError> {
    if theirs.contains(OUR_TAG) {
        return Ok(());
    }
    let (ours, mut theirs) = (plain_fields(ours), plain_fields(theirs));
    // Fields of versions that we do not serve.
    theirs.retain(|field| !LATER_FIELDS.contains(field));
    prop_assert_eq!(ours, theirs);
    Ok(())
}

/// `name: 5`, `name: true` and `name: BrokerId(5)` in what `Debug` prints.
fn plain_fields(debug: &str) -> Vec<(&str, &str)> {
    debug
        .split([',', '{', '}', '[', ']'])
        .filter_map(|piece| piece.trim().split_once(": "))
        // Errors are numbers there and names here.
        .filter(|(name, _)| !name.ends_with("error_code"))
        .map(|(name, value)| {
            (name, value.strip_prefix("BrokerId(").or(value.strip_prefix("ProducerId(")).unwrap_or(value))
        })
        .map(|(name, value)| (name, value.trim_end_matches(')')))
        .filter(|(_, value)| value.parse::<i64>().is_ok() || value.parse::<bool>().is_ok())
        .collect()
}

/// Compares one message type in all its versions.
macro_rules! compare {
    ($ours:ident, $theirs:ty) => {
        for version in <$ours as Message<'_>>::VERSIONS.iter() {
            let theirs = <$theirs as kafka_protocol::protocol::Message>::VERSIONS;
            if version > theirs.max {
                let listed = BEYOND_THEIRS.contains(&(<$ours as Message<'_>>::KEY, version));
                assert!(listed, "nothing to compare {} v{version} with", stringify!($ours));
                continue;
            }
            let config = Config { cases: MESSAGES, failure_persistence: None, ..Config::default() };
            let outcome = TestRunner::new(config).run(&prop::collection::vec(any::<u8>(), 0..600), |entropy| {
                let message = $ours::sample(&mut Entropy::new(&entropy, version));
                let bytes = encode(&message, version);
                // First with our own eyes: nothing we would refuse ever reaches the other side.
                let mut reader = Reader::new(&bytes, version, version >= <$ours as Message<'_>>::FLEXIBLE_FROM);
                let read: $ours = ottla_wire::Wire::decode(&mut reader)
                    .map_err(|error| TestCaseError::fail(format!("v{version}: we cannot read: {error}")))?;
                prop_assert_eq!(reader.remaining(), 0, "v{}", version);
                prop_assert_eq!(&read, &message, "v{}", version);

                let (again, their_debug) = through_theirs::<$theirs>(&bytes, version)?;
                prop_assert_eq!(again, bytes, "v{}", version);
                compare_plain_fields(&format!("{message:?}"), &their_debug)
            });
            if let Err(error) = outcome {
                panic!("{} v{version}: {error}", stringify!($ours));
            }
        }
    };
}

macro_rules! compare_kafka_apis {
    ($($key:ident: $request:ident => $response:ident,)*) => {
        $(compare_kafka_apis!(@one $key $request $response);)*
    };
    // Ottla's own, which the other codec does not know.
    (@one PushPlugin $request:ident $response:ident) => {};
    (@one DescribePlugins $request:ident $response:ident) => {};
    (@one ActivatePlugin $request:ident $response:ident) => {};
    (@one DeletePlugin $request:ident $response:ident) => {};
    (@one $key:ident $request:ident $response:ident) => {
        compare!($request, theirs::$request);
        compare!($response, theirs::$response);
    };
}

#[test]
fn every_api_and_version_has_the_bytes_of_kafka() {
    for_every_api!(compare_kafka_apis);
}

macro_rules! round_trip {
    ($($key:ident: $request:ident => $response:ident,)*) => {
        $(round_trip!(@one $request); round_trip!(@one $response);)*
    };
    (@one $message:ident) => {
        for version in <$message as Message<'_>>::VERSIONS.iter() {
            let config = Config { cases: MESSAGES, failure_persistence: None, ..Config::default() };
            let outcome = TestRunner::new(config).run(&prop::collection::vec(any::<u8>(), 0..600), |entropy| {
                let message = $message::sample(&mut Entropy::new(&entropy, version));
                let mut frame = Vec::new();
                encode_response(77, version, &message, &mut frame);
                prop_assert_eq!(&frame[..4], &(frame.len() as i32 - 4).to_be_bytes());
                let read = ottla_wire::decode_response::<$message>(version, &frame[4..]);
                prop_assert_eq!(read.unwrap(), (77, message));
                Ok(())
            });
            if let Err(error) = outcome {
                panic!("{} v{version}: {error}", stringify!($message));
            }
        }
    };
}

#[test]
fn whole_frames_survive_the_round_trip() {
    for_every_api!(round_trip);
}

#[test]
fn unknown_tags_are_skipped_wherever_they_are() {
    let tag = |tag| (tag, Bytes::from_static(b"from the future"));
    let topic = theirs::metadata_request::MetadataRequestTopic::default()
        .with_name(Some(theirs::TopicName(StrBytes::from_static_str("packages"))))
        .with_unknown_tagged_fields([tag(0), tag(7)].into());
    let request = theirs::MetadataRequest::default()
        .with_topics(Some(vec![topic.clone(), topic]))
        .with_unknown_tagged_fields([tag(3), tag(100_000)].into());
    let header = theirs::RequestHeader::default()
        .with_request_api_key(3)
        .with_request_api_version(12)
        .with_unknown_tagged_fields([tag(1)].into());
    let mut frame = BytesMut::new();
    header.encode(&mut frame, 2).unwrap();
    request.encode(&mut frame, 12).unwrap();

    let (header, body) = ottla_wire::split_request(&frame).unwrap();
    let request: MetadataRequest<'_> = ottla_wire::decode_request(header.version(), body).unwrap();
    let names: Vec<_> = request.topics.unwrap().into_iter().map(|topic| topic.name.unwrap()).collect();
    assert_eq!(names, ["packages", "packages"]);
}

#[test]
fn request_headers_are_those_of_kafka() {
    for api in APIS.iter().filter(|api| api.key.code() < 20000) {
        let their_key = theirs::ApiKey::try_from(api.key.code()).unwrap();
        for version in api.versions.iter() {
            let header = RequestHeader {
                api_key: api.key.code(),
                api_version: version,
                correlation_id: 0x0102_0304,
                client_id: (version % 2 == 0).then(|| "kcat".into()),
            };
            let (mut bare, mut frame) = (Vec::new(), Vec::new());
            // The header alone: what is left when the empty body is taken away again.
            encode_any_request(api.key, &header, &mut frame, &mut bare);
            let ours = &frame[4..frame.len() - bare.len()];
            let header_version = their_key.request_header_version(version);
            let (again, _) = through_theirs::<theirs::RequestHeader>(ours, header_version).unwrap();
            assert_eq!(again, ours, "{} v{version}", api.name);
            assert_eq!(header_version == 2, api.key.is_flexible(version), "{} v{version}", api.name);
        }
    }
}

#[test]
fn response_headers_are_those_of_kafka() {
    macro_rules! compare_headers {
        ($($key:ident: $request:ident => $response:ident,)*) => {$(
            for version in ApiKey::$key.api().versions.iter() {
                let Ok(their_key) = theirs::ApiKey::try_from(ApiKey::$key.code()) else { continue };
                let mut frame = Vec::new();
                encode_response(0x0102_0304, ApiVersion(version), &$response::default(), &mut frame);
                let body = encode(&$response::default(), version);
                let ours = &frame[4..frame.len() - body.len()];
                let header_version = their_key.response_header_version(version);
                let (again, _) = through_theirs::<theirs::ResponseHeader>(ours, header_version).unwrap();
                assert_eq!(again, ours, "{} v{version}", stringify!($key));
            }
        )*};
    }
    for_every_api!(compare_headers);
}

/// Writes an empty request of any API as a whole frame, and its body alone.
fn encode_any_request(key: ApiKey, header: &RequestHeader<'_>, frame: &mut Vec<u8>, body: &mut Vec<u8>) {
    macro_rules! by_key {
        ($($key:ident: $request:ident => $response:ident,)*) => {
            match key {
                $(ApiKey::$key => {
                    let request = $request::default();
                    encode_request(header, &request, frame);
                    body.extend(encode(&request, header.api_version));
                })*
            }
        };
    }
    for_every_api!(by_key);
}

#[test]
fn the_table_promises_nothing_that_kafka_does_not_have() {
    for api in APIS.iter().filter(|api| api.key.code() < 20000) {
        let their_key = theirs::ApiKey::try_from(api.key.code()).unwrap();
        let valid = their_key.valid_versions();
        let VersionRange { min, max } = api.versions;
        let max = if BEYOND_THEIRS.contains(&(api.key, max)) { max - 1 } else { max };
        assert!(valid.min <= min && max <= valid.max, "{}: {}", api.name, api.versions);
        assert_eq!(format!("{their_key:?}").trim_end_matches("Key"), api.name);
        for version in api.versions.iter() {
            assert_eq!(their_key.request_header_version(version) >= 2, version >= api.flexible_from, "{}", api.name);
        }
    }
}

#[test]
fn the_list_of_messages_is_the_table() {
    macro_rules! count {
        ($($key:ident: $request:ident => $response:ident,)*) => {
            [$((ApiKey::$key, <$request as Message<'_>>::KEY, <$response as Message<'_>>::KEY),)*]
        };
    }
    let listed = for_every_api!(count);
    assert_eq!(listed.len(), APIS.len());
    for (api, (key, request, response)) in APIS.iter().zip(listed) {
        assert_eq!((key, request, response), (api.key, api.key, api.key));
    }
}
