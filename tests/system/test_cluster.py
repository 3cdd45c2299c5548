"""Redis Cluster: keys over all nodes, slots that move, nodes that die and come back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poller.errors import LeaseLost, StoreError
from poller.poll.publish import Publisher
from poller.store.connections import StoreAccess
from poller.store.keys import Store
from poller.store.lease import Lease, length_s
from poller.store.writes import Fence
from tests.support.freshness import evaluated, stale
from tests.support.live import LivePoller, tables
from tests.support.redis_cluster import ClusterNode
from tests.support.rights import LEAST
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import RedisCluster, slot_of, wait_until
from tests.support.world import World

INTERVAL_S = 1.0
KERNELS = 60
LEASE = "livestat-poller:leader"
TIMEOUT_S = 1.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster(password="nodes") as started:
        yield started


@pytest.fixture(scope="module")
def world() -> World:
    return World(kernels=KERNELS)


@pytest.fixture
async def store(cluster: RedisCluster) -> AsyncIterator[Store]:
    for node in cluster.nodes:
        node.command("FLUSHALL")
    access = StoreAccess(
        cluster.url, timeout_s=TIMEOUT_S, credentials=lambda: (None, cluster.password)
    )
    async with Store(access) as opened:
        yield opened


def values(world: World, text: str = "value") -> dict[str, bytes]:
    return {kernel: f"{text} {kernel}".encode() for kernel in world.ids}


def owners(cluster: RedisCluster, world: World) -> dict[str, int]:
    return {kernel: cluster.owner(slot_of(kernel)) for kernel in world.ids}


async def test_keys_lie_on_every_node_and_are_read_back(
    store: Store, cluster: RedisCluster, world: World
) -> None:
    written = await store.write(values(world))
    assert written.before == dict.fromkeys(world.ids)
    assert written.failed == {}
    assert [bool(node.command("DBSIZE")) for node in cluster.nodes] == [True] * 3
    assert cluster.keys() == set(world.ids)
    again = await store.write(values(world, "newer"))
    assert again.before == values(world)
    assert (await store.read(world.ids)).values == values(world, "newer")
    ages = await store.ages(world.ids)
    assert all(0 <= ages[kernel] < 60 for kernel in world.ids)
    assert (await store.server()).split()[0] in ("Redis", "Valkey")


async def test_the_lease_and_what_it_fences_may_lie_on_different_nodes(
    store: Store, cluster: RedisCluster, world: World
) -> None:
    lease, other = Lease(store, LEASE, 30.0), Lease(store, LEASE, 30.0)
    assert await lease.take()
    assert not await other.take()
    written = await store.write(values(world), lease.fence)
    assert written.before == dict.fromkeys(world.ids)
    assert (await store.write(values(world), lease.fence)).before == values(world)
    node = cluster.nodes[owners(cluster, world)[world.ids[0]]]
    ttl_s = int(node.command("TTL", world.ids[0]))
    assert 86_390 < ttl_s <= 86_400


async def test_a_write_that_comes_after_the_lease_has_run_out_writes_nothing(
    store: Store, cluster: RedisCluster, world: World
) -> None:
    await store.write(values(world, "newer"))
    late = Fence(LEASE, "whoever", round(time.time() * 1000) - 50)
    written = await store.write(values(world, "older"), late)
    assert set(written.failed.values()) == {"late"}
    assert set(written.failed) == set(world.ids)
    assert (await store.read(world.ids)).values == values(world, "newer")


async def test_who_lost_the_lease_writes_no_portion_more(
    store: Store, cluster: RedisCluster, world: World
) -> None:
    """Another may have taken it and written since; the nodes of the keys do not know."""
    lease, publisher = Lease(store, LEASE, 30.0), Publisher(store, False, INTERVAL_S)
    node = cluster.nodes[cluster.owner(slot_of(LEASE))]
    kernels = world.ids[:3]

    def portions(text: str, losing: str) -> Iterator[dict[str, bytes]]:
        for kernel in kernels:
            if kernel == losing:
                node.command("DEL", LEASE)
            yield {kernel: text.encode()}

    assert await lease.take()
    _ = [one async for one in publisher.publish(portions("good", ""), 1.0, lease)]
    for lost in (2, 0):
        assert await lease.take()
        with pytest.raises(LeaseLost):
            _ = [one async for one in publisher.publish(portions("old", kernels[lost]), 2.0, lease)]
        assert not lease.held
        unwritten = kernels[lost:]
        found = await store.read(unwritten)
        assert found.values == dict.fromkeys(unwritten, b"good")
        _ = [one async for one in publisher.publish(portions("good", ""), 3.0)]


async def test_a_key_of_another_type_fails_alone(
    store: Store, cluster: RedisCluster, world: World
) -> None:
    taken = world.ids[0]
    cluster.nodes[owners(cluster, world)[taken]].command("RPUSH", taken, "somebody's")
    lease = Lease(store, LEASE, 30.0)
    assert await lease.take()
    for fence in (None, lease.fence):
        written = await store.write(values(world), fence)
        assert written.failed == {taken: "wrong_type"}
    assert (await store.read(world.ids)).foreign == {taken}


async def test_keys_in_a_slot_that_moves_are_written_in_every_stage(
    store: Store, cluster: RedisCluster, world: World
) -> None:
    kernel = world.ids[0]
    slot = slot_of(kernel)
    source = cluster.owner(slot)
    target = (source + 1) % 3
    await store.write(values(world, "before"))
    cluster.begin_move(slot, target)
    assert (await store.write(values(world, "begun"))).failed == {}
    cluster.migrate_keys(slot, target)
    assert (await store.write(values(world, "asked"))).failed == {}  # ASK from now on
    assert (await store.read([kernel])).values == {kernel: values(world, "asked")[kernel]}
    cluster.finish_move(slot, target)
    assert (await store.write(values(world, "moved"))).failed == {}  # MOVED, then known
    assert (await store.read(world.ids)).values == values(world, "moved")
    assert cluster.owner(slot) == target
    assert cluster.keys() == set(world.ids)


async def test_a_right_that_is_missing_for_a_key_in_motion_fails_that_key(
    store: Store, cluster: RedisCluster, world: World
) -> None:
    """Keys in motion are asked for with ASKING; the README's rights with these two are enough."""
    least = LEAST.format("nodes").split()[2:] + ["+cluster|slots", "+asking"]
    for node in cluster.nodes:
        node.command("ACL", "SETUSER", "least", *least)
    kernel = world.ids[2]
    slot = slot_of(kernel)
    target = (cluster.owner(slot) + 1) % 3
    access = StoreAccess(cluster.url, timeout_s=TIMEOUT_S, credentials=lambda: ("least", "nodes"))
    cluster.begin_move(slot, target)
    try:
        async with Store(access) as narrow:
            lease = Lease(narrow, LEASE, 30.0)
            assert await lease.take()
            assert (await narrow.write(values(world), lease.fence)).failed == {}
            assert len(await narrow.ages(world.ids)) == KERNELS
            cluster.nodes[target].command("ACL", "SETUSER", "least", "-asking")
            assert (await narrow.read(world.ids)).failed == {kernel: "forbidden"}
            assert (await narrow.write(values(world), lease.fence)).failed == {kernel: "forbidden"}
    finally:
        cluster.finish_move(slot, target)


async def test_a_lease_in_a_slot_that_moves_is_kept(store: Store, cluster: RedisCluster) -> None:
    lease, other = Lease(store, LEASE, 30.0), Lease(store, LEASE, 30.0)
    assert await lease.take()
    slot = slot_of(LEASE)
    target = (cluster.owner(slot) + 1) % 3
    cluster.begin_move(slot, target)
    cluster.migrate_keys(slot, target)
    assert await lease.renew()
    assert not await other.take()
    cluster.finish_move(slot, target)
    assert await lease.renew()
    assert not await other.take()


async def test_a_node_without_slots_and_neighbours_says_nothing_of_the_others(
    cluster: RedisCluster, world: World
) -> None:
    """One that was taken out and still runs."""
    for node in cluster.nodes:
        node.command("FLUSHALL")
    with ClusterNode(cluster.password) as lonely:
        access = StoreAccess(
            f"redis+cluster://{lonely.host}:{lonely.port},{cluster.url.partition('://')[2]}",
            timeout_s=TIMEOUT_S,
            credentials=lambda: (None, cluster.password),
        )
        for _ in range(10):  # whoever answers first
            async with Store(access) as store:
                assert (await store.write(values(world))).failed == {}


@pytest.mark.parametrize("index", range(3))
async def test_a_dead_node_costs_its_own_keys_only(
    store: Store, cluster: RedisCluster, world: World, index: int
) -> None:
    """Whichever it is, and for a client that was made while it was dead, too."""
    await store.write(values(world, "before"))
    lost = {kernel for kernel, owner in owners(cluster, world).items() if owner == index}
    cluster.kill_node(index)
    try:
        for _ in range(2):
            written = await store.write(values(world, "meanwhile"))
            assert written.failed == dict.fromkeys(lost, "connection")
            assert set(written.before) == set(world.ids) - lost
            found = await store.read(world.ids)
            assert found.failed == dict.fromkeys(lost, "connection")
            assert set(found.values) == set(world.ids) - lost
            await store.renew()
    finally:
        await asyncio.to_thread(cluster.restart_node, index)
    await asyncio.sleep(TIMEOUT_S)  # for so long a node that failed is left alone
    assert (await store.write(values(world, "after"))).failed == {}
    assert (await store.read(world.ids)).values == values(world, "after")


async def test_a_node_that_does_not_answer_costs_the_time_limit_once(
    store: Store, cluster: RedisCluster, world: World
) -> None:
    await store.write(values(world))
    frozen = owners(cluster, world)[world.ids[0]]
    lost = {kernel for kernel, owner in owners(cluster, world).items() if owner == frozen}
    cluster.nodes[frozen].pause()
    try:
        started = time.monotonic()
        for _ in range(5):  # as many portions of one large write
            written = await store.write(values(world))
            assert written.failed.keys() == lost
        assert time.monotonic() - started < 2 * TIMEOUT_S
    finally:
        cluster.nodes[frozen].resume()
    cluster.wait_healthy()


async def test_a_wrong_password_is_sent_once_to_each_node(cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        node.command("ACL", "LOG", "RESET")
    access = StoreAccess(cluster.url, credentials=lambda: (None, "wrong"))
    async with Store(access) as store:
        with pytest.raises(StoreError) as raised:
            await store.write({"11111111-2222-4333-8444-555555555555": b""})
    assert raised.value.reason == "unauthorized"
    for node in cluster.nodes:
        with node.client() as client:
            assert sum(int(entry["count"]) for entry in client.acl_log()) <= 1


@contextmanager
def running(directory: Path, cluster: RedisCluster, world: World) -> Iterator[LivePoller]:
    """Run a poller on the cluster until all its keys are written."""
    for node in cluster.nodes:
        node.command("FLUSHALL")
    with ScriptedPrometheus(world.handler) as prometheus:
        settings = tables(
            prometheus.url,
            cluster.url,
            INTERVAL_S,
            redis__password=cluster.password,
            leader__enabled=True,
        )
        with LivePoller(directory, settings) as poller:
            wait_until(lambda: not stale(world, cluster.nodes, 1.0), "all keys")
            yield poller


def wait_fresh(world: World, cluster: RedisCluster, kernels: set[str]) -> None:
    """Wait until these kernels' keys are of now or later."""
    since = time.time()
    wait_until(lambda: not kernels & set(stale(world, cluster.nodes, since)), "fresh keys")


@pytest.mark.slow(30)
def test_a_running_poller_outlives_resharding_and_dead_nodes(
    tmp_path: Path, cluster: RedisCluster, world: World
) -> None:
    everything = set(world.ids)
    with running(tmp_path, cluster, world) as poller:
        slot = slot_of(world.ids[1])
        cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3)
        wait_fresh(world, cluster, everything)
        leader = cluster.owner(slot_of(LEASE))
        dead = (leader + 1) % 3
        lost = {kernel for kernel, owner in owners(cluster, world).items() if owner == dead}
        assert lost
        cluster.kill_node(dead)
        for _ in range(3):
            wait_fresh(world, cluster, everything - lost)
        assert poller.stop() == 0
        poller.start()  # one that knows of no better days
        wait_fresh(world, cluster, everything - lost)
        cluster.restart_node(dead)
        wait_fresh(world, cluster, everything)
        assert "Traceback" not in poller.log
        assert poller.stop() == 0


def test_while_the_leases_node_is_dead_nobody_writes(
    tmp_path: Path, cluster: RedisCluster, world: World
) -> None:
    """Nobody can know who leads then. A replica would take over; this cluster has none."""
    with running(tmp_path, cluster, world) as poller:
        leader = cluster.owner(slot_of(LEASE))
        cluster.kill_node(leader)
        poller.wait_line("redis: ")
        time.sleep(length_s(INTERVAL_S))  # so long it may still write
        before = evaluated(world, cluster.nodes)
        time.sleep(3 * INTERVAL_S)
        assert evaluated(world, cluster.nodes) == before
        cluster.restart_node(leader)
        wait_fresh(world, cluster, set(world.ids))
        assert poller.stop() == 0
