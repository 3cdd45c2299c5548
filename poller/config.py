"""Settings: `config.toml`, environment, secret files; frozen values or a refusal.

Every key is also an environment variable `POLLER_<SECTION>__<KEY>`, which goes before the
file. A refusal names dotted keys and never repeats a value.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from poller.errors import ConfigError
from poller.format.catalog import PROFILES, STATS, Catalog, Override
from poller.settings import (
    Format,
    Http,
    Leader,
    Log,
    MetricSection,
    Poll,
    Prometheus,
    RedisSection,
    Shard,
)

PREFIX = "POLLER_"


class Config(BaseSettings):
    """All settings, frozen."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__"
    )

    poll: Poll = Poll()
    prometheus: Prometheus = Prometheus()
    redis: RedisSection = RedisSection()
    format: Format = Format()
    leader: Leader = Leader()
    shard: Shard = Shard()
    http: Http = Http()
    log: Log = Log()
    metrics: dict[str, MetricSection] = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file, whose content is handed in."""
        return env_settings, init_settings

    def catalog(self) -> Catalog:
        """Return the metrics under this profile, with what the settings add or change."""
        overrides = {
            name: Override(given.kind, given.unit_hint, given.stats)
            for name, given in self.metrics.items()
        }
        return Catalog(self.format.profile, overrides)


class _Shape(BaseModel):
    """The file alone, with its types taken strictly: `interval_s = "5"` is a mistake in it."""

    model_config = ConfigDict(extra="forbid")

    poll: Poll = Poll()
    prometheus: Prometheus = Prometheus()
    redis: RedisSection = RedisSection()
    format: Format = Format()
    leader: Leader = Leader()
    shard: Shard = Shard()
    http: Http = Http()
    log: Log = Log()
    metrics: dict[str, MetricSection] = {}


assert PROFILES == ("classic", "26.9"), "Format.profile lists the catalog's profiles"


def load(path: Path | None, environ: Mapping[str, str] | None = None) -> Config:
    """Return the settings, or raise `ConfigError` with every problem found.

    Without a path the defaults and the environment count.
    """
    data = _read(path) if path is not None else {}
    problems = _misspelt(os.environ if environ is None else environ)
    problems += _shape_problems(data)
    if problems:
        raise ConfigError(problems)
    try:
        config = Config(**data)
    except ValidationError as error:
        raise ConfigError(_problems(error)) from None
    except SettingsError:  # its cause holds the text
        raise ConfigError([(PREFIX + "…", "a list or table as a variable must be JSON")]) from None
    config = _resolved(config)
    problems = relations(config)
    if problems:
        raise ConfigError(problems)
    return config


def _resolved(config: Config) -> Config:
    """Put numbers where the settings say `auto`, so that a shorter interval alone is enough."""
    poll, prometheus, store = config.poll, config.prometheus, config.redis
    deadline_s = poll.interval_s * 0.9 if poll.deadline_s == "auto" else poll.deadline_s
    query_s = deadline_s * 0.9 if prometheus.timeout_s == "auto" else prometheus.timeout_s
    store_s = min(2.0, deadline_s / 2) if store.timeout_s == "auto" else store.timeout_s
    return config.model_copy(
        update={
            "poll": poll.model_copy(update={"deadline_s": deadline_s}),
            "prometheus": prometheus.model_copy(update={"timeout_s": query_s}),
            "redis": store.model_copy(update={"timeout_s": store_s}),
        }
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError([(str(path), f"cannot be read: {error.strerror}")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([(str(path), f"is not TOML: {error}")]) from None


def _misspelt(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the variables that look like ours and name no section."""
    sections = {name.upper() for name in Config.model_fields}
    return [
        (name, "no such section")
        for name in environ
        if name.upper().startswith(PREFIX)
        and "__" in name
        and name.upper().removeprefix(PREFIX).partition("__")[0] not in sections
    ]


def _shape_problems(data: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        _Shape.model_validate_json(_as_json(data), strict=True)
    except ValidationError as error:
        return _problems(error)
    return []


def _as_json(data: dict[str, Any]) -> str:
    # JSON mode takes lists for tuples and text for paths and secrets, and is strict otherwise.
    return json.dumps(data, default=str)


def _problems(error: ValidationError) -> list[tuple[str, str]]:
    problems = []
    for one in error.errors(include_url=False, include_input=False, include_context=False):
        place = [str(part) for part in one["loc"]]
        # A union adds its branch to the place, which is no key of the file.
        key = ".".join(part for part in place if part not in _BRANCHES)
        problems.append((key, _message(one["type"], one["msg"])))
    return list(dict.fromkeys(problems))


_BRANCHES = frozenset(
    {"literal['auto']", "float", "constrained-float", "function-before[_seconds(), float]"}
)


def _message(kind: str, message: str) -> str:
    known = {"extra_forbidden": "no such setting", "missing": "is missing"}
    return known.get(kind, message.removeprefix("Value error, "))


def relations(config: Config) -> list[tuple[str, str]]:
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
    problems = [(key, text) for bad, key, text in wrong if bad]
    return problems + _window(config) + _urls(config) + _secrets(config) + _metrics(config)


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


def _secrets(config: Config) -> list[tuple[str, str]]:
    problems = []
    for section_name in ("prometheus", "redis"):
        section = getattr(config, section_name)
        for field in type(section).model_fields:
            path = getattr(section, field)
            if isinstance(path, Path) and not path.is_file():
                problems.append((f"{section_name}.{field}", "no such file"))
    for name, path in config.prometheus.header_files.items():
        if not path.is_file():
            problems.append((f"prometheus.header_files.{name}", "no such file"))
    return problems


def _metrics(config: Config) -> list[tuple[str, str]]:
    problems = []
    for name, given in config.metrics.items():
        if not Catalog.admits(name):
            problems.append((f"metrics.{name}", "cannot be a metric's name"))
        unknown = set(given.stats or ()) - set(STATS)
        if unknown:
            problems.append((f"metrics.{name}.stats", f"must be of {', '.join(STATS)}"))
    return problems
