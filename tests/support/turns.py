"""Many tests beside each other, or one alone, across all the processes of a run."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Turns:
    """A lock that many may share and one may have alone. `name` is that of the run."""

    def __init__(self, name: str) -> None:
        self._path = Path(tempfile.gettempdir()) / f"livestat-poller-turns-{name}"

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Hold a turn beside others."""
        with self._locked("queue", fcntl.LOCK_EX):
            turn = self._open("turn")
            fcntl.flock(turn, fcntl.LOCK_SH)
        try:
            yield
        finally:
            os.close(turn)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until every turn has ended, and hold the only one; new ones queue up."""
        with self._locked("queue", fcntl.LOCK_EX), self._locked("turn", fcntl.LOCK_EX):
            yield

    @contextmanager
    def _locked(self, part: str, how: int) -> Iterator[None]:
        descriptor = self._open(part)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def _open(self, part: str) -> int:
        return os.open(f"{self._path}.{part}", os.O_RDWR | os.O_CREAT, 0o600)
