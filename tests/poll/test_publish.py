"""Portions into keys: what was written before a failure counts, and whose keys are whose."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from poller.errors import LeaseLost, StoreError
from poller.poll.publish import AGAIN_INTERVALS, QUIET_INTERVALS, Publisher
from poller.store.keys import Found, Written
from poller.store.writes import Fence

INTERVAL_S = 5.0
REFUSED = StoreError("readonly", "this is a replica")


class Memory:
    """A store in memory. A key whose value is an error refuses the portion that it is in.

    `rendezvous`: writes wait until so many are under way, and go on together.
    """

    def __init__(self, rendezvous: int = 1) -> None:
        self.keys: dict[str, bytes] = {}
        self.refused: dict[str, Exception] = {}
        self.foreign: set[str] = set()
        self.unreadable: set[str] = set()
        self.looked_at: list[str] = []
        self.fences: list[Fence | None] = []
        self.under_way = self.most_under_way = 0
        self.cancelled = 0
        self.two_under_way = asyncio.Event()
        self._rendezvous = asyncio.Barrier(rendezvous)

    async def write(self, values: Mapping[str, bytes], fence: Fence | None) -> Written:
        self.fences.append(fence)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.under_way == 2:
                self.two_under_way.set()
            await self._rendezvous.wait()
            for _ in range(5):
                await asyncio.sleep(0)
            for kernel in values:
                if kernel in self.refused:
                    raise self.refused[kernel]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        good = {kernel: value for kernel, value in values.items() if kernel not in self.foreign}
        before = {kernel: self.keys.get(kernel) for kernel in good}
        self.keys.update(good)
        return Written(before, dict.fromkeys(values.keys() - good.keys(), "wrong_type"))

    async def read(self, kernels: list[str]) -> Found:
        self.looked_at += kernels
        there = [kernel for kernel in kernels if kernel in self.keys]
        held = {kernel: self.keys[kernel] for kernel in there if kernel not in self.unreadable}
        return Found(held, frozenset(), dict.fromkeys(self.unreadable, "timeout"))


def publisher(store: Memory | None = None, yields: bool = True) -> Publisher:
    return Publisher(store or Memory(), yields, INTERVAL_S)  # type: ignore[arg-type]


def portions(*kernels: str, value: bytes = b"1") -> list[dict[str, bytes]]:
    return [{kernel: value} for kernel in kernels]


async def published(
    made: Publisher, kernels: list[dict[str, bytes]], now: float = 100.0, lease: Any = None
) -> list[str]:
    return [kernel async for one in made.publish(kernels, now, lease) for kernel in one.before]


async def until_failure(made: Publisher, *kernels: str) -> tuple[set[str], Exception]:
    """Return what was told as written before the failure, and the failure."""
    told: set[str] = set()
    try:
        async for written in made.publish(portions(*kernels), 100.0):
            told.update(written.before)
    except StoreError as error:
        return told, error
    raise AssertionError("nothing failed")


async def test_every_portion_is_written_and_told() -> None:
    store = Memory()
    assert sorted(await published(publisher(store), portions(*"abcde"))) == list("abcde")
    assert store.keys == dict.fromkeys("abcde", b"1")


async def test_one_portion_is_on_its_way_while_the_next_is_made_and_no_more() -> None:
    store = Memory()
    made: list[tuple[str, int]] = []

    def making():
        for kernel in "abcdef":
            made.append((kernel, store.under_way))
            yield {kernel: b"1"}

    await published(publisher(store), making())  # type: ignore[arg-type]
    assert store.most_under_way == 2
    assert made[1] == ("b", 1)


async def test_no_portion_is_no_write() -> None:
    store = Memory()
    assert await published(publisher(store), []) == []
    assert store.fences == []


async def test_what_was_written_before_a_failure_is_told_and_then_it_is_raised() -> None:
    store = Memory()
    store.refused["c"] = REFUSED
    told, error = await until_failure(publisher(store), *"abcdef")
    assert error is REFUSED
    assert told == set(store.keys)
    assert {"a", "b"} <= told
    assert not told & {"e", "f"}


async def test_what_is_written_beside_a_failure_is_told_too() -> None:
    store = Memory(rendezvous=2)
    store.refused["a"] = REFUSED
    told, error = await until_failure(publisher(store), "a", "b")
    assert error is REFUSED
    assert told == set(store.keys) == {"b"}


async def test_of_two_failures_one_is_raised_and_the_other_is_not_left_unheard() -> None:
    store = Memory(rendezvous=2)
    store.refused = {"a": REFUSED, "b": StoreError("timeout", "no answer")}
    unheard: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: unheard.append(what))
    told, error = await until_failure(publisher(store), "a", "b")
    assert told == set()
    assert error in store.refused.values()
    await asyncio.sleep(0)
    assert unheard == []


async def test_who_stops_listening_cancels_what_is_under_way() -> None:
    store = Memory(rendezvous=3)  # never met: both writes hang
    task = asyncio.create_task(published(publisher(store), portions("a", "b")))
    await store.two_under_way.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.cancelled == 2


# The lease.


class Claim:
    """A lease that is ours, or not."""

    def __init__(self, ours: bool, fence: Fence | None = None) -> None:
        self.ours, self.fence = ours, fence

    async def allows_write(self) -> bool:
        return self.ours


async def test_a_write_is_fenced_by_the_lease() -> None:
    store = Memory()
    fence = Fence("leader", "ours", 1)
    await published(publisher(store), portions("a"), lease=Claim(True, fence))
    await published(publisher(store), portions("a"))
    assert store.fences == [fence, None]


async def test_without_the_lease_nothing_is_written() -> None:
    store = Memory()
    with pytest.raises(LeaseLost):
        await published(publisher(store), portions("a"), lease=Claim(False))
    assert store.keys == {}


# Rivals.


async def meet_rival(store: Memory, made: Publisher, *kernels: str) -> None:
    """Write these at 100 and at 105; somebody else has written `a` in between."""
    await published(made, portions(*kernels), 100.0)
    store.keys["a"] = b"theirs"
    await published(made, portions(*kernels), 105.0)


async def test_our_own_value_is_no_rivals() -> None:
    made = publisher()
    for now in (100.0, 105.0):
        await published(made, portions("a", value=b"1"), now)
    await published(made, portions("a", value=b"2"), 110.0)
    assert made.rivals == {}


async def test_a_value_that_is_not_ours_is_a_rivals() -> None:
    store = Memory()
    made = publisher(store)
    await meet_rival(store, made, "a")
    assert made.rivals == {"a": 105.0}


async def test_our_value_before_the_last_is_no_rivals() -> None:
    """A replica that is promoted may not have the last one yet."""
    store = Memory()
    made = publisher(store)
    for now, value in enumerate((b"1", b"2"), start=100):
        await published(made, portions("a", "b", value=value), now)
    store.keys = {"a": b"1", "b": b"theirs"}
    await published(made, portions("a", "b", value=b"3"), 102.0)
    assert made.rivals == {"b": 102.0}
    store.keys["a"] = b"1"  # by now that is nobody's but a rival's
    await published(made, portions("a", "b", value=b"4"), 103.0)
    assert made.rivals == {"a": 103.0, "b": 102.0}


async def test_what_was_there_before_we_came_is_no_rivals_and_what_changed_since_is() -> None:
    store = Memory()
    store.keys = dict.fromkeys("ab", b"old")
    made = publisher(store)
    made.found(store.keys)
    store.keys["b"] = b"theirs"
    await published(made, portions("a", "b"))
    assert made.rivals.keys() == {"b"}


async def test_a_write_that_may_have_come_through_makes_no_rival() -> None:
    store = Memory()
    made = publisher(store)
    await published(made, portions("a"), 100.0)
    store.refused["a"] = REFUSED
    await until_failure(made, "a")
    store.keys["a"] = b"perhaps ours"
    del store.refused["a"]
    await published(made, portions("a"), 110.0)
    assert made.rivals == {}


async def test_a_rivals_key_is_left_to_it_until_it_was_quiet_for_some_intervals() -> None:
    store = Memory()
    made = publisher(store)
    await meet_rival(store, made, "a", "b")
    assert await made.yielded(["a", "b"], 110.0) == {"a"}
    store.keys["a"] = b"theirs again"
    assert await made.yielded(["a", "b"], 115.0) == {"a"}
    quiet = 115.0 + QUIET_INTERVALS * INTERVAL_S
    assert await made.yielded(["a", "b"], quiet - 1) == {"a"}
    assert await made.yielded(["a", "b"], quiet) == set()
    assert made.rivals == {}


async def test_where_we_do_not_yield_a_rival_is_told_and_written_over() -> None:
    store = Memory()
    made = publisher(store, yields=False)
    await meet_rival(store, made, "a")
    assert await made.yielded(["a"], 110.0) == set()
    assert made.rivals == {"a": 105.0}


async def test_a_rival_that_nobody_looked_at_is_no_quiet_one() -> None:
    store = Memory()
    made = publisher(store, yields=False)
    await meet_rival(store, made, "a")
    store.keys["a"] = b"theirs again"
    after = 105.0 + 20 * INTERVAL_S  # nothing could be written in between
    assert await made.yielded(["a"], after) == set()
    await published(made, portions("a"), after)
    assert made.rivals == {"a": after}
    await published(made, portions("a"), after + QUIET_INTERVALS * INTERVAL_S)
    assert made.rivals == {}


@pytest.mark.parametrize("yields", [False, True])
async def test_a_rivals_key_that_is_not_written_is_looked_at_when_it_may_be_quiet(
    yields: bool,
) -> None:
    store = Memory()
    made = publisher(store, yields)
    await meet_rival(store, made, "a", "b")
    quiet = 105.0 + QUIET_INTERVALS * INTERVAL_S
    store.keys["a"] = b"theirs again"
    await published(made, [], quiet - 1)
    assert store.looked_at == []
    await published(made, [], quiet)
    assert store.looked_at == ["a"]
    assert made.rivals == {"a": quiet}
    await published(made, [], quiet + QUIET_INTERVALS * INTERVAL_S)
    assert made.rivals == {}


async def test_a_rivals_key_that_cannot_be_read_is_no_quiet_one() -> None:
    store = Memory()
    made = publisher(store)
    await meet_rival(store, made, "a")
    store.unreadable.add("a")
    await published(made, [], 105.0 + QUIET_INTERVALS * INTERVAL_S)
    assert made.rivals == {"a": 105.0}


async def test_that_there_is_no_rival_is_known_after_some_intervals_of_watching() -> None:
    made = publisher()
    assert not made.has_watched(100.0)
    await published(made, portions("a"), 100.0)
    known = 100.0 + QUIET_INTERVALS * INTERVAL_S
    assert (made.has_watched(known - 1), made.has_watched(known)) == (False, True)
    made.begin_anew()
    assert not made.has_watched(known)


# Keys of another type, and kernels that are gone.


async def test_a_key_of_another_type_is_found_by_writing_it() -> None:
    store = Memory()
    store.foreign.add("a")
    made = publisher(store)
    assert await published(made, portions("a", "b"), 100.0) == ["b"]
    assert made.foreign == {"a": 100.0}


def test_a_key_of_another_type_is_looked_at_again_after_some_intervals():
    made = publisher()
    made.found_foreign(["a", "b"], 100.0)
    again = 100.0 + INTERVAL_S * AGAIN_INTERVALS
    assert made.due_again(again - 1) == []
    assert made.due_again(again) == ["a", "b"]
    assert made.due_again(again) == []
    assert made.foreign == {}
    made.found_foreign(["b"], again)
    assert made.due_again(again + 1) == []
    assert made.foreign == {"b": again}


async def test_kernels_that_live_no_more_are_forgotten() -> None:
    store = Memory()
    made = publisher(store)
    made.found_foreign(["a", "b"], 100.0)
    await published(made, portions("c", "d"), 100.0)
    store.keys |= {"c": b"theirs", "d": b"theirs"}
    await published(made, portions("c", "d"), 105.0)
    made.forget(["a", "c", "never"])
    assert list(made.foreign) == ["b"]
    assert list(made.rivals) == ["d"]


async def test_a_rival_that_measures_more_rarely_than_we_poll_is_no_quiet_one() -> None:
    store = Memory()
    made = publisher(store)
    made.know_slowest(6 * INTERVAL_S)
    await meet_rival(store, made, "a")
    store.keys["a"] = b"theirs again"
    assert await made.yielded(["a"], 110.0) == {"a"}
    quiet = 110.0 + QUIET_INTERVALS * 6 * INTERVAL_S
    assert await made.yielded(["a"], quiet - 1) == {"a"}
    assert not made.has_watched(quiet - 21)
    assert await made.yielded(["a"], quiet) == set()
