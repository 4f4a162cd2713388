"""Topics and their settings."""

from __future__ import annotations

import pytest

from ottla import Admin, Producer
from ottla.errors import BrokerError, InvalidConfigError, TopicAlreadyExistsError, UnknownTopicOrPartitionError


def test_topics_come_and_go(bootstrap: str, topic: str) -> None:
    with Admin(bootstrap_servers=bootstrap) as admin:
        admin.create_topic(topic, partitions=3, config={"retention.ms": "1000000"})
        assert [(one.partitions, one.internal) for one in admin.list_topics() if one.name == topic] == [(3, False)]
        with Producer(bootstrap_servers=bootstrap) as producer:
            assert producer.partition_count(topic) == 3
            producer.send(topic, b"v", partition=1)
        described = admin.describe_topic(topic)
        assert [(part.index, part.start_offset, part.end_offset) for part in described.partitions] == [
            (0, 0, 0),
            (1, 0, 1),
            (2, 0, 0),
        ]
        with pytest.raises(TopicAlreadyExistsError) as raised:
            admin.create_topic(topic)
        assert raised.value.code == 36
        admin.delete_topic(topic)
        assert topic not in [one.name for one in admin.list_topics()]
        with pytest.raises(UnknownTopicOrPartitionError):
            admin.delete_topic(topic)


def test_settings_of_a_topic_can_be_read_set_and_reset(bootstrap: str, topic: str) -> None:
    with Admin(bootstrap_servers=bootstrap) as admin:
        admin.create_topic(topic)
        default = admin.describe_config(topic)["max.message.bytes"]
        assert default.source == "default"
        admin.set_config(topic, {"max.message.bytes": "5000"})
        changed = admin.describe_config(topic)["max.message.bytes"]
        assert (changed.value, changed.source, changed.read_only) == ("5000", "topic", False)
        admin.set_config(topic, {"max.message.bytes": None})
        assert admin.describe_config(topic)["max.message.bytes"] == default
        with pytest.raises(InvalidConfigError):
            admin.set_config(topic, {"max.message.bytes": "many"})


def test_a_plugin_that_is_none_is_refused(bootstrap: str) -> None:
    with Admin(bootstrap_servers=bootstrap) as admin:
        with pytest.raises(BrokerError):
            admin.push_plugin("broken", b"no component")
        with pytest.raises(BrokerError) as raised:
            admin.describe_plugin("broken")
        assert raised.value.name == "RESOURCE_NOT_FOUND"


def test_the_cluster_names_its_broker(bootstrap: str) -> None:
    with Admin(bootstrap_servers=bootstrap) as admin:
        cluster = admin.describe_cluster()
    assert [broker.address for broker in cluster.brokers] == [bootstrap]
    assert cluster.controller == cluster.brokers[0].node
