"""Series as values: read from and written to OpenMetrics text."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

UTILIZATION = "backendai_container_utilization"
ROUNDS = "backendai_stat_task_success_count_total"
DURATION_COUNT = "backendai_stat_task_duration_sec_count"
DURATION_SUM = "backendai_stat_task_duration_sec_sum"
STAGE_COUNT = "backendai_stage_count_total"
STAGE_SECONDS = "backendai_stage_duration_sec_sum"

_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_UNESCAPED = {"n": "\n"}


class Series(NamedTuple):
    """Labels, `__name__` among them, and samples: Unix seconds and value, in order of time."""

    labels: Mapping[str, str]
    samples: Sequence[tuple[float, float]]


def number(value: float) -> str:
    """Return a value as exposition formats write it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


def line_of(labels: Mapping[str, str]) -> str:
    """Return `name{label="value",…}`; a missing `__name__` is the utilization metric."""
    name = labels.get("__name__", UTILIZATION)
    pairs = (f'{key}="{_escape(labels[key])}"' for key in sorted(labels) if key != "__name__")
    return f"{name}{{{','.join(pairs)}}}"


def openmetrics_file(
    path: Path, series: Iterable[tuple[Mapping[str, str], Iterable[tuple[float, float]]]]
) -> Path:
    """Write series as OpenMetrics text that `promtool tsdb create-blocks-from` takes.

    Samples are put in order of time; each metric's series stand together. Times are rounded to
    milliseconds, which is all that Prometheus keeps.
    """
    families: dict[str, list[str]] = defaultdict(list)
    for labels, samples in series:
        lines = families[labels.get("__name__", UTILIZATION)]
        prefix = line_of(labels)
        lines += [f"{prefix} {number(value)} {time:.3f}" for time, value in sorted(samples)]
    with path.open("w") as file:
        for name, lines in families.items():
            # Unknown, as recorded: OpenMetrics counters are named without their `_total`.
            file.write(f"# TYPE {name} unknown\n")
            file.writelines(f"{line}\n" for line in lines)
        file.write("# EOF\n")
    return path


def samples_of(path: Path) -> list[Series]:
    """Return the series of an OpenMetrics file whose samples carry times."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with path.open() as file:
        for line in file:
            if not line.startswith("#") and line.strip():
                name_and_labels, value, time = line.rsplit(maxsplit=2)
                found[name_and_labels].append((float(time), float(value)))
    return [Series(_labels(text), samples) for text, samples in found.items()]


def _labels(text: str) -> dict[str, str]:
    name, _, inner = text.partition("{")
    pairs = {key: _unescape(value) for key, value in _LABEL.findall(inner)}
    return {"__name__": name, **pairs}


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda match: _UNESCAPED.get(match[1], match[1]), text)
