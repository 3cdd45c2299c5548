"""Which series every query reads: metrics, matchers, durations; scopes, one cut into n. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

SERIES = "backendai_container_utilization"
MOST_NAMED_BYTES = 12_000
"""So much text of exporters' names a query holds: VictoriaMetrics refuses one of more than 16 KiB
(`-search.maxQueryLen`), its metrics and functions included."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which kernels a query is about: those listed, or of some id prefixes, or all.

    `instances`: of them those of these exporters only.
    """

    kernels: tuple[str, ...] | None = None
    prefixes: tuple[str, ...] | None = None
    instances: tuple[str, ...] | None = None

    def matcher(self) -> str:
        """Return the label matchers, each with a leading comma, or nothing for all kernels."""
        matchers = ""
        if self.kernels is not None:
            matchers = f",kernel_id=~{quoted('|'.join(map(escaped, self.kernels)))}"
        elif self.prefixes is not None:
            matchers = f",kernel_id=~{quoted(_prefix_pattern(self.prefixes))}"
        if self.instances is not None:
            matchers += f",instance=~{quoted('|'.join(map(escaped, self.instances)))}"
        return matchers

    def covers(self, kernel: str) -> bool:
        """Whether a kernel's id has one of the prefixes; without prefixes every one has."""
        return self.prefixes is None or kernel.startswith(self.prefixes)

    def on(self, instances: Iterable[str] | None) -> Scope:
        """Return the part of it that these exporters tell of; None: all of them."""
        return self if instances is None else replace(self, instances=tuple(sorted(instances)))

    def on_each(self, instances: Iterable[str] | None) -> list[Scope]:
        """Return the same in parts: in each as many names as a query may hold."""
        if instances is None:
            return [self]
        parts: list[list[str]] = [[]]
        held = 0
        for name in sorted(instances):
            size = len(quoted(escaped(name)).encode())
            if parts[-1] and held + size > MOST_NAMED_BYTES:
                parts.append([])
                held = 0
            parts[-1].append(name)
            held += size
        return [self.on(part) for part in parts]


EVERYTHING = Scope()


HEX = "0123456789abcdef"


def shard(index: int, count: int) -> Scope:
    """Return the part of the kernels that shard `index` of `count` carries."""
    if count == 1:
        return EVERYTHING
    prefixes = tuple(HEX) if 16 % count == 0 else tuple(a + b for a in HEX for b in HEX)
    return Scope(prefixes=prefixes[index::count])


def sliced(scope: Scope, slices: int) -> list[Scope]:
    """Cut a scope of prefixes (or everything) into about `slices` disjoint parts."""
    prefixes = scope.prefixes or tuple(HEX)
    if len(prefixes) < slices:
        prefixes = tuple(prefix + digit for prefix in prefixes for digit in HEX)
    slices = min(slices, len(prefixes))
    return [replace(scope, prefixes=prefixes[part::slices]) for part in range(slices)]


def quoted(text: str) -> str:
    """Return text as a PromQL string literal."""
    body = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{body}"'


def escaped(text: str) -> str:
    """Return text as a regular expression (RE2) that matches exactly it."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)


def duration(seconds: float) -> str:
    """Return a PromQL duration, in whole milliseconds and at least one."""
    return f"{max(1, round(seconds * 1000))}ms"


def _prefix_pattern(prefixes: Sequence[str]) -> str:
    by_head: dict[str, list[str]] = {}
    for prefix in prefixes:
        by_head.setdefault(prefix[:-1], []).append(prefix[-1])
    heads = [f"{head}[{''.join(tails)}]" for head, tails in sorted(by_head.items())]
    return f"(?:{'|'.join(heads)}).*"


def selector(metric: str, value_type: str, scope: Scope = EVERYTHING) -> str:
    """Return the instant vector selector of one metric's series of one value type."""
    return (
        f"{SERIES}{{container_metric_name={quoted(metric)},value_type={quoted(value_type)}"
        f"{scope.matcher()}}}"
    )


def named(metrics: Iterable[str], value_type: str, scope: Scope, but: bool = False) -> str:
    """Return the selector of several metrics, or of all `but` them."""
    pattern = quoted("|".join(map(escaped, metrics)))
    return (
        f"{SERIES}{{container_metric_name{'!~' if but else '=~'}{pattern},"
        f"value_type={quoted(value_type)}{scope.matcher()}}}"
    )


def samples(metrics: Iterable[str], range_s: float, scope: Scope) -> str:
    """Return the selector of the raw samples of several metrics in the last `range_s` seconds."""
    return f"{named(metrics, 'current', scope)}[{duration(range_s)}]"
