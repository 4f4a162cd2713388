"""aiokafka: asyncio, with its own protocol code and old API versions."""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

import member
import record_file


async def produce(o):
    records = list(record_file.read(o["in"]))
    reports = record_file.Reports(len(records))
    producer = AIOKafkaProducer(
        bootstrap_servers=o["bootstrap"],
        compression_type=None if o["codec"] == "none" else o["codec"],
        acks="all",
        enable_idempotence=o["idempotent"],
        linger_ms=o["linger_ms"],
        max_batch_size=1 << 20,
    )
    async with producer:
        sent = [
            await producer.send(o["topic"], value=value, key=key, partition=None if partition < 0 else partition)
            for partition, key, value in records
        ]
        await producer.flush()
        for index, future in enumerate(sent):
            try:
                metadata = await future
                reports.delivered(index, metadata.partition, metadata.offset)
            except Exception as error:
                reports.failed(index, repr(error))
    reports.save(o["out"])


async def consume(o):
    consumer = AIOKafkaConsumer(bootstrap_servers=o["bootstrap"], enable_auto_commit=False, group_id=None)
    async with consumer:
        await consumer._client.force_metadata_update()
        while not (partitions := consumer.partitions_for_topic(o["topic"])):
            consumer._client.add_topic(o["topic"])
            await consumer._client.force_metadata_update()
        assigned = [TopicPartition(o["topic"], partition) for partition in sorted(partitions)]
        consumer.assign(assigned)
        await consumer.seek_to_beginning(*assigned)
        ends = await consumer.end_offsets(assigned)
        with record_file.Writer(o["out"]) as out:
            while True:
                positions = [(await consumer.position(partition), end) for partition, end in ends.items()]
                if all(position >= end for position, end in positions):
                    break
                for messages in (await consumer.getmany(timeout_ms=1000)).values():
                    for message in messages:
                        out.write(message.partition, message.offset, message.key, message.value)


class Changes(ConsumerRebalanceListener):
    async def on_partitions_assigned(self, assigned):
        member.assigned(it.partition for it in assigned)

    async def on_partitions_revoked(self, revoked):
        member.revoked(it.partition for it in revoked)


async def join(o):
    """Reads as a member of a group, commits what it was handed, and leaves when standard input ends."""
    member.listen()
    consumer = AIOKafkaConsumer(
        bootstrap_servers=o["bootstrap"],
        group_id=o["group"],
        group_instance_id=o["instance"],
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=o["session_timeout_ms"],
        heartbeat_interval_ms=300,
        retry_backoff_ms=50,
    )
    consumer.subscribe([o["topic"]], listener=Changes())
    async with consumer:
        while not member.told.is_set():
            polled = await consumer.getmany(timeout_ms=100, max_records=20)
            for messages in polled.values():
                for message in messages:
                    member.got(message.partition, message.offset, message.value)
            if not polled:
                continue
            offsets = {partition: messages[-1].offset + 1 for partition, messages in polled.items()}
            try:
                await consumer.commit(offsets)
                member.committed({partition.partition: offset for partition, offset in offsets.items()})
            except KafkaError:
                # The group rebalances, or the broker is away: the records come again.
                pass


if __name__ == "__main__":
    verb, seconds = {"produce": (produce, 90), "consume": (consume, 90), "join": (join, 600)}[sys.argv[1]]
    asyncio.run(asyncio.wait_for(verb(json.loads(sys.argv[2])), timeout=seconds))
