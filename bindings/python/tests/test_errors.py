"""Errors say what happened, in Kafka's words where Kafka has some."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable

import pytest
from conftest import Broker

import ottla.errors
from ottla import Admin, Consumer, KafkaError, Producer, TopicPartition
from ottla.errors import (
    BrokerError,
    ClientClosedError,
    ConfigError,
    InvalidRecordError,
    InvalidTopicError,
    KafkaConnectionError,
    MessageTooLargeError,
    OffsetOutOfRangeError,
    UnknownTopicOrPartitionError,
)


def test_an_unknown_topic_without_auto_create_has_its_code(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker("auto.create.topics.enable=false")
    with Producer(bootstrap_servers=broker.bootstrap, topic_wait_ms=300) as producer:
        with pytest.raises(UnknownTopicOrPartitionError) as raised:
            producer.send(topic, b"v").result(30)
        error = raised.value
        assert (error.code, error.name, error.fatal) == (3, "UNKNOWN_TOPIC_OR_PARTITION", False)
        assert error.retriable
        assert error.topic == topic
        assert f"ottla topic create {topic}" in str(error)
        assert producer.partition_count(topic) is None
    with pytest.raises(UnknownTopicOrPartitionError) as raised:
        Consumer(topic, bootstrap_servers=broker.bootstrap)
    assert raised.value.code == 3


def test_a_record_above_the_producers_bound_is_refused_at_once(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap, request_bytes_max=1500) as producer:
        with pytest.raises(MessageTooLargeError) as raised:
            producer.send(topic, b"x" * 2000)
        assert (raised.value.code, raised.value.name) == (10, "MESSAGE_TOO_LARGE")
        assert not raised.value.retriable


def test_a_record_above_the_topics_bound_is_refused_by_the_broker(bootstrap: str, topic: str) -> None:
    with Admin(bootstrap_servers=bootstrap) as admin:
        admin.create_topic(topic, partitions=1, config={"max.message.bytes": "1000"})
    with Producer(bootstrap_servers=bootstrap) as producer:
        with pytest.raises(MessageTooLargeError) as raised:
            producer.send(topic, b"x" * 2000).result(30)
        assert (raised.value.code, raised.value.topic, raised.value.partition) == (10, topic, 0)
        assert producer.send(topic, b"small").result(30).offset == 0


def test_a_partition_that_is_not_there(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"v").result(30)
        with pytest.raises(UnknownTopicOrPartitionError, match="has partitions 0 to 3, not 9"):
            producer.send(topic, b"v", partition=9).result(30)
    with pytest.raises(UnknownTopicOrPartitionError, match="not 9"):
        Consumer([TopicPartition(topic, 9)], bootstrap_servers=bootstrap)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "x" * 250])
def test_what_is_no_topic_name(bootstrap: str, name: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer, pytest.raises(InvalidTopicError) as raised:
        producer.send(name, b"v")
    assert raised.value.code == 17


def test_an_offset_outside_the_log(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"v", partition=0)
    part = TopicPartition(topic, 0)
    with Consumer([part], bootstrap_servers=bootstrap, start=1000) as consumer:
        with pytest.raises(OffsetOutOfRangeError) as raised:
            consumer.poll(timeout=20)
        assert (raised.value.code, raised.value.topic, raised.value.partition) == (1, topic, 0)
        assert raised.value.offset == 1000
        consumer.seek(part, "earliest")
        assert [record.value for record in consumer.poll(timeout=20)] == [b"v"]
    with Consumer([part], bootstrap_servers=bootstrap, start=1000, offset_reset="earliest") as consumer:
        assert [record.value for record in consumer.poll(timeout=20)] == [b"v"]


def test_an_address_without_a_listener_is_a_connection_error(topic: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(KafkaConnectionError, match=address) as raised:
            Consumer(topic, bootstrap_servers=address)
        assert isinstance(raised.value, ConnectionError)
        assert (raised.value.code, raised.value.name, raised.value.retriable) == (None, "UNREACHABLE", True)
        with Producer(bootstrap_servers=address, delivery_timeout_ms=300) as producer:
            with pytest.raises(TimeoutError, match=address) as late:
                producer.send(topic, b"v").result(30)
            assert isinstance(late.value, KafkaError)
            assert not late.value.in_doubt


def test_closed_clients_say_so(bootstrap: str, topic: str) -> None:
    producer = Producer(bootstrap_servers=bootstrap)
    producer.send(topic, b"v").result(30)
    producer.close()
    consumer = Consumer(topic, bootstrap_servers=bootstrap)
    consumer.close()
    consumer.close()
    with pytest.raises(ClientClosedError) as raised:
        producer.send(topic, b"v")
    assert raised.value.fatal
    with pytest.raises(ClientClosedError):
        consumer.poll()


def test_text_is_not_bytes(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        with pytest.raises(TypeError, match="encode"):
            producer.send(topic, "text")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="not int"):
            producer.send(topic, b"v", key=7)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="pairs"):
            producer.send(topic, b"v", headers=["h"])  # type: ignore[list-item]


def test_settings_that_cannot_work_are_named(bootstrap: str) -> None:
    def refused(**settings: object) -> str:
        with pytest.raises(ConfigError) as raised:
            Producer(bootstrap_servers=bootstrap, **settings)  # type: ignore[arg-type]
        assert isinstance(raised.value, ValueError)
        return str(raised.value)

    assert "linger_ms" in refused(linger_ms="soon")
    assert "linger_ms" in refused(linger_ms=-1)
    assert "acks" in refused(acks=2)
    assert "compression" in refused(compression="brotli")
    assert "requests_in_flight_max" in refused(requests_in_flight_max=9)
    assert "idempotent" in refused(acks=1, idempotent=True)
    assert "did you mean linger.ms" in refused(config={"lingr.ms": 5})
    assert "given twice" in refused(linger_ms=1, config={"linger.ms": 5})
    with pytest.raises(TypeError, match="did you mean linger_ms"):
        Producer(bootstrap_servers=bootstrap, lingr_ms=5)  # type: ignore[call-arg]
    assert isinstance(Producer(bootstrap), Producer), "the address may stand first, without its name"
    with pytest.raises(TypeError, match="did you mean bootstrap_servers"):
        Producer(bootstrap_server=bootstrap)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="HOST:PORT"):
        Producer(bootstrap_servers="nowhere:port")
    with pytest.raises(ConfigError, match="HOST:PORT"):
        Producer(bootstrap_servers=7)  # type: ignore[arg-type]


def test_kafkas_names_of_settings_are_understood(bootstrap: str, topic: str) -> None:
    config = {
        "bootstrap.servers": bootstrap,
        "linger.ms": "20",
        "acks": "1",
        "compression.type": "zstd",
        "enable.idempotence": "false",
        "max.in.flight": 2,
    }
    with Producer(config=config) as producer:
        producer.send(topic, b"v").result(30)
    with Consumer(
        topic, config={"bootstrap.servers": [bootstrap], "auto.offset.reset": "smallest", "check.crcs": True}
    ) as consumer:
        assert len(consumer.poll(timeout=20)) == 1


def test_every_setting_reaches_the_core(bootstrap: str) -> None:
    numbers = {
        "connect_timeout_ms": 5000,
        "request_timeout_ms": 5000,
        "metadata_age_ms_max": 5000,
        "retry_backoff_ms": 5,
        "retry_backoff_ms_max": 50,
        "reconnect_backoff_ms": 5,
        "reconnect_backoff_ms_max": 50,
        "response_bytes_max": 1 << 20,
    }
    client: dict[str, object] = {"client_id": "me", **numbers}
    Producer(
        bootstrap_servers=bootstrap,
        acks="all",
        idempotent=True,
        compression="gzip",
        compression_level=9,
        linger_ms=1,
        batch_bytes=1000,
        request_bytes_max=2000,
        buffer_bytes=20_000,
        requests_in_flight_max=3,
        delivery_timeout_ms=5000,
        topic_wait_ms=100,
        auto_create_topics=False,
        **client,  # type: ignore[arg-type]
    ).close()
    Consumer(
        bootstrap_servers=bootstrap,
        offset_reset="latest",
        fetch_bytes_min=1,
        fetch_bytes_max=1 << 20,
        partition_bytes_max=1 << 16,
        fetch_wait_ms_max=100,
        buffer_bytes=1 << 20,
        batch_bytes_max=1 << 20,
        check_crcs=False,
        unreachable_ms_max=1000,
        **client,  # type: ignore[arg-type]
    ).close()
    with Admin(bootstrap_servers=bootstrap, **client) as admin:  # type: ignore[arg-type]
        assert len(admin.describe_cluster().brokers) == 1


def test_errors_can_be_pickled() -> None:
    error = UnknownTopicOrPartitionError("gone", code=3, name="UNKNOWN_TOPIC_OR_PARTITION", topic="t", partition=1)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.__dict__) == (type(error), str(error), error.__dict__)


def test_every_error_is_in_the_tree() -> None:
    classes = [getattr(ottla.errors, name) for name in ottla.errors.__all__]
    assert all(issubclass(one, KafkaError) for one in classes)
    made = [
        ottla.errors.from_core("broker", "m", code, "N", False, False, None, None, None, False, []) for code in range(130)
    ]
    assert all(isinstance(error, BrokerError) for error in made)
    assert {type(error) for error in made} <= set(classes)


def test_the_record_for_which_a_batch_was_refused_is_named(bootstrap: str, topic: str) -> None:
    with Admin(bootstrap_servers=bootstrap) as admin:
        admin.create_topic(topic, config={"cleanup.policy": "compact"})
    with Producer(bootstrap_servers=bootstrap, linger_ms=1000) as producer:
        deliveries = producer.send_many(topic, [(b"k", b"0"), b"1", (b"k", b"2")], partition=0)
        errors = deliveries.exceptions(30)
    for error in errors:
        assert isinstance(error, InvalidRecordError)
        assert [index for index, _ in error.record_errors] == [1]
        assert all("key" in words for _, words in error.record_errors)
    assert "record 1 of its batch was refused" in str(errors[0])
    assert "the record was refused" in str(errors[1])
    assert "key" in str(errors[1])
