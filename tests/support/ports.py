"""Ports that no other process of the tests is given, of this run or of another."""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"
# Below Linux's ephemeral range: a client that retries the port of a dead server in that
# range can be given the same port as its own, and then talks to itself.
_FIRST, _LAST = 20_000, 32_000
_BLOCK = 100
_LOCKS = Path(tempfile.gettempdir()) / f"livestat-poller-ports-{os.getuid()}"


def _blocks() -> Iterator[range]:
    """Yield blocks of ports that are locked by this process as long as it lives."""
    _LOCKS.mkdir(exist_ok=True)
    starts = list(range(_FIRST, _LAST, _BLOCK))
    random.Random(os.getpid()).shuffle(starts)
    for start in starts:
        descriptor = os.open(_LOCKS / str(start), os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield range(start, start + _BLOCK)
            continue
        os.close(descriptor)


def _ports() -> Iterator[int]:
    for block in _blocks():
        yield from (port for port in block if _can_bind(port))


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


_free = _ports()


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses and that was not handed out before."""
    return next(_free)
