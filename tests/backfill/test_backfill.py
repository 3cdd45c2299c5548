"""What is asked of the past, in which order, and when it gives way."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from poller.backfill.backfill import ATTEMPTS, Backfiller, Reach
from poller.backfill.pace import Pace, Queue
from poller.errors import PrometheusError
from poller.format.catalog import Catalog
from poller.history.history import History
from poller.history.state import KernelState, MetricState
from poller.prometheus.client import Client, PrometheusAccess
from poller.prometheus.round_queries import LAYER, STAGE_COUNT
from poller.rounds.rounds import Rounds
from poller.values import Life, Owed, Patience
from tests.support.looks import look, series_of
from tests.support.metric_servers import Prometheus
from tests.support.openmetrics import openmetrics_file

AT = 1_700_000_000.0
SCRAPE_S = 15
WINDOW_S = 6 * 3600.0
AGES_S = {"young": 40, "minutes": 400, "hour": 3700, "hours": 5 * 3600, "older": 8 * 3600}
IDS = {name: str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in AGES_S}
LATE_S = 900
"""One metric of one kernel came so long ago, and not with its kernel."""


def kernel(owed: Owed, key_read: bool = True, known: bool = False) -> KernelState:
    """Return a kernel that owes everything of two metrics."""
    made = KernelState(AT, key_read=key_read)
    for name in ("cpu_util", "io_read"):
        made.metrics[name] = MetricState("999", known=known, owed=owed)
    made.metrics["cpu_util"].capacity = "1000"
    return made


def history_of(**kernels: KernelState) -> History:
    made = History(Catalog(), 300.0)
    for name, state in kernels.items():
        made.kernels[IDS.get(name, name)] = state
        made.owing.add(IDS.get(name, name))
    return made


def samples(age_s: float, start: float) -> Iterator[tuple[float, float]]:
    """Yield a counter's samples since a birth; the first one is `start`."""
    begins = AT - age_s
    for place in range(int(age_s // SCRAPE_S) + 1):
        yield begins + place * SCRAPE_S, start + place


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Yield a Prometheus with kernels of all ages: the first value is the age in seconds."""
    series = []
    for name, age_s in AGES_S.items():
        for metric in ("cpu_util", "io_read"):
            late = LATE_S if (name, metric) == ("hour", "io_read") else age_s
            labels = {"kernel_id": IDS[name], "container_metric_name": metric}
            labels |= {"value_type": "current", "agent_id": "i-a", "instance": "a:1"}
            series.append((labels, samples(late, float(late))))
    path = tmp_path_factory.mktemp("past") / "samples.txt"
    with Prometheus(samples=openmetrics_file(Path(path), series)) as server:
        yield server


async def backfilled(
    prometheus: Prometheus, history: History, rounds: Rounds | None = None
) -> None:
    access = PrometheusAccess((prometheus.url,), 10.0, lambda: {})
    async with Client(access) as client:
        backfiller = Backfiller(history, Reach(WINDOW_S), rounds or Rounds())
        assert await backfiller.backfill_all(client, Patience(900.0, 120.0)) == 0
    assert not history.owing
    assert backfiller.restored == len(history.kernels)


async def test_what_fails_again_and_again_is_given_up_and_what_succeeds_at_last_is_not(
    monkeypatch: pytest.MonkeyPatch,
):
    asked: Counter[str] = Counter()

    async def lives(client: Client, owed: Owed, kernels: list[str], patience: Patience):
        asked.update(kernels)
        if kernels == [IDS["young"]] or asked[IDS["hour"]] < ATTEMPTS:
            raise PrometheusError("refused", "not now")
        return {IDS["hour"]: Life(None, None, older=True, metrics={})}

    history = history_of(young=kernel(Owed(None, AT)), hour=kernel(Owed(None, AT)))
    async with Client(PrometheusAccess(("http://127.0.0.1:1",), 1.0, lambda: {})) as client:
        backfiller = Backfiller(history, Reach(WINDOW_S, chunk=1, pause_s=0.0), Rounds())
        monkeypatch.setattr(backfiller, "_lives", lives)
        assert await backfiller.backfill_all(client, Patience(900.0, 120.0)) == 1
    assert asked == {IDS["young"]: ATTEMPTS, IDS["hour"]: ATTEMPTS}
    assert not history.owing
    assert backfiller.restored == 1


async def test_a_server_that_refuses_for_a_moment_takes_no_kernels_past_away(
    monkeypatch: pytest.MonkeyPatch,
):
    began = time.monotonic()

    async def lives(client: Client, owed: Owed, kernels: list[str], patience: Patience):
        if time.monotonic() - began < 0.2:
            raise PrometheusError("rate_limited", "too many outstanding requests")
        return dict.fromkeys(kernels, Life(None, None, older=True, metrics={}))

    history = history_of(hour=kernel(Owed(None, AT)))
    async with Client(PrometheusAccess(("http://127.0.0.1:1",), 1.0, lambda: {})) as client:
        backfiller = Backfiller(history, Reach(WINDOW_S, pause_s=0.15), Rounds())
        monkeypatch.setattr(backfiller, "_lives", lives)
        assert await backfiller.backfill_all(client, Patience(900.0, 120.0)) == 0
    assert backfiller.restored == 1


def test_the_first_value_is_found_however_old_a_kernel_is(prometheus: Prometheus):
    history = history_of(**{name: kernel(Owed(None, AT)) for name in AGES_S})
    asyncio.run(backfilled(prometheus, history))
    firsts = {name: history.kernels[IDS[name]].metrics["io_read"].first for name in AGES_S}
    oldest = 8 * 3600 + (8 * 3600 - WINDOW_S) // SCRAPE_S
    assert firsts.pop("older") in {repr(oldest + late)[:-2] for late in (0.0, 1.0)}
    assert firsts == {"young": "40", "minutes": "400", "hour": "900", "hours": "18000"}


def test_of_a_young_kernel_each_measurement_is_counted_and_of_an_older_one_each_sample(
    prometheus: Prometheus,
):
    history = history_of(**{name: kernel(Owed(None, AT)) for name in ("young", "minutes")})
    for state in history.kernels.values():
        state.weight = 3.0
    rounds = Rounds()
    counted = [(AT - 40 + place * SCRAPE_S, number) for place, number in enumerate(["1", "4", "5"])]
    labels = {"__name__": STAGE_COUNT, "stage": "gather_measures", "upper_layer": LAYER}
    labels["instance"] = "a:1"
    look(rounds, [series_of(labels, counted)], AT)
    asyncio.run(backfilled(prometheus, history, rounds))
    young, minutes = (history.kernels[IDS[name]].metrics["cpu_util"] for name in AGES_S if name
                      in ("young", "minutes"))  # fmt: skip
    assert (young.total, young.count) == (40 + 2 * 40.5 + 41 + 42, 5)
    assert minutes.count == 3 * (400 // SCRAPE_S + 1)


def test_a_kernel_that_rests_is_not_asked_again_what_moved_lately(prometheus: Prometheus):
    history = history_of(hour=kernel(Owed(None, AT)))
    asyncio.run(backfilled(prometheus, history))
    state = history.kernels[IDS["hour"]]
    assert (state.judged, state.moved, state.born) == (True, AT, None)


def test_a_kernel_without_a_key_comes_before_one_whose_key_told_enough():
    owed = Owed(None, AT)
    told = {f"told-{place}": kernel(owed, known=True) for place in range(3)}
    unread = {"unread": kernel(owed, key_read=False)}
    history = history_of(**told, **unread, keyless=kernel(owed))

    async def order() -> list[list[str]]:
        queue = Queue(history, 2)
        found = []
        while (chunk := await queue.next()) is not None:
            found.append(chunk[1])
        return found

    assert asyncio.run(order()) == [["keyless"], ["unread"], ["told-0", "told-1"], ["told-2"]]


def test_of_one_urgency_the_fewest_come_first_and_newcomers_are_not_left_behind():
    early, late = Owed(None, AT), Owed(AT - 60, AT)
    history = history_of(a=kernel(early), b=kernel(early), c=kernel(early), d=kernel(late))

    async def order() -> list[list[str]]:
        queue = Queue(history, 2)
        found = [(await queue.next() or (None, []))[1]]
        history.kernels["new"] = kernel(late)
        history.owing.add("new")
        while (chunk := await queue.next()) is not None:
            found.append(chunk[1])
        return found

    assert asyncio.run(order()) == [["d"], ["new"], ["a", "b"], ["c"]]


def test_no_question_is_put_while_a_batch_is_asked():
    async def turn_came(during: bool) -> bool:
        pace = Pace()
        with pace.batch(10.0):
            if during:
                return await soon(pace)
        return await soon(pace)

    async def soon(pace: Pace) -> bool:
        try:
            await asyncio.wait_for(pace.turn(), 0.02)
        except TimeoutError:
            return False
        return True

    assert not asyncio.run(turn_came(during=True))
    assert asyncio.run(turn_came(during=False))


def test_a_batch_that_takes_long_makes_the_past_wait():
    async def after(within_s: float) -> tuple[int, float | None, float | None]:
        pace = Pace()
        with pace.batch(within_s):
            await asyncio.sleep(0.02)
        return pace.at_once(4), pace.wait_s(0.5), pace.wait_s(None)

    assert asyncio.run(after(0.03)) == (1, 0.0, None)
    assert asyncio.run(after(1.0)) == (4, 0.5, None)


def test_how_long_a_question_waited_for_batches_is_known():
    async def waited_s() -> float:
        pace = Pace()
        with pace.batch(1.0):
            turn = asyncio.create_task(pace.turn())
            await asyncio.sleep(0.05)
        await turn
        return pace.waited_s

    assert 0.04 < asyncio.run(waited_s()) < 10
