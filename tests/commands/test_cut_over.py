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
    "a" * 64,
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
    (line,) = re.findall(r"^ +(ACL SETUSER agents resetkeys .*)$", README, re.MULTILINE)
    server.command("ACL", "SETUSER", "agents", "on", ">secret", "allkeys", "+@all")
    server.command(*line.split())
    with server.client() as admin:
        admin.set(KERNEL, b"the poller's")
    agents = redis.Redis(port=server.port, username="agents", password="secret")
    for name in AGENTS_KEYS:
        assert agents.set(name, b"x")
    for kernel in (KERNEL, KERNEL.replace("3f", "cf", 1), KERNEL.replace("3f", "ab", 1)):
        with pytest.raises(redis.exceptions.NoPermissionError):
            agents.set(kernel, b"x", ex=86_400)
    assert agents.get(KERNEL) == b"the poller's"
    server.command(*re.search(r"ACL SETUSER agents allkeys", README)[0].split())
    assert agents.set(KERNEL, b"x", ex=86_400)
    agents.close()
