"""The settings that count, each with where it comes from: what `check --settings` prints. Pure.

It reads like `config.toml`; secrets are hidden, and so are the password in a URL and parameters
of queries that nobody knows: VictoriaMetrics takes its `authKey` among them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from poller.config import Loaded
from poller.credentials import HIDDEN, without_password
from poller.environment import DELIMITER, variable

_AUTO = {"poll.deadline_s", "prometheus.timeout_s", "redis.timeout_s"}
"""Settings that say `auto` where nobody gives a number; a number has been put there."""

_HARMLESS = {
    *("timeout", "limit", "lookback_delta", "stats", "step"),  # Prometheus
    *("dedup", "partial_response", "max_source_resolution", "engine", "replicaLabels[]"),  # Thanos
    *("nocache", "latency_offset", "round_digits", "trace"),  # VictoriaMetrics, as the next three
    *("extra_label", "extra_filters", "extra_filters[]"),
}
"""Parameters of queries that hold no secret."""


def lines(loaded: Loaded) -> Iterator[str]:
    """Return the report, line by line: tables of TOML, with origins as comments."""
    yield f"# settings: {loaded}"
    for section, table in _shown(loaded).items():
        yield ""
        yield f"[{section}]"
        rows = [(f"{key} = {_toml(value)}", _origin(loaded, section, key))
                for key, value in table.items() if value is not None]  # fmt: skip
        width = min(max((len(text) for text, _ in rows), default=0), 48)
        for text, origin in rows:
            yield f"{text:<{width}}  # {origin}"


def _shown(loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Return every value as it may be seen, by section and key."""
    shown: dict[str, dict[str, Any]] = loaded.config.model_dump(mode="json")
    shown["redis"]["url"] = loaded.config.redis.url.get_secret_value()
    params = shown["prometheus"]["params"]
    shown["prometheus"]["params"] = {
        name: value if name in _HARMLESS or not value else HIDDEN for name, value in params.items()
    }
    metrics = shown.pop("metrics")
    shown = {name: {key: _hidden(one) for key, one in table.items()}
             for name, table in shown.items()}  # fmt: skip
    return {**shown, **{f"metrics.{name}": table for name, table in metrics.items()}}


def _hidden(value: Any) -> Any:
    """Return a value without what is secret in it; a set secret was made stars by its type."""
    if isinstance(value, dict):
        return {key: _hidden(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_hidden(one) for one in value]
    if isinstance(value, str):
        return HIDDEN if value and set(value) == {"*"} else without_password(value)
    return value


def _origin(loaded: Loaded, section: str, key: str) -> str:
    named = variable(section.replace(".", DELIMITER), key)
    auto = f"{section}.{key}" in _AUTO
    for name in loaded.variables:
        if _is_of(name.upper(), named):
            return f"environment, {name}"
    given: Any = loaded.given
    for part in section.split("."):
        given = given.get(part, {})
    if key in given:
        return "file, auto" if auto and given[key] == "auto" else "file"
    return "default, auto" if auto else "default"


def _is_of(name: str, named: str) -> bool:
    """Whether a variable gives a setting: itself, a key of its table, or its whole section."""
    return name == named or name.startswith(named + DELIMITER) or named.startswith(name + DELIMITER)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return json.dumps(value, ensure_ascii=False)
