"""The daemon over a living cluster, in real time: `python -m tests.bench.living --help`.

It ticks every five seconds against samples that were written ahead of now. What its last cycles
asked is asked again afterwards by a client that does not look at the answers: the floor.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import report
from tests.bench.contestants import Stage, stage
from tests.bench.daemons import WatchedDaemon, failures, told, write_settings
from tests.bench.kernels import Cluster, Pace
from tests.bench.worker import Figures, Worker, used_s

_USED = ("cpu_s", "prometheus_s", "redis_s")
HEADER = ["who", "cycles", "median s", "95th s", "longest s", "failed", "missed ticks"]
HEADER += ["CPU s", "Prometheus' CPU s", "Redis' CPU s", "loop blocked ms", "by own code"]
HEADER += ["peak MiB"]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.living", description=__doc__)
    parser.add_argument("--kernels", type=int, default=10_000)
    parser.add_argument("--agents", type=int, help="one for 40 kernels if not given")
    parser.add_argument("--measure", type=float, default=30.0, help="agents' interval in seconds")
    parser.add_argument("--scrape", type=float, default=15.0, help="scrape interval in seconds")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long the daemon runs")
    parser.add_argument("--past", type=float, default=300.0, help="seconds of samples before")
    parser.add_argument("--floor", type=int, default=24, help="cycles that the floor repeats")
    parser.add_argument("--markdown", type=Path, help="put the table into this file too")
    return parser.parse_args()


def run(given: argparse.Namespace) -> list[list[str]]:
    """Run the daemon, then the floor; return the rows of the table."""
    pace = Pace(given.measure, given.scrape)
    cluster = Cluster(given.kernels, given.agents, pace)
    ahead_s = given.minutes * 60
    began = time.monotonic()
    with (
        stage(cluster, past_s=given.past, ahead_s=ahead_s) as on,
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
    ):
        _tell(f"fed in {time.monotonic() - began:.0f} s; Prometheus: {_held(on)}")
        settings = write_settings(Path(folder), on.prometheus.url, on.redis.url)
        queries = Path(folder) / "queries.jsonl"
        cycles = lived(on, settings, queries, ahead_s)
        _tell(f"Prometheus after the run: {_held(on)}")
        floor = repeated(on, queries, given.floor)
    first = next((place for place, one in enumerate(cycles) if is_settled(one, given)), len(cycles))
    return [row("start", cycles[:first]), row("then", cycles[first:]), row("floor", floor)]


def is_settled(cycle: Figures, given: argparse.Namespace) -> bool:
    """Whether every kernel was known in a cycle, with its past; one that failed tells neither."""
    return cycle["kernels"] == given.kernels and not cycle["owing"]


def lived(on: Stage, settings: Path, queries: Path, length_s: float) -> list[Figures]:
    """Let a daemon live for so long; return its cycles."""
    ends = time.monotonic() + length_s
    seen = 0
    with WatchedDaemon(settings, (on.prometheus, on.redis), queries) as daemon:
        while daemon.running and time.monotonic() < ends:
            time.sleep(1)
            for cycle in daemon.cycles[seen:]:
                _tell(told(cycle))
                seen += 1
        daemon.end(signal.SIGTERM)
        return list(daemon.cycles)


def repeated(on: Stage, queries: Path, cycles: int) -> list[Figures]:
    """Let the floor repeat the last cycles; return its own."""
    found = []
    with Worker("tests.bench.floor_worker", on.prometheus.url, on.redis.url) as floor:
        for line in queries.read_text().splitlines()[-cycles:]:
            before = {server.name: used_s(server.pid) for server in (on.prometheus, on.redis)}
            figures = floor.ask(**json.loads(line))
            for server in (on.prometheus, on.redis):
                figures[f"{server.name}_s"] = used_s(server.pid) - before[server.name]
            found.append(figures)
            time.sleep(0.5)
    return found


def row(who: str, cycles: Sequence[Figures]) -> list[str]:
    """Return the row of some cycles."""
    if not cycles:
        return [who, "0", *[""] * (len(HEADER) - 2)]
    walls = sorted(one["wall_s"] for one in cycles)
    late = walls[min(len(walls) - 1, round(len(walls) * 0.95))]
    times = [f"{seconds:.2f}" for seconds in (statistics.median(walls), late, walls[-1])]
    used = [f"{statistics.mean(one[name] for one in cycles):.2f}" for name in _USED]
    beside = ["", "", *used, "", ""]
    if "missed" in cycles[0]:
        missed = cycles[-1]["missed"] - cycles[0]["missed"]
        worst = [max(one[name] for one in cycles) for name in ("blocked_s", "blocked_own_s")]
        blocked = [f"{seconds * 1000:.0f}" for seconds in worst]
        beside = [failures(cycles), f"{missed:.0f}", *used, *blocked]
    return [who, str(len(cycles)), *times, *beside, f"{max(one['peak_mib'] for one in cycles):.0f}"]


def _held(on: Stage) -> str:
    """Return what Prometheus' memory is and was at most."""
    lines = Path(f"/proc/{on.prometheus.pid}/status").read_text().splitlines()
    held = dict(line.split(":", 1) for line in lines)
    return ", ".join(
        f"{name} {int(held[name].split()[0]) >> 10} MiB" for name in ("VmRSS", "VmHWM")
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def command(given: argparse.Namespace) -> str:
    """Return the command as anybody can give it."""
    words = f"python -m tests.bench.living --kernels {given.kernels}"
    words += f" --agents {given.agents}" if given.agents else ""
    words += f" --measure {given.measure:g} --scrape {given.scrape:g} --minutes {given.minutes:g}"
    return f"{words} --past {given.past:g}"


def main() -> None:
    """Run and print the table."""
    given = arguments()
    before = os.getloadavg()[0]
    table = report.table(HEADER, run(given))
    report.publish("living", command(given), before, [table], given.markdown)


if __name__ == "__main__":
    main()
