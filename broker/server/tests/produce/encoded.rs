//! Serializers: what they accept, rewrite and refuse before it is stored.

use ottla_wire::ErrorCode;
use ottla_wire::record::{Codec, TimestampType, batches};

use ottla_test_broker::{TestBroker, produce_request, said, verdict};
use ottla_tests::guest::{Guest, GuestKind};

/// A topic `t` whose serializer does with a record what the digit in its key says.
async fn encoded_topic(home: &TestBroker, settings: &[(&str, &str)]) {
    home.push("verdict", &verdict()).await;
    let mut all = vec![("ottla.serializer", "verdict")];
    all.extend(settings);
    home.create_topic("t", 3, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_fails_its_batch_with_the_reason_per_record_and_leaves_the_numbers_free() {
    let home = TestBroker::start().await;
    encoded_topic(&home, &[]).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    assert_eq!(client.produce("t", 0, &said("00").by(id, 0, 0)).await.error_code, ErrorCode::None);
    for batch in [said("02003").by(id, 0, 2), said("02003")] {
        let refused = client.produce("t", 0, &batch).await;
        assert_eq!((refused.error_code, refused.base_offset), (ErrorCode::InvalidRecord, -1));
        assert_eq!(refused.record_errors, [1, 4]);
        assert_eq!(refused.record_reasons, ["code: bad!", "code: bad!"]);
        assert_eq!(refused.message, "plugin verdict@1 refuses 2 of 5 records; record 1: code: bad!");
    }
    // One sent behind it waits for its numbers to come again; the same numbers with other records are taken.
    let behind = client.produce("t", 0, &said("0").by(id, 0, 7)).await;
    assert_eq!(behind.error_code, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(client.produce("t", 0, &said("00000").by(id, 0, 2)).await.offset(), 2);
    assert_eq!(client.produce("t", 0, &said("0").by(id, 0, 7)).await.offset(), 7);
    assert_eq!(home.records("t", 0).await.len(), 8, "nothing of a refused batch is stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_without_room_for_reasons_get_the_code() {
    let home = TestBroker::start().await;
    encoded_topic(&home, &[]).await;
    let mut client = home.client().await;
    for version in [3, 7, 8] {
        client.send(version, &produce_request(-1, "t", &[(0, &said("02").bytes())])).await;
        let refused = client.receive_produced(version).await.remove(0);
        assert_eq!(refused.error_code, ErrorCode::InvalidRecord);
        assert_eq!(refused.record_errors.len(), usize::from(version >= 8), "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_leaves_the_stored_bytes_alone() {
    let home = TestBroker::start().await;
    encoded_topic(&home, &[]).await;
    let mut client = home.ottla().await;
    for (partition, codec) in (0..).zip([Codec::None, Codec::Zstd, Codec::Lz4]) {
        let sent = said(&"0".repeat(50)).codec(codec);
        assert_eq!(client.produce("t", partition, &sent).await.error_code, ErrorCode::None);
        let stored = home.stored("t", partition).await;
        // Behind offset, length, leader epoch, magic and checksum.
        assert_eq!(stored[0][21..], sent.bytes()[21..], "{codec:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_batch_keeps_its_codec_timestamps_offsets_and_producer() {
    for codec in Codec::ALL {
        let home = TestBroker::start().await;
        encoded_topic(&home, &[]).await;
        let mut client = home.ottla().await;
        let id = client.producer_id().await;
        let sent = said("0101").codec(codec).by(id, 0, 0);
        assert_eq!(client.produce("t", 0, &sent).await.offset(), 0);
        let stored = home.stored("t", 0).await;
        let (sent_bytes, stored) = (sent.bytes(), batches(&stored[0]).next().unwrap().unwrap());
        let sent = batches(&sent_bytes).next().unwrap().unwrap();
        stored.check_crc().unwrap();
        let header = |batch: &ottla_wire::record::Batch<'_>| {
            let header = batch.header;
            (header.codec().unwrap(), header.base_timestamp, header.max_timestamp, header.last_offset_delta)
        };
        assert_eq!(header(&stored), header(&sent));
        assert_eq!(
            (stored.header.producer_id, stored.header.base_sequence),
            (sent.header.producer_id, sent.header.base_sequence)
        );
        let told = |batch: &ottla_wire::record::Batch<'_>| -> Vec<_> {
            let records = batch.records(1 << 20).unwrap();
            let told = records.iter().map(|record| {
                let record = record.unwrap();
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                (record.offset_delta, record.timestamp_delta, record.key.unwrap().to_vec(), value, record.headers.len())
            });
            told.collect()
        };
        let mut expected = told(&sent);
        (expected[1].3, expected[3].3) = ("new".to_owned(), "new".to_owned());
        assert_eq!(told(&stored), expected, "{codec:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_time_stays_with_a_rewritten_batch() {
    let home = TestBroker::start().await;
    encoded_topic(&home, &[("message.timestamp.type", "LogAppendTime")]).await;
    let stamped = home.client().await.produce("t", 0, &said("11")).await.log_append_time_ms;
    let stored = home.stored("t", 0).await;
    let header = batches(&stored[0]).next().unwrap().unwrap().header;
    assert_eq!((header.timestamp_type(), header.max_timestamp), (TimestampType::LogAppendTime, stamped));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_of_a_rewritten_batch_is_answered_from_what_is_known_and_doubles_nothing_across_a_crash() {
    let home = TestBroker::start().await;
    encoded_topic(&home, &[]).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    let batches = [said("010").by(id, 0, 0), said("11").by(id, 0, 3)];
    for batch in &batches {
        client.produce("t", 0, batch).await.offset();
    }
    let home = home.crash().await;
    // The plugin would refuse them now: it is not asked again.
    home.push("none", &Guest::of(GuestKind::Serializer, "", "(call $err (i32.const 0) (i32.const 0))").component())
        .await;
    home.set_topic("t", "ottla.serializer", "none").await;
    let mut client = home.ottla().await;
    assert_eq!(client.produce("t", 0, &batches[0]).await.offset(), 0);
    assert_eq!(client.produce("t", 0, &batches[1]).await.offset(), 3);
    assert_eq!(client.produce("t", 0, &said("0").by(id, 0, 5)).await.error_code, ErrorCode::InvalidRecord);
    let values: Vec<_> = home.records("t", 0).await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["010#0", "new", "010#2", "new", "new"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_rewritten_first_and_then_partitioned() {
    let home = TestBroker::start().await;
    let by_first_byte = "(call $fill
        (i32.eq (i32.load8_u (i32.load offset=4 (local.get $columns))) (i32.const 110)) (local.get $records))";
    let guest = Guest::of(GuestKind::Partitioner, "value", by_first_byte);
    home.push("new-to-1", &guest.component()).await;
    encoded_topic(&home, &[("ottla.partitioner", "new-to-1")]).await;
    let mut client = home.ottla().await;
    let id = client.producer_id().await;
    for (sequence, batch) in (0..).zip(["1", "0", "1", "0"]) {
        assert_eq!(client.produce("t", 2, &said(batch).by(id, 0, sequence)).await.error_code, ErrorCode::None);
    }
    let home = home.crash().await;
    let values = |records: Vec<(String, String)>| records.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    assert_eq!(values(home.records("t", 0).await), ["0#0", "0#0"]);
    assert_eq!(values(home.records("t", 1).await), ["new", "new"]);
    assert!(home.records("t", 2).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_batch_that_is_too_large_or_lies_is_refused_and_says_so() {
    let home = TestBroker::start().await;
    for (name, bytes, told) in [
        ("large", 60_000, "max.message.bytes is 1000"),
        ("larger", 200_000, "allowed for this call"),
        ("endless", 0x7fff_ffff_u32, "plugin endless@1 failed"),
    ] {
        let [a, b, c, d] = bytes.to_le_bytes();
        let size = format!("\\{a:02x}\\{b:02x}\\{c:02x}\\{d:02x}");
        let fields = format!(
            r#"(data (i32.const 600) "\01\00") (data (i32.const 640) "{size}\fe\ff\ff\ff")
               (data (i32.const 700) "\02\00\00\00\00\00\00\00{size}\80\02\00\00\02\00\00\00")"#
        );
        // The samples of an upload come one by one: it is found out with the first batch of two.
        let work = "(if (i32.eq (local.get $records) (i32.const 2))
              (then (return (call $answer (i32.const 600) (i32.const 2) (i32.const 700) (i32.const 1)))))
            (call $answer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))";
        let fields = Box::leak(fields.into_boxed_str());
        let guest = Guest { fields, pages: 8, ..Guest::of(GuestKind::Serializer, "", work) };
        home.push(name, &guest.component()).await;
        home.create_topic(name, 1, &[("ottla.serializer", name), ("max.message.bytes", "1000")]).await;
        let refused = home.client().await.produce(name, 0, &said("00")).await;
        assert!(matches!(refused.error_code, ErrorCode::MessageTooLarge | ErrorCode::InvalidRecord), "{name}");
        assert!(refused.message.contains(told), "{name}: {}", refused.message);
        assert!(home.records(name, 0).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_does_not_lose_its_keys_to_a_plugin() {
    let home = TestBroker::start().await;
    let fields = r#"(data (i32.const 600) "\01") (data (i32.const 640) "\ff\ff\ff\ff")
        (data (i32.const 700) "\01\00\00\00\00\00\00\00\00\00\00\00\80\02\00\00\01\00\00\00")"#;
    let work = "(call $answer (i32.const 600) (i32.const 1) (i32.const 700) (i32.const 1))";
    home.push("keyless", &Guest { fields, ..Guest::of(GuestKind::Serializer, "", work) }.component()).await;
    home.create_topic("free", 1, &[("ottla.serializer", "keyless")]).await;
    home.create_topic("compacted", 1, &[("ottla.serializer", "keyless"), ("cleanup.policy", "compact")]).await;
    let mut client = home.client().await;
    assert_eq!(client.produce("free", 0, &said("0")).await.error_code, ErrorCode::None);
    let refused = client.produce("compacted", 0, &said("0")).await;
    assert_eq!((refused.error_code, refused.record_errors), (ErrorCode::InvalidRecord, vec![0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_of_another_kind_and_a_configuration_that_it_refuses_are_refused_by_their_setting() {
    let home = TestBroker::start().await;
    home.create_topic("t", 1, &[]).await;
    home.push("digit", &ottla_test_broker::digit(0)).await;
    home.push("verdict", &verdict()).await;
    let (code, message) = home.set_topic("t", "ottla.serializer", "digit").await;
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert_eq!(message, "ottla.serializer: digit@1 is a partitioner, a serializer is needed");
    let (_, message) = home.set_topic("t", "ottla.partitioner", "verdict").await;
    assert_eq!(message, "ottla.partitioner: verdict@1 is a serializer, a partitioner is needed");
    let (_, message) = home.set_topic("t", "ottla.serializer", "missing").await;
    assert!(message.contains(r#"ottla.serializer: there is no plugin "missing""#), "{message}");
    let wants = Guest {
        init: "(call $err (i32.const 0) (i32.const 0))",
        ..Guest::of(GuestKind::Serializer, "", "unreachable")
    };
    home.push("wants", &wants.component()).await;
    let (_, message) = home.set_topic("t", "ottla.serializer", "wants").await;
    assert!(message.contains("the plugin refused its configuration"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serializer_that_is_off_or_gone_is_not_asked_and_one_in_use_is_not_deleted() {
    let home = TestBroker::start().await;
    encoded_topic(&home, &[("ottla.serializer.mode", "off")]).await;
    let mut client = home.client().await;
    assert_eq!(client.produce("t", 0, &said("2")).await.error_code, ErrorCode::None);
    assert_eq!(home.set_topic("t", "ottla.serializer.mode", "encode").await.0, ErrorCode::None);
    assert_eq!(client.produce("t", 0, &said("2")).await.error_code, ErrorCode::InvalidRecord);
    let topics: Vec<String> = home.broker.topics.get("t").into_iter().map(|topic| topic.name.to_string()).collect();
    assert_eq!(topics, ["t"]);
    let request =
        ottla_wire::message::DeletePluginRequest { name: "verdict".into(), version: ottla_wire::message::VERSION_ALL };
    let answer = home.ottla().await.ask(0, &request).await;
    let response: ottla_wire::message::DeletePluginResponse<'_> = answer.read();
    assert_eq!(response.error_code, ErrorCode::PolicyViolation);
    assert_eq!(home.set_topic("t", "ottla.serializer", "").await.0, ErrorCode::None);
    assert_eq!(client.produce("t", 0, &said("2")).await.error_code, ErrorCode::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serializer_that_fails_fails_its_batch_and_says_which_plugin() {
    let home = TestBroker::start_with(&["plugin.call.timeout.ms=20"]).await;
    encoded_topic(&home, &[]).await;
    let trapped = home.client().await.produce("t", 0, &said("0t")).await;
    assert_eq!((trapped.error_code, trapped.record_errors), (ErrorCode::InvalidRecord, vec![0, 1]));
    assert!(trapped.message.contains("plugin verdict@1 failed"), "{}", trapped.message);
    home.push("loop", &Guest::of(GuestKind::Serializer, "", "(loop $again (br $again)) unreachable").component()).await;
    home.create_topic("loop", 1, &[("ottla.serializer", "loop")]).await;
    let endless = home.client().await.produce("loop", 0, &said("0")).await;
    assert!(endless.message.contains("did not finish within 20 ms"), "{}", endless.message);
}
