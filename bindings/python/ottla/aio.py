"""The same client for asyncio.

::

    async with AsyncProducer(bootstrap_servers="127.0.0.1:9092") as producer:
        placement = await producer.send("packages", b"Section: shells", key=b"zsh")

    async with AsyncConsumer("packages", bootstrap_servers="127.0.0.1:9092") as consumer:
        async for record in consumer:
            print(record.partition, record.offset, record.key)

With ``group_id="indexers"`` the consumer shares the topic with the other members of that group.

``send`` returns an ``asyncio.Future`` at once; hundreds of acknowledgements wake the event loop once. Every object
belongs to the event loop that runs when it is first used. For administration there is ``asyncio.to_thread(admin.…)``.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from re import Pattern
from typing import TYPE_CHECKING, Any, TypeVar

from . import _core
from ._consumer import Consumer, TopicPartition
from ._settings import PRODUCER, gather
from .errors import BufferFullError, ForkError, KafkaError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from types import TracebackType
    from typing import Self, TypeAlias, Unpack

    from ._consumer import Start
    from ._core import Delivery, Placement, Record
    from ._settings import GroupSettings, ProducerSettings

    Payload: TypeAlias = bytes | bytearray | memoryview
    Headers: TypeAlias = Iterable[tuple[str, Payload | None]] | Mapping[str, Payload | None]
    OnPartitions: TypeAlias = Callable[[list[TopicPartition]], Awaitable[object] | object]
    _Letter: TypeAlias = tuple[asyncio.Future[Placement], KafkaError | None, Placement | None]

_T = TypeVar("_T")

_STEP_S = 1.0
"""The longest a helper thread waits before it looks whether it is still wanted."""


class _EventLoopProducer(_core.Producer):
    """Never waits in ``send``, whose thread is the event loop's, and brings back acknowledgements in groups."""

    def __new__(
        cls,
        postbox: Callable[[list[_Letter]], object],
        bootstrap_servers: str | Sequence[str] | None,
        config: Mapping[str, object] | None,
        settings: Mapping[str, object],
    ) -> Self:
        return super().__new__(cls, gather(PRODUCER, bootstrap_servers, config, settings), postbox)


class _Postbox:
    """Brings acknowledgements to an event loop, one wake-up per group. It knows no producer and keeps none alive."""

    loop: asyncio.AbstractEventLoop | None = None

    def __call__(self, letters: list[_Letter]) -> None:
        """Called on the thread of the callbacks."""
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop is closed: no task waits any more.
                self.loop.call_soon_threadsafe(self._settle, letters)

    @staticmethod
    def _settle(letters: list[_Letter]) -> None:
        for future, error, placement in letters:
            if future.done():
                continue  # cancelled
            if error is not None:
                future.set_exception(error)
            elif placement is not None:
                future.set_result(placement)


class _Owner:
    """Runs the few calls that wait in threads of its own."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="ottla-aio")

    async def _away(self, call: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)


class AsyncProducer(_Owner):
    """Sends records. Takes what :class:`ottla.Producer` takes."""

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str] | None = None,
        *,
        config: Mapping[str, object] | None = None,
        **settings: Unpack[ProducerSettings],
    ) -> None:
        super().__init__(threads=2)
        self._postbox = _Postbox()
        self._producer = _EventLoopProducer(self._postbox, bootstrap_servers, config, settings)
        # Sends that found the buffer full, in order, and the task that brings them in.
        self._waiting: deque[tuple[asyncio.Future[Placement], Callable[[], Delivery]]] = deque()
        self._bringing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close(None if kind is None else 5.0)

    def send(
        self,
        topic: str,
        value: Payload | None,
        *,
        key: Payload | None = None,
        headers: Headers | None = None,
        partition: int | None = None,
        timestamp: int | datetime | None = None,
    ) -> asyncio.Future[Placement]:
        """Hand over a record; await the future to learn where it is stored.

        Never blocks. When ``buffer_bytes`` are on their way, records wait outside the buffer in the order of sending:
        await the futures now and then, or the memory of what you send is the only bound.
        """
        if self._postbox.loop is None:
            self._postbox.loop = asyncio.get_running_loop()
        future: asyncio.Future[Placement] = self._postbox.loop.create_future()
        letter: Any = future  # what the postbox gets back
        if not self._waiting:
            try:
                self._producer.send(
                    topic,
                    value,
                    key=key,
                    headers=headers,
                    partition=partition,
                    timestamp=timestamp,
                    on_delivery=letter,
                )
            except BufferFullError:
                pass
            else:
                return future
        later = partial(
            self._producer.send,
            topic,
            value,
            key=key,
            headers=headers,
            partition=partition,
            timestamp=timestamp,
            on_delivery=letter,
        )
        self._waiting.append((future, later))
        if self._bringing is None:
            self._bringing = self._postbox.loop.create_task(self._bring_in())
        return future

    async def _bring_in(self) -> None:
        try:
            while self._waiting:
                future, hand_over = self._waiting[0]
                try:
                    if not future.done():
                        hand_over()
                except BufferFullError:
                    await self._away(self._producer._wait_for_space, _STEP_S)
                    continue
                except Exception as error:  # Any exception belongs to that record.
                    future.set_exception(error)
                self._waiting.popleft()
        finally:
            self._bringing = None

    async def flush(self, timeout: float | None = None) -> None:
        """Wait until everything sent so far is settled."""
        async with asyncio.timeout(timeout):
            if self._bringing is not None:
                await asyncio.shield(self._bringing)
        await self._away(self._producer.flush, timeout)

    async def close(self, timeout: float | None = None) -> None:
        """Wait for everything sent, give up what is left after ``timeout`` seconds."""
        try:
            if self._bringing is not None and not self._producer.closed:
                async with asyncio.timeout(timeout):
                    await asyncio.shield(self._bringing)
        finally:
            await self._away(self._producer.close, timeout)
            self._threads.shutdown(wait=False)

    def __del__(self) -> None:
        # Without a producer its making failed, in a forked child it is the parent's.
        with contextlib.suppress(AttributeError, ForkError):
            if not self._producer.closed and self._producer.buffered_bytes:
                warnings.warn(f"{self!r} was never closed", ResourceWarning, stacklevel=2, source=self)


def _keep_quiet(polling: asyncio.Future[list[Record]]) -> None:
    """An error that no caller waits for any more is told to the next one, and not by asyncio."""
    if not polling.cancelled():
        polling.exception()


class AsyncConsumer(_Owner):
    """Reads records. Takes what :class:`ottla.Consumer` takes; the topics are looked up when it starts."""

    def __init__(
        self,
        topics: str | Pattern[str] | TopicPartition | Iterable[str | TopicPartition] = (),
        *,
        bootstrap_servers: str | Sequence[str] | None = None,
        group_id: str | None = None,
        start: Start = "earliest",
        idle_timeout: float | None = None,
        on_assign: OnPartitions | None = None,
        on_revoke: OnPartitions | None = None,
        on_lost: OnPartitions | None = None,
        config: Mapping[str, object] | None = None,
        **settings: Unpack[GroupSettings],
    ) -> None:
        # Polls take one thread; while one waits, commits and whatever else is asked take the others.
        super().__init__(threads=3)
        if not isinstance(topics, str | Pattern | TopicPartition):
            topics = list(topics)
        self._make = partial(
            Consumer,
            topics,
            bootstrap_servers=bootstrap_servers,
            group_id=group_id,
            start=start,
            on_assign=self._on_loop(on_assign),
            on_revoke=self._on_loop(on_revoke),
            on_lost=self._on_loop(on_lost),
            config=config,
            **settings,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle_timeout = idle_timeout
        self._consumer: Consumer | None = None
        self._ready: deque[Record] = deque()
        # A poll whose caller was cancelled goes on: what it brings belongs to the next caller.
        self._polling: asyncio.Future[list[Record]] | None = None
        self._closed = False

    async def start(self) -> Consumer:
        """Look up the topics; done by ``async with`` and by the first poll. Returns the consumer underneath, for what
        does not wait (``assignment``, ``seek``, ``pause``) and for ``asyncio.to_thread``."""
        if self._consumer is None:
            self._loop = asyncio.get_running_loop()
            made = await self._away(self._make)
            if self._consumer is None:
                self._consumer = made
            else:
                made.close()
        return self._consumer

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(30.0, failed=kind is not None)

    async def poll(self, max_records: int = 500, timeout: float | None = 1.0) -> list[Record]:
        """Up to ``max_records`` records as soon as there are any; an empty list after ``timeout`` seconds."""
        consumer = await self.start()
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while not self._ready:
            if self._polling is None:
                at_once = consumer._poll_at_once(max_records)
                if at_once:
                    return at_once
                left = _STEP_S if deadline is None else min(deadline - loop.time(), _STEP_S)
                if left <= 0:
                    return []
                self._polling = loop.run_in_executor(self._threads, consumer.poll, max_records, left)
                self._polling.add_done_callback(_keep_quiet)
            self._ready.extend(await self._take(self._polling))
            if deadline is not None and loop.time() >= deadline:
                break
        return [self._ready.popleft() for _ in range(min(max_records, len(self._ready)))]

    async def _take(self, polling: asyncio.Future[list[Record]]) -> list[Record]:
        """What a helper thread's poll brought, once. A poll that is cancelled while it waits leaves it to the next."""
        try:
            found = await asyncio.shield(polling)
        except asyncio.CancelledError:
            raise
        except BaseException:
            if self._polling is not polling:
                return []
            self._polling = None
            raise
        if self._polling is not polling:
            return []
        self._polling = None
        return found

    def __aiter__(self) -> AsyncIterator[Record]:
        return self

    async def __anext__(self) -> Record:
        if not self._ready:
            try:
                self._ready.extend(await self.poll(500, self._idle_timeout))
            except KafkaError:
                if not self._closed:
                    raise
            if not self._ready:
                raise StopAsyncIteration
        return self._ready.popleft()

    def _on_loop(self, listener: OnPartitions | None) -> Callable[[list[TopicPartition]], None] | None:
        """The listener as the polling thread calls it: it runs on the event loop, and the rebalance waits for it."""
        if listener is None:
            return None

        async def told(partitions: list[TopicPartition]) -> None:
            answer = listener(partitions)
            if inspect.isawaitable(answer):
                await answer

        def tell(partitions: list[TopicPartition]) -> None:
            if self._loop is not None:
                asyncio.run_coroutine_threadsafe(told(partitions), self._loop).result()

        return tell

    async def subscribe(
        self,
        topics: str | Pattern[str] | Iterable[str],
        *,
        on_assign: OnPartitions | None = None,
        on_revoke: OnPartitions | None = None,
        on_lost: OnPartitions | None = None,
    ) -> None:
        """What :meth:`ottla.Consumer.subscribe` does; the listeners may be coroutines."""
        consumer = await self.start()
        consumer.subscribe(
            topics,
            on_assign=self._on_loop(on_assign),
            on_revoke=self._on_loop(on_revoke),
            on_lost=self._on_loop(on_lost),
        )

    async def unsubscribe(self, timeout: float | None = 30.0) -> None:
        """Leave the group and read nothing. What was handed out is committed first (``auto_commit``)."""
        consumer = await self.start()
        await self._give_back(consumer)
        await self._away(consumer.unsubscribe, timeout)

    async def commit(
        self, offsets: Mapping[TopicPartition, int] | None = None, *, timeout: float | None = 30.0
    ) -> None:
        """Commit what was handed out, or these offsets, each that of the next record to read."""
        consumer = await self.start()
        if offsets is None:
            found = {TopicPartition(topic, part): offset for topic, part, offset in consumer._uncommitted()}
            offsets = {place: self._next_offsets().get(place, offset) for place, offset in found.items()}
        await self._away(partial(consumer.commit, offsets, timeout=timeout))

    async def committed(
        self, partitions: Iterable[TopicPartition] | None = None, *, timeout: float | None = 30.0
    ) -> dict[TopicPartition, int]:
        """What the group has committed of these partitions, or of those being read."""
        consumer = await self.start()
        return await self._away(partial(consumer.committed, partitions, timeout=timeout))

    async def position(self, partition: TopicPartition, timeout: float | None = 10.0) -> int:
        """The offset of the next record of this partition."""
        consumer = await self.start()
        waiting = self._next_offsets().get(partition)
        return await self._away(consumer.position, partition, timeout) if waiting is None else waiting

    def _next_offsets(self) -> dict[TopicPartition, int]:
        """The first offset of each partition that is here and was not handed out."""
        return {TopicPartition(record.topic, record.partition): record.offset for record in reversed(self._ready)}

    async def _give_back(self, consumer: Consumer) -> None:
        """What was fetched and not handed out is not to be committed."""
        while self._polling is not None:
            with contextlib.suppress(KafkaError):
                self._ready.extend(await self._take(self._polling))
        owned = set(consumer.assignment())
        for place, offset in self._next_offsets().items():
            if place in owned:
                consumer.seek(place, offset)
        self._ready.clear()

    async def close(self, timeout: float | None = 30.0) -> None:
        """Stop fetching; iteration ends, also in other tasks. A member commits what it was handed (``auto_commit``) and
        leaves its group, within ``timeout`` seconds."""
        await self._end(timeout, failed=False)

    async def _end(self, timeout: float | None, *, failed: bool) -> None:
        self._closed = True
        consumer = self._consumer
        try:
            if consumer is not None and not consumer.closed:
                if consumer._group_id is None:
                    consumer.close()
                else:
                    if not failed:
                        await self._give_back(consumer)
                    await self._away(partial(consumer._end, timeout, failed=failed))
        finally:
            self._threads.shutdown(wait=False)


__all__ = ["AsyncConsumer", "AsyncProducer", "TopicPartition"]
