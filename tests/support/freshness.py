"""How fresh keys are: the evaluation time behind each, as a `World` tells it."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgpack
import redis

from .redis_server import Redis
from .world import MIB, World


def evaluated(world: World, servers: Iterable[Redis], database: int = 0) -> dict[str, float]:
    """Return the Unix time behind every kernel's key that some running server holds."""
    found: dict[str, float] = {}
    for server in servers:
        if not server.running:
            continue
        for kernel in world.ids:
            value = _value(server, kernel, database)
            if value is not None:
                passed_ms = int(msgpack.unpackb(value)["mem"]["current"]) - MIB
                found[kernel] = world.born + passed_ms / 1000
    return found


def _value(server: Redis, kernel: str, database: int) -> bytes | None:
    try:
        with server.client(database) as client:
            value = client.execute_command("GET", kernel)
    except redis.RedisError:  # a node without the slot, or one that is going down
        return None
    return value if isinstance(value, bytes) else None


def stale(
    world: World, servers: Iterable[Redis], since: float | None = None, database: int = 0
) -> list[str]:
    """Return the kernels whose key is missing or older than `since` (default: now)."""
    since = time.time() if since is None else since
    found = evaluated(world, servers, database)
    return [kernel for kernel in world.ids if found.get(kernel, 0.0) < since]
