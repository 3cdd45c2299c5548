"""One cycle by hand: written (`once`), or only computed (`once --dry-run`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from poller.commands import kernel_ids
from poller.commands.finding import counted
from poller.config import Config
from poller.errors import ConfigError, LeaseLost, StoreError
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.poll.outcome import Outcome
from poller.prometheus import selectors
from poller.store.lease import Lease
from poller.values import LiveStat

log = logging.getLogger("poller")


async def write(
    config: Config,
    kernels: Sequence[str] | None = None,
    at: float | None = None,
    hooks: assembly.Hooks | None = None,
) -> Outcome:
    """Run one cycle and write. `at`: evaluate at that Unix time.

    Raises `LeaseLost` while another poller writes these keys.
    """
    choice = await _choice(config, kernels, at, hooks)
    _refuse_others(config, choice.kernels or ())
    async with assembly.cycle(config, choice) as cycle:
        lease = assembly.lease(config, cycle.store)
        if lease is not None and not await lease.take():
            raise LeaseLost(
                "lease",
                f"{await lease.holder()} writes these keys",
                "stop it first, or write beside it with redis.key_prefix",
            )
        outcome = await _polled(cycle, lease, at)
    if outcome.failed:
        reason = outcome.failed.most_common(1)[0][0]
        keys = sum(outcome.failed.values())
        raise StoreError(reason, f"{counted(keys, 'key')} could not be written")
    return outcome


async def _choice(
    config: Config, kernels: Sequence[str] | None, at: float | None, hooks: assembly.Hooks | None
) -> assembly.Choice:
    asked = await kernel_ids.meant(config, kernels, at) if kernels else kernels
    return assembly.Choice(asked, wait=True, hooks=hooks or assembly.Hooks())


def _refuse_others(config: Config, kernels: Sequence[str]) -> None:
    """Refuse kernels of another shard: its poller writes them, under a lease of its own."""
    scope = selectors.shard(config.shard.index, config.shard.count)
    for kernel in kernels:
        if not scope.covers(kernel):
            raise ConfigError([("shard.index", f"{kernel} is another shard's to write")])


async def _polled(cycle: Cycle, lease: Lease | None, at: float | None) -> Outcome:
    """Poll once while the lease is kept, however long the kernels' past takes to recall."""
    if lease is None:
        return await cycle.poll(None, at)
    keeper = asyncio.create_task(lease.keep())
    try:
        return await cycle.poll(lease, at)
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        await lease.release()


def trouble(outcome: Outcome, made: int, allow_empty: bool) -> str:
    """Return why a cycle that made so many keys came to nothing; empty where it did not."""
    if made or outcome.absent:
        return ""
    if not outcome.kernels:
        told = "Prometheus holds no kernel at all; if the cluster is empty, say --allow-empty"
        return "" if allow_empty else told
    return "not one kernel could be written" if outcome.withheld else ""


async def stats(
    config: Config,
    kernels: Sequence[str] | None = None,
    at: float | None = None,
    hooks: assembly.Hooks | None = None,
) -> tuple[dict[str, LiveStat], Outcome]:
    """Return what a cycle would write now, by kernel, and its outcome. Nothing is written.

    A kernel asked for and without samples is there, empty. Without a store nothing is known
    of older keys, which is told in the log.
    """
    choice = replace(await _choice(config, kernels, at, hooks), needs_store=False)
    outcome = Outcome()
    async with assembly.cycle(config, choice) as cycle:
        computed = await cycle.compute(at, outcome)
    if outcome.store_trouble:
        log.warning("redis: %s; what older keys know is left out", outcome.store_trouble)
    return computed.live_stats(), outcome
