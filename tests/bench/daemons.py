"""A daemon that is watched from outside: its cycles, and what the servers used meanwhile."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.bench.worker import ROOT, Figures, used_s
from tests.support.process import Server

_SETTINGS = """
[prometheus]
url = "{prometheus}"
[redis]
url = "{redis}"
[http]
enabled = false
[log]
level = "error"
"""


def write_settings(folder: Path, prometheus_url: str, redis_url: str) -> Path:
    """Write a daemon's settings: every default but for the servers."""
    path = folder / "settings.toml"
    path.write_text(_SETTINGS.format(prometheus=prometheus_url, redis=redis_url))
    return path


class WatchedDaemon:
    """A daemon in a process of its own; `cycles` grows while it runs."""

    def __init__(self, settings: Path, servers: Sequence[Server], queries: Path | None = None):
        self.cycles: list[Figures] = []
        self._servers = servers
        self._before = self._used()
        words = [sys.executable, "-m", "tests.bench.daemon_worker", str(settings)]
        words += [str(queries)] if queries is not None else []
        self._process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.end(signal.SIGKILL)

    def end(self, how: signal.Signals) -> None:
        """End it with a signal, and wait until it is gone."""
        self._process.send_signal(how)
        self._process.wait()
        self._reader.join()

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process.poll() is None

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            figures = json.loads(line)
            used = self._used()
            for server in self._servers:
                figures[f"{server.name}_s"] = used[server.name] - self._before[server.name]
            self._before = used
            self.cycles.append(figures)

    def _used(self) -> dict[str, float]:
        return {server.name: used_s(server.pid) for server in self._servers}


def failures(cycles: Sequence[Figures]) -> str:
    """Return how many cycles failed, and why."""
    reasons = Counter(one["reason"] for one in cycles if one["reason"])
    told = ", ".join(f"{count}× {reason}" for reason, count in reasons.most_common())
    return f"{reasons.total()} ({told})" if reasons else "0"


def told(cycle: Figures) -> str:
    """Return a cycle as a line of text."""
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in cycle["parts"].items())
    counts = ", ".join(f"{cycle[name]} {name}" for name in ("kernels", "written", "owing"))
    return f"{cycle['wall_s']:.2f} s, {counts}, {cycle['reason'] or 'good'} ({parts})"
