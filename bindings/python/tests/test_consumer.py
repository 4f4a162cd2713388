"""Reading: by record, by poll, by batch, from anywhere, and the three mixed."""

from __future__ import annotations

import gc
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from ottla import Batch, Consumer, Producer, Record, TopicPartition
from ottla.errors import ClientClosedError, ConfigError, KafkaError


@pytest.fixture
def numbers(bootstrap: str, topic: str) -> str:
    """A topic with the numbers 0 to 999 on partition 0, each with its own second as a timestamp."""
    with Producer(bootstrap_servers=bootstrap, batch_bytes=4000) as producer:
        for number in range(1000):
            producer.send(topic, b"%d" % number, key=b"k", partition=0, timestamp=1_000_000 + number * 1000)
    return topic


def values(records: list[Record]) -> list[int]:
    return [int(record.value or b"-1") for record in records]


def test_iteration_goes_record_by_record_and_ends_when_idle(bootstrap: str, numbers: str) -> None:
    with Consumer(numbers, bootstrap_servers=bootstrap, idle_timeout=0.5) as consumer:
        assert consumer.idle_timeout == 0.5
        assert values(list(consumer)) == list(range(1000))


def test_batches_hold_consecutive_records_of_one_partition(bootstrap: str, numbers: str) -> None:
    with Consumer(numbers, bootstrap_servers=bootstrap, idle_timeout=0.5) as consumer:
        found: list[int] = []
        for batch in consumer.batches():
            assert (batch.topic, batch.partition, batch.timestamp_type) == (numbers, 0, "create")
            assert batch.offsets() == list(range(len(found), len(found) + len(batch)))
            assert batch.keys() == [b"k"] * len(batch)
            assert batch.timestamps() == [1_000_000 + offset * 1000 for offset in batch.offsets()]
            assert [record.value for record in batch] == batch.values()
            assert batch[-1].offset == batch.offsets()[-1]
            with pytest.raises(IndexError):
                batch[len(batch)]
            found += [int(value or b"-1") for value in batch.values()]
        assert found == list(range(1000))


def test_poll_gives_at_most_what_was_asked_for(bootstrap: str, numbers: str) -> None:
    with Consumer(numbers, bootstrap_servers=bootstrap) as consumer:
        first = consumer.poll(10, timeout=20)
        assert values(first) == list(range(len(first)))
        assert 1 <= len(first) <= 10
        assert values(consumer.poll(1, timeout=20)) == [len(first)]


def test_record_by_record_poll_and_batches_share_one_position(bootstrap: str, numbers: str) -> None:
    part = TopicPartition(numbers, 0)
    with Consumer(numbers, bootstrap_servers=bootstrap, idle_timeout=0.5) as consumer:
        found = values([next(consumer) for _ in range(7)])
        assert consumer.position(part) == 7
        found += values(consumer.poll(3, timeout=20))
        for batch in consumer.batches():
            found += [int(value or b"-1") for value in batch.values()]
            break
        assert consumer.position(part) == len(found)
        found += values([next(consumer)])
        found += values(list(consumer))
        assert found == list(range(1000))


def test_seek_forgets_what_was_read_ahead(bootstrap: str, numbers: str) -> None:
    part = TopicPartition(numbers, 0)
    with Consumer(numbers, bootstrap_servers=bootstrap, idle_timeout=5) as consumer:
        assert values([next(consumer)]) == [0]
        consumer.seek(part, 900)
        assert consumer.position(part) == 900
        assert values([next(consumer)]) == [900]
        consumer.seek(part, "earliest")
        assert values(consumer.poll(1, timeout=20)) == [0]
        consumer.seek(part, datetime.fromtimestamp(1000 + 500, tz=UTC))
        assert values(consumer.poll(1, timeout=20)) == [500]
        consumer.seek(part, "latest")
        assert consumer.poll(1, timeout=0.3) == []
        assert consumer.position(part) == 1000


def test_reading_can_start_anywhere(bootstrap: str, numbers: str) -> None:
    def first(start: object) -> list[int]:
        with Consumer([TopicPartition(numbers, 0)], bootstrap_servers=bootstrap, start=start) as consumer:  # type: ignore[arg-type]
            return values(consumer.poll(1, timeout=2))

    assert first("earliest") == [0]
    assert first(123) == [123]
    assert first(datetime.fromtimestamp(1000 + 42.5, tz=UTC)) == [43]
    assert first(datetime.now() + timedelta(days=1)) == []
    assert first("latest") == []
    for wrong, error in (("middle", ValueError), (-1, ValueError), (1.5, TypeError), (None, TypeError)):
        with pytest.raises(error):
            first(wrong)


def test_offsets_can_be_asked_for(bootstrap: str, numbers: str) -> None:
    with Consumer(numbers, bootstrap_servers=bootstrap) as consumer:
        assignment = [TopicPartition(numbers, partition) for partition in range(4)]
        assert consumer.assignment() == assignment
        assert consumer.beginning_offsets() == dict.fromkeys(assignment, 0)
        assert consumer.end_offsets() == {**dict.fromkeys(assignment, 0), assignment[0]: 1000}
        at = datetime.fromtimestamp(1000 + 7, tz=UTC)
        assert consumer.offsets_at(at)[assignment[0]] == 7
        consumer.poll(timeout=20)
        assert consumer.high_watermark(assignment[0]) == 1000


def test_topics_and_partitions_can_be_mixed(bootstrap: str, topic: str) -> None:
    one, two = topic + "-one", topic + "-two"
    with Producer(bootstrap_servers=bootstrap) as producer:
        for name in (one, two):
            for partition in range(4):
                producer.send(name, b"%d" % partition, partition=partition)
    with Consumer([one, TopicPartition(two, 3)], bootstrap_servers=bootstrap, idle_timeout=1) as consumer:
        found = {(record.topic, record.partition) for record in consumer}
        assert found == {(one, 0), (one, 1), (one, 2), (one, 3), (two, 3)}
        consumer.assign(TopicPartition(two, 1))
        assert [(record.topic, record.partition) for record in consumer] == [(two, 1)]
        consumer.unassign(TopicPartition(two, 1))
        assert TopicPartition(two, 1) not in consumer.assignment()
        with pytest.raises(KafkaError, match="not assigned"):
            consumer.seek(TopicPartition(two, 1), "earliest")


def test_a_paused_partition_waits(bootstrap: str, topic: str) -> None:
    part = TopicPartition(topic, 0)
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"0", partition=0).result(30)
        with Consumer([part], bootstrap_servers=bootstrap, start="latest") as consumer:
            assert consumer.position(part) == 1
            consumer.pause(part)
            producer.send(topic, b"1", partition=0).result(30)
            # A fetch may have been under way when it was paused: what that brought is delivered.
            early = consumer.poll(timeout=0.8)
            producer.send(topic, b"2", partition=0).result(30)
            assert consumer.poll(timeout=0.8) == []
            consumer.resume(part)
            late = consumer.poll(timeout=20)
            assert values(early + late)[:2] == [1, 2] or values(early + late + consumer.poll(timeout=20)) == [1, 2]


def test_records_arrive_while_a_poll_waits(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"0", partition=0).result(30)
        with Consumer(topic, bootstrap_servers=bootstrap, start="latest") as consumer:
            consumer.position(TopicPartition(topic, 0))
            threading.Timer(0.2, lambda: producer.send(topic, b"1", partition=0).result(30)).start()
            assert values(consumer.poll(timeout=20)) == [1]


def test_closing_from_another_thread_ends_iteration(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"0")
    consumer = Consumer(topic, bootstrap_servers=bootstrap)
    threading.Timer(0.3, consumer.close).start()
    assert values(list(consumer)) == [0]
    assert list(consumer.batches()) == []
    with pytest.raises(ClientClosedError):
        consumer.poll()


def test_other_threads_run_while_a_poll_waits(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"0").result(30)
    turns = 0
    done = threading.Event()

    def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    with Consumer(topic, bootstrap_servers=bootstrap, start="latest") as consumer:
        counter.start()
        assert consumer.poll(timeout=0.5) == []
        done.set()
        counter.join()
    assert turns > 20


def test_a_record_shows_its_value_without_a_copy(bootstrap: str, numbers: str) -> None:
    with Consumer(numbers, bootstrap_servers=bootstrap) as consumer:
        records = consumer.poll(2, timeout=20)
    view = memoryview(records[0])
    assert (bytes(view), view.readonly, len(view)) == (b"0", True, 1)
    with pytest.raises(TypeError):
        view[0] = 1
    batch: Record | Batch = records[0]
    del records, batch
    gc.collect()
    assert bytes(view) == b"0"


def test_a_null_value_has_no_buffer(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, None)
    with Consumer(topic, bootstrap_servers=bootstrap) as consumer:
        (record,) = consumer.poll(timeout=20)
    assert record.value is None
    with pytest.raises(BufferError):
        memoryview(record)


def test_topics_are_one_object(bootstrap: str, numbers: str) -> None:
    with Consumer(numbers, bootstrap_servers=bootstrap) as consumer:
        records = consumer.poll(100, timeout=20)
    assert len({id(record.topic) for record in records}) == 1
    assert repr(records[0]) == f"Record(topic={numbers!r}, partition=0, offset=0, key=b'k', value=1 bytes)"


def test_a_topic_partition_is_a_value(topic: str) -> None:
    import pickle

    part = TopicPartition(topic, 1)
    assert pickle.loads(pickle.dumps(part)) == part == (topic, 1)
    assert {part: 1}[TopicPartition(topic, 1)] == 1


def test_assigning_a_topic_again_starts_anew_although_records_were_taken_in(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send_many(topic, [b"%d" % number for number in range(100)], partition=0).result(30)
    with Consumer(topic, bootstrap_servers=bootstrap) as consumer:
        assert next(consumer).offset == 0  # iteration has taken in more than it handed out
        consumer.assign(topic, "earliest")
        assert [next(consumer).offset for _ in range(100)] == list(range(100))


def test_poll_hands_out_no_more_than_was_asked_for(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send_many(topic, [b"%d" % number for number in range(50)], partition=0).result(30)
    with Consumer(topic, bootstrap_servers=bootstrap) as consumer:
        offsets = [next(consumer).offset]
        for count in (1, 1, 7, 20, 20):
            records = consumer.poll(count, timeout=20)
            assert len(records) == count
            offsets += [record.offset for record in records]
        assert offsets == list(range(50))


def test_a_seek_beside_iteration_hands_out_nothing_stale(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send_many(topic, [b"%d" % number for number in range(2000)], partition=0).result(30)
    part = TopicPartition(topic, 0)
    for _ in range(20):
        with Consumer(part, bootstrap_servers=bootstrap) as consumer:
            offsets: list[int] = []
            reading = threading.Event()

            def read(consumer: Consumer, offsets: list[int], reading: threading.Event) -> None:
                for record in consumer:
                    offsets.append(record.offset)
                    reading.set()
                    if record.offset == 1999:
                        return

            thread = threading.Thread(target=read, args=(consumer, offsets, reading))
            thread.start()
            assert reading.wait(20)
            consumer.seek(part, 1500)
            thread.join(20)
            assert not thread.is_alive()
        # One record may have been in hand when the seek came: behind it, everything is of the new place.
        jumps = [at for at, (one, next_one) in enumerate(zip(offsets, offsets[1:], strict=False)) if next_one != one + 1]
        assert len(jumps) <= 1, offsets
        if jumps:
            assert offsets[jumps[0] + 1] == 1500


def test_the_isolation_level_has_kafkas_name_and_values(bootstrap: str, topic: str) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, b"v").result(30)
    for level in ("read_committed", "read_uncommitted"):
        with Consumer(topic, bootstrap_servers=bootstrap, config={"isolation.level": level}) as consumer:
            assert [record.value for record in consumer.poll(timeout=20)] == [b"v"]
    with pytest.raises(ConfigError, match="read_committed or read_uncommitted"):
        Consumer(topic, bootstrap_servers=bootstrap, config={"isolation.level": "serializable"})
