"""The lease: who may write, by the server's account and by the local clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from poller.errors import LeaseLost, StoreError
from poller.poll.publish import Publisher
from poller.store import writes
from poller.store.connections import StoreAccess
from poller.store.errors import translate
from poller.store.holders import new_token
from poller.store.keys import Store
from poller.store.lease import Lease
from poller.store.writes import Fence, Writes
from tests.support.hand_clock import HandClock
from tests.support.proxy import FaultProxy, passing, refusing, reset
from tests.support.servers import Redis, wait_until
from tests.support.tokens import altered

NAME = "livestat-poller:leader"
KERNEL = "11111111-2222-4333-8444-555555555555"
OTHER = "66666666-7777-4888-9999-000000000000"
LONG_S = 30.0
SHORT_S = 0.1


@pytest.fixture
async def store(redis: Redis) -> AsyncIterator[Store]:
    redis.command("FLUSHALL")
    async with Store(StoreAccess(redis.url, timeout_s=5.0)) as opened:
        yield opened


async def test_a_free_lease_is_taken_and_kept_from_others(store: Store, redis: Redis) -> None:
    ours, theirs = Lease(store, NAME, LONG_S, "ours"), Lease(store, NAME, LONG_S, "theirs")
    assert not ours.held
    assert await ours.take()
    assert ours.held
    assert not await theirs.take()
    assert not await theirs.renew()
    assert not theirs.held
    assert redis.command("GET", NAME) == b"ours"
    assert await theirs.holder() == "ours"


async def test_taking_it_again_renews_it(store: Store, redis: Redis) -> None:
    lease, later = Lease(store, NAME, 1.0), Lease(store, NAME, LONG_S)
    later.token = lease.token
    assert await lease.take()
    before = redis.command("PTTL", NAME)
    assert await later.take()
    assert redis.command("PTTL", NAME) > before + 20_000


async def test_it_is_free_when_its_time_has_passed(store: Store) -> None:
    ours, theirs = Lease(store, NAME, SHORT_S), Lease(store, NAME, LONG_S)
    assert await ours.take()
    assert not await theirs.take()
    await asyncio.sleep(1.5 * SHORT_S)
    assert await theirs.holder() is None
    assert await theirs.take()


async def test_who_was_killed_on_this_host_holds_it_no_longer(store: Store, redis: Redis) -> None:
    ended = Lease(store, NAME, LONG_S, altered(new_token()))
    living = Lease(store, NAME, LONG_S)
    assert await ended.take()
    assert await living.take()
    assert redis.command("GET", NAME).decode() == living.token
    assert not await ended.renew()
    assert not await Lease(store, NAME, LONG_S).take()


async def test_what_ran_out_is_not_renewed_but_can_be_taken(store: Store) -> None:
    """Another may have had it in between, so what was observed before is too old."""
    lease = Lease(store, NAME, SHORT_S)
    assert await lease.take()
    await asyncio.sleep(1.5 * SHORT_S)
    assert not lease.held
    assert not await lease.renew()
    assert not lease.held
    assert await lease.take()
    assert lease.held


async def test_what_another_had_in_between_is_not_renewed_though_it_is_free(store: Store) -> None:
    ours, theirs = Lease(store, NAME, SHORT_S), Lease(store, NAME, LONG_S)
    assert await ours.take()
    await asyncio.sleep(1.5 * SHORT_S)
    assert await theirs.take()
    await theirs.release()
    assert not await ours.renew()
    assert not ours.held


async def test_a_lease_that_was_released_is_nobodys_until_its_key_goes_away(
    store: Store, redis: Redis
) -> None:
    """So that who looks later sees that it was given up, and not lost with the server's keys."""
    lease, other = Lease(store, NAME, LONG_S), Lease(store, NAME, LONG_S)
    assert await lease.take()
    assert not await other.take()
    assert 0 < redis.command("PTTL", NAME) <= LONG_S * 1000
    await lease.release()
    assert 0 < redis.command("PTTL", NAME) <= LONG_S * 1000
    assert await lease.holder() is None
    assert await other.take()


async def test_a_lease_that_the_server_lost_is_first_its_holders_to_take_back(
    store: Store, redis: Redis
) -> None:
    clock = HandClock()
    ours, theirs = (Lease(store, NAME, LONG_S, monotonic=clock) for _ in range(2))
    assert await ours.take()
    assert not await theirs.take()
    redis.command("FLUSHALL")
    for _ in range(2):
        clock.now += 0.4 * LONG_S
        assert not await theirs.take()
    assert not await ours.renew()
    assert await ours.take()
    assert not await theirs.take()
    redis.command("FLUSHALL")  # and its holder is gone with it
    assert not await theirs.take()
    clock.now += LONG_S
    assert await theirs.take()


async def test_a_lease_that_ran_out_while_the_server_did_not_answer_is_its_holders_to_take_back(
    redis: Redis,
) -> None:
    """Nobody could renew it; a server that restarts without persistence has lost it besides."""
    redis.command("FLUSHALL")
    clock = HandClock()
    with FaultProxy(redis.port) as proxy:
        async with Store(StoreAccess(f"redis://127.0.0.1:{proxy.port}/0")) as store:
            ours, theirs = (Lease(store, NAME, LONG_S, monotonic=clock) for _ in range(2))
            assert await ours.take()
            assert not await theirs.take()
            proxy.fault = refusing()
            proxy.cut()
            for _ in range(5):
                clock.now += LONG_S
                with pytest.raises(StoreError):
                    await theirs.take()
            redis.command("FLUSHALL")
            proxy.fault = passing()
            for _ in range(2):
                clock.now += 0.9 * LONG_S
                assert not await theirs.take()
            clock.now += 0.2 * LONG_S
            assert await theirs.take()


async def test_a_lease_that_is_kept_outlasts_its_length(store: Store) -> None:
    lease = Lease(store, NAME, SHORT_S)
    assert await lease.take()
    keeper = asyncio.create_task(lease.keep())
    await asyncio.sleep(3 * SHORT_S)
    assert lease.held
    assert await lease.holder() == lease.token
    keeper.cancel()


async def test_only_its_owner_releases_it(store: Store) -> None:
    ours, theirs = Lease(store, NAME, LONG_S), Lease(store, NAME, LONG_S)
    assert await ours.take()
    await theirs.release()
    assert not await theirs.take()
    await ours.release()
    assert not ours.held
    assert await theirs.holder() is None
    assert await theirs.take()


async def test_the_local_clock_ends_it_without_asking(store: Store) -> None:
    clock = HandClock()
    lease = Lease(store, NAME, LONG_S, monotonic=clock)
    assert await lease.take()
    clock.now += LONG_S - 0.001
    assert lease.held
    clock.now += 0.001
    assert not lease.held


async def test_the_local_clock_counts_from_before_the_question(redis: Redis) -> None:
    """A slow answer must not make the lease seem longer than the server knows it."""
    clock = HandClock()
    with FaultProxy(redis.port) as proxy:
        async with Store(StoreAccess(f"redis://127.0.0.1:{proxy.port}/0")) as slow:
            lease = Lease(slow, NAME + ":slow", LONG_S, monotonic=clock)
            assert await lease.take()
            renewing = asyncio.create_task(lease.renew())
            await asyncio.sleep(0)  # the question is on its way
            clock.now += 20.0
            assert await renewing
    clock.now += LONG_S - 20.0
    assert not lease.held


async def test_a_forgotten_lease_is_not_held_and_stands_on_the_server(store: Store) -> None:
    lease = Lease(store, NAME, LONG_S)
    assert await lease.take()
    lease.forget()
    assert not lease.held
    assert await lease.holder() == lease.token


async def test_the_servers_clock_tells_when_it_ends(store: Store, redis: Redis) -> None:
    lease = Lease(store, NAME, LONG_S)
    assert await lease.take()
    seconds, micros = redis.command("TIME")
    left_ms = lease.fence.until_ms - (int(seconds) * 1000 + int(micros) / 1000)
    assert 0 < left_ms <= LONG_S * 1000


async def test_a_key_of_another_type_in_its_place_is_an_error(store: Store, redis: Redis) -> None:
    redis.command("RPUSH", NAME, "somebody's")
    lease = Lease(store, NAME, LONG_S)
    for asked in (lease.take, lease.renew, lease.holder, lease.release):
        with pytest.raises(StoreError) as raised:
            await asked()
        assert raised.value.reason == "wrong_type"
        assert raised.value.detail == (
            f"the lease's key {NAME} holds another type than string ({redis.url})"
        )
        assert "leader.name" in raised.value.advice
    assert redis.command("LRANGE", NAME, 0, -1) == [b"somebody's"]


async def test_the_holder_writes(store: Store, redis: Redis) -> None:
    lease = Lease(store, NAME, LONG_S)
    assert await lease.take()
    written = await store.write({KERNEL: b"one", OTHER: b"two"}, lease.fence)
    assert written.before == {KERNEL: None, OTHER: None}
    assert redis.command("MGET", KERNEL, OTHER) == [b"one", b"two"]
    assert 86_390 < redis.command("TTL", KERNEL) <= 86_400
    assert (await store.write({KERNEL: b"three"}, lease.fence)).before == {KERNEL: b"one"}


async def test_nothing_is_sent_after_the_local_clock_says_that_it_ran_out(
    store: Store, redis: Redis
) -> None:
    """Though nobody else has it, so that the server would let it pass."""
    clock = HandClock()
    lease = Lease(store, NAME, LONG_S, monotonic=clock)
    publisher = Publisher(store, False, 1.0)
    assert await lease.take()
    written = [one async for one in publisher.publish([{KERNEL: b"good"}], 0.0, lease)]
    assert [one.before for one in written] == [{KERNEL: None}]
    clock.now += LONG_S
    with pytest.raises(LeaseLost):
        _ = [one async for one in publisher.publish([{KERNEL: b"late"}], 1.0, lease)]
    assert redis.command("GET", KERNEL) == b"good"


@pytest.mark.parametrize("lost", ["taken over", "gone", "of another type"])
async def test_who_lost_it_writes_nothing(store: Store, redis: Redis, lost: str) -> None:
    lease = Lease(store, NAME, LONG_S)
    assert await lease.take()
    redis.command("SET", KERNEL, "newer")
    if lost != "taken over":
        redis.command("DEL", NAME)
    if lost == "of another type":
        redis.command("RPUSH", NAME, "somebody's")
    elif lost == "taken over":
        redis.command("SET", NAME, "somebody else", "PX", 90_000_000)
    assert lease.held  # by its own clock: that alone would let it write
    with pytest.raises(LeaseLost):
        await store.write({OTHER: b"old", KERNEL: b"old"}, lease.fence)
    assert redis.command("MGET", KERNEL, OTHER) == [b"newer", None]


async def test_who_loses_it_in_mid_write_writes_nothing(redis: Redis) -> None:
    """The lease changes hands after the writer has looked (WATCH, GET) and before its EXEC."""
    redis.command("FLUSHALL")
    with FaultProxy(redis.port) as proxy:
        async with Store(
            StoreAccess(f"redis://127.0.0.1:{proxy.port}/0", timeout_s=10.0)
        ) as held_up:
            lease = Lease(held_up, NAME, LONG_S)
            assert await lease.take()
            looks = _gets(redis)
            proxy.fault = passing(delay_s=1.0)  # every answer comes late
            writing = asyncio.create_task(held_up.write({KERNEL: b"old"}, lease.fence))
            await asyncio.to_thread(wait_until, lambda: _gets(redis) > looks, "a look")
            redis.command("SET", NAME, "somebody else", "PX", 90_000_000)
            with pytest.raises(LeaseLost):
                await writing
    assert redis.command("EXISTS", KERNEL) == 0


def _gets(redis: Redis) -> int:
    return int(redis.command("INFO", "commandstats")["cmdstat_get"]["calls"])


async def test_a_broken_connection_in_mid_write_is_no_lost_lease(redis: Redis) -> None:
    redis.command("FLUSHALL")
    with FaultProxy(redis.port) as proxy:
        async with Store(StoreAccess(f"redis://127.0.0.1:{proxy.port}/0")) as store:
            lease = Lease(store, NAME, LONG_S)
            assert await lease.take()
            proxy.fault = reset(after_request_bytes=500, times=1)
            with pytest.raises(StoreError) as raised:
                await store.write({KERNEL: b"x" * 1000}, lease.fence)
            assert raised.value.reason == "connection"
            assert not isinstance(raised.value, LeaseLost)
            assert (await store.write({KERNEL: b"y"}, lease.fence)).before == {KERNEL: None}


async def test_a_key_of_another_type_fails_alone(store: Store, redis: Redis) -> None:
    lease = Lease(store, NAME, LONG_S)
    assert await lease.take()
    redis.command("RPUSH", KERNEL, "somebody's")
    written = await store.write({KERNEL: b"one", OTHER: b"two"}, lease.fence)
    assert written.failed == {KERNEL: "wrong_type"}
    assert written.before == {OTHER: None}
    assert redis.command("LRANGE", KERNEL, 0, -1) == [b"somebody's"]
    assert redis.command("GET", OTHER) == b"two"


ACL = f"user default on nopass &* +@all ~livestat-poller:* ~{OTHER}"


async def test_a_key_that_may_not_be_written_fails_alone_and_the_rest_stays_fenced() -> None:
    """The server refuses a transaction whole for one such key: each is then written alone."""
    with Redis(acl=ACL) as redis:
        async with Store(StoreAccess(redis.url)) as store:
            lease = Lease(store, NAME, LONG_S)
            assert await lease.take()
            values = {KERNEL: b"one", OTHER: b"two"}
            written = await store.write(values, lease.fence)
            assert written.failed == {KERNEL: "forbidden"}
            assert written.before == {OTHER: None}
            assert redis.command("GET", OTHER) == b"two"
            assert 86_390 < redis.command("TTL", OTHER) <= 86_400
            redis.command("SET", NAME, "somebody else", "PX", 90_000_000)
            with pytest.raises(LeaseLost):
                await store.write(values, lease.fence)


@pytest.mark.parametrize("command", ["time", "set", "eval"])
async def test_a_right_that_is_missing_is_called_so_in_a_script_too(command: str) -> None:
    with Redis(acl=f"user default on nopass ~* &* +@all -{command}") as redis:
        async with Store(StoreAccess(redis.url)) as store:
            with pytest.raises(StoreError) as raised:
                await Lease(store, NAME, LONG_S).take()
    assert raised.value.reason == "forbidden"


@pytest.mark.parametrize("lease", ["held", "of another type"])
async def test_keys_written_one_by_one_are_fenced_one_by_one(
    store: Store, redis: Redis, lease: str
) -> None:
    stale = Fence(NAME, "not the holder", 0)
    if lease == "held":
        assert await Lease(store, NAME, LONG_S).take()
    else:
        redis.command("RPUSH", NAME, "somebody's")
    async with store.client() as client:
        replies = await Writes(StoreAccess(redis.url))._scripted(
            client, {KERNEL: b"old"}, writes._SET_IF_OURS, (NAME,), stale.token
        )
    assert [translate(reply).reason for reply in replies] == ["late"]
    assert redis.command("EXISTS", KERNEL) == 0


async def test_a_renewal_in_the_middle_of_a_write_is_no_loss(
    store: Store, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = Lease(store, NAME, LONG_S)
    assert await lease.take()
    packed, renewals = Writes._packed, ["once"]

    def renewed(self: Writes, values: Mapping[str, bytes]) -> bytes:
        if renewals:
            renewals.pop()
            redis.command("SET", NAME, lease.token, "PX", "30000")
        return packed(self, values)

    monkeypatch.setattr(Writes, "_packed", renewed)
    written = await store.write({KERNEL: b"new"}, lease.fence)
    assert (written.failed, redis.command("GET", KERNEL), renewals) == ({}, b"new", [])


async def test_a_lease_that_never_runs_out_is_nobodys(store: Store, redis: Redis) -> None:
    redis.command("SET", NAME, "host:1:abc")
    assert await Lease(store, NAME, LONG_S).take()
    assert redis.command("PTTL", NAME) > 0


async def test_a_lease_runs_out_for_the_second_half_of_its_time(store: Store) -> None:
    now = [0.0]
    lease = Lease(store, NAME, LONG_S, monotonic=lambda: now[0])
    assert await lease.take()
    assert not lease.runs_out
    now[0] = LONG_S / 2 + 0.1
    assert (lease.held, lease.runs_out) == (True, True)
    assert await lease.renew()
    assert not lease.runs_out


async def test_a_key_of_an_agent_is_as_old_as_it_is_where_our_ttl_is_shorter(redis: Redis) -> None:
    redis.command("FLUSHALL")
    redis.command("SET", KERNEL, "x", "EX", str(86_400 - 36_000))
    redis.command("SET", OTHER, "x", "EX", "3590")
    async with Store(StoreAccess(redis.url, ttl_s=3600)) as short:
        ages = await short.ages([KERNEL, OTHER])
    assert ages == {KERNEL: pytest.approx(36_000, abs=5), OTHER: pytest.approx(10, abs=5)}
