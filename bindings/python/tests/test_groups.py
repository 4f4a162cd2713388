"""Members of consumer groups, against a real broker."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
import time
from collections.abc import Callable
from typing import Literal

import pytest
from conftest import Broker

from ottla import Admin, Consumer, GroupProtocol, Producer, TopicPartition
from ottla.aio import AsyncConsumer
from ottla.errors import ConfigError, KafkaError, PolledTooLateError

PATIENCE_S = 30
_groups = itertools.count()


@pytest.fixture
def group_id() -> str:
    return f"group-{next(_groups)}"


@pytest.fixture(scope="module")
def quick() -> object:
    broker = Broker("group.initial.rebalance.delay.ms=50", "group.consumer.heartbeat.interval.ms=200")
    yield broker
    broker.stop()


@pytest.fixture
def place(quick: Broker) -> str:
    return quick.bootstrap


def make(bootstrap: str, topic: str, partitions: int = 2) -> None:
    Admin(bootstrap_servers=bootstrap).create_topic(topic, partitions=partitions)


def produce(bootstrap: str, topic: str, count: int, partition: int | None = None) -> None:
    with Producer(bootstrap_servers=bootstrap) as producer:
        for number in range(count):
            producer.send(topic, str(number).encode(), partition=partition)


def member(bootstrap: str, topic: object, group_id: str, **settings: object) -> Consumer:
    settings = {"heartbeat_interval_ms": 200, **settings}
    return Consumer(topic, bootstrap_servers=bootstrap, group_id=group_id, **settings)  # type: ignore[arg-type]


def wait_for(what: str, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_share_a_topic_and_a_revoked_partition_is_finished_first(
    place: str, topic: str, group_id: str, protocol: GroupProtocol
) -> None:
    make(place, topic)
    produce(place, topic, 100)
    events: list[tuple[str, list[TopicPartition]]] = []
    seen: set[tuple[int, int]] = set()
    with member(
        place,
        topic,
        group_id,
        group_protocol=protocol,
        on_assign=lambda places: events.append(("assigned", places)),
        on_revoke=lambda places: events.append(("revoked", places)),
    ) as first:
        while len(seen) < 100:
            seen |= {(record.partition, record.offset) for record in first.poll(10)}
        assert events == [("assigned", [TopicPartition(topic, 0), TopicPartition(topic, 1)])]
        with member(place, topic, group_id, group_protocol=protocol) as second:

            def both_have_one() -> bool:
                first.poll(1, timeout=0.05)
                second.poll(1, timeout=0.05)
                return len(first.assignment()) == len(second.assignment()) == 1

            wait_for("both have a partition", both_have_one)
            kind, gone = events[1]
            assert kind == "revoked" and gone == second.assignment()
            # What was read before went over committed: the second one reads nothing twice.
            assert second.poll(10, timeout=0.2) == []
    assert events[-1] == ("revoked", [place for place in events[0][1] if place not in gone])


def test_iteration_commits_what_was_handed_out_and_no_more(place: str, topic: str, group_id: str) -> None:
    make(place, topic, partitions=1)
    produce(place, topic, 50)
    part = TopicPartition(topic, 0)
    with member(place, topic, group_id) as consumer:
        for record in consumer:
            if record.offset == 9:
                consumer.commit()
                assert consumer.committed() == {part: 10}
            if record.offset == 20:
                break
    with member(place, topic, group_id) as consumer:
        assert next(iter(consumer)).offset == 21
        assert consumer.position(part) == 22
    with pytest.raises(ZeroDivisionError), member(place, topic, group_id) as consumer:
        record = next(iter(consumer))
        assert record.offset == 22
        raise ZeroDivisionError
    # The record that failed comes again.
    with member(place, topic, group_id, auto_commit=False) as consumer:
        assert next(iter(consumer)).offset == 22
    with member(place, topic, group_id, auto_commit=False) as consumer:
        assert next(iter(consumer)).offset == 22
        consumer.commit({part: 40})
    with member(place, topic, group_id) as consumer:
        assert next(iter(consumer)).offset == 40


def test_a_program_that_polls_too_late_is_told_and_comes_back(place: str, topic: str, group_id: str) -> None:
    make(place, topic)
    events: list[str] = []
    with member(
        place,
        topic,
        group_id,
        poll_interval_ms_max=600,
        on_assign=lambda places: events.append("assigned"),
        on_lost=lambda places: events.append("lost"),
    ) as consumer:
        wait_for("it is assigned", lambda: consumer.poll(1, timeout=0.05) or events)
        time.sleep(1.2)
        with pytest.raises(PolledTooLateError, match="poll more often") as raised:
            consumer.poll(1, timeout=5)
        assert raised.value.retriable and not raised.value.fatal
        wait_for("it is back", lambda: consumer.poll(1, timeout=0.05) or len(events) == 3)
        assert events == ["assigned", "lost", "assigned"]


def test_a_pattern_takes_in_topics_that_come_later(place: str, topic: str, group_id: str) -> None:
    make(place, topic, partitions=1)
    with member(place, re.compile(f"{topic}(-.*)?"), group_id, metadata_age_ms_max=100) as consumer:
        wait_for("the first topic", lambda: consumer.poll(1, timeout=0.05) or len(consumer.assignment()) == 1)
        make(place, f"{topic}-later", partitions=1)
        wait_for("the second topic", lambda: consumer.poll(1, timeout=0.05) or len(consumer.assignment()) == 2)


def test_a_paused_partition_and_a_sought_one_stay_so_in_a_group(place: str, topic: str, group_id: str) -> None:
    make(place, topic, partitions=1)
    produce(place, topic, 10)
    part = TopicPartition(topic, 0)

    def on_assign(places: list[TopicPartition]) -> None:
        consumer.seek(part, 7)

    consumer: Consumer = member(place, topic, group_id, fetch_wait_ms_max=50, on_assign=on_assign)
    with consumer:
        assert [record.offset for record in consumer.poll(10, timeout=PATIENCE_S)] == [7, 8, 9]
        consumer.pause(part)
        # A fetch that is under way still brings what it finds; none is begun after it.
        assert consumer.poll(10, timeout=0.5) == []
        produce(place, topic, 1)
        assert consumer.poll(10, timeout=0.3) == []
        consumer.resume(part)
        assert [record.offset for record in consumer.poll(10, timeout=PATIENCE_S)] == [10]
        consumer.unsubscribe()
        assert consumer.assignment() == [] and consumer.poll(1, timeout=0.1) == []
        consumer.subscribe(topic)
        wait_for("it is in again", lambda: consumer.poll(1, timeout=0.05) or consumer.assignment())


def test_a_listener_that_raises_is_heard_by_the_one_who_polls(place: str, topic: str, group_id: str) -> None:
    make(place, topic)

    def on_assign(places: list[TopicPartition]) -> None:
        raise ZeroDivisionError

    with member(place, topic, group_id, on_assign=on_assign) as consumer:
        with pytest.raises(ZeroDivisionError):
            consumer.poll(1, timeout=PATIENCE_S)
        consumer.poll(1, timeout=0.1)
        assert len(consumer.assignment()) == 2


def test_closing_in_another_thread_ends_the_iteration_and_the_membership(place: str, topic: str, group_id: str) -> None:
    make(place, topic)
    consumer = member(place, topic, group_id)
    ended = threading.Event()

    def read() -> None:
        for _ in consumer:
            pass
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    wait_for("it is assigned", consumer.assignment)
    consumer.close()
    assert ended.wait(PATIENCE_S)
    # It has left: the next one does not wait for its session to end.
    with member(place, topic, group_id) as other:
        wait_for("the other has all", lambda: other.poll(1, timeout=0.05) or len(other.assignment()) == 2)


def test_what_cannot_work_says_so(place: str, topic: str, group_id: str) -> None:
    with pytest.raises(ConfigError, match="auto_commit needs a group_id"):
        Consumer(topic, bootstrap_servers=place, auto_commit=False)
    with pytest.raises(ConfigError, match="a pattern needs a group_id"):
        Consumer(re.compile("a"), bootstrap_servers=place)
    with pytest.raises(ConfigError, match="assignors"):
        member(place, topic, group_id, assignors=["rnage"])
    with pytest.raises(ConfigError, match="shorter than session_timeout_ms"):
        member(place, topic, group_id, session_timeout_ms=100)
    with Consumer(config={"bootstrap.servers": place}) as alone, pytest.raises(ConfigError, match="has no group"):
        alone.subscribe(topic)
    kafka = {
        "group.id": group_id,
        "partition.assignment.strategy": "org.apache.kafka.clients.consumer.RangeAssignor",
        "max.poll.interval.ms": "10000",
        "enable.auto.commit": "false",
    }
    make(place, topic)
    with Consumer(topic, bootstrap_servers=place, config=kafka) as first:
        wait_for("it is assigned", lambda: first.poll(1, timeout=0.05) or first.assignment())
        with member(place, topic, group_id, assignors=["sticky"]) as second:
            with pytest.raises(KafkaError, match="choose other `assignors`") as raised:
                second.poll(1, timeout=PATIENCE_S)
            assert raised.value.name == "INCONSISTENT_GROUP_PROTOCOL" and raised.value.fatal


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_asyncio_members_share_a_topic(
    place: str, topic: str, group_id: str, protocol: Literal["classic", "consumer"]
) -> None:
    make(place, topic)
    produce(place, topic, 60, partition=0)
    events: list[str] = []

    async def on_assign(places: list[TopicPartition]) -> None:
        await asyncio.sleep(0)
        events.append(f"assigned {len(places)}")

    async def main() -> None:
        part = TopicPartition(topic, 0)
        async with AsyncConsumer(
            topic,
            bootstrap_servers=place,
            group_id=group_id,
            group_protocol=protocol,
            on_assign=on_assign,
            on_revoke=lambda places: events.append(f"revoked {len(places)}"),
        ) as consumer:
            async for record in consumer:
                if record.offset == 4:
                    await consumer.commit()
                    assert await consumer.committed([part]) == {part: 5}
                if record.offset == 29:
                    break
        async with AsyncConsumer(
            topic, bootstrap_servers=place, group_id=group_id, group_protocol=protocol
        ) as consumer:
            async for record in consumer:
                assert record.offset == 30
                assert await consumer.position(part) == 31
                break

    asyncio.run(main())
    assert events == ["assigned 2", "revoked 2"]
