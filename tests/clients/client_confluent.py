"""confluent-kafka: librdkafka, the C client under most languages."""

import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

import record_file


def produce(o):
    records = list(record_file.read(o["in"]))
    reports = record_file.Reports(len(records))
    producer = Producer({
        "bootstrap.servers": o["bootstrap"],
        "compression.type": o["codec"],
        "acks": "all",
        "enable.idempotence": o["idempotent"],
        "linger.ms": o["linger_ms"],
        "queue.buffering.max.messages": 100_000,
    })

    def report(index):
        def delivered(error, message):
            if error is not None:
                reports.failed(index, error)
            else:
                offset = message.offset()
                reports.delivered(index, message.partition(), offset)
        return delivered

    for index, (partition, key, value) in enumerate(records):
        chosen = {} if partition < 0 else {"partition": partition}
        while True:
            try:
                producer.produce(o["topic"], value, key, on_delivery=report(index), **chosen)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(60) == 0, "records are still unsent after 60 s"
    reports.save(o["out"])


def consume(o):
    consumer = Consumer({
        "bootstrap.servers": o["bootstrap"],
        "group.id": "not-joined",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    })
    partitions = consumer.list_topics(o["topic"], timeout=20).topics[o["topic"]].partitions
    consumer.assign([TopicPartition(o["topic"], partition, 0) for partition in partitions])
    left = set(partitions)
    deadline = time.monotonic() + 60
    with record_file.Writer(o["out"]) as out:
        while left:
            assert time.monotonic() < deadline, f"not everything came within 60 s: {left}"
            for message in consumer.consume(500, timeout=0.1):
                if message.error() is None:
                    out.write(message.partition(), message.offset(), message.key(), message.value())
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                else:
                    sys.exit(str(message.error()))
    consumer.close()


def produce_until_told(o):
    """Numbers from `name` 0 upwards, an `ack` line for each acknowledged one, until standard input ends."""
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    producer = Producer({
        "bootstrap.servers": o["bootstrap"],
        "compression.type": o["codec"],
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 2,
        "queue.buffering.max.messages": 100,
        "message.timeout.ms": 300_000,
        "socket.timeout.ms": 10_000,
        "retry.backoff.ms": 20,
        "retry.backoff.max.ms": 100,
        "reconnect.backoff.ms": 10,
        "reconnect.backoff.max.ms": 50,
        "log_level": 0,
        "error_cb": lambda error: error.fatal() and print("fatal", error, flush=True),
    })

    def report(number):
        def delivered(error, message):
            if error is not None:
                print("failed", number, error, flush=True)
            else:
                print("ack", number, flush=True)
        return delivered

    number = 0
    while not told.is_set():
        key, value = record_file.numbered(o["name"], number)
        try:
            producer.produce(o["topic"], value, key, partition=number % o["partitions"], on_delivery=report(number))
            number += 1
        except BufferError:
            producer.poll(0.05)
        producer.poll(0)
    left = producer.flush(120)
    print("sent", number, "left", left, flush=True)


if __name__ == "__main__":
    {"produce": produce, "consume": consume, "produce_until_told": produce_until_told}[sys.argv[1]](json.loads(sys.argv[2]))
