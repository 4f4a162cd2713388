"""kafka-python: the pure-Python client."""

import json
import sys
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

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


if __name__ == "__main__":
    {"produce": produce, "consume": consume}[sys.argv[1]](json.loads(sys.argv[2]))
