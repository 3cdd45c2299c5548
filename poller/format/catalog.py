"""The metrics an agent measures: kind, unit, statistics, which are whole, order. Data, no branches.

Source of the table: the agents of 22.09 to 26.9, as the format's description lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from poller.values import Kind

STATS = ("min", "max", "sum", "avg", "diff", "rate")
"""Every statistic the format knows, in the order in which it writes them."""

ACCELERATORS = (
    "cuda", "rocm", "ipu", "rngd", "gaudi2", "gaudi3", "atom", "atom_plus", "atom_max", "tt_n300",
)  # fmt: skip
INTRINSIC = (
    "cpu_util", "cpu_used", "mem", "io_read", "io_write", "net_rx", "net_tx", "io_scratch_size",
)  # fmt: skip
ESSENTIAL = ("cpu_util", "mem")
"""A kernel without these in a batch is left as it is: old idle checkers read a gap as 0.0."""

RESERVED = frozenset({"version", "status"})
"""Top-level names that the command line reads as something else than a metric."""

_MOST_ORDERS = 10_000
"""Where kernels have more sets of metrics than this, the orders are worked out anew."""

_PLUGINS = {name: "cpu" for name in INTRINSIC[:2]} | {name: "mem" for name in INTRINSIC[2:]}

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `stats` are the statistics it carries, in the format's order.

    `cumulative`: the raw series counts up, so a negative value is no value.
    `capacity`: a capacity series is to be expected. `whole`: readers take its values with
    `int()`, and one fraction fails a whole billing report.
    """

    name: str
    kind: Kind = "gauge"
    unit_hint: str = "count"
    stats: tuple[str, ...] = ()
    cumulative: bool = False
    capacity: bool = False
    whole: bool = False

    @property
    def needs_rate(self) -> bool:
        """Whether a rate of it is written."""
        return self.kind != "gauge" or "rate" in self.stats or "diff" in self.stats

    @property
    def needs_mean(self) -> bool:
        """Whether a mean or sum over the kernel's life is kept."""
        return "avg" in self.stats or "sum" in self.stats

    @property
    def keeps_past(self) -> bool:
        """Whether a value depends on more than the last measurement."""
        return self.needs_rate or self.needs_mean or "max" in self.stats or "min" in self.stats

    @property
    def plugin(self) -> str:
        """Which of the agent's plugins measures it: together with the others of that plugin."""
        return _PLUGINS.get(self.name) or self.name.rpartition("_")[0] or self.name


@dataclass(frozen=True, slots=True)
class Override:
    """What the settings say of a metric; None leaves what is built in."""

    kind: Kind | None = None
    unit_hint: str | None = None
    stats: tuple[str, ...] | None = None


_BUILT_IN = {
    metric.name: metric
    for metric in (
        Metric("cpu_util", "diff", "percent", ("max", "avg"), cumulative=True, capacity=True),
        Metric("cpu_used", "gauge", "msec", cumulative=True),
        Metric("mem", "gauge", "bytes", ("max",), capacity=True, whole=True),
        Metric("io_read", "gauge", "bytes", ("rate",), cumulative=True, whole=True),
        Metric("io_write", "gauge", "bytes", ("rate",), cumulative=True, whole=True),
        Metric("net_rx", "rate", "bps", cumulative=True),
        Metric("net_tx", "rate", "bps", cumulative=True),
        Metric("io_scratch_size", "gauge", "bytes", ("max",), whole=True),
        Metric("tt_n300_power", "gauge", "watts", ("max",)),
    )
}
_BY_SUFFIX = {
    "_mem": Metric("", "gauge", "bytes", ("max",), capacity=True),
    "_util": Metric("", "gauge", "percent", ("max", "avg"), capacity=True),
}
_BY_PROFILE: dict[str, dict[str, Override]] = {
    "classic": {},
    "26.9": {"cpu_util": Override(unit_hint="millicores")},
}
PROFILES = tuple(_BY_PROFILE)


def metric_named(name: str) -> Metric:
    """Return what an agent would make of a metric of that name."""
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    for suffix, like in _BY_SUFFIX.items():
        if name.endswith(suffix) and name != suffix:
            return replace(like, name=name)
    return Metric(name)


def _overridden(metric: Metric, override: Override) -> Metric:
    kind = override.kind or metric.kind
    stats = metric.stats if override.stats is None else override.stats
    return replace(
        metric,
        kind=kind,
        unit_hint=metric.unit_hint if override.unit_hint is None else override.unit_hint,
        stats=tuple(stat for stat in STATS if stat in stats),
        cumulative=metric.cumulative or kind != "gauge",
    )


def _place(name: str) -> tuple[int, int, str, int]:
    """Sort key of the outer order: accelerators, then the intrinsic metrics, then the rest."""
    if name in INTRINSIC:
        return (1, INTRINSIC.index(name), "", 0)
    for rank, suffix in enumerate(("_mem", "_util", "_power")):
        device = name.removesuffix(suffix)
        if device in ACCELERATORS and device != name:
            return (0, ACCELERATORS.index(device), "", rank)
        if device != name and suffix in _BY_SUFFIX:
            return (0, len(ACCELERATORS), device, rank)
    return (2, 0, name, 0)


class Catalog:
    """Every metric the poller may meet, under one profile and the settings' overrides."""

    def __init__(self, profile: str = "classic", overrides: Mapping[str, Override] | None = None):
        self._overrides = dict(_BY_PROFILE[profile])
        for name, override in (overrides or {}).items():
            self._overrides[name] = _merged(self._overrides.get(name, Override()), override)
        self._metrics: dict[str, Metric] = {}
        self._orders: dict[tuple[str, ...], tuple[Metric, ...]] = {}

    def __getitem__(self, name: str) -> Metric:
        metric = self._metrics.get(name)
        if metric is None:
            metric = metric_named(name)
            if name in self._overrides:
                metric = _overridden(metric, self._overrides[name])
            self._metrics[name] = metric
        return metric

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Catalog) and self._overrides == other._overrides

    @staticmethod
    def admits(name: str) -> bool:
        """Whether a series of that name may become a top-level key of a value."""
        return name not in RESERVED and _NAME.fullmatch(name) is not None

    def ordered(self, names: Iterable[str]) -> list[str]:
        """Return names in the outer order of the format."""
        return sorted(names, key=_place)

    def in_order(self, names: tuple[str, ...]) -> tuple[Metric, ...]:
        """Return metrics in the outer order; kernels of the same metrics share one tuple."""
        order = self._orders.get(names)
        if order is None:
            if len(self._orders) >= _MOST_ORDERS:
                self._orders.clear()
            order = self._orders[names] = tuple(self[name] for name in self.ordered(names))
        return order


def _merged(base: Override, over: Override) -> Override:
    return Override(
        kind=over.kind or base.kind,
        unit_hint=base.unit_hint if over.unit_hint is None else over.unit_hint,
        stats=base.stats if over.stats is None else over.stats,
    )
