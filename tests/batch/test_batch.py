"""One batch, over a Prometheus in memory: what is asked in which order, and what comes of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from poller.batch import batch as batch_module
from poller.batch import plan
from poller.batch.batch import Limits, Observer
from poller.batch.plan import Read
from poller.batch.survey import Given, Surveyor
from poller.batch.unread import Unread
from poller.errors import PrometheusError
from poller.format.catalog import Catalog, Override
from poller.history.state import KernelState, MetricState
from poller.prometheus.answers import Labels, Row, Sample, Series, SetRow
from poller.prometheus.selectors import EVERYTHING, Scope
from poller.rounds.rounds import Rounds
from poller.values import Batch, Glimpse, Query, Reading, Stamp
from tests.support.looks import COUNTER, series_of

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
OTHER = "ffffffff-7a0f-4c5e-9d53-0b7f5a7c2e11"


class Memory:
    """A Prometheus that holds scrapes: (time, round) by exporter. In each every kernel of the
    exporter has ten times the round as `mem`, and a thousand times as `cpu_util`.

    `mute` are exporters that count successes alone. `meanwhile` is run while gauges are asked.
    """

    def __init__(self, **exporters: Iterable[str]) -> None:
        self.kernels = {f"{name}:1": list(kernels) for name, kernels in exporters.items()}
        self.scrapes: dict[str, list[tuple[float, int]]] = {name: [] for name in self.kernels}
        self.metrics = ["cpu_util", "mem"]
        self.mute: list[str] = []
        self.doubles: list[Row] = []
        self.asked: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.fails = False
        self.url = "http://prometheus"

    def measured(self, instance: str, *scrapes: tuple[float, int]) -> None:
        self.scrapes[instance] += scrapes

    async def fail_over(self, attempt: Callable[[], Awaitable[Any]], within_s: float) -> Any:
        return await attempt()

    async def matrix(self, text: str, at: float) -> list[Series]:
        if "stage_count" in text:
            self.asked.append("rounds" if "stage_duration" in text else "rounds again")
            return self._counters(at)
        if "success_count" in text:
            self.asked.append("intervals")
            return [
                series_of({"instance": name}, [(when, str(n)) for when, n in self.scrapes[name]])
                for name in self.mute
            ]
        self.asked.append("trail")
        since = at - float(text.rpartition("[")[2].removesuffix("ms]")) / 1000
        return [
            series_of(
                {"kernel_id": kernel, "container_metric_name": name, "instance": instance},
                [(when, self._value(name, number)) for when, number in self.scrapes[instance]
                 if since < when <= at],
            )
            for instance in self._named(text)
            for kernel in self.kernels[instance]
            for name in self.metrics
        ]  # fmt: skip

    async def vector(self, text: str, at: float, timeout_s: float | None = None) -> list[Row]:
        if text.startswith("count by (instance)"):
            self.asked.append("census")
            found = {name: str(len(kernels)) for name, kernels in self.kernels.items() if kernels}
            return [Row(Labels(instance=name), Sample(at, count)) for name, count in found.items()]
        if text.startswith("max by (instance) (timestamp("):
            self.asked.append("newest")
            last = {name: max(when for when, _ in self.scrapes[name] if when <= at)
                    for name in self._named(text)}  # fmt: skip
            return [
                Row(Labels(instance=name), Sample(at, str(when))) for name, when in last.items()
            ]
        raise AssertionError(text)

    async def rows(
        self, queries: Sequence[Query], at: float, take: Callable[[Query, list[Row]], None]
    ) -> None:
        self.asked += [f"{query.part} {name}" for query in queries for name in self._about(query)]
        if self.fails:
            raise PrometheusError("timeout", "no answer")
        for query in queries:
            take(query, self._rows(query, at))
        self.meanwhile()

    async def sets(self, text: str, at: float) -> list[SetRow]:
        self.asked.append("sets")
        value = "7" if text.startswith("max without (agent_id)") else str(at)
        labels = {"kernel_id": KERNEL, "instance": "a:1"}
        if value != "7":
            return [SetRow(labels, Sample(at, value)) for _ in self.metrics]
        labels["value_type"] = "current"
        return [
            SetRow({**labels, "container_metric_name": name}, Sample(at, value))
            for name in self.metrics
        ]

    def _counters(self, at: float) -> list[Series]:
        return [
            series_of({**COUNTER, "instance": name},
                   [(when, str(number)) for when, number in scrapes if when <= at])
            for name, scrapes in self.scrapes.items() if name not in self.mute
        ]  # fmt: skip

    def _rows(self, query: Query, at: float) -> list[Row]:
        if query.part != "current":
            return []
        rows = []
        about = [name for name in self._about(query) if name in self.metrics]
        for instance in self._named(query.text):
            seen = [number for when, number in self.scrapes[instance] if when <= at]
            for kernel, name in product(self.kernels[instance], about):
                labels = Labels(kernel, name, "i-a", instance)
                rows.append(Row(labels, Sample(at, self._value(name, seen[-1]))))
        return rows + (self.doubles if "mem" in about else [])

    def _about(self, query: Query) -> list[str]:
        """Return the metrics that a query is about: of those that it excludes some, the others."""
        found = re.search('container_metric_name(=|=~|!~)"([^"]*)"', query.text)
        assert found is not None
        named = found[2].split("|")
        return [name for name in self.metrics if name not in named] if found[1] == "!~" else named

    def _named(self, text: str) -> list[str]:
        found = re.search(r'instance=~"([^"]*)"', text)
        return [name for name in self.kernels if not found or name in found[1].split("|")]

    @staticmethod
    def _value(metric: str, number: int) -> str:
        return str(number * (1000 if metric == "cpu_util" else 10))


class Poller:
    """An observer, and what is remembered of its batches."""

    def __init__(
        self,
        store: Memory,
        scope: Scope = EVERYTHING,
        most: int = 1000,
        catalog: Catalog | None = None,
    ) -> None:
        self.memory = store
        surveyor = Surveyor(Given())
        limits = Limits(scope, most, 5.0)
        self.observer = Observer(store, catalog or Catalog(), surveyor, limits)  # type: ignore[arg-type]
        self.read = Read(None, {}, {})

    async def batch(self, at: float) -> Batch:
        self.memory.asked.clear()
        batch = await self.observer.batch(at, self.read, lambda stage: nullcontext())
        self.observer.taken(batch)
        kernels = dict(self.read.kernels)
        for name, there in self.memory.kernels.items():
            if batch.asked is None or name in batch.asked:
                kernels[name] = len(there)
        self.read = Read(at, {**self.read.stamps, **batch.stamps}, kernels)
        return batch


def stamp(instance: str, number: float, scraped: float) -> Stamp:
    return Stamp(instance, number, 0.0, scraped)


@pytest.fixture
def memory() -> Memory:
    """Return two exporters in their rounds 2 and 20."""
    made = Memory(a=[KERNEL], b=[OTHER])
    made.measured("a:1", (90.0, 1), (95.0, 2))
    made.measured("b:1", (91.0, 19), (96.0, 20))
    return made


async def test_the_first_batch_reads_everything_between_two_looks_at_the_rounds(
    memory: Memory,
) -> None:
    batch = await Poller(memory).batch(100.0)
    assert batch.observations == {
        KERNEL: {"cpu_util": Reading("2000"), "mem": Reading("20")},
        OTHER: {"cpu_util": Reading("20000"), "mem": Reading("200")},
    }
    assert batch.stamps == {"a:1": stamp("a:1", 2, 95.0), "b:1": stamp("b:1", 20, 96.0)}
    assert (batch.asked, batch.mixed, batch.glimpses) == (None, frozenset(), [])
    assert (memory.asked[0], memory.asked[-1]) == ("rounds", "rounds again")
    assert {"rate cpu_util", "samples cpu_util"} <= set(memory.asked)


async def test_where_nothing_was_measured_one_look_at_the_rounds_is_all(memory: Memory) -> None:
    poller = Poller(memory)
    await poller.batch(100.0)
    batch = await poller.batch(101.0)
    assert memory.asked == ["rounds"]
    assert (batch.asked, batch.observations) == (frozenset(), {})


async def test_only_the_exporter_that_measured_is_read_again_and_no_rate_of_it(
    memory: Memory,
) -> None:
    poller = Poller(memory)
    await poller.batch(100.0)
    memory.measured("a:1", (100.5, 3))
    batch = await poller.batch(101.0)
    assert batch.asked == frozenset({"a:1"})
    assert batch.observations == {KERNEL: {"cpu_util": Reading("3000"), "mem": Reading("30")}}
    assert batch.stamps == {"a:1": stamp("a:1", 3, 100.5)}
    assert not {"rate cpu_util", "trail", "census"} & set(memory.asked)


@pytest.mark.parametrize("series_at_once", [1, 5000])
async def test_rounds_between_two_batches_are_read_one_by_one(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, series_at_once: int
) -> None:
    monkeypatch.setattr(batch_module, "_PORTION", series_at_once)
    poller = Poller(memory)
    await poller.batch(100.0)
    memory.measured("a:1", (100.5, 3), (105.5, 4), (108.0, 4), (110.5, 5))
    batch = await poller.batch(111.0)
    assert memory.asked.count("trail") == 1
    assert batch.glimpses == [
        Glimpse(stamp("a:1", 3, 100.5), {KERNEL: {"cpu_util": "3000", "mem": "30"}}),
        Glimpse(stamp("a:1", 4, 105.5), {KERNEL: {"cpu_util": "4000", "mem": "40"}}),
    ]
    assert batch.observations[KERNEL]["mem"] == Reading("50")


async def test_an_exporter_that_was_scraped_in_mid_batch_is_mixed_and_no_other(
    memory: Memory,
) -> None:
    memory.meanwhile = lambda: memory.measured("a:1", (99.9, 3))
    batch = await Poller(memory).batch(100.0)
    assert batch.mixed == frozenset({"a:1"})
    assert batch.stamps.keys() == {"b:1"}


async def test_no_round_of_a_mixed_exporter_is_lost(memory: Memory) -> None:
    poller = Poller(memory)
    await poller.batch(97.0)
    memory.measured("a:1", (100.5, 3))
    memory.meanwhile = lambda: memory.measured("a:1", (104.9, 4))
    assert (await poller.batch(105.0)).mixed == frozenset({"a:1"})
    memory.meanwhile = lambda: None
    memory.measured("a:1", (110.5, 5))
    batch = await poller.batch(111.0)
    assert [glimpse.stamp for glimpse in batch.glimpses] == [
        stamp("a:1", 3, 100.5),
        stamp("a:1", 4, 104.9),
    ]


async def test_no_round_of_an_exporter_that_did_not_fit_into_a_batch_is_lost() -> None:
    memory = Memory(a=[KERNEL], b=[OTHER])
    memory.measured("a:1", (90.0, 1))
    memory.measured("b:1", (91.0, 1))
    poller = Poller(memory, most=1)
    for at in (92.0, 93.0):
        assert len((await poller.batch(at)).observations) == 1
    told: list[Stamp | None] = []
    for at in (100.0, 105.0, 110.0):
        memory.measured("a:1", (at - 2, int(at / 5)))
        memory.measured("b:1", (at - 1, int(at / 5)))
        batch = await poller.batch(at)
        told += [glimpse.stamp for glimpse in batch.glimpses]
        told += batch.stamps.values()
    a, b = ([stamp(name, 20, first), stamp(name, 21, first + 5), stamp(name, 22, first + 10)]
            for name, first in (("a:1", 98.0), ("b:1", 99.0)))  # fmt: skip
    last = await poller.batch(111.0)
    told += [glimpse.stamp for glimpse in last.glimpses]
    told += last.stamps.values()
    kept = [one for one in told if one is not None]
    assert sorted(kept, key=lambda one: (one.instance, one.number)) == [*a, *b]


async def test_one_that_goes_on_after_another_reads_no_round_again(memory: Memory) -> None:
    first = Poller(memory)
    await first.batch(97.0)
    memory.measured("a:1", (100.5, 3))
    await first.batch(101.0)
    second = Poller(memory)
    second.read = first.read
    memory.measured("a:1", (104.5, 4))
    memory.measured("b:1", (104.6, 21))
    batch = await second.batch(105.0)
    assert list(batch.glimpses) == []
    assert batch.stamps == {"a:1": stamp("a:1", 4, 104.5), "b:1": stamp("b:1", 21, 104.6)}
    assert "trail" not in memory.asked


async def test_after_a_batch_that_failed_nothing_between_is_lost(memory: Memory) -> None:
    poller = Poller(memory)
    await poller.batch(100.0)
    memory.measured("a:1", (100.5, 3))
    memory.fails = True
    with pytest.raises(PrometheusError):
        await poller.batch(101.0)
    memory.fails = False
    memory.measured("a:1", (105.5, 4))
    batch = await poller.batch(106.0)
    assert [glimpse.stamp for glimpse in batch.glimpses] == [stamp("a:1", 3, 100.5)]


async def test_while_no_gauges_can_be_read_no_more_rounds_are_kept_than_a_first_look_finds() -> (
    None
):
    memory, unread = Memory(a=[KERNEL]), Unread(Rounds())
    for number in range(1, 200):
        memory.measured("a:1", (5.0 * number, number))
        await unread.look(memory, 5.0 * number, {})  # type: ignore[arg-type]
    assert [one.scraped for one in unread.trail["a:1"]] == [5.0 * n for n in range(139, 200)]


async def test_what_was_looked_at_on_a_server_that_then_failed_is_not_put_to_anothers_gauges(
    memory: Memory,
) -> None:
    poller = Poller(memory)
    memory.fails = True
    with pytest.raises(PrometheusError):
        await poller.batch(100.0)
    memory.fails = False
    memory.scrapes["a:1"] = [(92.6, 1)]  # the next server is a scrape behind
    batch = await poller.batch(100.0)
    assert batch.mixed == frozenset({"a:1"})
    assert "a:1" not in batch.stamps


async def test_kernels_are_counted_now_and_then_and_after_a_failure(memory: Memory) -> None:
    poller = Poller(memory)
    asked = {}
    for at in (100.0, 159.0, 160.0, 161.0):
        await poller.batch(at)
        asked[at] = "census" in memory.asked
    poller.read = Read(161.0, poller.read.stamps, poller.read.kernels, anew=True)
    await poller.batch(162.0)
    asked[162.0] = "census" in memory.asked
    assert asked == {100.0: True, 159.0: False, 160.0: True, 161.0: False, 162.0: True}


def kept(mem: str) -> KernelState:
    """Return a kernel of which both metrics and their capacities are known."""
    kernel = KernelState(0.0)
    kernel.metrics["cpu_util"] = MetricState("2000", capacity="1000")
    kernel.metrics["mem"] = MetricState(mem, capacity="99")
    return kernel


async def test_the_capacities_of_a_few_kernels_are_asked_for_each_time(memory: Memory) -> None:
    poller = Poller(memory)
    await poller.batch(100.0)
    poller.read = replace(poller.read, known={KERNEL: kept("20"), OTHER: kept("200")})
    memory.measured("a:1", (104.0, 3))
    await poller.batch(105.0)
    assert {"capacity cpu_util", "capacity mem"} <= set(memory.asked)


async def test_capacities_are_asked_for_once_and_where_a_batch_shows_that_they_may_have_changed(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_FEW", 0)
    poller = Poller(memory)
    await poller.batch(100.0)
    assert {"capacity cpu_util", "capacity mem"} <= set(memory.asked)
    known = {KERNEL: kept("20"), OTHER: kept("200")}
    poller.read = replace(poller.read, known=known)
    memory.measured("a:1", (104.0, 3))
    await poller.batch(105.0)
    assert not {"capacity cpu_util", "capacity mem"} & set(memory.asked)
    poller.read = replace(poller.read, known=known)
    memory.measured("a:1", (109.0, 10))  # more memory than it can have
    await poller.batch(110.0)
    assert memory.asked[-3:] == ["capacity cpu_util", "capacity mem", "rounds again"]
    poller.read = replace(poller.read, known=known)
    memory.measured("a:1", (114.0, 1))  # another life of the exporter
    await poller.batch(115.0)
    assert "capacity mem" in memory.asked


@pytest.mark.parametrize("unknown", ["cpu_util", "mem"])
async def test_a_capacity_of_any_metric_that_is_not_known_is_asked_for(
    memory: Memory, monkeypatch: pytest.MonkeyPatch, unknown: str
) -> None:
    monkeypatch.setattr(plan, "_FEW", 0)
    poller = Poller(memory)
    await poller.batch(100.0)
    one = kept("20")
    one.metrics[unknown].capacity = None
    poller.read = replace(poller.read, known={KERNEL: one, OTHER: kept("200")})
    memory.measured("a:1", (104.0, 3))
    await poller.batch(105.0)
    assert {"capacity cpu_util", "capacity mem"} <= set(memory.asked)


async def test_a_kernel_that_came_has_its_capacity_asked_for_in_the_same_batch(
    memory: Memory,
) -> None:
    poller = Poller(memory)
    await poller.batch(100.0)
    poller.read = replace(poller.read, known={KERNEL: kept("20"), OTHER: kept("200")})
    memory.kernels["a:1"].append("11111111-7a0f-4c5e-9d53-0b7f5a7c2e11")
    memory.measured("a:1", (104.0, 3))
    await poller.batch(105.0)
    assert memory.asked[-3:] == ["capacity cpu_util", "capacity mem", "rounds again"]


async def test_a_metric_that_the_survey_does_not_know_is_read_and_its_rate_and_capacity_asked_for(
    memory: Memory,
) -> None:
    memory.metrics.append("odd")
    poller = Poller(memory, catalog=Catalog(overrides={"odd": Override(stats=("rate",))}))
    batch = await poller.batch(100.0)
    assert batch.observations[KERNEL]["odd"] == Reading("20")
    place = memory.asked.index("rate odd")
    assert memory.asked.index("current odd") < place < memory.asked.index("capacity odd")
    memory.measured("a:1", (104.0, 3))
    await poller.batch(105.0)
    assert memory.asked.count("current odd") == 1
    assert "capacity odd" not in memory.asked


async def test_series_that_disagree_are_settled_and_looked_at_for_some_batches(
    memory: Memory,
) -> None:
    memory.doubles = [Row(Labels(kernel_id=KERNEL, instance="a:1"), Sample(100.0, "999"))]
    poller = Poller(memory)
    batch = await poller.batch(100.0)
    assert batch.observations[KERNEL]["mem"] == Reading("7")
    assert batch.own_stamps == {KERNEL: stamp("a:1", 2, 95.0)}
    assert batch.conflicts == frozenset()
    memory.doubles = []  # not every batch shows them
    memory.measured("a:1", (104.0, 3))
    await poller.batch(105.0)
    assert memory.asked.count("sets") == 3


async def test_no_kernels_are_asked_for_by_no_query(memory: Memory) -> None:
    batch = await Poller(memory, Scope(kernels=())).batch(100.0)
    assert (batch.observations, memory.asked) == ({}, [])


async def test_a_kernel_asked_for_by_name_and_not_there_is_in_the_batch_and_empty(
    memory: Memory,
) -> None:
    missing = "11111111-7a0f-4c5e-9d53-0b7f5a7c2e11"
    batch = await Poller(memory, Scope(kernels=(missing,))).batch(100.0)
    assert batch.observations[missing] == {}


async def test_without_rounds_each_scrape_counts_once_however_often_it_is_read() -> None:
    made = Memory(a=[KERNEL], b=[OTHER])
    made.mute = ["b:1"]
    made.measured("a:1", (95.0, 2), (110.0, 5))
    made.measured("b:1", *((95.0 + 15 * step, 20 + step) for step in range(-4, 3)))
    poller = Poller(made)
    assert (await poller.batch(100.0)).counted == frozenset()
    assert "newest" not in made.asked  # the past will tell of all that was before
    looks = [await poller.batch(at) for at in (105.0, 109.0, 111.0, 116.0, 126.0, 127.0)]
    new = [batch.time for batch in looks if "b:1" not in batch.counted]
    assert new == [111.0, 126.0]
    assert not any(batch.glimpses for batch in looks)


async def test_without_rounds_and_polled_more_rarely_than_scraped_every_scrape_is_a_glimpse(
) -> None:  # fmt: skip
    made = Memory(b=[OTHER])
    made.mute = ["b:1"]
    made.measured("b:1", *((95.0 + 4 * step, 20 + step) for step in range(-4, 7)))
    poller = Poller(made)
    await poller.batch(100.0)
    batch = await poller.batch(110.0)
    assert [seen.values[OTHER]["mem"] for seen in batch.glimpses] == ["220", "230"]
    assert batch.counted == {"b:1"}
    assert "newest" not in made.asked
    hurried = await poller.batch(111.5)  # one tick behind another: at most one scrape between
    assert (hurried.counted, hurried.glimpses) == (frozenset(), [])
    assert (await poller.batch(113.0)).counted == {"b:1"}
