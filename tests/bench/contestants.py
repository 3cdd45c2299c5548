"""Who is measured: the poller, the peer and the floor, over one Prometheus and one Redis."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.feed import Feed
from tests.bench.kernels import STEP_S, Cluster
from tests.bench.worker import Figures, Worker, used_s
from tests.support.metric_servers import Prometheus
from tests.support.redis_server import Redis

PAST_S = 120
AHEAD_S = 300
PEER_DATABASE = 1
_SETTINGS = """
[poll]
interval_s = 60.0          # the bench keeps the time; no deadline shall cut a slow round
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
        self.prolong(PAST_S)

    def prolong(self, past_s: float = 0) -> None:
        """Let the data reach far enough ahead of now and of the next round."""
        latest = max(self.at, time.time())
        self._feed.extend(self.at - past_s, latest + AHEAD_S)

    def prometheus_s(self) -> float:
        """Return the processor time that Prometheus has used."""
        return used_s(self.prometheus.pid)

    def next(self) -> float:
        """Return the time of the next round: one interval after the last."""
        self.at += STEP_S
        return self.at


@contextmanager
def stage(kernels: int) -> Iterator[Stage]:
    """Start the servers and fill Prometheus."""
    receiver = ["--web.enable-remote-write-receiver"]
    with Prometheus(arguments=receiver) as prometheus, Redis() as redis:
        yield Stage(prometheus, redis, Cluster(kernels))


class Contestants:
    """The processes of one size. Every turn runs two rounds, of which the second counts.

    The first brings caches and connections back that the others' turns have cost.
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
        self._queries: list[str] = []

    def warm_up(self) -> None:
        """Let the poller recall what it owes and everybody take a turn that does not count."""
        self._poller.ask(at=self._stage.next())
        self.turns()

    def turns(self) -> dict[str, Figures]:
        """Run one turn of each; return the figures by contestant."""
        self._stage.prolong()
        figures = {"poller": self.poller()}
        if self._peer is not None:
            figures["peer"] = self.peer(self._peer)
        figures["floor"] = self.floor()
        return figures

    def poller(self) -> Figures:
        """Poll twice, with a pause between; raise RuntimeError if a kernel was not written."""
        self._poller.ask(at=self._stage.next())
        time.sleep(self._pause_s)
        figures = self._with_servers(self._poller, at=self._stage.next(), bare=True)
        self._queries = figures.pop("queries")
        if figures["kernels"] != len(self._stage.cluster.kernel_ids):
            raise RuntimeError(f"kernels were not written: {figures['not_written']}")
        return figures

    def floor(self) -> Figures:
        """Ask the poller's last queries again, raw, and write what it wrote."""
        same = {"queries": self._queries, "kernels": self._stage.cluster.kernel_ids}
        self._floor.ask(at=self._stage.at, **same)
        time.sleep(self._pause_s)
        return self._with_servers(self._floor, at=self._stage.at, **same)

    def _with_servers(self, worker: Worker, **request: object) -> Figures:
        servers = {"prometheus": self._stage.prometheus.pid, "redis": self._stage.redis.pid}
        before = {name: used_s(pid) for name, pid in servers.items()}
        figures = worker.ask(**request)
        used = {f"{name}_s": used_s(pid) - before[name] for name, pid in servers.items()}
        return figures | used

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
