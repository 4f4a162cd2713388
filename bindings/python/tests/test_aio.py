"""The same promises on an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable

import pytest
from conftest import Broker

from ottla.aio import AsyncConsumer, AsyncProducer
from ottla.errors import ClientClosedError, DeliveryError, MessageTooLargeError, UnknownTopicOrPartitionError


def test_send_returns_a_future_and_reading_is_a_loop(bootstrap: str, topic: str) -> None:
    async def main() -> None:
        async with AsyncProducer(bootstrap_servers=bootstrap) as producer:
            placement = await producer.send(topic, b"0", key=b"k", headers={"h": b"1"}, partition=0)
            assert (placement.topic, placement.partition, placement.offset) == (topic, 0, 0)
            sent = [producer.send(topic, b"%d" % number, partition=0) for number in range(1, 3000)]
            assert [place.offset for place in await asyncio.gather(*sent)] == list(range(1, 3000))
        found = []
        async with AsyncConsumer(topic, bootstrap_servers=bootstrap, idle_timeout=1) as consumer:
            async for record in consumer:
                found.append(record.value)
        assert found == [b"%d" % number for number in range(3000)]

    asyncio.run(main())


def test_errors_arrive_where_they_are_awaited(start_broker: Callable[..., Broker], topic: str) -> None:
    broker = start_broker("auto.create.topics.enable=false")

    async def main() -> None:
        async with AsyncProducer(bootstrap_servers=broker.bootstrap, topic_wait_ms=300) as producer:
            with pytest.raises(UnknownTopicOrPartitionError):
                await producer.send(topic, b"v")
            with pytest.raises(MessageTooLargeError):
                await producer.send(topic, b"x" * 2_000_000)
        with pytest.raises(UnknownTopicOrPartitionError):
            async with AsyncConsumer(topic, bootstrap_servers=broker.bootstrap):
                pass

    asyncio.run(main())


def test_a_full_buffer_keeps_the_loop_free_and_the_order(bootstrap: str, topic: str) -> None:
    async def main() -> None:
        turns = 0

        async def breathe() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0.001)

        breathing = asyncio.create_task(breathe())
        async with AsyncProducer(bootstrap_servers=bootstrap, buffer_bytes=20_000) as producer:
            sent = [producer.send(topic, b"x" * 2000, partition=0) for _ in range(300)]
            assert [place.offset for place in await asyncio.gather(*sent)] == list(range(300))
            producer.send(topic, b"one more")
            await producer.flush(timeout=30)
        breathing.cancel()
        assert turns > 3

    asyncio.run(main())


def test_a_cancelled_poll_loses_nothing(bootstrap: str, topic: str) -> None:
    async def main() -> None:
        async with AsyncProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send(topic, b"made", partition=0)
            async with AsyncConsumer(topic, bootstrap_servers=bootstrap, start="latest") as consumer:
                assert await consumer.poll(timeout=0.2) == []
                found: list[bytes | None] = []
                for number in range(20):
                    polling = asyncio.create_task(consumer.poll(timeout=None))
                    await asyncio.sleep(0)
                    await producer.send(topic, b"%d" % number, partition=0)
                    if number % 3 < 2:
                        # Perhaps it has the record already: then this is its result, else nothing is lost.
                        polling.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        found += [record.value for record in await polling]
                while len(found) < 20:
                    found += [record.value for record in await consumer.poll(1, timeout=20)]
                assert found == [b"%d" % number for number in range(20)]

    asyncio.run(main())


def test_closing_ends_iteration_in_other_tasks(bootstrap: str, topic: str) -> None:
    async def main() -> None:
        async with AsyncProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send(topic, b"v")
        consumer = AsyncConsumer(topic, bootstrap_servers=bootstrap)

        async def read() -> list[bytes | None]:
            return [record.value async for record in consumer]

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.3)
        await consumer.close()
        assert await asyncio.wait_for(reading, 20) == [b"v"]
        with pytest.raises(ClientClosedError):
            producer.send(topic, b"late")

    asyncio.run(main())


def test_a_producer_that_is_closed_is_let_go(bootstrap: str, topic: str) -> None:
    async def main() -> weakref.ref[AsyncProducer]:
        async with AsyncProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send(topic, b"v")
            return weakref.ref(producer)

    gone = asyncio.run(main())
    gc.collect()
    assert gone() is None


def test_futures_of_a_dropped_producer_fail_instead_of_hanging(bootstrap: str, topic: str) -> None:
    async def main() -> None:
        with pytest.warns(ResourceWarning, match="never closed"):
            pending = AsyncProducer(bootstrap_servers=bootstrap, linger_ms=60_000).send(topic, b"v")
            gc.collect()
        with pytest.raises(DeliveryError):
            await asyncio.wait_for(pending, 20)

    asyncio.run(main())


def test_a_cancelled_iteration_leaves_no_error_that_nobody_retrieves(
    start_broker: Callable[..., Broker], topic: str
) -> None:
    broker = start_broker()
    complaints: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
        async with AsyncProducer(bootstrap_servers=broker.bootstrap) as producer:
            await producer.send(topic, b"v")
        consumer = AsyncConsumer(topic, bootstrap_servers=broker.bootstrap, start="latest", unreachable_ms_max=300)
        await consumer.start()

        async def read() -> None:
            async for _ in consumer:
                pass

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.2)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reading
        polling = consumer._polling  # pyright: ignore[reportPrivateUsage]
        await consumer.close()
        if polling is not None:
            await asyncio.wait([polling])
        del polling, consumer, reading
        gc.collect()

    asyncio.run(main())
    gc.collect()
    assert complaints == []
