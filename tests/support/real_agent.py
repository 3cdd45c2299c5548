"""The agent's real package in a process of its own; see `agent`."""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

from . import python313
from .agent.options import Options
from .command import ROOT
from .process import Server
from .redis_server import Redis

VERSION = os.environ.get("POLLER_TEST_AGENT", "26.9.6")
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RealAgent(Server):
    """An agent that writes its live stats to `redis`. `options` are fields of `Options`.

    Its rounds begin with the first scrape. `profile` is the poller's name for how it writes.
    """

    name = "agent"
    start_timeout_s = 60.0  # its imports alone take seconds

    def __init__(self, redis: Redis, version: str = VERSION, **options: Any) -> None:
        self._python = python313.environment(f"agent-{version}", f"backend.ai-agent=={version}")
        super().__init__()
        self.profile = "26.9" if _at_least(version, (26, 9)) else "classic"
        self.options = Options(f"{redis.host}:{redis.port}", self.port, **options)
        self.kernels: list[str] = []

    def _command(self) -> list[str]:
        environment = ["env", f"PYTHONPATH={ROOT}"]
        program = [str(self._python), "-m", "tests.support.agent"]
        return [*environment, *program, self.options.to_json()]

    def _is_ready(self) -> bool:
        try:
            with _opener.open(f"http://{self.host}:{self.port}/kernels", timeout=5) as answer:
                self.kernels = json.load(answer)
        except OSError:
            return False
        return True


def _at_least(version: str, least: tuple[int, ...]) -> bool:
    return tuple(map(int, version.split(".")[: len(least)])) >= least
