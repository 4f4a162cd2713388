"""What is sent is what is read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import pytest

from ottla import Consumer, Producer, Record


def read(topic: str, bootstrap: str, count: int) -> list[Record]:
    records: list[Record] = []
    with Consumer(topic, bootstrap_servers=bootstrap) as consumer:
        while len(records) < count:
            found = consumer.poll(500, timeout=20)
            assert found, f"{len(records)} of {count} records came"
            records += found
        assert consumer.poll(timeout=0.2) == []
    return records


@pytest.mark.parametrize("codec", [None, "gzip", "snappy", "lz4", "zstd"])
def test_every_codec_gives_back_what_went_in(
    bootstrap: str, topic: str, codec: Literal["gzip", "snappy", "lz4", "zstd"] | None
) -> None:
    sent = {b"key-%d" % number: b"value %d " % number * (number % 50) for number in range(2000)}
    with Producer(bootstrap_servers=bootstrap, compression=codec) as producer:
        producer.send_many(topic, list(sent.items()))
    records = read(topic, bootstrap, len(sent))
    assert {record.key: record.value for record in records} == sent
    assert len(records) == len(sent)


def test_headers_keep_order_duplicates_and_nulls(bootstrap: str, topic: str) -> None:
    headers = [("trace", b"1"), ("empty", b""), ("trace", b"2"), ("nothing", None), ("ünïcode", "grün".encode())]
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"v", headers=headers)
    (record,) = read(topic, bootstrap, 1)
    assert record.headers == headers
    assert record.header("trace") == b"2"
    assert record.header("nothing") is None
    assert record.header("nothing", b"default") is None
    assert record.header("missing") is None
    assert record.header("missing", b"default") == b"default"


def test_headers_may_be_a_dictionary(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"v", headers={"a": b"1", "b": bytearray(b"2"), "c": None})
    (record,) = read(topic, bootstrap, 1)
    assert record.headers == [("a", b"1"), ("b", b"2"), ("c", None)]


def test_null_and_empty_are_different(bootstrap: str, topic: str) -> None:
    pairs = [(None, None), (b"", b""), (b"k", None), (None, b"v")]
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send_many(topic, pairs, partition=0)
    assert [(record.key, record.value) for record in read(topic, bootstrap, 4)] == pairs


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_anything_with_a_buffer_can_be_sent(
    bootstrap: str, topic: str, wrap: type[bytes | bytearray | memoryview]
) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, wrap(b"value"), key=wrap(b"key"), headers=[("h", wrap(b"header"))])
    (record,) = read(topic, bootstrap, 1)
    assert (record.key, record.value, record.headers) == (b"key", b"value", [("h", b"header")])


def test_a_strided_memoryview_is_sent_as_it_reads(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, memoryview(b"a-b-c-d")[::2])
    (record,) = read(topic, bootstrap, 1)
    assert record.value == b"abcd"


def test_a_buffer_changed_after_send_does_not_change_the_record(bootstrap: str, topic: str) -> None:
    value = bytearray(b"before")
    with Producer(bootstrap_servers=bootstrap, linger_ms=200) as producer:
        producer.send(topic, value)
        value[:] = b"behind"
    (record,) = read(topic, bootstrap, 1)
    assert record.value == b"before"


def test_timestamps_are_milliseconds_or_datetimes(bootstrap: str, topic: str) -> None:
    moment = datetime(2024, 2, 29, 12, 30, 15, 123000, tzinfo=UTC)
    with Producer(bootstrap_servers=bootstrap) as producer:
        by_number = producer.send(topic, b"number", partition=0, timestamp=1_700_000_000_123).result(30)
        by_datetime = producer.send(topic, b"datetime", partition=0, timestamp=moment).result(30)
    assert by_number.timestamp == 1_700_000_000_123
    assert by_datetime.timestamp == 1_709_209_815_123
    records = read(topic, bootstrap, 2)
    assert [record.timestamp for record in records] == [1_700_000_000_123, 1_709_209_815_123]
    assert {record.timestamp_type for record in records} == {"create"}


def test_a_record_of_almost_a_megabyte_travels(bootstrap: str, topic: str) -> None:
    value = bytes(range(256)) * 3800
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, value)
    (record,) = read(topic, bootstrap, 1)
    assert record.value == value


def test_the_same_key_keeps_its_order(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap, batch_bytes=2000, linger_ms=1) as producer:
        producer.send_many(topic, [(b"k%d" % (number % 7), b"%d" % number) for number in range(5000)])
    by_key: dict[bytes | None, list[int]] = {}
    for record in read(topic, bootstrap, 5000):
        by_key.setdefault(record.key, []).append(int(record.value or b"-1"))
    assert len(by_key) == 7
    for numbers in by_key.values():
        assert numbers == sorted(numbers)


def test_the_acks_that_can_be_chosen_all_deliver(bootstrap: str, topic: str) -> None:
    for acks in ("all", 1, 0):
        with Producer(bootstrap_servers=bootstrap, acks=acks) as producer:
            placement = producer.send(topic, b"%d" % (acks == "all"), partition=0).result(30)
        assert (placement.offset is None) == (acks == 0)
    assert len(read(topic, bootstrap, 3)) == 3
