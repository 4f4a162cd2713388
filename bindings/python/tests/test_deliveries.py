"""Every record handed over ends in exactly one place, and the program can ask which."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from collections.abc import Callable

import pytest
from conftest import Broker

from ottla import KafkaError, Placement, Producer
from ottla.errors import (
    BufferFullError,
    ClientClosedError,
    DeliveryTimeoutError,
    KafkaTimeoutError,
    MessageTooLargeError,
    UnknownTopicOrPartitionError,
)


def test_a_result_names_topic_partition_offset_and_timestamp(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        delivery = producer.send(topic, b"v", partition=2, timestamp=1_700_000_000_000)
        placement = delivery.result(timeout=30)
        assert placement == Placement(topic, 2, 0, 1_700_000_000_000)
        assert delivery.done()
        assert delivery.exception() is None
        assert producer.send(topic, b"v", partition=2).result(30).offset == 1


def test_a_placement_is_a_value(topic: str) -> None:
    placement = Placement(topic, 2, None, 7)
    assert pickle.loads(pickle.dumps(placement)) == copy.copy(placement) == placement
    assert hash(placement) == hash(Placement(topic, 2, None, 7))
    assert placement != Placement(topic, 3, None, 7)
    assert repr(placement) == f"Placement(topic={topic!r}, partition=2, offset=None, timestamp=7)"


def test_send_many_tells_every_placement_in_order(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        deliveries = producer.send_many(topic, (b"%d" % number for number in range(1000)), partition=1)
        placements = deliveries.result(timeout=30)
        assert [placement.offset for placement in placements] == list(range(1000))
        assert len(deliveries) == len(list(deliveries)) == 1000
        assert deliveries[-1].result().offset == 999
        assert deliveries.done()
        assert deliveries.exceptions() == [None] * 1000
        with pytest.raises(IndexError):
            deliveries[1000]


def test_a_callback_gets_the_placement_before_flush_returns(bootstrap: str, topic: str) -> None:
    told: list[tuple[KafkaError | None, Placement | None]] = []
    threads: set[str] = set()

    def on_delivery(error: KafkaError | None, placement: Placement | None) -> None:
        threads.add(threading.current_thread().name)
        told.append((error, placement))

    with Producer(bootstrap_servers=bootstrap) as producer:
        sent = [producer.send(topic, b"v", partition=0, on_delivery=on_delivery) for _ in range(500)]
        producer.flush(timeout=30)
        assert [placement and placement.offset for _, placement in told] == list(range(500))
        assert {error for error, _ in told} == {None}
        assert [delivery.result(0).offset for delivery in sent] == list(range(500))
        assert threading.main_thread().name not in threads


def test_leaving_the_with_block_flushes_and_runs_callbacks(bootstrap: str, topic: str) -> None:
    told: list[int | None] = []
    with Producer(bootstrap_servers=bootstrap, linger_ms=5000) as producer:
        producer.send_many(
            topic,
            [b"v"] * 10,
            partition=0,
            on_delivery=lambda _, placement: told.append(placement and placement.offset),
        )
    assert told == list(range(10))
    assert producer.closed
    producer.close()
    with pytest.raises(ClientClosedError):
        producer.send(topic, b"late")


def test_a_callback_that_raises_stops_nobody(bootstrap: str, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lambda unraisable: lost.append(unraisable.exc_value))
    told: list[int] = []

    def on_delivery(error: KafkaError | None, placement: Placement | None) -> None:
        told.append(1)
        raise ValueError("a callback's own trouble")

    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send_many(topic, [b"a", b"b", b"c"], on_delivery=on_delivery)
    assert len(told) == 3
    assert [str(error) for error in lost] == ["a callback's own trouble"] * 3


def test_a_callback_may_send_and_flush(bootstrap: str, topic: str) -> None:
    answered = threading.Event()

    def on_delivery(error: KafkaError | None, placement: Placement | None) -> None:
        producer.send(topic, b"answer", on_delivery=lambda *_: answered.set())
        producer.flush(timeout=20)

    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"question", on_delivery=on_delivery)
        assert answered.wait(30)


def test_callbacks_are_let_go(bootstrap: str, topic: str) -> None:
    class Payload:
        pass

    import weakref

    kept = Payload()
    gone = weakref.ref(kept)
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"v", on_delivery=lambda *_, kept=kept: None)
        del kept
        producer.flush(30)
        gc.collect()
        assert gone() is None


def test_one_producer_serves_many_threads(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        offsets: list[int | None] = []

        def work() -> None:
            for _ in range(20):
                results = producer.send_many(topic, [b"v"] * 50, partition=0).result(30)
                offsets.extend(placement.offset for placement in results)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(offset for offset in offsets if offset is not None) == list(range(4000))


def test_a_failure_that_nobody_saw_is_raised_by_flush(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker("auto.create.topics.enable=false")
    with Producer(bootstrap_servers=broker.bootstrap, topic_wait_ms=300) as producer:
        for _ in range(3):
            producer.send(topic, b"v")
        with pytest.raises(UnknownTopicOrPartitionError, match="3 records were not delivered") as raised:
            producer.flush(30)
        assert raised.value.code == 3
        producer.flush(30)  # said once


def test_a_failure_that_somebody_saw_is_not_raised_again(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker("auto.create.topics.enable=false")
    seen: list[KafkaError | None] = []
    with Producer(bootstrap_servers=broker.bootstrap, topic_wait_ms=300) as producer:
        kept = producer.send(topic, b"v")
        producer.send(topic, b"v", on_delivery=lambda error, _: seen.append(error))
        producer.flush(30)
        assert isinstance(kept.exception(0), UnknownTopicOrPartitionError)
        assert isinstance(seen[0], UnknownTopicOrPartitionError)


def test_close_raises_what_nobody_saw(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker("auto.create.topics.enable=false")
    with (
        pytest.raises(UnknownTopicOrPartitionError),
        Producer(bootstrap_servers=broker.bootstrap, topic_wait_ms=300) as producer,
    ):
        producer.send(topic, b"v")


def test_an_exception_in_the_with_block_is_the_one_that_comes_out(
    start_broker: Callable[..., Broker], topic: str
) -> None:
    broker = start_broker("auto.create.topics.enable=false")
    with (
        pytest.raises(LookupError, match="mine"),
        Producer(bootstrap_servers=broker.bootstrap, topic_wait_ms=300) as producer,
    ):
        producer.send(topic, b"v")
        raise LookupError("mine")


def test_send_many_raises_the_first_failure_and_counts_them(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker("auto.create.topics.enable=false")
    with Producer(bootstrap_servers=broker.bootstrap, topic_wait_ms=300) as producer:
        deliveries = producer.send_many(topic, [b"a", b"b"])
        with pytest.raises(UnknownTopicOrPartitionError) as raised:
            deliveries.result(30)
        assert raised.value.__notes__ == ["2 of 2 records failed; this is the first"]
        assert [type(error) for error in deliveries.exceptions()] == [UnknownTopicOrPartitionError] * 2


def test_a_record_that_cannot_be_sent_says_how_far_send_many_came(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap, request_bytes_max=2000) as producer:
        with pytest.raises(MessageTooLargeError) as raised:
            producer.send_many(topic, [b"a", b"b", b"x" * 3000, b"c"])
        assert raised.value.__notes__ == ["in send_many, record 2; the 2 before it are on their way"]


def test_waiting_ends_with_the_timeout_and_delivery_goes_on(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker()
    with Producer(bootstrap_servers=broker.bootstrap) as producer:
        producer.send(topic, b"first").result(30)
        broker.pause()
        delivery = producer.send(topic, b"second")
        with pytest.raises(KafkaTimeoutError):
            delivery.result(timeout=0.05)
        with pytest.raises(TimeoutError):
            producer.flush(timeout=0.05)
        assert not delivery.done()
        broker.resume()
        assert delivery.result(30).topic == topic


def test_a_record_fails_when_its_time_is_over(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker()
    with Producer(bootstrap_servers=broker.bootstrap, delivery_timeout_ms=700) as producer:
        producer.send(topic, b"first").result(30)
        broker.pause()
        with pytest.raises(DeliveryTimeoutError) as raised:
            producer.send(topic, b"second").result(30)
        assert raised.value.in_doubt
        assert isinstance(raised.value, TimeoutError)
        broker.resume()


def test_a_full_buffer_makes_send_wait_and_then_say_so(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker()
    with Producer(bootstrap_servers=broker.bootstrap, buffer_bytes=20_000, delivery_timeout_ms=1500) as producer:
        for _ in range(100):
            producer.send(topic, b"x" * 4000)  # ten times the buffer: it waits for room
        producer.flush(30)
        broker.pause()
        kept = [producer.send(topic, b"x" * 4000) for _ in range(4)]
        with pytest.raises((BufferFullError, DeliveryTimeoutError)):
            # Either the buffer stays full until patience ends, or what fills it is given up just before.
            for _ in range(20):
                kept.append(producer.send(topic, b"x" * 4000))
            for delivery in kept:
                delivery.result(30)
        broker.resume()


def test_close_gives_up_what_cannot_be_sent(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker()
    producer = Producer(bootstrap_servers=broker.bootstrap)
    producer.send(topic, b"first").result(30)
    broker.pause()
    told: list[KafkaError | None] = []
    delivery = producer.send(topic, b"second", on_delivery=lambda error, _: told.append(error))
    with pytest.raises(KafkaTimeoutError):
        producer.close(timeout=0.2)
    broker.resume()
    error = delivery.exception(5)
    assert error is not None
    assert error.in_doubt
    assert [type(one) for one in told] == [type(error)]
