//! The records of `__consumer_offsets` as Kafka 4.4's own coordinator writes them: every one is read, and what is written in
//! the same version has the same bytes.

use ottla_wire::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolPartitions, ConsumerProtocolSubscription,
};
use ottla_wire::offsets_topic::GroupRecord;
use ottla_wire::sample::{Entropy, Sample};
use ottla_wire::{DecodeFault, Uuid};
use proptest::prelude::*;

struct Vector {
    name: String,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn vectors() -> Vec<Vector> {
    let text = include_str!("../vectors/offsets_topic_java.hex");
    let vectors: Vec<Vector> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split(' ');
            let mut word = || words.next().unwrap();
            let (name, key, value) = (word().to_owned(), bytes(word()), word());
            Vector { name, key, value: (value != "-").then(|| bytes(value)) }
        })
        .collect();
    assert_eq!(vectors.len(), 22);
    vectors
}

fn vector(name: &str) -> Vector {
    vectors().into_iter().find(|vector| vector.name == name).unwrap()
}

fn known<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> GroupRecord<'a> {
    GroupRecord::decode(key, value).unwrap().expect("a record of a known kind")
}

#[test]
fn records_of_kafka_are_read_and_written_as_kafka_writes_them() {
    // Versions that Kafka 4.4 reads and no longer writes.
    let old = ["offset_commit_v0", "offset_commit_v2", "offset_commit_v3"];
    let old = old.iter().chain(&["group_metadata_v0", "group_metadata_v1", "group_metadata_v2", "group_metadata_v4"]);
    let old: Vec<&str> = old.copied().collect();
    for Vector { name, key, value } in vectors() {
        let record = known(&key, value.as_deref());
        let mut again = Vec::new();
        record.encode_key(&mut again);
        assert_eq!(again, key, "{name}");
        again.clear();
        let has_value = record.encode_value(&mut again);
        assert_eq!(has_value, value.is_some(), "{name}");
        if !old.contains(&name.as_str()) {
            assert_eq!(has_value.then_some(again), value, "{name}");
        }
    }
}

#[test]
fn what_an_old_version_lacks_is_its_default() {
    let Vector { key, value, .. } = vector("offset_commit_v1");
    let GroupRecord::OffsetCommit { key, value: Some(value) } = known(&key, value.as_deref()) else { panic!() };
    assert_eq!((&*key.group, &*key.topic, key.partition), ("orders", "packages", 3));
    assert_eq!((value.offset, value.leader_epoch, value.expire_timestamp), (42, -1, 1_700_000_001_000));
    assert_eq!((&*value.metadata, value.topic_id), ("note", Uuid::nil()));

    let Vector { key, value, .. } = vector("group_metadata_v0");
    let GroupRecord::GroupMetadata { value: Some(value), .. } = known(&key, value.as_deref()) else { panic!() };
    assert_eq!((value.generation, value.current_state_timestamp, value.members.len()), (5, -1, 1));
    assert_eq!((value.members[0].rebalance_timeout, value.members[0].group_instance_id.as_deref()), (-1, None));
}

#[test]
fn records_of_other_groups_are_told_apart_and_later_versions_refused() {
    assert_eq!(GroupRecord::decode(&[0, 11, 0, 1], Some(&[0, 0])), Ok(None));
    let Vector { key, value, .. } = vector("offset_commit_v4");
    let mut value = value.unwrap();
    value[1] = 5;
    let error = GroupRecord::decode(&key, Some(&value)).unwrap_err();
    assert_eq!(
        (error.place, error.fault),
        ("OffsetCommitValue", DecodeFault::UnsupportedVersion { version: 5.into() })
    );
}

proptest! {
    #[test]
    fn any_record_survives_the_round_trip(entropy in prop::collection::vec(any::<u8>(), 0..400)) {
        let record = GroupRecord::sample(&mut Entropy::new(&entropy, 0));
        let (mut key, mut value) = (Vec::new(), Vec::new());
        record.encode_key(&mut key);
        let has_value = record.encode_value(&mut value);
        prop_assert_eq!(known(&key, has_value.then_some(&value)), record);
    }

    #[test]
    fn subscriptions_and_assignments_survive_the_round_trip(entropy in prop::collection::vec(any::<u8>(), 0..200), version in 0..=3_i16) {
        let mut source = Entropy::new(&entropy, version);
        let subscription = ConsumerProtocolSubscription::sample(&mut source);
        let assignment = ConsumerProtocolAssignment::sample(&mut source);
        let mut bytes = Vec::new();
        subscription.write(version, &mut bytes);
        prop_assert_eq!(ConsumerProtocolSubscription::parse(&bytes).unwrap(), (version, subscription));
        bytes.clear();
        assignment.write(version, &mut bytes);
        prop_assert_eq!(ConsumerProtocolAssignment::parse(&bytes).unwrap(), (version, assignment));
    }
}

#[test]
fn a_subscription_of_a_later_version_is_read_as_far_as_it_is_known() {
    let owned = vec![ConsumerProtocolPartitions { topic: "packages".into(), partitions: vec![0, 1] }];
    let subscription = ConsumerProtocolSubscription {
        topics: vec!["packages".into()],
        owned_partitions: owned,
        generation_id: 4,
        rack_id: Some("a".into()),
        ..Default::default()
    };
    let mut bytes = Vec::new();
    subscription.write(3, &mut bytes);
    bytes[1] = 9;
    bytes.extend_from_slice(b"from the future");
    assert_eq!(ConsumerProtocolSubscription::parse(&bytes).unwrap(), (9, subscription));
}
