"""Pollers in tests: settings from a file, a cycle in this process, the daemon in its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgpack

from poller import config
from poller.config import Config

from .command import ROOT
from .process import HOST, PATIENCE_S, free_port, wait_until

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def write_settings(path: Path, tables: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write tables as TOML; values are text, numbers, booleans, lists, or tables of text."""
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in table.items()]
    path.write_text("\n".join(lines) + "\n")
    return path


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(str(value) if isinstance(value, Path) else value)


def tables(
    prometheus_url: str, redis_url: str, interval_s: float = 1.0, **more: Any
) -> dict[str, dict[str, Any]]:
    """Return settings without lease and endpoints; `more` are named `section__key`."""
    made: dict[str, dict[str, Any]] = {
        "poll": {"interval_s": interval_s, "query_offset_s": 0.0},
        "prometheus": {"url": prometheus_url},
        "redis": {"url": redis_url},
        "leader": {"enabled": False},
        "http": {"enabled": False},
    }
    for name, value in more.items():
        section, _, key = name.partition("__")
        made.setdefault(section, {})[key] = value
    return made


def settings(directory: Path, *arguments: Any, **more: Any) -> Config:
    """Return settings as the poller would load them from a file; see `tables`."""
    return config.load(write_settings(directory / "config.toml", tables(*arguments, **more)), {})


def read_legacy(value: bytes) -> dict[str, dict[str, str]]:
    """Unpack a key as legacy readers do, and convert what they convert: raises where they would."""
    stat: dict[str, dict[str, str]] = msgpack.unpackb(
        value, raw=False, use_list=False, strict_map_key=False
    )
    assert isinstance(stat, dict)
    assert stat
    for name, fields in stat.items():
        assert isinstance(name, str)
        check_metric(name, fields)
    return stat


_PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")


def check_metric(name: str, fields: Mapping[str, str]) -> None:
    """Convert one metric as the readers do, and check that every number is written plainly."""
    fields["unit_hint"].upper()
    for field, text in fields.items():
        if field == "unit_hint":
            continue
        if (field, text) != ("pct", "0.00"):
            assert _PLAIN.fullmatch(text), (name, field, text)
            assert text != "-0", (name, field)
        assert abs(float(text)) < float("inf")
    if name in ("io_read", "io_write"):
        int(fields["current"])
    if name == "mem":
        int(fields["capacity"])
    if name == "io_scratch_size":
        int(fields["stats.max"])


class LivePoller:
    """The daemon in a process of its own, its log in a file. Use as a context manager."""

    def __init__(
        self,
        directory: Path,
        made: Mapping[str, Mapping[str, Any]],
        *,
        prefix: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        before: str = "",
        arguments: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self.path = directory / "live.toml"
        self.log_path = directory / "live.log"
        self._prefix = list(prefix)
        self._before = before
        self._arguments = arguments
        self._environ = dict(environ or {})
        self.write(made)
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, made: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the settings; a running daemon sees them after `reload` only."""
        http = {"enabled": True, "host": HOST, "port": self.port}
        write_settings(self.path, {**made, "http": {**made.get("http", {}), **http}})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def start(self) -> None:
        """Start the process; what it logs is added to the log."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("POLLER_")}
        main = f"{self._before}\nfrom poller.cli import main\nmain()"
        arguments = [
            sys.executable,
            "-c",
            main,
            "--config",
            str(self.path),
            "run",
            *self._arguments,
        ]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._prefix, *arguments],
                cwd=self.log_path.parent,
                env={**inherited, "PYTHONPATH": str(ROOT), **self._environ},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

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
        """Send SIGTERM and return the exit status."""
        assert self.process is not None
        self.send(signal.SIGTERM)
        return self.process.wait(timeout_s)

    @property
    def log(self) -> str:
        """All it has logged."""
        return self.log_path.read_text()

    def lines(self, part: str) -> list[str]:
        """Return the lines of the log with a text in them."""
        return [line for line in self.log.splitlines() if part in line]

    def wait_line(self, part: str, count: int = 1, timeout_s: float = PATIENCE_S) -> None:
        """Wait until the log has so many lines with a text in them."""
        wait_until(
            lambda: len(self.lines(part)) >= count, f"{count}x {part!r} in\n{self.log}", timeout_s
        )

    def page(self, path: str) -> tuple[int, str]:
        """Return status and text of one of its pages; a reload closes the port for a moment."""
        deadline = time.monotonic() + 5
        while True:
            try:
                return self._page(path)
            except OSError:
                if time.monotonic() > deadline:
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
        return metric_of(self.page("/metrics")[1], name, **labels)

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


def metric_of(page: str, name: str, **labels: str) -> float:
    """Return one of our metrics from the text of /metrics, summed over labels not named."""
    total = 0.0
    for line in page.splitlines():
        head, _, value = line.rpartition(" ")
        found, _, inner = head.partition("{")
        pairs = dict(re.findall(r'(\w+)="([^"]*)"', inner))
        if found == f"livestat_poller_{name}" and labels.items() <= pairs.items():
            total += float(value)
    return total
