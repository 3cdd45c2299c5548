"""The daemon in a process that tells its cycles: `… daemon_worker SETTINGS [QUERIES_FILE]`.

Each cycle is a line of JSON on standard output. What it asked of Prometheus is put into the file,
if one is given, for the floor to ask the same.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from poller import config
from poller.daemon.daemon import Daemon
from poller.daemon.report import Report
from poller.errors import CycleError
from poller.poll.outcome import Outcome
from tests.bench.asked import Asked
from tests.bench.blocked import Heartbeat
from tests.bench.worker import Figures, peak_mib


class TellingReport(Report):
    """Remembers how the last cycle ended: `reason` is why it failed, empty if it did not."""

    outcome: Outcome | None = None
    reason = ""

    def overran(self, outcome: Outcome, deadline_s: float) -> None:
        """Take a cycle that ran into its deadline."""
        self.outcome, self.reason = outcome, f"deadline in {outcome.stage}"
        super().overran(outcome, deadline_s)

    def failed(self, error: CycleError, outcome: Outcome) -> None:
        """Take a cycle that failed."""
        self.outcome, self.reason = outcome, f"{error.reason} in {outcome.stage}"
        super().failed(error, outcome)

    def succeeded(self, outcome: Outcome) -> None:
        """Take a cycle that went through."""
        self.outcome, self.reason = outcome, ""
        super().succeeded(outcome)


class TellingDaemon(Daemon):
    """The daemon as it is; after each cycle its figures go to standard output."""

    def __init__(self, read: config.Config, asked: Asked | None, queries: Path | None) -> None:
        super().__init__(read, lambda: read)
        self._told = TellingReport(self.telemetry, self.conditions)
        self.report = self._told
        self._asked, self._queries = asked, queries
        self._heartbeat = Heartbeat()
        self._used_s = 0.0

    async def run(self) -> None:
        """Run with the heartbeat beside it."""
        with self._heartbeat:
            await super().run()

    async def _one_cycle(self, run: Any) -> None:
        started = time.perf_counter()
        if self._asked is not None:
            self._asked.begin()
        await super()._one_cycle(run)
        wall_s = time.perf_counter() - started
        outcome, self._told.outcome = self._told.outcome, None
        if outcome is not None:  # else it stood by
            print(json.dumps(self._figures(wall_s, outcome)), flush=True)
            self._keep_queries(outcome)

    def _figures(self, wall_s: float, outcome: Outcome) -> Figures:
        """Return what there is to tell; processor time and blocking are since the last cycle."""
        before, self._used_s = self._used_s, time.process_time()
        beat, missed = self._heartbeat, "livestat_poller_missed_cycles_total"
        figures = {
            "wall_s": wall_s,
            "cpu_s": self._used_s - before,
            "reason": self._told.reason,
            "kernels": outcome.kernels,
            "written": outcome.written,
            "owing": outcome.owing,
            "parts": outcome.seconds,
            "blocked_s": beat.late_s,
            "blocked_own_s": beat.own_s,
            "missed": self.telemetry.registry.get_sample_value(missed),
            "peak_mib": peak_mib(),
        }
        beat.late_s = beat.own_s = 0.0
        return figures

    def _keep_queries(self, outcome: Outcome) -> None:
        if self._asked is None or self._queries is None or self._told.reason:
            return
        same = {"at": outcome.time, "queries": self._asked.texts, "kernels": outcome.written}
        with self._queries.open("a") as file:
            file.write(json.dumps(same) + "\n")


async def main(settings: Path, queries: Path | None) -> None:
    """Poll until told to stop."""
    asked = Asked() if queries is not None else None
    await TellingDaemon(config.load(settings), asked, queries).run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None))
