"""kafka-python: the pure-Python client."""

import json
import sys
import time

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

import member
import record_file


def produce(o):
    records = list(record_file.read(o["in"]))
    reports = record_file.Reports(len(records))
    producer = KafkaProducer(
        bootstrap_servers=o["bootstrap"],
        compression_type=None if o["codec"] == "none" else o["codec"],
        acks="all",
        enable_idempotence=o["idempotent"],
        linger_ms=o["linger_ms"],
        batch_size=1 << 20,
    )
    sent = [
        producer.send(o["topic"], value=value, key=key, partition=None if partition < 0 else partition)
        for partition, key, value in records
    ]
    producer.flush(60)
    for index, future in enumerate(sent):
        try:
            metadata = future.get(timeout=60)
            reports.delivered(index, metadata.partition, metadata.offset)
        except Exception as error:
            reports.failed(index, repr(error))
    producer.close()
    reports.save(o["out"])


def consume(o):
    consumer = KafkaConsumer(bootstrap_servers=o["bootstrap"], enable_auto_commit=False, group_id=None)
    deadline = time.monotonic() + 60
    while not (partitions := consumer.partitions_for_topic(o["topic"])):
        assert time.monotonic() < deadline, "the topic never appeared"
    assigned = [TopicPartition(o["topic"], partition) for partition in sorted(partitions)]
    consumer.assign(assigned)
    consumer.seek_to_beginning(*assigned)
    ends = consumer.end_offsets(assigned)
    with record_file.Writer(o["out"]) as out:
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            assert time.monotonic() < deadline, "not everything came within 60 s"
            for messages in consumer.poll(timeout_ms=1000, max_records=5000).values():
                for message in messages:
                    out.write(message.partition, message.offset, message.key, message.value)
    consumer.close()


class Changes(ConsumerRebalanceListener):
    def on_partitions_assigned(self, assigned):
        member.assigned(it.partition for it in assigned)

    def on_partitions_revoked(self, revoked):
        member.revoked(it.partition for it in revoked)

    def on_partitions_lost(self, lost):
        member.revoked(it.partition for it in lost)


def join(o):
    """Reads as a member of a group, commits what it was handed, and leaves when standard input ends."""
    member.listen()
    consumer = KafkaConsumer(
        bootstrap_servers=o["bootstrap"],
        group_id=o["group"],
        group_instance_id=o["instance"],
        partition_assignment_strategy=[CooperativeStickyAssignor if o["cooperative"] else RangePartitionAssignor],
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=o["session_timeout_ms"],
        heartbeat_interval_ms=300,
        reconnect_backoff_max_ms=200,
    )
    consumer.subscribe([o["topic"]], listener=Changes())
    uncommitted = {}
    while not member.told.is_set():
        polled = consumer.poll(timeout_ms=100, max_records=20)
        for partition, messages in polled.items():
            for message in messages:
                member.got(message.partition, message.offset, message.value)
            uncommitted[partition] = OffsetAndMetadata(messages[-1].offset + 1, "", -1)
        owned = consumer.assignment()
        uncommitted = {partition: offset for partition, offset in uncommitted.items() if partition in owned}
        if not uncommitted:
            continue
        try:
            consumer.commit(uncommitted)
            member.committed({partition.partition: it.offset for partition, it in uncommitted.items()})
            uncommitted = {}
        except KafkaError:
            # The group rebalances, or the broker is away: what it still owns then is committed later, the rest comes again.
            pass
    consumer.close()


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "join": join}[sys.argv[1]](json.loads(sys.argv[2]))
