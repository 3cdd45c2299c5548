"""Kernels as Prometheus has them beside what their keys say: the work behind `show`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from poller.commands import kernel_ids
from poller.config import Config
from poller.format import encode
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.poll.outcome import Computed, Outcome
from poller.rounds.exporter import ExporterState
from poller.store.keys import Found
from poller.values import LiveStat


@dataclass(frozen=True, slots=True)
class Shown:
    """One kernel from both sides.

    `why` is why it is not written now, None if it is; `missing` which metrics it lacks for that.
    `key_is`: `there`, `none`, `invalid` (no live stat) or `foreign` (of another type).
    """

    kernel: str
    prometheus: LiveStat
    key: LiveStat
    why: str | None
    missing: tuple[str, ...]
    key_is: str
    ttl_s: float | None
    age_s: float | None
    exporter: ExporterState | None

    @property
    def known(self) -> bool:
        """Whether anybody knows this kernel."""
        return self.why != "no samples" or self.key_is != "none"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        made: dict[str, Any] = msgspec.to_builtins(self)
        return made


async def shown(config: Config, texts: Sequence[str]) -> list[Shown]:
    """Return what Prometheus says and what the key says of each kernel."""
    kernels = await kernel_ids.meant(config, texts, prefixes=[config.redis.key_prefix])
    async with assembly.cycle(config, assembly.Choice(kernels, wait=True)) as cycle:
        outcome = Outcome()
        computed = await cycle.compute(outcome=outcome)
        found = await cycle.store.read(kernels)
        ages = await cycle.store.ages(kernels)
    return [
        _shown(kernel, computed, found, ages.get(kernel), config, cycle, outcome)
        for kernel in kernels
    ]


def _shown(
    kernel: str,
    computed: Computed,
    found: Found,
    age_s: float | None,
    config: Config,
    cycle: Cycle,
    outcome: Outcome,
) -> Shown:
    stat = encode.unpack(found.values[kernel]) if kernel in found.values else None
    missing = outcome.missing.get(kernel, ())
    return Shown(
        kernel,
        _held(kernel, computed, missing),
        stat or {},
        outcome.withheld.get(kernel) or (None if kernel in computed.kernels else "no samples"),
        missing,
        _key_is(kernel, found, stat),
        config.redis.ttl_s - age_s if age_s is not None else None,
        age_s,
        _exporter(kernel, cycle, outcome),
    )


def _held(kernel: str, computed: Computed, missing: Collection[str]) -> LiveStat:
    """Return a kernel by its samples, written or not: without what is missing, even if its key
    has it."""
    stat = computed.stats.get(kernel, {})
    return {metric: fields for metric, fields in stat.items() if metric not in missing}


def _key_is(kernel: str, found: Found, stat: LiveStat | None) -> str:
    if kernel in found.foreign:
        return "foreign"
    if kernel not in found.values:
        return "none"
    return "invalid" if stat is None else "there"


def _exporter(kernel: str, cycle: Cycle, outcome: Outcome) -> ExporterState | None:
    """Return the clock of the exporter that tells of a kernel; None where it counts no rounds."""
    state = cycle.history.kernels.get(kernel)
    if state is None:
        return None
    return next((one for one in outcome.exporters if one.instance == state.instance), None)
