"""What the README tells an operator to type, run on a real Redis."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.servers import Redis

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
KERNEL = "3f9d4d5e-8a1b-4c6e-9d53-0b7f5a7c2e11"
AGENTS_KEYS = [
    "i-agent0", "computer.metadata", "kp:AKIA", "container_count.i-agent0", "abuse_report",
    "gpu_alloc_map.i-agent0", "inference.x", "resource_preset:default", "manager.status.x",
    "a" * 64, "events", "bgtask:meta:1", "bgtask:server:i-agent0", "containerlog.x",
    "installed_image:i-agent0", "kernel:presence:x", "agent-in-rack-3", "AIOHTTP_SESSION_x",
    "artifact:download:x", "deployment:x",
]  # fmt: skip


@pytest.fixture
def server() -> Iterator[Redis]:
    with Redis() as made:
        yield made


def test_shadow_keys_are_cleaned_up_and_no_other(server: Redis):
    (line,) = re.findall(r"^ +(redis-cli --scan --pattern 'shadow:.*)$", README, re.MULTILINE)
    others = [KERNEL, "livestat-poller:leader", "shadow:other", "shadow", *AGENTS_KEYS]
    with server.client() as client:
        for name in others:
            client.set(name, b"x")
        for number in range(1200):
            client.set(f"shadow:3f9d4d5e-8a1b-4c6e-9d53-{number:012d}", b"x")
        command = line.replace("redis-cli", f"redis-cli -p {server.port}")
        typed = ["/bin/sh", "-c", command]
        done = subprocess.run(typed, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(key.decode() for key in client.keys("*")) == sorted(others)
        assert subprocess.run(typed, timeout=60).returncode == 0


def test_the_acl_of_the_cut_over_denies_kernel_keys_and_no_other_of_the_agents(server: Redis):
    """Agents log in as `default`, to all databases: their events go through a stream in one."""
    (line,) = re.findall(r"^ +(ACL SETUSER default resetkeys .*)$", README, re.MULTILINE)
    with server.client() as agents:
        agents.execute_command("ACL", "SETUSER", "admin", "on", ">secret", "allkeys", "+@all")
        agents.set(KERNEL, b"the poller's")
        agents.execute_command(*line.split())
        for name in AGENTS_KEYS:
            assert agents.set(name, b"x")
        for kernel in (KERNEL, KERNEL.replace("3f", "cf", 1), KERNEL.replace("3f", "ab", 1)):
            with pytest.raises(redis.exceptions.NoPermissionError):
                agents.set(kernel, b"x", ex=86_400)
        assert agents.get(KERNEL) == b"the poller's"
        agents.execute_command(*re.search(r"ACL SETUSER default allkeys", README)[0].split())
        assert agents.set(KERNEL, b"x", ex=86_400)
