"""Who holds a lease: the token of a process, and whether that process has surely ended.

Who is killed leaves its lease behind. Where it ran on this machine, among the processes that are
seen from here, nobody need wait until it runs out: the system knows that it is gone. Elsewhere
(another host, another container, no Linux) nothing is known, and nobody counts as ended.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_STARTED = 19
"""Which word after the name of a process in its `stat` tells when it began; see proc(5)."""


def new_token() -> str:
    """Return a token that no other poller has, and that tells an operator who holds the lease."""
    pid = os.getpid()
    began = _began(pid) or ""
    return f"{socket.gethostname()}:{pid}:{_space()}-{began}-{secrets.token_hex(4)}"


def has_ended(token: str) -> bool:
    """Whether the process that made a token has surely ended."""
    try:
        _, number, own = token.rsplit(":", 2)
        space, began, _ = own.split("-")
        pid = int(number)
    except ValueError:
        return False
    if not space or space != _space() or not began or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass  # there is one, and it is not ours
    return _began(pid) not in (None, began)


@cache
def _space() -> str:
    """Return what the processes share that this one sees: boot and namespace; "": unknown."""
    try:
        if os.readlink(_PROC / "self") != str(os.getpid()):
            return ""  # what is mounted there tells of another namespace
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        namespace = os.readlink(_PROC / "self/ns/pid")
    except OSError:
        return ""
    return hashlib.sha256(f"{boot}{namespace}".encode()).hexdigest()[:8]


def _began(pid: int) -> str | None:
    """Return when a process began, in ticks since the boot; None where that is not told."""
    try:
        told = (_PROC / str(pid) / "stat").read_text()
    except (OSError, ValueError):
        return None
    return told.rpartition(")")[2].split()[_STARTED]
