"""A Prometheus whose clock is behind this host's: its time is used, and never its future asked."""

from __future__ import annotations

import time

import pytest

from tests.support.command import environment, poller
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis
from tests.support.world import World

BEHIND_S = 400.0


@pytest.mark.parametrize(
    "command",
    [("check",), ("compare",), ("once", "--dry-run"), ("watch", "--duration", "0"),
     ("show", "3f9d4d5e-8a1b-4c6e-9d53-0b7f5a7c2e11"), ("show", "3f9d4d5e")],
    ids=" ".join,
)  # fmt: skip
def test_no_command_asks_for_the_servers_future(command: tuple[str, ...]):
    with ScriptedPrometheus(World(3).handler) as prometheus, Redis() as redis:
        prometheus.date_offset_s = -BEHIND_S
        done = poller(*command, env=environment(prometheus.url, redis.url))
        assert "Traceback" not in done.stderr
        asked = [one for one in prometheus.requests if one.query and one.query != "vector(1)"]
        assert asked
        assert all(one.time <= time.time() - BEHIND_S + 5 for one in asked)
        if command == ("check",):
            assert "is -400 s from this host's; its time is used" in done.stdout
            assert "fail clock" not in done.stdout
