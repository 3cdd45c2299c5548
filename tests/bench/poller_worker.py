"""The poller's real cycle as a worker: `python -m tests.bench.poller_worker SETTINGS`.

A request is `{"at": Unix seconds}`; the figures are those of one poll at that time.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poller import config
from poller.poll import assembly, merge
from poller.poll.cycle import Cycle, Outcome
from poller.prometheus import client, selectors
from poller.store.lease import Lease
from tests.bench.blocked import Collector, Heartbeat
from tests.bench.worker import Figures, measured, peak_mib, serve


class Probes:
    """Adds up the time in functions that a cycle's own clock counts as part of another step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its time added to a part."""

        def wrapped(*arguments: Any, **more: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **more)
            finally:
                self.seconds[part] += time.perf_counter() - started

        return wrapped

    @contextmanager
    def installed(self, cycle: Cycle) -> Iterator[None]:
        """Put the probes into their places, and take them out again."""
        places = (
            (client, "_decoded", "decode"),
            (merge.Merger, "take", "columns"),
            (cycle, "value_of", "encode"),
        )
        before = [(place, name, getattr(place, name)) for place, name, _ in places]
        self.seconds.clear()
        for place, name, part in places:
            setattr(place, name, self.timed(part, getattr(place, name)))
        try:
            yield
        finally:
            for place, name, function in before:
                setattr(place, name, function)


class Asked:
    """Remembers the texts of the last batch, for the floor to ask the same."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._batch = selectors.batch
        selectors.batch = self._remembering

    def _remembering(self, *arguments: Any, **more: Any) -> list[Any]:
        queries = self._batch(*arguments, **more)
        self.texts = [query.text for query in queries]
        return queries


def parts(own: dict[str, float], probed: dict[str, float]) -> dict[str, float]:
    """Return seconds by part, disjoint: what a cycle counts, with the probed parts taken out."""
    found = {name: own.get(name, 0.0) for name in ("survey", "query", "history", "recall")}
    found["query"] -= probed["decode"] + probed["columns"]
    found["decode"] = probed["decode"]
    found["merge"] = own.get("merge", 0.0) + probed["columns"]
    found["encode"] = probed["encode"]
    found["write"] = own.get("write", 0.0) - probed["encode"]
    return found


class Measured:
    """A cycle with its lease, as the daemon runs it.

    A poll has the instruments beside it, which cost time of their own, unless it is asked to be
    `bare`. Then it shows what the instruments saw the last time.
    """

    def __init__(self, cycle: Cycle, lease: Lease | None) -> None:
        self._cycle, self._lease = cycle, lease
        self._probes, self._asked = Probes(), Asked()
        self._seen: Figures = {}

    async def poll(self, request: Figures) -> Figures:
        """Poll once; return the figures."""
        if self._lease is not None:
            await self._lease.take()
        figures: Figures = {}
        if request.get("bare"):
            with measured(figures):
                outcome = await self._cycle.poll(self._lease, request["at"])
        else:
            outcome = await self._watched(request["at"], figures)
        return (
            figures
            | self._seen
            | {
                "kernels": outcome.written,
                "not_written": dict(outcome.failed + outcome.withheld),
                "peak_mib": peak_mib(),
                "queries": self._asked.texts,
            }
        )

    async def _watched(self, at: float, figures: Figures) -> Outcome:
        with (
            self._probes.installed(self._cycle),
            Collector() as collector,
            Heartbeat() as heartbeat,
            measured(figures),
        ):
            outcome = await self._cycle.poll(self._lease, at)
        self._seen = {
            "parts": parts(outcome.seconds, self._probes.seconds),
            "blocked_s": heartbeat.late_s,
            "blocked_own_s": heartbeat.own_s,
            "collector_s": collector.total_s,
            "collector_longest_s": collector.longest_s,
        }
        return outcome


async def main(settings: Path) -> None:
    """Answer requests with a cycle under these settings; nothing is owed after the first poll."""
    read = config.load(settings)
    async with assembly.cycle(read, assembly.Choice(wait=True)) as cycle:
        await serve(Measured(cycle, assembly.lease(read, cycle.store)).poll)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
