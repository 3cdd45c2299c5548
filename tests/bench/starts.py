"""Cold start and restart of the daemon: `python -m tests.bench.starts --help`.

A cold start ends when every kernel has a key. Then the daemon is killed and started again: a
restart ends when every key has been written since.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import report
from tests.bench.contestants import stage
from tests.bench.daemons import WatchedDaemon, failures, told, write_settings
from tests.bench.kernels import Cluster, Pace
from tests.bench.worker import Figures

TTL_S = 86_400
LONGEST_S = 600.0
_WRITTEN_SINCE = """
local found = 0
for _, key in ipairs(redis.call('KEYS', '*')) do
  if #key == 36 and redis.call('PTTL', key) > tonumber(ARGV[1]) then found = found + 1 end
end
return found
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One start: how long until every key was written, and until the past of all was known."""

    name: str
    keys_s: float
    known_s: float
    cycles: list[Figures]

    def row(self) -> list[str]:
        """Return its row of the table."""
        longest_s = max(one["wall_s"] for one in self.cycles)
        blocked_s = max(one["blocked_s"] for one in self.cycles)
        peak_mib = max(one["peak_mib"] for one in self.cycles)
        figures = [f"{self.keys_s:.1f}", f"{self.known_s:.1f}", str(len(self.cycles))]
        figures += [failures(self.cycles), f"{longest_s:.2f}", f"{blocked_s * 1000:.0f}"]
        figures += [f"{sum(one[who] for one in self.cycles):.1f}" for who in _USED]
        return [self.name, *figures, f"{peak_mib:.0f}"]


_USED = ("cpu_s", "prometheus_s")
HEADER = ["start", "every key s", "all known s", "cycles", "failed", "longest cycle s"]
HEADER += ["loop blocked ms", "CPU s", "Prometheus' CPU s", "peak MiB"]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Let so many processes compute as fast as they can."""
    words = [sys.executable, "-c", "while True: pass"]
    running = [subprocess.Popen(words) for _ in range(processes)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.starts", description=__doc__)
    parser.add_argument("--kernels", type=int, default=10_000)
    parser.add_argument("--past", type=float, default=600.0, help="seconds of samples before")
    parser.add_argument("--measure", type=float, default=30.0, help="agents' interval in seconds")
    parser.add_argument("--scrape", type=float, default=15.0, help="scrape interval in seconds")
    parser.add_argument("--busy", type=int, default=0, help="processes that keep cores busy")
    parser.add_argument("--down", type=float, default=1.0, help="seconds from kill to restart")
    parser.add_argument("--markdown", type=Path, help="put the table into this file too")
    return parser.parse_args()


def measure(given: argparse.Namespace) -> list[Start]:
    """Start, kill, start again; return both starts."""
    cluster = Cluster(given.kernels, pace=Pace(given.measure, given.scrape))
    with (
        stage(cluster, past_s=given.past, ahead_s=2 * LONGEST_S) as on,
        busy(given.busy),
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        on.redis.client() as client,
    ):
        settings = write_settings(Path(folder), on.prometheus.url, on.redis.url)
        script = client.register_script(_WRITTEN_SINCE)

        def start(name: str) -> Start:
            started = time.time()

            def all_written() -> bool:
                least_ms = (TTL_S - (time.time() - started)) * 1000
                found: int = script(args=[least_ms])
                return bool(found >= given.kernels)

            with WatchedDaemon(settings, (on.prometheus, on.redis)) as daemon:
                return _watched(name, daemon, all_written)

        cold = start("cold")
        time.sleep(given.down)
        return [cold, start("restart")]


def _watched(name: str, daemon: WatchedDaemon, all_written: Callable[[], bool]) -> Start:
    """Wait for every key, then for the past of all; leave the daemon running."""
    started = time.monotonic()
    keys_s = _wait(daemon, started, all_written)
    known = lambda: bool(daemon.cycles) and not daemon.cycles[-1]["owing"]  # noqa: E731
    known_s = _wait(daemon, started, known)
    for cycle in daemon.cycles:
        print(f"{name}: {told(cycle)}", file=sys.stderr, flush=True)
    return Start(name, keys_s, known_s, list(daemon.cycles))


def _wait(daemon: WatchedDaemon, started: float, condition: Callable[[], bool]) -> float:
    """Return how long after the start the condition held; infinite if it was given up."""
    while not condition():
        if not daemon.running:
            raise RuntimeError("the daemon ended")
        if time.monotonic() - started > LONGEST_S:
            return float("inf")
        time.sleep(0.5)
    return time.monotonic() - started


def command(given: argparse.Namespace) -> str:
    """Return the command as anybody can give it."""
    words = f"python -m tests.bench.starts --kernels {given.kernels} --past {given.past:g}"
    words += f" --measure {given.measure:g} --scrape {given.scrape:g}"
    return words + (f" --busy {given.busy}" if given.busy else "")


def main() -> None:
    """Measure and print the table."""
    given = arguments()
    before = os.getloadavg()[0]
    table = report.table(HEADER, [start.row() for start in measure(given)])
    report.publish("starts", command(given), before, [table], given.markdown)


if __name__ == "__main__":
    main()
