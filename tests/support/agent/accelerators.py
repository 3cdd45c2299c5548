"""Accelerator plugins: what the vendors' plugins measure of a container, and when they hang."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from decimal import Decimal

from ai.backend.agent.stats import ContainerMeasurement, Measurement, MetricTypes, StatContext
from ai.backend.common.types import MetricKey

from .kernels import GIB, Kernel
from .options import Options
from .stage import Stage


class Accelerator:
    """One vendor's plugin; each kernel that has an accelerator has one device."""

    def __init__(self, name: str, stage: Stage, delays: Delays) -> None:
        self._name = name
        self._stage = stage
        self._delays = delays

    async def gather_container_measures(
        self, context: StatContext, container_ids: Sequence[str]
    ) -> list[ContainerMeasurement]:
        """Measure containers, as slowly as the run says."""
        await self._delays.wait(self._stage.age_s)
        wanted = set(container_ids)
        measured = [one for one in self._stage.living if one.has_accelerator]
        return self._measures([one for one in measured if one.container_id in wanted])

    def _measures(self, kernels: Iterable[Kernel]) -> list[ContainerMeasurement]:
        loads = {one.container_id: Decimal(str(one.accelerator_load)) for one in kernels}
        if self._name == "tt_n300":
            watts = {name: Measurement(load + 40) for name, load in loads.items()}
            return [self._measure("power", "watts", watts, "max")]
        memory = {
            one.container_id: Measurement(Decimal(one.accelerator_memory), Decimal(32 * GIB))
            for one in kernels
        }
        load = {name: Measurement(load, Decimal(100)) for name, load in loads.items()}
        return [
            self._measure("mem", "bytes", memory, "max"),
            self._measure("util", "percent", load, "avg", "max"),
        ]

    def _measure(
        self, kind: str, unit: str, values: dict[str, Measurement], *statistics: str
    ) -> ContainerMeasurement:
        return ContainerMeasurement(
            MetricKey(f"{self._name}_{kind}"),
            MetricTypes.USAGE,
            unit_hint=unit,
            stats_filter=frozenset(statistics),
            per_container=values,
        )


class Delays:
    """How long a plugin takes to answer: at random, and once very long."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._dice = random.Random(options.seed + 1)
        self._hangs_left = 1

    async def wait(self, age_s: float) -> None:
        """Wait as long as a plugin takes that is asked now."""
        await asyncio.sleep(self._dice.uniform(0, self._options.jitter_s))
        if age_s >= self._options.hang_at_s and self._hangs_left:
            self._hangs_left = 0
            await _hang(self._options.hang_for_s)


async def _hang(for_s: float) -> None:
    """Sleep on through cancellation: a driver that hangs does not hear the agent's timeout."""
    until = time.monotonic() + for_s
    while (left_s := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left_s)
        except asyncio.CancelledError:
            continue
