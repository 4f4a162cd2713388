"""Placements tell the truth where the broker's partitioner moved records."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import ROOT

from ottla import Admin, Consumer, Placement, Producer


@pytest.fixture
def routed(bootstrap: str, topic: str) -> str:
    """A topic of six partitions whose records go by the `Section:` line of their values."""
    component = Path(os.environ.get("OTTLA_PLUGINS", str(ROOT / "target/plugins"))) / "by-section.wasm"
    if not component.exists():
        pytest.skip(f"there is no {component}: cargo xtask plugins")
    with Admin(bootstrap_servers=bootstrap) as admin:
        pushed = admin.push_plugin("by-section", component)
        assert (pushed.name, pushed.version, len(pushed.digest)) == ("by-section", 1, 64)
        admin.create_topic(topic, partitions=6)
        admin.set_config(topic, {"ottla.partitioner": "by-section"})
        plugin = admin.describe_plugin("by-section")
        assert plugin.active == 1
        assert topic in plugin.topics
        assert plugin.versions[0].kind == "partitioner"
    return topic


def test_every_record_of_a_split_batch_knows_its_true_place(bootstrap: str, routed: str) -> None:
    sections = [b"shells", b"libs", b"net", b"games", b"admin", b"editors", b"python", b"doc"]
    values = [b"Package: p%d\nSection: %s\n" % (number, sections[number % len(sections)]) for number in range(400)]
    told: list[Placement | None] = []
    with Producer(bootstrap_servers=bootstrap, linger_ms=50) as producer:
        placements = producer.send_many(routed, values, partition=0).result(30)
        producer.send_many(routed, values, on_delivery=lambda _, placement: told.append(placement))
    by_section = {
        (values[number].split(b"Section: ")[1], placement.partition) for number, placement in enumerate(placements)
    }
    assert len(by_section) == len(sections), "one partition per section"
    assert len({placement.partition for placement in placements}) > 1

    stored: dict[tuple[int, int], bytes | None] = {}
    with Consumer(routed, bootstrap_servers=bootstrap, idle_timeout=1) as consumer:
        for record in consumer:
            stored[record.partition, record.offset] = record.value
    assert len(stored) == 2 * len(values)
    for value, placement in zip(values, placements, strict=True):
        assert placement.offset is not None
        assert stored[placement.partition, placement.offset] == value
    assert {(placement.partition, placement.offset) for placement in told if placement} == set(stored) - {
        (placement.partition, placement.offset) for placement in placements
    }


def test_a_plugin_can_be_given_as_bytes_and_is_known_again(bootstrap: str, routed: str) -> None:
    component = Path(os.environ.get("OTTLA_PLUGINS", str(ROOT / "target/plugins"))) / "by-section.wasm"
    with Admin(bootstrap_servers=bootstrap) as admin:
        assert admin.push_plugin("by-section", component.read_bytes()).version == 1
        assert [plugin.name for plugin in admin.list_plugins()] == ["by-section"]
