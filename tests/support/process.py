"""Real server processes for tests: on a free port, and ended whatever happens."""

from __future__ import annotations

import abc
import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn, Self

import pytest

from .ports import HOST, free_port

__all__ = ["HOST", "Server", "StartFailedError", "free_port", "require", "wait_until"]

_NO_SKIP = "POLLER_TEST_NO_SKIP"
PATIENCE_S = 60.0
"""What is bound to happen is waited for so long: a machine with much to do takes its time."""

_live: set[Server] = set()
# The kernel sends the death signal when the thread that forked ends, not the process. One
# thread forks for all, so that no server dies with a short-lived thread of some test.
_forker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forker")


class StartFailedError(Exception):
    """A server did not become ready; the message holds what it logged."""


def require(binary: str) -> str:
    """Return the path of a program; without it skip the test, or fail where none may be skipped."""
    path = shutil.which(binary)
    if path is None:
        skip(f"{binary} is not installed")
    return path


def skip(reason: str) -> NoReturn:
    """Skip the test, or fail it where none may be skipped."""
    if os.environ.get(_NO_SKIP) == "1":
        pytest.fail(f"{reason}, and {_NO_SKIP}=1 forbids to skip")
    pytest.skip(reason)


def wait_until(
    condition: Callable[[], bool],
    what: str,
    timeout_s: float = PATIENCE_S,
    interval_s: float = 0.02,
) -> None:
    """Wait until `condition()` holds; raise TimeoutError that says `what` did not come true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(interval_s)


def _dies_with_us() -> list[str]:
    """Return the prefix of a command that makes Linux kill it when this process is gone."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


class Server(abc.ABC):
    """A server process with its own directory and port. Use as a context manager.

    `kill`, `stop` and `start` keep port and data; leaving the context removes both.
    """

    name: str
    start_timeout_s = PATIENCE_S
    stop_timeout_s = 5.0

    def __init__(self) -> None:
        self.host = HOST
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"poller-{self.name}-"))
        self.log_path = self.directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        _live.add(self)

    @abc.abstractmethod
    def _command(self) -> list[str]:
        """Return the program and its arguments."""

    @abc.abstractmethod
    def _is_ready(self) -> bool:
        """Return whether the server answers; must not raise."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id; RuntimeError where there is no process."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return all that the server has written to stdout and stderr."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def start(self) -> None:
        """Start on the same port and data as before; return when it is ready."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already")
        command = [*_dies_with_us(), *self._command()]
        self._process = _forker.submit(self._spawn, command).result()
        try:
            wait_until(self._is_ready_or_dead, "an answer", self.start_timeout_s)
        except TimeoutError as exc:
            self.kill()
            raise self._failed(str(exc)) from exc
        if not self.running:
            raise self._failed(f"exit status {self._process.returncode}")

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _is_ready_or_dead(self) -> bool:
        return not self.running or self._is_ready()

    def _failed(self, reason: str) -> StartFailedError:
        return StartFailedError(f"{self.name} did not start: {reason}\n{self.log()[-4000:]}")

    def stop(self) -> None:
        """End the process politely, and by force if it takes too long."""
        if self._process is None or not self.running:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(self.stop_timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): its port still accepts, and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop the process and remove its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
        _live.discard(self)


@atexit.register
def _close_all() -> None:
    for server in list(_live):
        server.kill()
        server.close()
