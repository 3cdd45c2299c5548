"""A cluster with everything that may be wrong with one, in real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.cluster import LOSES_SOON, Agent, Place, placed


@pytest.fixture(scope="session")
def mixed_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with placed(
        tmp_path_factory.mktemp("cluster"),
        Agent("i-writes", writes=True),
        Agent("i-silent"),
        Agent("i-old", counts=False),
        Agent("i-nomem", lacks=("mem",)),
        Agent("i-stalled", stalled_s=100),
        Agent("i-young", born_s=20),
    ) as place:
        yield place


@pytest.fixture
def mixed(mixed_servers: Place) -> Place:
    mixed_servers.redis.command("FLUSHALL")
    return mixed_servers


@pytest.fixture(scope="session")
def healthy_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with placed(tmp_path_factory.mktemp("healthy"), Agent("i-one"), Agent("i-two")) as place:
        yield place


@pytest.fixture
def healthy(healthy_servers: Place) -> Place:
    """Two agents that write no keys, and nothing wrong."""
    healthy_servers.redis.command("FLUSHALL")
    return healthy_servers


@pytest.fixture
def parted(tmp_path: Path) -> Iterator[Place]:
    """Two agents that write, one of them not scraped for a while; Prometheus forgets it soon."""
    agents = (Agent("i-here", writes=True), Agent("i-gone", writes=True, down_s=15))
    with placed(tmp_path, *agents, arguments=LOSES_SOON) as place:
        yield place
