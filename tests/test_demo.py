"""The demo: its simulated Prometheus against a real one, and the whole of it as a command."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest

from poller import promql
from poller.catalog import INTRINSIC, Catalog
from poller.demo import promapi
from poller.demo.cluster import Cluster
from poller.demo.evaluate import Stored
from poller.demo.functions import Sample
from poller.demo.promapi import Api, number
from poller.demo.syntax import QueryError, parsed
from poller.model import Intervals
from poller.promql import Scope
from tests.support.command import environment, poller
from tests.support.openmetrics import ROUNDS, UTILIZATION, openmetrics_file
from tests.support.servers import HOST, Prometheus, require

T0 = 1_700_000_000.0
"""When the recorded series end, or nearly so."""
FOUND = Intervals(scrape_s=1.0, measure_s=2.0, window_s=8.0, stall_s=8.0)
TIMES = (T0 - 0.451, T0 - 7.322, T0 - 61.003, T0 - 299.51, T0 + 240.123, T0 + 400.7)
ODD = Scope(prefixes=("00000000",))
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Recorded:
    """A series whose samples are written out."""

    labels: Mapping[str, str]
    samples: list[Sample]

    def between(self, start_ms: int, end_ms: int) -> list[Sample]:
        stamps = [sample.at_ms for sample in self.samples]
        return self.samples[bisect_left(stamps, start_ms) : bisect_right(stamps, end_ms)]

    def latest(self, end_ms: int) -> Sample | None:
        before = self.between(0, end_ms)
        return before[-1] if before else None


def odd_series() -> list[Recorded]:
    """Return what the simulated cluster has not: gaps, duplicates, resets, single samples, NaN."""
    shapes: dict[str, list[tuple[float, float]]] = {
        "fallen": [(second, second % 37 * 100) for second in range(-300, 0)],
        "sparse": [(second, 5000 + second * 3) for second in range(-600, 0, 47)],
        "gap": [(second, second + 1000) for second in range(-500, 0) if not -400 < second < -60],
        "single": [(-3, 7)],
        "from zero": [(second, (second + 6) * 250.125) for second in range(-6, 0)],
        "not a number": [(second, math.nan if second % 3 else second) for second in range(-90, 0)],
        "large": [(second, 1e21 + second * 1e17) for second in range(-90, 0)],
        "small": [(second, 1e-7 * (second + 91)) for second in range(-90, 0)],
        "negative": [(second, -(second % 5)) for second in range(-90, 0)],
        "old": [(second, second + 900) for second in range(-700, -320)],
    }
    found = []
    for place, (shape, samples) in enumerate(shapes.items()):
        for metric in ("cpu_used", "cpu_util", "mem"):
            for owner in ("owned", "undefined") if shape in ("gap", "fallen") else ("owned",):
                labels = odd_labels(place, metric, owner)
                shift = 11 if owner == "undefined" else 0
                found.append(recorded(labels, [(at, value + shift) for at, value in samples]))
    return found


def odd_labels(place: int, metric: str, owner: str) -> dict[str, str]:
    return {
        "__name__": UTILIZATION,
        "container_metric_name": metric,
        "kernel_id": f"00000000-0000-4000-8000-{place:012}",
        "session_id": owner,
        "user_id": owner,
        "value_type": "current",
        "agent_id": "i-odd",
        "job": "agents",
        "instance": "odd:6003",
    }


def recorded(labels: Mapping[str, str], samples: list[tuple[float, float]]) -> Recorded:
    return Recorded(
        labels, [Sample(round((T0 + at) * 1000) - 137, float(value)) for at, value in samples]
    )


def everything() -> list[Stored]:
    """Return the demo's own cluster, as it was 20 s before the end, and the odd series."""
    clock = iter((T0 - 20,))
    cluster = Cluster(9, clock=lambda: next(clock, T0))
    return [*cluster.series, *odd_series()]


def all_queries() -> list[str]:
    """Return every query that the poller can ask."""
    catalog = Catalog(overrides=None)
    scopes = [promql.EVERYTHING, ODD, promql.shard(1, 4), Scope(kernels=some_kernels())]
    found = ["vector(1)", promql.busiest_query(3)]
    metrics = {name: True for name in (*INTRINSIC, "cuda_mem", "cuda_util")}
    found += [query.text for query in promql.batch(catalog, metrics, FOUND, 4.999, scopes)]
    for scope in scopes:
        found += promql.survey_queries(scope)
        conflict = promql.conflict_queries(scope, FOUND.stall_s)
        found += [conflict.values, conflict.stamps, conflict.changes]
        past = promql.past_queries(catalog, [*metrics, "some_stat"], 600.0, scope)
        found += [past.peaks or "", past.sums or "", past.counts or ""]
        found += [promql.moved_query(range_s, scope) for range_s in (8.0, 900.0)]
        found += [promql.existed_query(ago_s, scope) for ago_s in (8.0, 900.0, 0.001)]
        found += [promql.births_query(list(metrics), 86_400.0, scope)]
        found += [promql.first_samples_query(list(metrics), 60.0, scope)]
        found += [promql.measurements_query(scope)]
    return [text for text in dict.fromkeys(found) if text]


def some_kernels() -> tuple[str, ...]:
    return tuple(kernel.kernel_id for kernel in Cluster(9).kernels[2:5])


@pytest.fixture(scope="module")
def real() -> Iterator[Prometheus]:
    require("prometheus")
    stored = everything()
    with Prometheus.__new__(Prometheus) if False else _real(stored) as server:
        yield server


def _real(stored: list[Stored]) -> Prometheus:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "samples.om"
        series = [
            (one.labels, [(at / 1000, value) for at, value in one.between(0, 1 << 50)])
            for one in stored
        ]
        return Prometheus(samples=openmetrics_file(path, series))


def asked(url: str, text: str, at: float) -> dict[str, Any]:
    body = urllib.parse.urlencode({"query": text, "time": f"{at:.3f}"}).encode()
    with _opener.open(f"{url}/api/v1/query", body, timeout=30) as response:
        return json.load(response)["data"]


def rows_of(data: dict[str, Any]) -> dict[frozenset, list[tuple[float, float]]]:
    rows = {}
    for row in data["result"]:
        values = row["values"] if data["resultType"] == "matrix" else [row["value"]]
        rows[frozenset(row["metric"].items())] = [(at, float(text)) for at, text in values]
    assert len(rows) == len(data["result"])
    return rows


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], what: str) -> None:
    assert ours["resultType"] == theirs["resultType"]
    mine, real = rows_of(ours), rows_of(theirs)
    assert mine.keys() == real.keys(), what
    for labels, values in real.items():
        assert [at for at, _ in mine[labels]] == [at for at, _ in values], (what, labels)
        found = [value for _, value in mine[labels]]
        truth = [value for _, value in values]
        assert found == pytest.approx(truth, rel=1e-9, abs=1e-12, nan_ok=True), (what, labels)


@pytest.mark.parametrize("at", TIMES)
def test_every_query_of_the_poller_is_answered_as_prometheus_answers_it(
    real: Prometheus, at: float
):
    stored = everything()
    answered = 0
    for text in all_queries():
        ours = promapi.answer(stored, text, round(at * 1000))
        theirs = asked(real.url, text, at)
        assert_same(ours, theirs, text)
        answered += bool(theirs["result"])
    if at < T0:
        assert answered > 150
