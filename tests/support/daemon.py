"""The real daemon in a process of its own: its endpoints, its log, what it tells systemd."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

from prometheus_client.parser import text_string_to_metric_families

from .command import environment
from .process import HOST, PATIENCE_S, free_port, wait_until

PREFIX = "livestat_poller_"
# The environment's HTTP proxy must not see loopback traffic.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class DaemonProcess:
    """`poller run` with settings from the environment. Use as a context manager.

    `settings` are named `section__key`. Its standard error is a file, `log_path`.
    """

    def __init__(
        self,
        prometheus_url: str | None,
        redis_url: str | None,
        cwd: Path = Path(os.sep),
        **settings: object,
    ) -> None:
        self._cwd = cwd
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="poller-daemon-"))
        self.log_path = self.directory / "stderr.log"
        self._manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._manager.bind(str(self.directory / "notify"))
        self._manager.setblocking(False)
        self._told: list[str] = []
        self._environment = environment(prometheus_url, redis_url)
        self._environment |= {
            "POLLER_HTTP__ENABLED": "true",
            "POLLER_HTTP__PORT": str(self.port),
            "NOTIFY_SOCKET": str(self.directory / "notify"),
            **{f"POLLER_{name.upper()}": str(value) for name, value in settings.items()},
        }

    def __enter__(self) -> Self:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "poller", "run"],
                env=self._environment,
                cwd=self._cwd,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            wait_until(self._listens_or_ended, "the daemon listens")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.wait()
        self._manager.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _listens_or_ended(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the daemon ended: {self.process.returncode}\n{self.log()}")
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def log(self) -> str:
        """Return all that it has written to standard error."""
        return self.log_path.read_text("utf-8")

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of one of its pages."""
        try:
            with _opener.open(f"http://{HOST}:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def series(self) -> Series:
        """Return every sample of `/metrics` as of one moment."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return one sample, without the prefix in its name; 0 where it is not there."""
        return value_in(self.series(), name, **labels)

    def told(self) -> list[str]:
        """Return every line that the service manager was sent, in order."""
        while True:
            try:
                self._told += self._manager.recv(65_536).decode().splitlines()
            except BlockingIOError:
                return self._told

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self, timeout_s: float = PATIENCE_S) -> int:
        """Ask it to end as systemd does; return its exit status."""
        self.send(signal.SIGTERM)
        return self.process.wait(timeout_s)


def value_in(series: Series, name: str, **labels: str) -> float:
    """Return one sample of all, without the prefix in its name; 0 where it is not there."""
    return series.get((PREFIX + name, frozenset(labels.items())), 0.0)
