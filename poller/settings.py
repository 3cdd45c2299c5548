"""Every setting: its key, type (durations, `auto`, paths), bounds and default. Frozen values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w|)")


def _seconds(value: object) -> object:
    """Turn `30s`, `1d` or a number of seconds into seconds; in a variable a number is text, too."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError("a duration such as 30s, 5m or 1d, or a number of seconds")
        return float(match[1]) * _UNITS[match[2]]
    return value


def _seconds_or_auto(value: object) -> object:
    return value if value == "auto" else _seconds(value)


def _named(host: str) -> str:
    if not host.strip():
        raise ValueError(
            "is empty, which would be every interface; say 0.0.0.0 or :: if that is meant"
        )
    try:
        host.encode("idna")  # as the system's resolver is asked; it would end the daemon
    except UnicodeError:
        raise ValueError("cannot be the name of a host") from None
    return host


_LONGEST_TTL_S = 315_360_000
"""Ten years. Servers refuse ends that milliseconds cannot tell, and say so of each write only."""
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Duration = Annotated[Seconds, BeforeValidator(_seconds)]
SecondsOrAuto = Annotated[Literal["auto"] | Seconds, Field(union_mode="left_to_right")]
Window = Annotated[Literal["auto"] | Seconds, BeforeValidator(_seconds_or_auto)]
OptionalPath = Path | None


class Section(BaseModel):
    """One table of the file: frozen, nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Poll(Section):
    """When to poll, in seconds."""

    interval_s: Seconds = 5.0
    deadline_s: SecondsOrAuto = "auto"
    query_offset_s: Annotated[float, Field(ge=0, le=300)] = 0.5
    still_after_s: Seconds = 900.0
    stop_grace_s: Annotated[float, Field(ge=0)] = 5.0


class Prometheus(Section):
    """Where and how to query."""

    url: str = "http://127.0.0.1:9090"
    fallback_urls: tuple[str, ...] = ()
    timeout_s: SecondsOrAuto = "auto"
    window: Window = "auto"
    measure_interval_s: Annotated[float, Field(ge=0)] = 0.0
    restore_window: Duration = 86_400.0
    restore_chunk: Annotated[int, Field(ge=1, le=5000)] = 200
    restore_concurrency: Annotated[int, Field(ge=1, le=16)] = 2
    restore_timeout_s: Seconds = 30.0
    lookback_s: Seconds = 300.0
    concurrency: Annotated[int, Field(ge=1, le=64)] = 8
    slice_kernels: Annotated[int, Field(ge=100)] = 20_000
    max_response_bytes: Annotated[int, Field(ge=1024)] = 64 << 20
    on_partial: Literal["skip", "publish"] = "skip"
    headers: dict[str, SecretStr] = {}
    header_files: dict[str, Path] = {}
    params: dict[str, str] = {}
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: OptionalPath = None
    bearer_token: SecretStr = SecretStr("")
    bearer_token_file: OptionalPath = None
    ca_file: OptionalPath = None
    cert_file: OptionalPath = None
    key_file: OptionalPath = None

    @property
    def urls(self) -> tuple[str, ...]:
        """Every server, the preferred one first."""
        return (self.url, *self.fallback_urls)


class RedisSection(Section):
    """Where and how to write."""

    url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    ttl_s: Annotated[int, Field(gt=0, le=_LONGEST_TTL_S)] = 86_400
    key_prefix: str = ""
    batch_size: Annotated[int, Field(ge=1, le=10_000)] = 500
    timeout_s: SecondsOrAuto = "auto"
    yield_to_agents: bool = False
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: OptionalPath = None
    sentinel_username: str = ""
    sentinel_password: SecretStr = SecretStr("")
    sentinel_password_file: OptionalPath = None
    ca_file: OptionalPath = None
    cert_file: OptionalPath = None
    key_file: OptionalPath = None


class Format(Section):
    """Which agent's format to write."""

    profile: Literal["classic", "26.9"] = "classic"
    capacity: Literal["first", "sentinel"] = "first"


class Leader(Section):
    """Which of several pollers writes."""

    enabled: bool = True
    name: Annotated[str, Field(min_length=1)] = "livestat-poller:leader"


class Shard(Section):
    """Which part of the kernels is ours."""

    index: Annotated[int, Field(ge=0)] = 0
    count: Annotated[int, Field(ge=1, le=256)] = 1


class Http(Section):
    """The daemon's own endpoints."""

    enabled: bool = True
    host: Annotated[str, AfterValidator(_named)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 9188
    unready_after: Annotated[int, Field(ge=1)] = 3


class Log(Section):
    """What the operator reads."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


class MetricSection(Section):
    """One metric, added or changed."""

    kind: Literal["gauge", "diff", "rate"] | None = None
    unit_hint: str | None = None
    stats: tuple[str, ...] | None = None


class Sections(BaseModel):
    """The whole file. Alone it is taken strictly: `interval_s = "5"` is a mistake in it."""

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
