"""Measure the poller's cycle: `python -m tests.bench --help`, from the top of the repository."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from tests.bench import report
from tests.bench.contestants import Contestants, PeerCommand, stage
from tests.bench.kernels import Cluster, Pace
from tests.bench.worker import Figures

SIZES = "1000,2000,5000,10000"


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--kernels", default=SIZES, help=f"sizes, {SIZES} if not given")
    parser.add_argument("--measure", default="5,30", help="agents' intervals in seconds")
    parser.add_argument("--rounds", type=int, default=3, help="turns after the warm-up")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two polls")
    parser.add_argument("--peer-python", help="interpreter that has the peer's packages")
    parser.add_argument("--peer-script", help="the peer's upstream_path.py")
    parser.add_argument("--peer-up-to", type=int, help="leave the peer out above so many kernels")
    parser.add_argument("--markdown", type=Path, help="put the tables into this file too")
    given = parser.parse_args(words)
    if bool(given.peer_python) != bool(given.peer_script):
        parser.error("--peer-python and --peer-script go together")
    given.kernels = [int(size) for size in given.kernels.split(",")]
    given.measure = [float(seconds) for seconds in given.measure.split(",")]
    return given


def run(size: report.Size, given: argparse.Namespace) -> report.Rounds:
    """Measure one size: a warm-up, then the rounds, everybody in turn."""
    peer = _peer(size.kernels, given)
    cluster = Cluster(size.kernels, pace=Pace(size.measure_s))
    with stage(cluster) as set_up, ExitStack() as exits:
        contestants = Contestants(set_up, peer, given.pause, exits)
        contestants.warm_up()
        measured = []
        for number in range(given.rounds):
            measured.append(contestants.turns())
            _tell(f"{size}, round {number + 1}: {_summary(measured[-1])}")
        return measured


def _peer(kernels: int, given: argparse.Namespace) -> PeerCommand | None:
    if not given.peer_python or kernels > (given.peer_up_to or kernels):
        return None
    return PeerCommand(given.peer_python, given.peer_script)


def _summary(turns: dict[str, Figures]) -> str:
    return ", ".join(
        f"{who} {figures['wall_s']:.3f} s wall {figures['cpu_s']:.3f} s CPU"
        f" ({figures['kernels']:.0f} kernels)"
        for who, figures in turns.items()
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def command(given: argparse.Namespace) -> str:
    """Return the command as anybody can give it: without this machine's paths."""
    sizes = ",".join(map(str, given.kernels))
    intervals = ",".join(f"{seconds:g}" for seconds in given.measure)
    words = f"python -m tests.bench --kernels {sizes} --measure {intervals}"
    words += f" --rounds {given.rounds}"
    if given.peer_script:
        words += f" --peer-python PEER/bin/python --peer-script {Path(given.peer_script).name}"
    if given.peer_up_to:
        words += f" --peer-up-to {given.peer_up_to}"
    return words


def main() -> None:
    """Measure every size and print the tables."""
    given, before = arguments(), os.getloadavg()[0]
    wanted = [report.Size(*size) for size in itertools.product(given.kernels, given.measure)]
    sizes = {size: run(size, given) for size in wanted}
    tables = [report.poller_table(sizes), report.beside_table(sizes)]
    report.publish("results", command(given), before, tables, given.markdown)


if __name__ == "__main__":
    main()
