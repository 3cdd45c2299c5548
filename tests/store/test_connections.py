"""Connections to the store: cut short, answered by nobody, refused, and made anew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from poller.errors import StoreError
from poller.store.connections import StoreAccess, check, connect
from poller.store.keys import Store
from tests.support.proxy import FaultProxy, blackhole, passing, refusing
from tests.support.servers import Redis, wait_until

KERNELS = [f"11111111-2222-4333-8444-{number:012d}" for number in range(50)]
TIMEOUT_S = 0.5
AT_ONCE = 2
PATIENCE_S = 4.0
"""What a machine under load may add to a time limit; the library's own defaults take longer."""


@pytest.fixture
def proxy(redis: Redis) -> Iterator[FaultProxy]:
    redis.command("FLUSHALL")
    with FaultProxy(redis.port) as opened:
        yield opened


def through(proxy: FaultProxy, timeout_s: float = TIMEOUT_S) -> Store:
    return Store(StoreAccess(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=timeout_s))


def clients(redis: Redis) -> int:
    with redis.client() as client:
        return len(client.client_list()) - 1  # the one that asks is among them


async def test_a_reply_to_a_cancelled_command_is_nobody_elses(proxy: FaultProxy) -> None:
    async with through(proxy, timeout_s=5.0) as store:
        await store.write({kernel: kernel.encode() for kernel in KERNELS})
        for number in range(20):
            proxy.fault = passing(delay_s=0.5)
            asked = asyncio.create_task(store.read(KERNELS))
            await asyncio.sleep(0.002 * (number % 10))
            asked.cancel()
            # Before Python 3.12 `wait_for` can swallow it; the reply is then the right one.
            await asyncio.gather(asked, return_exceptions=True)
            assert asked.cancelled() or len(asked.result().values) == len(KERNELS)
            proxy.fault = passing()
            found = await store.read([KERNELS[number]])
            assert found.values == {KERNELS[number]: KERNELS[number].encode()}


async def test_a_server_that_does_not_answer_costs_the_time_limit_once(proxy: FaultProxy) -> None:
    async with through(proxy) as store:
        await store.read(KERNELS)
        proxy.fault = blackhole()
        started = time.monotonic()
        with pytest.raises(StoreError) as raised:
            await store.write({kernel: b"x" * 100_000 for kernel in KERNELS})
        assert raised.value.reason == "timeout"
        assert TIMEOUT_S * 0.9 <= time.monotonic() - started < TIMEOUT_S + PATIENCE_S
        proxy.fault = passing()
        assert len((await store.write({KERNELS[0]: b"y"})).before) == 1


async def test_a_server_that_accepts_and_says_nothing_costs_the_time_limit_once(
    proxy: FaultProxy,
) -> None:
    proxy.fault = blackhole()
    async with through(proxy) as store:
        started = time.monotonic()
        with pytest.raises(StoreError) as raised:
            await store.read(KERNELS)
        assert raised.value.reason == "timeout"
        assert time.monotonic() - started < TIMEOUT_S + PATIENCE_S


def refusals(redis: Redis) -> int:
    """Return how often a password was refused."""
    with redis.client() as client:
        return sum(int(entry["count"]) for entry in client.acl_log())


async def test_a_wrong_password_is_sent_once() -> None:
    with Redis(password="right") as redis:
        url = f"redis://:wrong@127.0.0.1:{redis.port}/0"
        async with Store(StoreAccess(url)) as store:
            for tries in range(1, 4):
                with pytest.raises(StoreError) as raised:
                    await store.read(KERNELS)
                assert raised.value.reason == "unauthorized"
                assert "wrong" not in str(raised.value)
                assert refusals(redis) == tries


async def test_no_connection_is_left_behind_by_many_failures(
    proxy: FaultProxy, redis: Redis
) -> None:
    await asyncio.to_thread(wait_until, lambda: clients(redis) == 0, "nobody of another test")
    async with through(proxy, timeout_s=5.0) as store:
        for _ in range(30):
            await store.read(KERNELS)
            proxy.cut(with_reset=True)
            with pytest.raises(StoreError):
                await store.read(KERNELS)
            proxy.fault = passing(delay_s=0.05)
            asked = [asyncio.create_task(store.read(KERNELS)) for _ in range(AT_ONCE)]
            await asyncio.sleep(0.01)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            proxy.fault = passing()
        await store.read(KERNELS)
        # On a slow machine the last commands end before they are cancelled: their connections stay.
        few = f"{AT_ONCE} connections at most"
        await asyncio.to_thread(wait_until, lambda: clients(redis) <= AT_ONCE, few)
    await asyncio.to_thread(wait_until, lambda: clients(redis) == 0, "none")


async def test_a_server_that_is_gone_and_back_is_used_again(proxy: FaultProxy) -> None:
    async with through(proxy) as store:
        await store.write({KERNELS[0]: b"before"})
        proxy.fault = refusing()
        proxy.cut()
        for _ in range(3):
            with pytest.raises(StoreError) as raised:
                await store.write({KERNELS[0]: b"lost"})
            assert raised.value.reason == "connection"
        proxy.fault = passing()
        assert (await store.write({KERNELS[0]: b"after"})).before == {KERNELS[0]: b"before"}


async def test_a_write_that_fails_takes_none_beside_it_along_twice(
    proxy: FaultProxy, redis: Redis
) -> None:
    """Two portions on their way fail together: the client is made anew once, not under a third."""
    async with through(proxy, timeout_s=5.0) as store:
        await asyncio.gather(*(store.read(KERNELS) for _ in range(2)))
        before = proxy.connections
        proxy.cut(with_reset=True)
        asked = [asyncio.create_task(store.read(KERNELS)) for _ in range(2)]
        await asyncio.gather(*asked, return_exceptions=True)
        assert (await store.read(KERNELS)).values == {}
        assert proxy.connections - before <= 3


@pytest.mark.parametrize(
    "option", ["max_connections=20", "socket_timeout=5s", "foo=20", "db=0&protocol=two"]
)
def test_an_option_of_the_url_that_cannot_be_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="^(?!.*secret)"):
        check(StoreAccess(f"redis://:secret@127.0.0.1:1/0?{option}"))


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:1/0", "rediss://u:p@h:1/0?ssl_cert_reqs=none", "unix:///run/redis?db=2",
     "redis+sentinel://a:1,b:1/name/3", "redis+cluster://a:1,b:1"],
)  # fmt: skip
def test_what_can_be_is_not_refused(url: str) -> None:
    check(StoreAccess(url))


@pytest.mark.parametrize(
    "url", ["redis+sentinel://u:p%40q@a:1,b:2/m/0", "redis+cluster://u:p%40q@a:1"]
)
async def test_user_and_password_in_the_url_of_several_nodes_are_used(url: str) -> None:
    client, beside = connect(StoreAccess(url))
    node = client._make("a", 1) if url.startswith("redis+cluster") else client
    given = node.connection_pool.connection_kwargs["credential_provider"]
    assert given.get_credentials() == ("u", "p@q")
    for one in (client, *beside):
        await one.aclose()


async def test_where_an_address_moved_to_another_master_the_next_write_goes_there(
    proxy: FaultProxy, redis: Redis
) -> None:
    with Redis() as master:
        async with through(proxy) as store:
            await store.write({KERNELS[0]: b"before"})
            redis.command("REPLICAOF", "127.0.0.1", "1")  # which ends no connection
            try:
                proxy.target_port = master.port
                assert (await store.write({KERNELS[0]: b"lost"})).failures() == {"readonly": 1}
                assert (await store.write({KERNELS[0]: b"after"})).before == {KERNELS[0]: None}
                assert master.command("GET", KERNELS[0]) == b"after"
            finally:
                redis.command("REPLICAOF", "NO", "ONE")
