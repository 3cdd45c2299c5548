"""Kernels are counted beside the batches: how long that takes must not matter to them."""

from __future__ import annotations

import asyncio

import pytest

from poller.batch.census import Census
from poller.errors import PrometheusError
from poller.prometheus.answers import Labels, Row, Sample
from poller.prometheus.selectors import EVERYTHING


class Counting:
    """A Prometheus that counts when it is told to."""

    def __init__(self) -> None:
        self.url = "http://one"
        self.asked = 0
        self.kernels: dict[str, int | str] = {"a:1": 2}
        self.answers = asyncio.Event()
        self.answers.set()
        self.failure: PrometheusError | None = None

    async def vector(self, text: str, at: float, timeout_s: float) -> list[Row]:
        self.asked += 1
        await self.answers.wait()
        if self.failure is not None:
            raise self.failure
        return [Row(Labels(instance=name), Sample(at, str(n))) for name, n in self.kernels.items()]


def begin(census: Census, server: Counting, at: float, anew: bool = False) -> None:
    census.begin(server, EVERYTHING, at, anew)  # type: ignore[arg-type]


async def test_the_first_count_is_waited_for() -> None:
    census, server = Census(1.0), Counting()
    begin(census, server, 100.0)
    await census.arrive()
    assert census.kernels == {"a:1": 2}


async def test_a_count_that_is_no_number_costs_only_itself() -> None:
    census, server = Census(1.0), Counting()
    server.kernels = dict(zip("abcdef", ("NaN", "+Inf", "-1", "x", "3", "1e3"), strict=True))
    begin(census, server, 100.0)
    await census.arrive()
    assert census.kernels == {"e": 3, "f": 1000}


async def test_a_count_that_takes_longer_than_a_batch_is_there_for_a_later_one() -> None:
    census, server = Census(0.05), Counting()
    server.answers.clear()
    begin(census, server, 100.0)
    await census.arrive()
    assert census.kernels == {}
    begin(census, server, 105.0)
    server.answers.set()
    await census.arrive()
    assert (census.kernels, server.asked) == ({"a:1": 2}, 1)


async def test_a_later_count_is_not_waited_for_where_it_takes_long() -> None:
    census, server = Census(0.05), Counting()
    census.kernels, census.took_s = {"a:1": 1}, 0.04
    server.answers.clear()
    begin(census, server, 100.0)
    async with asyncio.timeout(5):
        await census.arrive()
    assert census.kernels == {"a:1": 1}
    await census.close()


async def test_what_batches_told_meanwhile_is_newer_than_the_count() -> None:
    census, server = Census(0.05), Counting()
    server.kernels = {"a:1": 2, "b:1": 5}
    server.answers.clear()
    begin(census, server, 100.0)
    await census.arrive()
    census.note({"a:1": 3})
    server.answers.set()
    await census.arrive()
    assert census.kernels == {"a:1": 3, "b:1": 5}


@pytest.mark.parametrize(
    ("took_s", "at", "anew", "again"),
    [(0.0, 159.0, False, False), (0.0, 160.0, False, True), (0.0, 101.0, True, True),
     (0.5, 101.0, True, False), (0.5, 160.0, True, True), (0.0, 99.0, False, True)],
)  # fmt: skip
async def test_kernels_are_counted_each_minute_and_after_a_failure_where_it_is_cheap(
    took_s: float, at: float, anew: bool, again: bool
) -> None:
    census, server = Census(1.0), Counting()
    begin(census, server, 100.0)
    await census.arrive()
    census.took_s = took_s
    begin(census, server, at, anew)
    await asyncio.sleep(0)
    assert server.asked == (2 if again else 1)
    await census.close()


async def test_a_count_that_failed_is_told_and_taken_again() -> None:
    census, server = Census(1.0), Counting()
    server.failure = PrometheusError("rejected", "too many samples")
    begin(census, server, 100.0)
    with pytest.raises(PrometheusError, match="too many samples"):
        await census.arrive()
    server.failure = None
    begin(census, server, 101.0)
    await census.arrive()
    assert census.kernels == {"a:1": 2}


@pytest.mark.parametrize("fails", [True, False])
async def test_another_server_counts_for_itself_where_one_fails_or_hangs(fails: bool) -> None:
    census, server = Census(0.05), Counting()
    server.failure = PrometheusError("refused", "connection refused")
    if not fails:
        server.answers.clear()
    begin(census, server, 100.0)
    await asyncio.sleep(0.01)
    other = Counting()
    other.url = "http://two"
    begin(census, other, 100.0)
    await census.arrive()
    assert census.kernels == {"a:1": 2}


async def test_what_another_server_counted_in_the_meantime_is_not_waited_for() -> None:
    census, server = Census(0.05), Counting()
    begin(census, server, 100.0)
    await asyncio.sleep(0.01)  # counted, but not taken
    other = Counting()
    other.url, other.kernels = "http://two", {"b:1": 5}
    begin(census, other, 101.0)
    await census.arrive()
    assert census.kernels == {"b:1": 5}
