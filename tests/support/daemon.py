"""The real daemon in a process of its own: its endpoints, its log, what it tells systemd."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from .command import environment
from .forked import Forked
from .process import HOST, PATIENCE_S, free_port, wait_until

PREFIX = "livestat_poller_"
# The environment's HTTP proxy must not see loopback traffic.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Daemon:
    """`poller run`, its log in a file of `directory`. Use as a context manager.

    `before` is Python that runs first in its process.
    """

    def __init__(
        self,
        directory: Path,
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        *,
        before: str = "",
        cwd: Path | None = None,
    ) -> None:
        self.port = free_port()
        self.directory = directory
        self._cwd = cwd or directory
        self.log_path = directory / "live.log"
        self._arguments = ["run", *arguments]
        self._before = before
        self._environ = environment() | dict(environ or {})
        self.process: subprocess.Popen[bytes] | Forked | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._runs():
            self.kill()

    def start(self) -> None:
        """Start the process; what it logs is added to the log."""
        self.log_path.touch()
        # What is to be loaded before the program cannot be loaded into a fork of it.
        if not (self._before or "LD_PRELOAD" in self._environ):
            log_path = self.log_path
            self.process = Forked(self._arguments, self._environ, self._cwd, log_path, log_path)
            return
        main = f"{self._before}\nfrom poller.cli import main\nmain()"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", main, *self._arguments],
                cwd=self._cwd,
                env=self._environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait_listens(self) -> None:
        """Wait until it listens; RuntimeError with its log if it ends instead."""
        wait_until(self._listens_or_ended, "the daemon listens")

    def _listens_or_ended(self) -> bool:
        if not self._runs():
            raise RuntimeError(f"the daemon ended\n{self.log}")
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def _runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End the process at once (SIGKILL)."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """Ask it to end as systemd does; return its exit status."""
        assert self.process is not None
        self.send(signal.SIGTERM)
        return self.process.wait(timeout_s)

    @property
    def log(self) -> str:
        """All it has logged."""
        return self.log_path.read_text("utf-8")

    def lines(self, part: str) -> list[str]:
        """Return the lines of the log with a text in them."""
        return [line for line in self.log.splitlines() if part in line]

    def wait_line(self, part: str, count: int = 1) -> None:
        """Wait until the log has so many lines with a text in them."""
        wait_until(lambda: len(self.lines(part)) >= count, f"{count}x {part!r} in\n{self.log}")

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of one of its pages; a reload closes the port for a moment."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._page(path)
            except OSError:
                if time.monotonic() > deadline or not self._runs():
                    raise
                time.sleep(0.05)

    def _page(self, path: str) -> tuple[int, str]:
        try:
            with _opener.open(f"http://{HOST}:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """Return one of its metrics, without the prefix, summed over labels not named."""
        return metric_of(self.series(), name, **labels)

    def wait_metric(
        self, name: str, least: float, timeout_s: float = PATIENCE_S, **labels: str
    ) -> None:
        """Wait until one of its metrics is at least so large."""

        def reached() -> bool:
            try:
                return self.metric(name, **labels) >= least
            except OSError:
                return False

        wait_until(reached, f"{name} {labels} >= {least}", timeout_s)

    def series(self) -> Series:
        """Return every sample of `/metrics` as of one moment."""
        families = text_string_to_metric_families(self.page("/metrics")[1])
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


class DaemonProcess(Daemon):
    """A daemon with settings from the environment and a service manager that it tells of itself.

    `settings` are named `section__key`. It listens when the context is entered.
    """

    def __init__(
        self,
        prometheus_url: str | None,
        redis_url: str | None,
        cwd: Path | None = None,
        **settings: object,
    ) -> None:
        directory = Path(tempfile.mkdtemp(prefix="poller-daemon-"))
        super().__init__(directory, environ=environment(prometheus_url, redis_url), cwd=cwd)
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(directory / "notify"))
        self._manager.setblocking(False)
        self._told: list[str] = []
        self._environ |= {
            "POLLER_HTTP__ENABLED": "true",
            "POLLER_HTTP__PORT": str(self.port),
            "NOTIFY_SOCKET": str(directory / "notify"),
            **{f"POLLER_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._manager.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def told(self) -> list[str]:
        """Return every line that the service manager was sent, in order."""
        while True:
            try:
                self._told += self._manager.recv(65_536).decode().splitlines()
            except BlockingIOError:
                return self._told


def metric_of(series: Series, name: str, **labels: str) -> float:
    """Return one of our metrics, without the prefix, summed over labels not named."""
    return sum(
        value
        for (found, its), value in series.items()
        if found == PREFIX + name and labels.items() <= its
    )
