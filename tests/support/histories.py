"""Histories of two kernels or one, fed by hand, and the batches that they are fed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from poller.format.catalog import Catalog
from poller.history.history import History
from poller.history.state import MetricState
from poller.rounds.rounds import Rounds
from poller.values import Batch, Glimpse, Life, Past, Reading, Remembered, Stamp, Window
from tests.support.looks import COUNTER, feed, look, series_of

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
OTHER = "ffffffff-7a0f-4c5e-9d53-0b7f5a7c2e11"
CATALOG = Catalog()
NOTHING = Remembered(None, None, None, None, None, None)
A, B = "a:1", "b:1"
WINDOW = Window(25.0, 5.0)
"""Five samples fill it."""


def scraped_at(times: Sequence[int]) -> Rounds:
    """Return the clocks of two agents, scraped at these times: the round n is at 5 n seconds."""
    counts = [(float(at), str(at // 5)) for at in times]
    clocks = Rounds()
    look(clocks, [series_of({**COUNTER, "instance": name}, counts) for name in (A, B)], times[-1])
    return clocks


CLOCKS = scraped_at(range(0, 201, 5))


def ids(count: int) -> list[str]:
    """Return the ids of so many kernels beside `KERNEL` and `OTHER`."""
    return [f"{number:08x}-7a0f-4c5e-9d53-0b7f5a7c2e11" for number in range(count)]


def stamp(number: float, instance: str = A) -> Stamp:
    return Stamp(instance, float(number), 0.0, 5.0 * number)


def seen(number: float | None, **values: str) -> Glimpse:
    return Glimpse(None if number is None else stamp(number), {KERNEL: values})


Kernels = Mapping[str, Mapping[str, Reading]]


def cluster(at: float, kernels: Kernels, number: float | None = None, **more: object) -> Batch:
    """Return a batch of kernels of one exporter, in the round of that time or another one."""
    stamps = {A: stamp(at / 5 if number is None else number)}
    told = {
        "instances": dict.fromkeys(kernels, A),
        "agents": dict.fromkeys(kernels, "i-a"),
        "stamps": stamps,
        "windows": {A: WINDOW},
        "samples": dict.fromkeys(kernels, 5.0),
    }
    observations = {kernel: dict(readings) for kernel, readings in kernels.items()}
    return Batch(at, observations, **(told | more))  # type: ignore[arg-type]


def batch(at: float, number: float | None = None, **readings: Reading) -> Batch:
    return cluster(at, {KERNEL: readings}, number)


def roundless(at: float, samples: float = 5.0, **readings: Reading) -> Batch:
    return cluster(at, {KERNEL: readings}, stamps={}, samples={KERNEL: samples})


def history(*batches: Batch, catalog: Catalog = CATALOG, lookback_s: float = 300.0) -> History:
    made = History(catalog, lookback_s)
    for one in batches:
        feed(made, one, CLOCKS)
    return made


def life(older: bool = False, **metrics: Past) -> Life:
    return Life(1.0, None, older, metrics)


def kept(made: History, metric: str, kernel: str = KERNEL) -> MetricState:
    return made.kernels[kernel].metrics[metric]


def rate(made: History, metric: str, kernel: str = KERNEL) -> float | None:
    return kept(made, metric, kernel).rate


def names(made: History) -> list[str]:
    return [metric.name for metric, _ in made.kernels[KERNEL].known(CATALOG)]


def mean(made: History, metric: str, kernel: str = KERNEL) -> tuple[float, float]:
    return kept(made, metric, kernel).total, kept(made, metric, kernel).count
