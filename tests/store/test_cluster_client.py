"""Who is believed about the owners of a cluster's slots, and who is asked at all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
import redis.exceptions as gone_wrong

from poller.store.cluster_client import Address, Cluster, Members
from poller.store.connections import StoreAccess
from poller.store.errors import translate
from poller.store.keys import Store

LAST_SLOT = 16_383
TIMEOUT_S = 0.4
LATE_S = 2.0
"""Of this a part is long even for a process that hardly gets a core."""
AMPLE_S = 60.0
OURS, THEIRS = "ours", "theirs"
REFUSED = gone_wrong.ConnectionError("refused")


def at(host: str) -> Address:
    return host, 6379


def slots(owner: str, *ids: str) -> list[Any]:
    """Return the answer that one node owns all slots, beside replicas; with ids of them."""
    nodes = [[owner.encode(), 6379, one.encode()] for one in ids]
    return [[0, LAST_SLOT, *nodes]]


class Node:
    """A node that answers CLUSTER SLOTS after a while, or fails."""

    def __init__(self, answer: list[Any] | Exception, after_s: float = 0.0) -> None:
        self.answer, self.after_s = answer, after_s
        self.asked = 0

    async def execute_command(self, *words: str) -> list[Any]:
        assert words == ("CLUSTER", "SLOTS")
        self.asked += 1
        await asyncio.sleep(self.after_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def aclose(self) -> None:
        pass


def members(*owners: str, ids: Sequence[str] = (OURS,)) -> Members:
    """Return what was known before: these nodes had the slots."""
    known = Members(ids=frozenset(one.encode() for one in ids))
    known.owners[: len(owners)] = [at(owner) for owner in owners]
    return known


def cluster(
    nodes: dict[str, Node], seeds: str, known: Members | None = None, timeout_s: float = TIMEOUT_S
) -> Cluster:
    """Return a client of some nodes, of which the settings name those in `seeds`."""
    return Cluster(
        [at(host) for host in seeds.split()],
        lambda host, port: nodes[host],  # type: ignore[arg-type,return-value]
        timeout_s,
        known,
    )


async def owners(made: Cluster) -> list[str]:
    await made.owners()
    return [host for host, _ in made.known.addresses]


async def test_a_node_of_the_settings_goes_before_one_that_was_learned() -> None:
    nodes = {"set": Node(slots("set", OURS), 0.05), "old": Node(slots("old", OURS))}
    assert await owners(cluster(nodes, "set", members("old"), AMPLE_S)) == ["set"]
    assert nodes["old"].asked == 0


@pytest.mark.parametrize(
    "seed", [Node(REFUSED), Node(slots("set", OURS), 10 * TIMEOUT_S)], ids=["refuses", "is silent"]
)
async def test_where_no_node_of_the_settings_answers_a_learned_one_is_asked(seed: Node) -> None:
    nodes = {"set": seed, "old": Node(slots("new", "another", OURS)), "new": Node(REFUSED)}
    assert await owners(cluster(nodes, "set", members("old"))) == ["new"]


async def test_silent_nodes_of_the_settings_are_waited_for_once_in_a_while() -> None:
    """While a node is dead the owners are asked for with every portion of a write."""
    nodes = {"set": Node([], 1000.0), "old": Node(slots("old", OURS))}
    made = cluster(nodes, "set", members("old"), timeout_s=4.0)
    began = time.monotonic()
    for _ in range(10):
        made._is_stale = True
        assert await owners(made) == ["old"]
    assert time.monotonic() - began < 8.0


async def test_a_learned_node_of_another_cluster_is_not_followed() -> None:
    nodes = {"set": Node(REFUSED), "old": Node(slots("old", THEIRS))}
    made = cluster(nodes, "set", members("old"))
    with pytest.raises(gone_wrong.RedisClusterException) as raised:
        await made.owners()
    told = translate(raised.value)
    assert (told.reason, told.detail) == ("cluster_down", "what answers is of another cluster")
    nodes["set"].answer = slots("set", OURS)
    assert await owners(made) == ["set"]


async def test_a_node_of_the_settings_that_is_late_goes_before_one_of_another_cluster() -> None:
    nodes = {
        "set": Node(slots("set", OURS), 0.6 * LATE_S),
        "old": Node(slots("old", THEIRS)),
    }
    assert await owners(cluster(nodes, "set", members("old"), LATE_S)) == ["set"]


async def test_a_node_of_the_settings_is_believed_whatever_cluster_it_is_of() -> None:
    nodes = {"set": Node(slots("set", THEIRS)), "old": Node(slots("old", OURS))}
    assert await owners(cluster(nodes, "set", members("old"))) == ["set"]


async def test_a_node_that_knows_of_no_owner_is_not_believed() -> None:
    nodes = {"empty": Node([]), "set": Node(slots("set", OURS), 0.05)}
    assert await owners(cluster(nodes, "empty set", timeout_s=AMPLE_S)) == ["set"]
    with pytest.raises(gone_wrong.ClusterDownError):
        await cluster(nodes, "empty").owners()


async def test_who_owns_no_slot_any_more_is_not_handed_on() -> None:
    async with Store(StoreAccess("redis+cluster://a:1,b:2")) as store:
        for number in range(5):
            store._client.known.owners[:] = [at(f"node{number}")] * (LAST_SLOT + 1)
            await store.renew()
        assert store._client.addresses == [at("node4"), ("a", 1), ("b", 2)]
