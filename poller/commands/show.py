"""Kernels as Prometheus has them beside what their keys say: the work behind `show`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poller.commands.found_keys import read_stats
from poller.config import Config
from poller.poll import assembly
from poller.poll.cycle import Outcome
from poller.values import LiveStat


@dataclass(frozen=True, slots=True)
class Shown:
    """One kernel from both sides. `why` is why it is not written now, None if it is."""

    kernel: str
    prometheus: LiveStat
    key: LiveStat
    why: str | None
    ttl_s: float | None
    age_s: float | None


async def shown(config: Config, kernels: Sequence[str]) -> list[Shown]:
    """Return what Prometheus says and what the key says of each kernel."""
    async with assembly.cycle(config, assembly.Choice(kernels, wait=True)) as cycle:
        outcome = Outcome()
        ours = (await cycle.compute(outcome=outcome)).live_stats()
        keys, _ = await read_stats(cycle.store, kernels)
        ages = await cycle.store.ages(kernels)
        reasons = outcome.withheld
    return [
        Shown(
            kernel,
            ours.get(kernel, {}),
            keys.get(kernel, {}),
            reasons.get(kernel) or (None if ours.get(kernel) else "no samples"),
            config.redis.ttl_s - ages[kernel] if kernel in ages else None,
            ages.get(kernel),
        )
        for kernel in dict.fromkeys(kernels)
    ]
