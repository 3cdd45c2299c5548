"""Who is measured: the poller, the peer and the floor, over one Prometheus and one Redis."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.feed import Feed
from tests.bench.kernels import Cluster
from tests.bench.worker import Figures, Worker, used_s
from tests.support.metric_servers import Prometheus
from tests.support.redis_server import Redis

POLL_S = 5
"""Polls are this far apart in evaluation time."""
CYCLES = 12
"""A turn's cycles that count: a minute, so that what is done once a minute is among them."""
PAST_S = 600
AHEAD_S = 300
PEER_DATABASE = 1
_SETTINGS = """
[poll]
interval_s = 300.0         # the bench keeps the time; no deadline shall cut a slow round
[prometheus]
url = "{prometheus}"
restore_window = "15m"     # there is no more to recall, and the warm-up is quicker
[redis]
url = "{redis}"
"""


@dataclass(frozen=True, slots=True)
class PeerCommand:
    """How to run the peer: its interpreter and its script."""

    python: str
    script: str


class Stage:
    """Real servers that hold a cluster, and the time at which the next round asks."""

    def __init__(self, prometheus: Prometheus, redis: Redis, cluster: Cluster) -> None:
        self.prometheus, self.redis, self.cluster = prometheus, redis, cluster
        self._feed = Feed(prometheus.host, prometheus.port, cluster)
        self.at = time.time()

    def fill(self, past_s: float, ahead_s: float) -> None:
        """Let the data reach from so long ago to so far ahead of now, however long it takes."""
        start = time.time() - past_s
        while self._feed.until < time.time() + ahead_s:
            self._feed.extend(start, time.time() + ahead_s + AHEAD_S)
        self.at = time.time()

    def prolong(self) -> None:
        """Let the data reach far enough ahead of now and of the next round."""
        latest = max(self.at, time.time())
        self._feed.extend(self.at, latest + AHEAD_S)

    def prometheus_s(self) -> float:
        """Return the processor time that Prometheus has used."""
        return used_s(self.prometheus.pid)

    def next(self) -> float:
        """Return the time of the next round: one interval after the last."""
        self.at += POLL_S
        return self.at


@contextmanager
def stage(cluster: Cluster, past_s: float = PAST_S, ahead_s: float = 0) -> Iterator[Stage]:
    """Start the servers and fill Prometheus."""
    receiver = ["--web.enable-remote-write-receiver"]
    with Prometheus(arguments=receiver) as prometheus, Redis() as redis:
        made = Stage(prometheus, redis, cluster)
        made.fill(past_s, ahead_s)
        yield made


def mean(cycles: Sequence[Figures], name: str) -> float:
    """Return the mean of one figure of several cycles."""
    return sum(float(one[name]) for one in cycles) / len(cycles)


class Contestants:
    """The processes of one size. A turn is a few rounds that do not count, then those that do.

    The first bring caches and connections back that the others' turns have cost; the poller's
    have the instruments beside it.
    """

    def __init__(
        self, stage: Stage, peer: PeerCommand | None, pause_s: float, exits: ExitStack
    ) -> None:
        self._stage, self._peer, self._pause_s = stage, peer, pause_s
        self._folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        settings = self._folder / "settings.toml"
        settings.write_text(
            _SETTINGS.format(prometheus=stage.prometheus.url, redis=stage.redis.url)
        )
        self._ids = self._folder / "ids.json"
        self._ids.write_text(json.dumps(stage.cluster.kernel_ids))
        self._poller = exits.enter_context(Worker("tests.bench.poller_worker", str(settings)))
        self._floor = exits.enter_context(
            Worker("tests.bench.floor_worker", stage.prometheus.url, stage.redis.url)
        )
        self._same: list[Figures] = []

    def warm_up(self) -> None:
        """Let the poller recall what it owes and everybody take a turn that does not count."""
        self._poller.ask(at=self._stage.next())
        self.turns()

    def turns(self) -> dict[str, Figures]:
        """Run one turn of each; return the figures by contestant: means of a cycle."""
        self._stage.prolong()
        figures = {"poller": self.poller()}
        if self._peer is not None:
            figures["peer"] = self.peer(self._peer)
        figures["floor"] = self.floor()
        return figures

    def poller(self) -> Figures:
        """Poll for a measurement interval with the instruments, then for a minute without."""
        interval = max(2, round(self._stage.cluster.pace.measure_s / POLL_S))
        watched = [self._poll() for _ in range(interval)]
        figures, cycles = self._with_servers(self._bare_polls)
        self._check(cycles)
        parts = [one["parts"] for one in watched]
        return figures | {
            "parts": {name: mean(parts, name) for name in parts[0]},
            "collector_s": mean(watched, "collector_s"),
            **{name: max(one[name] for one in watched) for name in ("blocked_s", "blocked_own_s")},
        }

    def _poll(self, **how: object) -> Figures:
        time.sleep(self._pause_s)
        return self._poller.ask(at=self._stage.next(), **how)

    def _bare_polls(self) -> list[Figures]:
        self._same, cycles = [], []
        for _ in range(CYCLES):
            cycles.append(self._poll(bare=True))
            queries = cycles[-1].pop("queries")
            same = {"at": self._stage.at, "queries": queries, "kernels": cycles[-1]["kernels"]}
            self._same.append(same)
        return cycles

    def _check(self, cycles: Sequence[Figures]) -> None:
        """Raise RuntimeError if kernels were left out: the figures would be too good."""
        left_out = [one["not_written"] for one in cycles if one["not_written"]]
        rounds = CYCLES * POLL_S / self._stage.cluster.pace.measure_s
        due = (rounds - 1) * len(self._stage.cluster.kernel_ids) / CYCLES
        if left_out or mean(cycles, "kernels") < due:
            raise RuntimeError(f"kernels were not written: {left_out or mean(cycles, 'kernels')}")

    def floor(self) -> Figures:
        """Ask the poller's queries again, cycle by cycle, raw; write as many keys as it wrote."""
        self._floor.ask(**self._same[0])
        return self._with_servers(lambda: [self._floor_round(one) for one in self._same])[0]

    def _floor_round(self, request: Figures) -> Figures:
        time.sleep(self._pause_s)
        return self._floor.ask(**request)

    def _with_servers(self, run: Callable[[], list[Figures]]) -> tuple[Figures, list[Figures]]:
        """Return the mean figures of some cycles, with the servers' time, and every cycle's."""
        servers = {"prometheus": self._stage.prometheus.pid, "redis": self._stage.redis.pid}
        before = {name: used_s(pid) for name, pid in servers.items()}
        cycles = run()
        names = ("wall_s", "cpu_s", "kernels")
        figures: Figures = {name: mean(cycles, name) for name in names}
        for name, pid in servers.items():
            figures[f"{name}_s"] = (used_s(pid) - before[name]) / len(cycles)
        figures["peak_mib"] = max(one["peak_mib"] for one in cycles)
        return figures, cycles

    def peer(self, command: PeerCommand) -> Figures:
        """Run the peer for two rounds; return its second."""
        stage = self._stage
        before = stage.prometheus_s()
        arguments = [stage.prometheus.url, f"{stage.redis.host}:{stage.redis.port}"]
        ran = subprocess.run(
            [command.python, command.script, *arguments, str(PEER_DATABASE), str(self._ids), "2"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        told = json.loads(ran.stdout.splitlines()[-1])
        return {
            "wall_s": told["wall"],
            "cpu_s": told["cpu"],
            "kernels": told["kernels"],
            "peak_mib": told["rss_mib"],
            "prometheus_s": (stage.prometheus_s() - before) / 2,
        }
