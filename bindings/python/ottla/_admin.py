"""Topics, their settings, plugins."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import _core
from ._settings import ADMIN, ClientSettings, gather

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

_log = logging.getLogger("ottla")


@dataclass(frozen=True, slots=True)
class TopicListing:
    """A topic in a list."""

    name: str
    partitions: int
    internal: bool
    """Whether it belongs to the broker itself."""


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    """A partition of a topic."""

    index: int
    leader: int | None
    leader_epoch: int
    replicas: list[int]
    in_sync: list[int]
    start_offset: int | None
    end_offset: int | None
    """The offset behind the last readable record."""


@dataclass(frozen=True, slots=True)
class TopicDescription:
    """A topic in full."""

    name: str
    internal: bool
    partitions: list[PartitionDescription]


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    """A setting of a topic."""

    value: str | None
    """None if it is secret."""
    source: str
    """Where it is set: ``"topic"``, ``"broker"`` or nowhere, ``"default"``."""
    read_only: bool
    doc: str | None


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker of the cluster."""

    node: int
    address: str


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    """The cluster."""

    id: str | None
    controller: int
    brokers: list[Broker]


@dataclass(frozen=True, slots=True)
class PushedPlugin:
    """A plugin that the broker took."""

    name: str
    version: int
    """The version it got; the one it had if the broker knew these bytes."""
    digest: str


@dataclass(frozen=True, slots=True)
class PluginVersion:
    """A version of a plugin."""

    version: int
    digest: str
    kind: str
    bytes: int
    created: int
    """When it was pushed, in milliseconds since 1970."""
    reads: list[str]
    marked_bad: bool = False
    """Whether a rollback left it: no rollback returns to it unless it is named."""


@dataclass(frozen=True, slots=True)
class PluginDescription:
    """A plugin on the broker."""

    name: str
    active: int | None
    previous: int | None
    """The version that a rollback would activate."""
    versions: list[PluginVersion]
    topics: list[str]
    """The topics that name it in their settings."""


class Admin(_core.Admin):
    """Creates, changes and describes topics and plugins::

        with Admin(bootstrap_servers="127.0.0.1:9092") as admin:
            admin.create_topic("packages", partitions=6)
            admin.push_plugin("by-section", "target/plugins/by-section.wasm")
            admin.set_config("packages", {"ottla.partitioner": "by-section"})

    Every call takes a ``timeout`` in seconds; None leaves it to ``request_timeout_ms``.
    """

    def __new__(
        cls,
        bootstrap_servers: str | Sequence[str] | None = None,
        *,
        config: Mapping[str, object] | None = None,
        **settings: Unpack[ClientSettings],
    ) -> Self:
        _core._set_log_level(_log.getEffectiveLevel())
        return super().__new__(cls, gather(ADMIN, bootstrap_servers, config, settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to be waited for."""

    def create_topic(
        self,
        name: str,
        *,
        partitions: int | None = None,
        replicas: int | None = None,
        config: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Create a topic; what is not given is left to the broker."""
        self._create_topic(name, partitions, replicas, list((config or {}).items()), timeout)

    def list_topics(self, timeout: float | None = None) -> list[TopicListing]:
        """All topics, by name."""
        return [TopicListing(*topic) for topic in self._list_topics(timeout)]

    def describe_topic(self, name: str, timeout: float | None = None) -> TopicDescription:
        """A topic and its partitions."""
        internal, partitions = self._describe_topic(name, timeout)
        return TopicDescription(name, internal, [PartitionDescription(*part) for part in partitions])

    def delete_topic(self, name: str, timeout: float | None = None) -> None:
        """Delete a topic with all its records."""
        self._delete_topic(name, timeout)

    def describe_config(self, topic: str, timeout: float | None = None) -> dict[str, ConfigEntry]:
        """All settings of a topic."""
        return {name: ConfigEntry(*entry) for name, *entry in self._describe_config(topic, timeout)}  # type: ignore[arg-type]

    def set_config(self, topic: str, changes: Mapping[str, str | None], timeout: float | None = None) -> None:
        """Change settings of a topic, all of these or none; None is back to the default."""
        self._set_config(topic, list(changes.items()), timeout)

    def describe_cluster(self, timeout: float | None = None) -> ClusterDescription:
        """The cluster and its brokers."""
        cluster, controller, brokers = self._describe_cluster(timeout)
        return ClusterDescription(cluster, controller, [Broker(*broker) for broker in brokers])

    def push_plugin(
        self, name: str, component: bytes | str | os.PathLike[str], timeout: float | None = None
    ) -> PushedPlugin:
        """Upload a plugin, given as its bytes or as the path of its ``.wasm`` file."""
        data = component if isinstance(component, bytes) else Path(component).read_bytes()
        return PushedPlugin(name, *self._push_plugin(name, data, timeout))

    def list_plugins(self, timeout: float | None = None) -> list[PluginDescription]:
        """All plugins, by name."""
        return [_plugin(*plugin) for plugin in self._list_plugins(timeout)]

    def describe_plugin(self, name: str, timeout: float | None = None) -> PluginDescription:
        """One plugin and its versions."""
        return _plugin(*self._describe_plugin(name, timeout))

    def activate_plugin(self, name: str, version: int, timeout: float | None = None) -> int:
        """Make a version the one that runs; return its number."""
        return self._activate_plugin(name, version, timeout)

    def roll_back_plugin(self, name: str, timeout: float | None = None, *, to: int | None = None) -> int:
        """Go back to the version that ran before, or to one; return its number.

        The version that it leaves is marked bad: called again, it goes back further and never forward."""
        return self._roll_back_plugin(name, to, timeout)

    def remove_plugin(self, name: str, version: int | None = None, timeout: float | None = None) -> None:
        """Remove one version, or the whole plugin."""
        self._remove_plugin(name, version, timeout)


def _plugin(
    name: str,
    active: int | None,
    previous: int | None,
    versions: list[tuple[int, str, str, int, int, list[str], bool]],
    topics: list[str],
) -> PluginDescription:
    return PluginDescription(name, active, previous, [PluginVersion(*version) for version in versions], topics)
