"""The Python client of Ottla, and of any broker that speaks the Kafka protocol.

::

    from ottla import Consumer, Producer

    with Producer(bootstrap_servers="127.0.0.1:9092") as producer:
        delivery = producer.send("packages", b"Section: shells", key=b"zsh")
        print(delivery.result(timeout=10))

    with Consumer("packages", bootstrap_servers="127.0.0.1:9092", start="earliest") as consumer:
        for record in consumer.poll(500, timeout=1.0):
            print(record.partition, record.offset, record.key)

    with Consumer("packages", bootstrap_servers="127.0.0.1:9092", group_id="indexers") as consumer:
        for record in consumer:  # shared with the other members; what is done with is committed
            print(record.partition, record.offset, record.key)

``ottla.aio`` has the same for asyncio.
"""

import atexit
import os

from . import _core
from ._admin import (
    Admin,
    Broker,
    ClusterDescription,
    ConfigEntry,
    PartitionDescription,
    PluginDescription,
    PluginVersion,
    PushedPlugin,
    TopicDescription,
    TopicListing,
)
from ._consumer import Consumer, TopicPartition
from ._core import Batch, Deliveries, Delivery, Placement, Record
from ._producer import Producer, close_at_exit
from ._settings import (
    Acks,
    Assignor,
    ClientSettings,
    Compression,
    ConsumerSettings,
    GroupProtocol,
    GroupSettings,
    IsolationLevel,
    OffsetReset,
    ProducerSettings,
)
from .errors import KafkaError

__all__ = [
    "Acks",
    "Admin",
    "Assignor",
    "Batch",
    "Broker",
    "ClientSettings",
    "ClusterDescription",
    "Compression",
    "ConfigEntry",
    "Consumer",
    "ConsumerSettings",
    "Deliveries",
    "Delivery",
    "GroupProtocol",
    "GroupSettings",
    "IsolationLevel",
    "KafkaError",
    "OffsetReset",
    "PartitionDescription",
    "Placement",
    "PluginDescription",
    "PluginVersion",
    "Producer",
    "ProducerSettings",
    "PushedPlugin",
    "Record",
    "TopicDescription",
    "TopicListing",
    "TopicPartition",
]

__version__ = _core.__version__

os.register_at_fork(after_in_child=_core._forked)
# They run in reverse: callbacks are still called for what closing delivers.
atexit.register(_core._end_events)
atexit.register(close_at_exit)
atexit.register(_core._begin_exit)
