"""Compare forms of the gauge query by Prometheus' own figures: `python -m tests.bench.forms`.

Every form asks for the same: `current` of every metric and `capacity` where there is one. The
server says with `stats=all` how many samples it looked at and how long it took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp

from poller.format.catalog import ESSENTIAL
from poller.prometheus.batch_queries import capacity_queries, gauge_queries
from poller.prometheus.selectors import EVERYTHING, selector
from tests.bench import report
from tests.bench.contestants import Stage, stage
from tests.bench.kernels import METRICS, SERIES, Cluster

PAIRS = [
    (metric.name, value_type)
    for metric in METRICS
    for value_type in ("current", "capacity")
    if value_type == "current" or metric.capacity is not None
]
_THREE = "kernel_id, container_metric_name, value_type"


def _each(wrapped: str) -> list[str]:
    return [wrapped.format(selector(name, value_type)) for name, value_type in PAIRS]


def the_pollers() -> list[str]:
    """Return what the poller asks where every capacity is due, whatever form that has now."""
    known = {metric.name: metric.capacity is not None for metric in METRICS}
    wide = frozenset((*ESSENTIAL, "cuda_mem"))  # as in any batch but the first
    queries = gauge_queries(known, [EVERYTHING], wide)
    queries += capacity_queries([name for name, has in known.items() if has], [EVERYTHING], wide)
    return [query.text for query in queries]


FORMS: dict[str, Callable[[], list[str]]] = {
    "the poller's": the_pollers,
    "`max by (kernel_id)`, one per series": lambda: _each("max by (kernel_id) ({})"),
    "`max without (owners …)`, one per series": lambda: _each(
        "max without (container_metric_name, value_type, job, agent_id, user_id, project_id) ({})"
    ),
    f"`max by ({_THREE})`, one for all": lambda: [f"max by ({_THREE}) ({SERIES})"],
    "raw, one per series": lambda: _each("{}"),
    "raw, one for all": lambda: [SERIES],
}


class Cost(NamedTuple):
    """What all queries of one form cost: evaluated one by one, and sent all at once."""

    samples: int
    eval_s: float
    bytes: int
    wall_s: float
    prometheus_s: float


class Asker:
    """Sends the queries of a form together."""

    def __init__(self, session: aiohttp.ClientSession, stage: Stage) -> None:
        self._session, self._stage = session, stage

    async def cost(self, texts: Sequence[str]) -> Cost:
        """Return what they cost: one by one with the server's figures, then all at once."""
        told = [await self._ask(text, stats="all") for text in texts]
        stats = [json.loads(body)["data"]["stats"] for body in told]
        before, started = self._stage.prometheus_s(), time.perf_counter()
        bodies = await asyncio.gather(*(self._ask(text) for text in texts))
        wall_s = time.perf_counter() - started
        return Cost(
            samples=sum(one["samples"]["totalQueryableSamples"] for one in stats),
            eval_s=sum(one["timings"]["evalTotalTime"] for one in stats),
            bytes=sum(map(len, bodies)),
            wall_s=wall_s,
            prometheus_s=self._stage.prometheus_s() - before,
        )

    async def _ask(self, text: str, **more: str) -> bytes:
        form = {"query": text, "time": f"{self._stage.at:.3f}", **more}
        url = f"{self._stage.prometheus.url}/api/v1/query"
        headers = {"Accept-Encoding": "identity"}
        async with self._session.post(url, data=form, headers=headers) as answer:
            body = await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"HTTP {answer.status}: {body[:200]!r}")
        return body


async def measure(on: Stage, rounds: int) -> dict[str, Cost]:
    """Return the medians of every form, taken in turn, after a warm-up."""
    costs: dict[str, list[Cost]] = {name: [] for name in FORMS}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        asker = Asker(session, on)
        for number in range(rounds + 1):
            for name, texts in FORMS.items():
                cost = await asker.cost(texts())
                if number:
                    costs[name].append(cost)
    return {
        name: Cost(*map(statistics.median, zip(*found, strict=True)))
        for name, found in costs.items()
    }


def forms_table(costs: dict[str, Cost]) -> str:
    """Return the table."""
    header = [
        "form",
        "samples",
        "evaluation ms",
        "wall ms at once",
        "CPU ms at once",
        "answers KiB",
    ]
    rows = [
        [
            name,
            f"{cost.samples:,.0f}",
            *(f"{s * 1000:.0f}" for s in (cost.eval_s, cost.wall_s, cost.prometheus_s)),
            f"{cost.bytes / 1024:,.0f}",
        ]
        for name, cost in costs.items()
    ]
    return report.table(header, rows)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.forms", description=__doc__)
    parser.add_argument("--kernels", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--markdown", type=Path, help="put the table into this file too")
    given = parser.parse_args()
    before = os.getloadavg()[0]
    with stage(Cluster(given.kernels)) as set_up:
        costs = asyncio.run(measure(set_up, given.rounds))
    command = f"python -m tests.bench.forms --kernels {given.kernels} --rounds {given.rounds}"
    report.publish("forms", command, before, [forms_table(costs)], given.markdown)


if __name__ == "__main__":
    main()
