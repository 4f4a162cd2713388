"""confluent-kafka: librdkafka, the C client under most languages."""

import json
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

import member
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


def join(o):
    """Reads as a member of a group, commits what it was handed, and leaves when standard input ends."""
    member.listen()
    settings = {
        "bootstrap.servers": o["bootstrap"],
        "group.id": o["group"],
        "group.protocol": o["protocol"],
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "reconnect.backoff.max.ms": 200,
        "log_level": 0,
    }
    if o["protocol"] == "classic":
        settings |= {
            "session.timeout.ms": o["session_timeout_ms"],
            "heartbeat.interval.ms": 300,
            "partition.assignment.strategy": "cooperative-sticky" if o["cooperative"] else "range",
        }
    if o["instance"] is not None:
        settings["group.instance.id"] = o["instance"]
    consumer = Consumer(settings)
    consumer.subscribe(
        [o["topic"]],
        on_assign=lambda _, partitions: member.assigned(it.partition for it in partitions),
        on_revoke=lambda _, partitions: member.revoked(it.partition for it in partitions),
        on_lost=lambda _, partitions: member.revoked(it.partition for it in partitions),
    )
    uncommitted = False
    while not member.told.is_set():
        messages = [message for message in consumer.consume(20, timeout=0.1) if message.error() is None]
        for message in messages:
            member.got(message.partition(), message.offset(), message.value())
        uncommitted |= bool(messages)
        if not uncommitted:
            continue
        try:
            committed = consumer.commit(asynchronous=False)
            member.committed({it.partition: it.offset for it in committed if it.error is None and it.offset >= 0})
            uncommitted = any(it.error is not None for it in committed)
        except KafkaException as error:
            # The group rebalances, or the broker is away: what it still owns then is committed later, the rest comes again.
            uncommitted = error.args[0].code() != KafkaError._NO_OFFSET
    consumer.close()


def committed(o):
    """The committed offsets of a topic in a group, asked for from outside."""
    consumer = Consumer({"bootstrap.servers": o["bootstrap"], "group.id": o["group"], "log_level": 0})
    partitions = [TopicPartition(o["topic"], partition) for partition in range(o["partitions"])]
    committed = consumer.committed(partitions, timeout=30)
    member.committed({it.partition: it.offset for it in committed if it.offset >= 0})
    consumer.close()


def assign_without_offset(o):
    """Assigns partitions without saying where to begin, so that librdkafka asks the group, and reads to their ends."""
    consumer = Consumer({
        "bootstrap.servers": o["bootstrap"],
        "group.id": o["group"],
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
    })
    consumer.assign([TopicPartition(o["topic"], partition) for partition in range(o["partitions"])])
    left = set(range(o["partitions"]))
    deadline = time.monotonic() + 60
    while left:
        assert time.monotonic() < deadline, f"not everything came within 60 s: {left}"
        for message in consumer.consume(500, timeout=0.1):
            if message.error() is None:
                member.got(message.partition(), message.offset(), message.value())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            else:
                sys.exit(str(message.error()))
    consumer.close()


VERBS = {
    "produce": produce,
    "consume": consume,
    "produce_until_told": produce_until_told,
    "join": join,
    "committed": committed,
    "assign_without_offset": assign_without_offset,
}

if __name__ == "__main__":
    VERBS[sys.argv[1]](json.loads(sys.argv[2]))
