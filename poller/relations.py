"""Which settings cannot go together, though each may stand alone. Names dotted keys, no values."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit

from poller.format.catalog import STATS, Catalog
from poller.settings import Sections

_NODES = "host:port,host:port"
_FORMS = {
    "redis": "redis://host:port/db",
    "rediss": "rediss://host:port/db",
    "unix": "unix:///path?db=0",
    "redis+sentinel": f"redis+sentinel://{_NODES}/service/db",
    "rediss+sentinel": f"rediss+sentinel://{_NODES}/service/db",
    "redis+cluster": f"redis+cluster://{_NODES}",
    "rediss+cluster": f"rediss+cluster://{_NODES}",
}
"""What `redis.url` may look like, by its scheme."""
_CUT = "holds a #, and nobody is told what follows it; if it is part of a secret, write %23"

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name, as HTTP has it (RFC 9110, token)."""
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What no header may hold, and no secret."""
_BREAK = "a line break or another control character; HTTP allows none"

_NEEDS = (
    ("redis.username", ("redis.password", "redis.password_file")),
    ("redis.sentinel_username", ("redis.sentinel_password", "redis.sentinel_password_file")),
    ("prometheus.password", ("prometheus.username",)),
    ("prometheus.password_file", ("prometheus.username",)),
    ("prometheus.key_file", ("prometheus.cert_file",)),
    ("redis.key_file", ("redis.cert_file",)),
)
"""Settings that are not used without one of the others."""
_EITHER = (
    ("prometheus.username", "prometheus.bearer_token"),
    ("prometheus.username", "prometheus.bearer_token_file"),
    ("prometheus.bearer_token", "prometheus.bearer_token_file"),
    ("prometheus.password", "prometheus.password_file"),
    ("redis.password", "redis.password_file"),
    ("redis.sentinel_password", "redis.sentinel_password_file"),
)
"""Settings of which only one can count."""
_BESIDE_URL = {
    "redis": ("username", "password", "password_file"),
    "prometheus": ("username", "password", "password_file", "bearer_token", "bearer_token_file"),
}
"""Settings that cannot count together with a user or password in a URL."""


def problems(config: Sections) -> list[tuple[str, str]]:
    """Return what cannot work together, by dotted key."""
    poll, prometheus, store, shard = config.poll, config.prometheus, config.redis, config.shard
    deadline_s, least_s = float(poll.deadline_s), 3 * poll.interval_s
    late, three = "must not exceed poll.deadline_s", "must be at least three poll.interval_s"
    short = "must not be shorter than poll.still_after_s"
    wrong = [
        (deadline_s > poll.interval_s, "poll.deadline_s", "must not exceed poll.interval_s"),
        (float(prometheus.timeout_s) > deadline_s, "prometheus.timeout_s", late),
        (float(store.timeout_s) > deadline_s, "redis.timeout_s", late),
        (store.ttl_s < least_s, "redis.ttl_s", f"{three}, or keys expire between two writes"),
        (poll.still_after_s < least_s, "poll.still_after_s", three),
        (shard.index >= shard.count, "shard.index", "must be below shard.count"),
        (prometheus.restore_window < poll.still_after_s, "prometheus.restore_window", short),
    ]
    told = [(key, text) for bad, key, text in wrong if bad]
    told += _window(config) + _urls(config) + _headers(config) + _credentials(config)
    return told + _twice(config) + _metrics(config)


def _window(config: Sections) -> list[tuple[str, str]]:
    window = config.prometheus.window
    if window == "auto":
        return []
    measure_s = config.prometheus.measure_interval_s
    if window < config.poll.interval_s:
        return [("prometheus.window", "is too short for a rate: below poll.interval_s")]
    if window < 2 * measure_s:
        return [("prometheus.window", "is too short for a rate: below two measure_interval_s")]
    return []


def _urls(config: Sections) -> list[tuple[str, str]]:
    problems = []
    for key, url in _prometheus_urls(config):
        parts = _parts(url)
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            problems.append((key, "must be http://host:port or https://host:port"))
        elif parts.fragment:
            problems.append((key, _CUT))
    problems += _redis_url(config.redis.url.get_secret_value())
    return problems


def _prometheus_urls(config: Sections) -> list[tuple[str, str]]:
    """Return every URL of Prometheus by its dotted key."""
    others = enumerate(config.prometheus.fallback_urls)
    named = [(f"prometheus.fallback_urls.{place}", url) for place, url in others]
    return [("prometheus.url", config.prometheus.url), *named]


def _parts(url: str) -> SplitResult | None:
    """Return the parts of a URL, or None where a host or port in it is none.

    A `/` in a password that should be `%2F` makes such a URL; what raises then repeats it.
    """
    try:
        parts = urlsplit(url)
        for node in parts.netloc.rpartition("@")[2].split(","):
            one = urlsplit(f"//{node}")
            _ = one.port
            # As the HTTP client reads it; what it cannot would be a traceback of its own.
            (one.hostname or "").encode("idna").decode("idna")
    except ValueError:
        return None
    return parts


def _redis_url(url: str) -> list[tuple[str, str]]:
    parts = _parts(url)
    if parts is None:
        return [("redis.url", "has a host or port that cannot be; is a password quoted (%2F)?")]
    form = _FORMS.get(parts.scheme)
    if form is None or not url.lower().startswith(f"{parts.scheme}://"):
        return [("redis.url", f"must be one of {', '.join(_FORMS.values())}")]
    if not _is_whole(parts):
        return [("redis.url", f"must be {form}")]
    database = _database(parts)
    if not (database.isdecimal() or database == ""):
        return [("redis.url", "the database must be a number")]
    return [("redis.url", _CUT)] if parts.fragment else []


def _is_whole(parts: SplitResult) -> bool:
    """Whether a URL says where its server is, as the form of its scheme demands."""
    kind = parts.scheme.partition("+")[2]
    hosts, path = _hosts(parts), parts.path.strip("/")
    if parts.scheme == "unix":
        return hosts == [""] and path != ""
    if kind == "sentinel":
        return all(hosts) and path.partition("/")[0] != ""
    if kind == "cluster":  # it has one database, which has no number but 0
        return all(hosts) and path in ("", "0") and not parts.query
    return all(hosts) and len(hosts) == 1


def _database(parts: SplitResult) -> str:
    """Return the number of the database as the URL has it; empty where it has none."""
    given = parse_qs(parts.query).get("db")
    if given or parts.scheme == "unix":
        return given[0] if given else ""
    path = parts.path.strip("/")
    return path.partition("/")[2] if parts.scheme.endswith("+sentinel") else path


def _hosts(parts: SplitResult) -> list[str]:
    """Return the hosts of a URL, which may name several; empty where there is none."""
    nodes = parts.netloc.rpartition("@")[2].split(",")
    return [urlsplit(f"//{node.strip()}").hostname or "" for node in nodes]


def _headers(config: Sections) -> list[tuple[str, str]]:
    prometheus = config.prometheus
    problems = []
    for key in ("headers", "header_files"):
        if not all(map(_NAME.fullmatch, getattr(prometheus, key))):
            text = "holds a name that HTTP does not allow; take letters, digits, - and _"
            problems.append((f"prometheus.{key}", text))
    problems += _headers_given_twice(config)
    values = [one.get_secret_value() for one in prometheus.headers.values()]
    if any(map(CONTROL.search, values)):
        problems.append(("prometheus.headers", f"holds a value with {_BREAK}"))
    if CONTROL.search(prometheus.bearer_token.get_secret_value()):
        problems.append(("prometheus.bearer_token", f"holds {_BREAK}"))
    return problems


def _headers_given_twice(config: Sections) -> list[tuple[str, str]]:
    """Return the headers of which only one could be sent; their names are the same in any case."""
    prometheus = config.prometheus
    names = {
        "headers": [name.lower() for name in prometheus.headers],
        "header_files": [name.lower() for name in prometheus.header_files],
    }
    problems = []
    for name in sorted({*names["headers"]} & {*names["header_files"]}):
        text = f"holds {name}, as prometheus.headers does; take one of them out"
        problems.append(("prometheus.header_files", text))
    given = [f"prometheus.{name}" for name in ("username", "bearer_token", "bearer_token_file")]
    beside = [key for key in given if _is_given(config, key)]
    for key, told in names.items():
        if len(set(told)) < len(told):
            problems.append((f"prometheus.{key}", "holds a header twice; take one of them out"))
        if "authorization" in told and beside:
            text = f"holds Authorization, which cannot go together with {' and '.join(beside)}"
            problems.append((f"prometheus.{key}", f"{text}; take one of them out"))
    return problems


def _credentials(config: Sections) -> list[tuple[str, str]]:
    """Return what is given twice, or without its other half. Redis' default user has no name."""
    problems = []
    for one, other in _EITHER:
        if _is_given(config, one) and _is_given(config, other):
            problems.append((one, f"cannot go together with {other}; take one of them out"))
    for key, others in _NEEDS:
        if _is_given(config, key) and not any(_is_given(config, other) for other in others):
            empty = "is empty" if len(others) == 1 else "are empty"
            problems.append((key, f"needs {' or '.join(others)}, which {empty}"))
    return problems


def _twice(config: Sections) -> list[tuple[str, str]]:
    """Return the URLs that hold a user or password while the settings do, too."""
    urls = [("redis.url", config.redis.url.get_secret_value()), *_prometheus_urls(config)]
    problems = []
    for key, url in urls:
        section = key.partition(".")[0]
        names = [f"{section}.{name}" for name in _BESIDE_URL[section]]
        given = [name for name in names if _is_given(config, name)]
        if given and _holds_credentials(url):
            told = f"its user or password cannot go together with {' and '.join(given)}"
            problems.append((key, f"{told}; take one of them out"))
    return problems


def _holds_credentials(url: str) -> bool:
    parts = _parts(url)
    if parts is None:
        return False
    options = parse_qs(parts.query)
    return bool(parts.username or parts.password or options.keys() & {"username", "password"})


def _is_given(config: Sections, key: str) -> bool:
    section, _, field = key.partition(".")
    return bool(getattr(getattr(config, section), field))  # an empty secret is false, too


def _metrics(config: Sections) -> list[tuple[str, str]]:
    problems = []
    for name, given in config.metrics.items():
        if not Catalog.admits(name):
            problems.append((f"metrics.{name}", "cannot be a metric's name"))
        unknown = set(given.stats or ()) - set(STATS)
        if unknown:
            problems.append((f"metrics.{name}.stats", f"must be of {', '.join(STATS)}"))
    return problems


def unreadable(config: Sections) -> list[tuple[str, str]]:
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
            problems.append((key, f"{path.absolute()} cannot be read: {why}"))
    return problems


def _why_unreadable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return error.strerror
    except ValueError:
        return "no path holds a NUL"
    return None
