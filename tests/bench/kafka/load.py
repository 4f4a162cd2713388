"""The librdkafka load generator: confluent-kafka with its defaults, against whichever broker it is pointed at.

produce BOOTSTRAP TOPIC RECORDS BYTES | single BOOTSTRAP TOPIC RECORDS BYTES | pace BOOTSTRAP TOPIC RATE SECONDS BYTES
| consume BOOTSTRAP TOPIC RECORDS. `single` sends every record in a request of its own; `pace` does not let the client
wait for company (`linger.ms=0`), because that wait would be most of what it measures.
Prints one line of NAME=VALUE. The first tenth warms up and is not timed.
"""

import random
import sys
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition


def single(bootstrap, topic, records, size):
    produce(bootstrap, topic, records, size, {"batch.num.messages": 1, "linger.ms": 0})


def produce(bootstrap, topic, records, size, settings={}):
    value = random.Random(1).randbytes(size)
    settings = settings | {"queue.buffering.max.messages": 1_000_000}
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"} | settings)
    failed = []

    def delivered(error, _message):
        if error is not None:
            failed.append(error)

    def send(count, **how):
        for at in range(count):
            while True:
                try:
                    producer.produce(topic, value, **how)
                    break
                except BufferError:
                    producer.poll(0.01)
            if at % 1000 == 0:
                producer.poll(0)
        if producer.flush(60) > 0:
            raise SystemExit("not everything was delivered within a minute")

    warm = records // 10
    send(warm)
    begin = time.monotonic()
    send(records - warm, on_delivery=delivered)
    seconds = time.monotonic() - begin
    if failed:
        raise SystemExit(str(failed[0]))
    print(f"records={records - warm} all={records} seconds={seconds:.6f}")


def pace(bootstrap, topic, rate, seconds, size):
    value = random.Random(1).randbytes(size)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "linger.ms": 0})
    latencies, failed = [], []
    begin = time.monotonic()
    for at in range(-rate, rate * seconds):
        due = begin + (at + rate) / rate
        while (left := due - time.monotonic()) > 0:
            producer.poll(min(left, 0.001))
        sent = time.monotonic()

        def delivered(error, _message, at=at, sent=sent):
            if error is not None:
                failed.append(error)
            elif at >= 0:
                latencies.append(time.monotonic() - sent)

        producer.produce(topic, value, on_delivery=delivered)
        producer.poll(0)
    producer.flush(60)
    if failed or len(latencies) != rate * seconds:
        raise SystemExit(str(failed[:1] or "not everything was delivered"))
    latencies.sort()
    at = {name: latencies[int(len(latencies) * share)] * 1e6 for name, share in
          [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)]}
    print(f"records={len(latencies)} " + " ".join(f"{name}={value:.1f}" for name, value in at.items()))


def consume(bootstrap, topic, records):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    warm, got, counted, begin = records // 10, 0, 0, None
    silent = time.monotonic()
    while got < records:
        messages = consumer.consume(1000, timeout=0.05)
        for message in messages:
            if message.error() is not None:
                raise SystemExit(str(message.error()))
        if messages:
            silent = time.monotonic()
        elif time.monotonic() - silent > 20:
            raise SystemExit(f"nothing came after {got} records")
        counted += len(messages) if begin is not None else 0
        got += len(messages)
        if begin is None and got >= warm:
            begin = time.monotonic()
    seconds = time.monotonic() - begin
    consumer.close()
    print(f"records={counted} all={got} seconds={seconds:.6f}")


if __name__ == "__main__":
    what, bootstrap, topic, *numbers = sys.argv[1:]
    {"produce": produce, "single": single, "pace": pace, "consume": consume}[what](bootstrap, topic, *map(int, numbers))
