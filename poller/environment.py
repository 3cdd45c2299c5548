"""Settings in the environment: `POLLER_<SECTION>__<KEY>`, and the names that are misspelt. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping

PREFIX = "POLLER_"
DELIMITER = "__"
_OTHERS = ("POLLER_CONFIG",)
_TESTS = "POLLER_TEST_"
_FREE = "metrics"
"""The section whose keys an operator chooses; theirs are known again."""

_TABLES = {
    "POLLER_PROMETHEUS__FALLBACK_URLS": '["http://b.example:9090", "http://c.example:9090"]',
    "POLLER_PROMETHEUS__HEADERS": '{"X-Scope-OrgID": "tenant"}',
    "POLLER_PROMETHEUS__HEADER_FILES": '{"X-Token": "/run/secrets/token"}',
    "POLLER_PROMETHEUS__PARAMS": '{"dedup": "true"}',
}
"""The settings that are a list or a table, each with an example."""
_STATS = '["max", "avg"]'

Names = Mapping[str, Iterable[str]]
"""The keys of each section; of `metrics` the keys of one metric."""


def variable(section: str, key: str) -> str:
    """Return the variable of a setting."""
    return f"{PREFIX}{section}{DELIMITER}{key}".upper()


def variables(environ: Iterable[str]) -> list[str]:
    """Return the variables that are settings, or look like it."""
    ours = (name for name in environ if name.upper().startswith(PREFIX))
    return sorted(
        name for name in ours if name not in _OTHERS and not name.upper().startswith(_TESTS)
    )


def misspelt(environ: Iterable[str], names: Names) -> list[tuple[str, str]]:
    """Return the variables that look like ours and are none, with the nearest that there is."""
    return [
        (name, "no such setting" + _hint(name, names))
        for name in variables(environ)
        if not _is_known(name, names)
    ]


def _is_known(name: str, names: Names) -> bool:
    section, _, key = name[len(PREFIX) :].lower().partition(DELIMITER)
    if section not in names:
        return False
    if section == _FREE:
        _, _, key = key.partition(DELIMITER)
    # A table's own keys, such as a header's name, are free.
    return not key or key.partition(DELIMITER)[0] in names[section]


def not_json(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the variables that give a list or a table and are no JSON, with an example."""
    problems = []
    for name in variables(environ):
        example = _example(name.upper())
        if example and not _is_json(environ[name]):
            told = f"a list or table must be JSON, for example {name}='{example}'"
            problems.append((name, told))
    return problems


def _example(name: str) -> str:
    """Return an example of what a variable holds; empty where it holds no list and no table."""
    section, *keys = name.removeprefix(PREFIX).split(DELIMITER)
    if section == _FREE.upper():
        examples = ['{"acme": {"kind": "gauge"}}', '{"kind": "gauge"}', ""]
        return _STATS if keys[1:] == ["STATS"] else examples[min(len(keys), 2)]
    return _TABLES.get(name, "" if keys else '{"key": "value"}')


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _hint(name: str, names: Names) -> str:
    metric = name.lower().split(DELIMITER)[1:2]
    known = [
        variable(section, DELIMITER.join([*metric, key]) if section == _FREE else key)
        for section, keys in names.items()
        if metric or section != _FREE  # of a metric without a name there is no setting
        for key in keys
    ]
    nearest = difflib.get_close_matches(name.upper(), [*known, *_OTHERS], n=1)
    return f"; did you mean {nearest[0]}?" if nearest else "; see config.toml for all there are"


def nearest_key(key: str, names: Names) -> str:
    """Return a hint at the dotted key that is nearest to a wrong one; empty if none is near."""
    metric = key.split(".")[1:2]
    known = [
        ".".join([section, *(metric if section == _FREE else []), one])
        for section, keys in names.items()
        for one in keys
    ]
    nearest = difflib.get_close_matches(key, [*names, *known], n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
