"""How the simulated cluster's kernels behave: data, and the metrics that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from poller.demo.load import Bursts, Load, Steady, Swell

_MIB = 1 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a kernel does. `load` is of one core; sizes in bytes, rates in bytes a second.

    Memory is `mem` and `mem_swing` more at full load; disk and network go with the load.
    `cuda` is the load of the accelerator, if it has one. `restart_s`: its container starts
    again, and its counters with it, so often.
    """

    load: Load
    mem: int
    mem_swing: int
    mem_capacity: int
    disk: float
    network: float
    cuda: Load | None = None
    cuda_mem: int = 0
    restart_s: float | None = None


BEHAVIOURS = (
    # A training on a GPU.
    Behaviour(Swell(0.9, 2.2, 40), 9 * _GIB, 2 * _GIB, 32 * _GIB, 6e6, 2e5,
         Swell(0.55, 0.99, 24), 21 * _GIB),
    # A notebook that nobody touches; even that one's shell takes some processor time.
    Behaviour(Steady(0.002), 310 * _MIB, 0, 4 * _GIB, 0.0, 1e4),
    # A notebook whose cells are run now and then.
    Behaviour(Bursts(0.01, 0.97, 45, 15), 900 * _MIB, 700 * _MIB, 8 * _GIB, 2e5, 6e4),
    # A model that serves requests.
    Behaviour(Swell(0.2, 0.6, 30), 5 * _GIB, _GIB // 2, 16 * _GIB, 1e3, 5e6,
         Bursts(0.08, 0.74, 20, 9), 11 * _GIB),
    # A data job on all its cores.
    Behaviour(Steady(3.85), 12 * _GIB, _GIB, 24 * _GIB, 9e7, 1e6),
    # A notebook with a GPU attached, and idle.
    Behaviour(Steady(0.003), 420 * _MIB, 0, 8 * _GIB, 0.0, 1e4, Steady(0.0), 412 * _MIB),
    # A batch job that fails and is started again.
    Behaviour(Swell(0.3, 0.9, 50), 2 * _GIB, _GIB, 4 * _GIB, 4e6, 3e5, restart_s=70.0),
)  # fmt: skip

_CUDA_CAPACITY = 24 * _GIB


class Moment(NamedTuple):
    """One measurement of a kernel: its age, and how long its counters have run; in seconds."""

    age_s: float
    counted_s: float


class SimulatedMetric(NamedTuple):
    """One metric of one kernel; `current` gives its value at a moment, in whole units."""

    name: str
    current: Callable[[Moment], float]
    capacity: int | None = None


def metrics(behaviour: Behaviour) -> Iterator[SimulatedMetric]:
    """Yield the metrics of a kernel, as an agent exports them."""
    load, cuda = behaviour.load, behaviour.cuda

    def counter(per_load_second: float) -> Callable[[Moment], float]:
        return lambda moment: float(int(load.total(moment.counted_s) * per_load_second))

    memory = lambda moment: float(int(behaviour.mem + behaviour.mem_swing * _share(load, moment)))  # noqa: E731
    yield SimulatedMetric("cpu_util", counter(1000.0), 1000)
    yield SimulatedMetric("cpu_used", counter(1000.0))
    yield SimulatedMetric("mem", memory, behaviour.mem_capacity)
    yield SimulatedMetric("io_read", counter(behaviour.disk))
    yield SimulatedMetric("io_write", counter(behaviour.disk / 3))
    yield SimulatedMetric("net_rx", counter(behaviour.network))
    yield SimulatedMetric("net_tx", counter(behaviour.network * 0.4))
    yield SimulatedMetric("io_scratch_size", lambda moment: float(behaviour.mem // 3))
    if cuda is not None:
        yield SimulatedMetric("cuda_mem", lambda moment: float(behaviour.cuda_mem), _CUDA_CAPACITY)
        yield SimulatedMetric(
            "cuda_util", lambda moment: round(100 * cuda.at(moment.age_s), 1), 100
        )


def _share(load: Load, moment: Moment) -> float:
    return min(1.0, load.at(moment.age_s))
