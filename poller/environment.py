"""Settings in the environment: `POLLER_<SECTION>__<KEY>`, and the names that are misspelt. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

PREFIX = "POLLER_"
DELIMITER = "__"
_OTHERS = ("POLLER_CONFIG",)
_TESTS = "POLLER_TEST_"
_FREE = "metrics"
"""The section whose keys an operator chooses; theirs are known again."""

Names = Mapping[str, Iterable[str]]
"""The keys of each section; of `metrics` the keys of one metric."""


def variable(section: str, key: str) -> str:
    """Return the variable of a setting."""
    return f"{PREFIX}{section}{DELIMITER}{key}".upper()


def settings(environ: Iterable[str]) -> list[str]:
    """Return the variables that are settings, or look like it."""
    ours = (name for name in environ if name.upper().startswith(PREFIX))
    return sorted(
        name for name in ours if name not in _OTHERS and not name.upper().startswith(_TESTS)
    )


def misspelt(environ: Iterable[str], names: Names) -> list[tuple[str, str]]:
    """Return the variables that look like ours and are none, with the nearest that there is."""
    return [
        (name, "no such setting" + _hint(name, names))
        for name in settings(environ)
        if not _is_known(name, names)
    ]


def _is_known(name: str, names: Names) -> bool:
    section, _, key = name.removeprefix(name[: len(PREFIX)]).lower().partition(DELIMITER)
    if section not in names:
        return False
    if section == _FREE:
        _, _, key = key.partition(DELIMITER)
    # A table's own keys, such as a header's name, are free.
    return not key or key.partition(DELIMITER)[0] in names[section]


def _hint(name: str, names: Names) -> str:
    metric = name.lower().split(DELIMITER)[1:2]
    known = [
        variable(section, DELIMITER.join([*metric, key]) if section == _FREE else key)
        for section, keys in names.items()
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
