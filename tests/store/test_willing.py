"""A server that takes no writes says so before one is tried, and nothing is written to find out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from poller.errors import StoreError
from poller.store.connections import StoreAccess
from poller.store.keys import Store
from poller.store.willing import prove_willing, prove_willing_by_info, unwilling
from tests.support.servers import HOST, Redis, RedisCluster, SentinelGroup

WAYS = [prove_willing, prove_willing_by_info]


@pytest.fixture
def server() -> Iterator[Redis]:
    with Redis() as made:
        yield made


async def asked(url: str, way=prove_willing) -> str:
    """Return for which reason writes would be refused, or nothing."""
    async with Store(StoreAccess(url)) as store:
        try:
            await way(store)
        except StoreError as error:
            return error.reason if error.advice and error.address else "untold"
    return ""


@pytest.mark.parametrize("way", WAYS)
async def test_a_replica_and_a_full_server_take_no_writes(server: Redis, redis: Redis, way):
    assert await asked(server.url, way) == ""
    server.command("CONFIG", "SET", "maxmemory", 1)
    assert await asked(server.url, way) == "out_of_memory"
    server.command("CONFIG", "SET", "maxmemory", 0)
    server.command("REPLICAOF", HOST, redis.port)
    assert await asked(server.url, way) == "readonly"
    server.command("CONFIG", "SET", "replica-read-only", "no")
    assert await asked(server.url, way) == ""
    assert server.command("DBSIZE") == 0


@pytest.mark.parametrize("way", WAYS)
async def test_every_node_of_a_cluster_is_asked(way):
    with RedisCluster() as cluster:
        assert await asked(cluster.url, way) == ""
        cluster.nodes[-1].command("CONFIG", "SET", "maxmemory", 1)
        assert await asked(cluster.url, way) == "out_of_memory"


@pytest.mark.parametrize("way", WAYS)
async def test_the_master_of_a_sentinel_group_is_asked(way):
    with SentinelGroup() as group:
        assert await asked(group.url(), way) == ""
        group.master().command("CONFIG", "SET", "maxmemory", 1)
        assert await asked(group.url(), way) == "out_of_memory"


async def test_nothing_is_claimed_of_an_old_server_that_may_not_be_asked():
    acl = "user default off\nuser poller on >secret ~* -@all +get"
    with Redis(acl=acl, settings=["maxmemory 1"]) as server:
        url = server.url.replace("redis://", "redis://poller:secret@")
        assert await asked(url, prove_willing_by_info) == ""


def test_a_server_that_throws_keys_out_takes_writes():
    full = {"role": "master", "used_memory": 2000, "maxmemory": 1000}
    assert unwilling({**full, "maxmemory_policy": "noeviction"}) == "out_of_memory"
    assert unwilling({**full, "maxmemory_policy": "allkeys-lru"}) == ""
    assert unwilling({**full, "maxmemory": 0, "maxmemory_policy": "noeviction"}) == ""
