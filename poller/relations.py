"""Which settings cannot go together, though each may stand alone. Names dotted keys, no values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from poller.format.catalog import STATS, Catalog

if TYPE_CHECKING:
    from poller.config import Config


def problems(config: Config) -> list[tuple[str, str]]:
    """Return what cannot work together, by dotted key."""
    poll, prometheus, store = config.poll, config.prometheus, config.redis
    wrong = [
        (
            float(poll.deadline_s) > poll.interval_s,
            "poll.deadline_s",
            "must not exceed poll.interval_s",
        ),
        (
            float(prometheus.timeout_s) > float(poll.deadline_s),
            "prometheus.timeout_s",
            "must not exceed poll.deadline_s",
        ),
        (
            float(store.timeout_s) > float(poll.deadline_s),
            "redis.timeout_s",
            "must not exceed poll.deadline_s",
        ),
        (
            store.ttl_s < 3 * poll.interval_s,
            "redis.ttl_s",
            "must be at least three poll.interval_s, or keys expire between two writes",
        ),
        (
            poll.still_after_s < 3 * poll.interval_s,
            "poll.still_after_s",
            "must be at least three poll.interval_s",
        ),
        (
            config.shard.index >= config.shard.count,
            "shard.index",
            "must be below shard.count",
        ),
        (
            prometheus.restore_window < poll.still_after_s,
            "prometheus.restore_window",
            "must not be shorter than poll.still_after_s",
        ),
    ]
    told = [(key, text) for bad, key, text in wrong if bad]
    return told + _window(config) + _urls(config) + _metrics(config)


def _window(config: Config) -> list[tuple[str, str]]:
    window = config.prometheus.window
    if window == "auto":
        return []
    measure_s = config.prometheus.measure_interval_s
    if window < config.poll.interval_s:
        return [("prometheus.window", "is too short for a rate: below poll.interval_s")]
    if window < 2 * measure_s:
        return [("prometheus.window", "is too short for a rate: below two measure_interval_s")]
    return []


def _urls(config: Config) -> list[tuple[str, str]]:
    problems = []
    for place, url in enumerate(config.prometheus.urls):
        key = "prometheus.url" if place == 0 else f"prometheus.fallback_urls.{place - 1}"
        parts = _parts(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            problems.append((key, "must be http://host:port or https://host:port"))
    problems += _redis_url(config.redis.url.get_secret_value())
    return problems


def _parts(url: str) -> SplitResult | None:
    """Return the parts of a URL, or None where a host or port in it is none.

    A `/` in a password that should be `%2F` makes such a URL; what raises then repeats it.
    """
    try:
        parts = urlsplit(url)
        for node in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{node}").port
    except ValueError:
        return None
    return parts


def _redis_url(url: str) -> list[tuple[str, str]]:
    parts = _parts(url)
    if parts is None:
        return [("redis.url", "has a host or port that cannot be; is a password quoted (%2F)?")]
    scheme, _, kind = parts.scheme.partition("+")
    if scheme not in ("redis", "rediss", "unix") or kind not in ("", "sentinel", "cluster"):
        text = "must be redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        return [("redis.url", text)]
    path = parts.path.strip("/")
    database = path.partition("/")[2] if kind == "sentinel" else path
    if scheme != "unix" and not (database.isdigit() or database == ""):
        return [("redis.url", "the database must be a number")]
    return []


def _metrics(config: Config) -> list[tuple[str, str]]:
    problems = []
    for name, given in config.metrics.items():
        if not Catalog.admits(name):
            problems.append((f"metrics.{name}", "cannot be a metric's name"))
        unknown = set(given.stats or ()) - set(STATS)
        if unknown:
            problems.append((f"metrics.{name}.stats", f"must be of {', '.join(STATS)}"))
    return problems


def unreadable(config: Config) -> list[tuple[str, str]]:
    """Return the files of the settings that cannot be read now, by dotted key."""
    paths = {
        f"{name}.{field}": getattr(section, field)
        for name, section in (("prometheus", config.prometheus), ("redis", config.redis))
        for field in type(section).model_fields
    }
    headers = config.prometheus.header_files
    paths |= {f"prometheus.header_files.{name}": path for name, path in headers.items()}
    problems = []
    for key, path in paths.items():
        if isinstance(path, Path) and (why := _why_unreadable(path)):
            problems.append((key, f"{path} cannot be read: {why}"))
    return problems


def _why_unreadable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror
    return None
