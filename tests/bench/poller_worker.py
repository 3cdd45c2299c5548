"""The poller's real cycle as a worker: `python -m tests.bench.poller_worker SETTINGS`.

A request is `{"at": Unix seconds}`; the figures are those of one poll at that time. With `"bare"`
the instruments, which cost time of their own, are left out.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poller import config
from poller.batch import merge
from poller.format import encode
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.poll.outcome import Outcome
from poller.prometheus import answers
from poller.store.lease import Lease
from tests.bench.asked import Asked
from tests.bench.blocked import Collector, Heartbeat
from tests.bench.worker import Figures, measured, peak_mib, serve

OWN_PARTS = ("rounds", "survey", "query", "merge", "history", "backfill", "write")
"""Parts that a cycle times itself; decoding and encoding are taken out of them."""


class Probes:
    """Adds up the time in functions that a cycle's own clock counts as part of another step."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)

    def timed(
        self, name: str, function: Callable[..., Any], outcome: Outcome
    ) -> Callable[..., Any]:
        """Return the function with its time added up under the step that it runs in."""

        def wrapped(*arguments: Any, **more: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                self.seconds[outcome.stage, name] += time.perf_counter() - started

        return wrapped

    @contextmanager
    def installed(self, outcome: Outcome) -> Iterator[None]:
        """Put the probes into their places, and take them out again."""
        places: list[tuple[Any, str]] = [(answers, "_parsed"), (merge.Merger, "take")]
        places += [(encode, "pack"), (encode, "live_stat")]
        before = [(place, name, getattr(place, name)) for place, name in places]
        self.seconds.clear()
        for place, name, function in before:
            setattr(place, name, self.timed(name, function, outcome))
        try:
            yield
        finally:
            for place, name, function in before:
                setattr(place, name, function)


def parts(outcome: Outcome, probed: dict[tuple[str, str], float]) -> dict[str, float]:
    """Return seconds by part, disjoint: what a cycle counts, with the probed parts taken out."""
    found = {name: outcome.seconds.get(name, 0.0) for name in OWN_PARTS}
    decoded, columns = probed["query", "_parsed"], probed["query", "take"]
    encoded = probed["write", "pack"] + probed["write", "live_stat"]
    found["query"] -= decoded + columns
    found["write"] -= encoded
    found["merge"] += columns
    return found | {"decode": decoded, "encode": encoded}


class Measured:
    """A cycle with its lease, as the daemon runs it."""

    def __init__(self, cycle: Cycle, lease: Lease | None) -> None:
        self._cycle, self._lease = cycle, lease
        self._probes, self._asked = Probes(), Asked()

    async def poll(self, request: Figures) -> Figures:
        """Poll once; return the figures."""
        if self._lease is not None:
            await self._lease.take()
        self._asked.begin()
        outcome, figures = Outcome(), Figures()
        if request.get("bare"):
            with measured(figures):
                await self._cycle.poll(self._lease, request["at"], outcome)
        else:
            figures |= await self._watched(request["at"], outcome)
        return figures | {
            "kernels": outcome.written,
            "not_written": dict(outcome.failed + Counter(outcome.withheld.values())),
            "owing": outcome.owing,
            "peak_mib": peak_mib(),
            "queries": self._asked.texts,
        }

    async def _watched(self, at: float, outcome: Outcome) -> Figures:
        with (
            self._probes.installed(outcome),
            Collector() as collector,
            Heartbeat() as heartbeat,
        ):
            await self._cycle.poll(self._lease, at, outcome)
        return {
            "parts": parts(outcome, self._probes.seconds),
            "blocked_s": heartbeat.late_s,
            "blocked_own_s": heartbeat.own_s,
            "collector_s": collector.total_s,
        }


async def main(settings: Path) -> None:
    """Answer requests with a cycle under these settings; nothing is owed after the first poll."""
    read = config.load(settings)
    async with assembly.cycle(read, assembly.Choice(wait=True)) as cycle:
        await serve(Measured(cycle, assembly.lease(read, cycle.store)).poll)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
