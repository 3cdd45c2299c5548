"""Reads the settings: where they are, what goes before what, what stands in, what is refused.

Every key is also an environment variable `POLLER_<SECTION>__<KEY>`, which goes before the
file. A refusal names dotted keys and never repeats a value.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from poller import environment, relations
from poller.environment import DELIMITER, PREFIX
from poller.errors import ConfigError, UnreadableFile
from poller.format.catalog import PROFILES, Catalog, Override
from poller.settings import MetricSection, Sections


class Config(Sections, BaseSettings):
    """All settings, frozen."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=PREFIX, env_nested_delimiter=DELIMITER
    )

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


assert PROFILES == ("classic", "26.9"), "Format.profile lists the catalog's profiles"


PLACES = (Path("config.toml"), Path("/etc/livestat-poller/config.toml"))
"""Where the settings are looked for if nobody says where."""


def locate(path: Path | None) -> Path | None:
    """Return the file that counts: the one asked for, else the first of `PLACES` that is there.

    One that is there and may not be read counts too: to pass it over would be a surprise.
    """
    return path or next((place.absolute() for place in PLACES if _is_there(place)), None)


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings and where they come from.

    `given` is what the file says, `variables` are the names of those of the environment.
    """

    config: Config
    path: Path | None
    given: Mapping[str, Any]
    variables: tuple[str, ...]

    def __str__(self) -> str:
        file = str(self.path.absolute()) if self.path else "no file, the defaults"
        count = len(self.variables)
        more = f", {count} environment variable{'' if count == 1 else 's'}" if count else ""
        return file + more


def load(path: Path | None) -> Config:
    """Return the settings, or raise `ConfigError` with every problem found.

    Without a path the defaults and the environment count.
    """
    return read(path).config


def read(path: Path | None) -> Loaded:
    """Return the settings with their origin; raises as `load` does."""
    data = _read(path) if path is not None else {}
    # Of a variable both may be true; that there is no such setting goes before.
    told = (*environment.not_json(os.environ), *environment.misspelt(os.environ, _names()))
    config = _valid(data, list(dict(told).items()))
    return Loaded(config, path, data, tuple(environment.variables(os.environ)))


def changed(before: Config, after: Config) -> list[str]:
    """Return the dotted keys whose values differ; never a value, which may be a secret."""
    old, new = before.model_dump(), after.model_dump()
    return [
        f"{section}.{key}"
        for section in old
        for key in dict.fromkeys((*old[section], *new[section]))
        if old[section].get(key) != new[section].get(key)
    ]


def _names() -> dict[str, list[str]]:
    """Return the keys of every section; of `metrics` those of one metric."""
    fields = Config.model_fields
    names = {name: list(type(field.default).model_fields) for name, field in fields.items()
             if name != "metrics"}  # fmt: skip
    return {**names, "metrics": list(MetricSection.model_fields)}


def _valid(data: dict[str, Any], problems: list[tuple[str, str]]) -> Config:
    problems = problems + _shape_problems(data)
    if problems:
        raise ConfigError(problems)
    try:
        config = Config(**data)
    except ValidationError as error:
        raise ConfigError(_problems(error)) from None
    except SettingsError:  # its cause holds the text
        raise ConfigError([(PREFIX + "…", "a list or table as a variable must be JSON")]) from None
    config = _resolved(config)
    problems, files = relations.problems(config), relations.unreadable(config)
    if problems:
        raise ConfigError(problems + files)
    if files:
        raise UnreadableFile(files)
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
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError([(str(path), f"cannot be read: {error.strerror}")]) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError([(str(path), f"is not TOML: {error}")]) from None


def _shape_problems(data: dict[str, Any]) -> list[tuple[str, str]]:
    try:
        Sections.model_validate_json(_as_json(data), strict=True)
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
        of_two = not _BRANCHES.isdisjoint(place)  # each branch has its say
        problems.append((key, _AUTO if of_two else _message(key, one["type"], one["msg"])))
    return list(dict.fromkeys(problems))


_BRANCHES = frozenset(
    {"literal['auto']", "float", "constrained-float", "function-before[_seconds(), float]"}
)
_AUTO = 'must be "auto" or a number of seconds above 0'


def _message(key: str, kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "no such setting" + environment.nearest_key(key, _names())
    return "is missing" if kind == "missing" else message.removeprefix("Value error, ")
