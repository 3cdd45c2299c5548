"""The command line in a process that is forked from one that has imported everything.

To import it all takes a command longer than its work does in a test, and there are hundreds.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [__name__, "poller.cli", "poller.daemon.daemon", "poller.poll.assembly"]
    + [f"poller.commands.{name}" for name in ("check", "compare", "live_table", "once", "show")]
)


class Forked:
    """`livestat-poller ARGUMENTS` at work; what tests use of `subprocess.Popen`.

    What it says is added to the files `out` and `err`, which may be one.
    """

    def __init__(
        self, arguments: Sequence[str], env: Mapping[str, str], cwd: Path, out: Path, err: Path
    ) -> None:
        self.arguments = list(arguments)
        given = (self.arguments, dict(env), cwd, out, err)
        self._process = _FORKS.Process(target=_be, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit status, minus the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """Return the exit status; `subprocess.TimeoutExpired` if it runs for longer."""
        self._process.join(timeout_s)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(self.arguments, timeout_s or 0.0)
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it while it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once (SIGKILL)."""
        self.send_signal(signal.SIGKILL)


def _be(arguments: Sequence[str], env: Mapping[str, str], cwd: Path, out: Path, err: Path) -> None:
    """Be the command, in a process that has just been forked."""
    from poller import cli

    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    sys.argv = ["livestat-poller", *arguments]
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    cli.main()
