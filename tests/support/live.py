"""Pollers in tests: settings from a file, a cycle in this process, the daemon in its own."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack

from poller import config
from poller.config import Config
from poller.poll import assembly

from .daemon import Daemon
from .process import HOST

PATIENT = assembly.Choice(wait=True)
"""A cycle waits for the past of a kernel as long as that takes: on a busy machine a while."""


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


def settings(
    directory: Path, prometheus_url: str, redis_url: str, interval_s: float = 5.0, **more: Any
) -> Config:
    """Return settings as the poller would load them from a file; see `tables`.

    The interval gives a cycle that is run by hand its time, also on a busy machine.
    """
    made = tables(prometheus_url, redis_url, interval_s, **more)
    return config.load(write_settings(directory / "config.toml", made))


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


_ROUNDED = Decimal("0.0005")
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
        assert abs(float(text)) < float("inf") or (field == "pct" and _beyond_floats(fields))
    if name in ("io_read", "io_write"):
        int(fields["current"])
    if name == "mem":
        int(fields["capacity"])
    if name == "io_scratch_size":
        int(fields["stats.max"])


def _beyond_floats(fields: Mapping[str, str]) -> bool:
    """Whether a percentage may be more than any float, both numbers being rounded to 3 places."""
    current, capacity = abs(Decimal(fields["current"])), Decimal(fields["capacity"])
    return (current + _ROUNDED) * 100 > Decimal(sys.float_info.max) * (capacity - _ROUNDED)


class LivePoller(Daemon):
    """A daemon with settings from a file, which may be written again."""

    def __init__(
        self,
        directory: Path,
        made: Mapping[str, Mapping[str, Any]],
        *,
        environ: Mapping[str, str] | None = None,
        before: str = "",
        arguments: Sequence[str] = (),
    ) -> None:
        self.path = directory / "live.toml"
        # What is told to the environment would go before the file.
        file = {"POLLER_CONFIG": str(self.path)}
        environ = file | dict(environ or {})
        super().__init__(directory, arguments, environ, before=before)
        del self._environ["POLLER_HTTP__ENABLED"]
        self.write(made)

    def write(self, made: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the settings; a running daemon sees them after `reload` only."""
        http = {"enabled": True, "host": HOST, "port": self.port}
        write_settings(self.path, {**made, "http": {**made.get("http", {}), **http}})
