"""The HTTP API of Prometheus over a simulated cluster, and the cluster's own exporters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from aiohttp import web

from poller.demo import queries
from poller.demo.cluster import Sample, SimulatedCluster, SimulatedSeries
from poller.demo.queries import LabelSet, QueryError

VERSION = "2.42.0+simulated"
"""Whose rules are followed."""


def number(value: float) -> str:
    """Return a number as Prometheus writes it: an exponent only for what is huge or tiny."""
    if value != value:
        return "NaN"
    if abs(value) == float("inf"):
        return "+Inf" if value > 0 else "-Inf"
    if value and not 1e-6 <= abs(value) < 1e21:
        mantissa, _, exponent = repr(value).partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent):+03}"
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")


def answer(stored: Sequence[SimulatedSeries], text: str, at_ms: int) -> dict[str, object]:
    """Return the `data` of an instant query's answer, or raise `QueryError`."""
    kind, tracks = queries.answered(stored, text, at_ms)
    return {"resultType": kind, "result": [_row(kind, *track) for track in tracks.items()]}


def _row(kind: str, labels: LabelSet, samples: Iterable[Sample]) -> dict[str, object]:
    values = [(sample.at_ms / 1000, number(sample.value)) for sample in samples]
    found = {"values": values} if kind == "matrix" else {"value": values[0]}
    return {"metric": dict(labels), **found}


def _refused(why: str) -> web.Response:
    body = {"status": "error", "errorType": "bad_data", "error": why}
    return web.json_response(body, status=400)


class Api:
    """Serves `/api/v1/query` over the simulated samples and `/agents/…/metrics` as of now."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster
        # Long ranges take a while; the poller in this process must not wait for them.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="promql")
        self._runner: web.AppRunner | None = None

    async def start(self, host: str) -> int:
        """Listen on a free port and return it."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/api/v1/query", self._query),
                web.post("/api/v1/query", self._query),
                web.get("/api/v1/status/buildinfo", self._build_info),
                web.get("/agents/{agent}/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, 0)
        await site.start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the port."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _query(self, request: web.Request) -> web.Response:
        fields = {**request.query, **await request.post()}
        try:
            at_ms = self._time_ms(fields)
        except (ValueError, OverflowError):
            return _refused('invalid parameter "time": not a Unix time in seconds')
        text = str(fields.get("query", ""))
        try:
            body = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._answered, text, at_ms
            )
        except (QueryError, RecursionError) as error:
            return _refused(f'invalid parameter "query" {text!r}: {error}')
        return web.Response(body=body, content_type="application/json")

    def _time_ms(self, fields: Mapping[str, object]) -> int:
        given = fields.get("time")
        return self._cluster.now_ms() if given is None else round(float(str(given)) * 1000)

    def _answered(self, text: str, at_ms: int) -> bytes:
        data = answer(self._cluster.series, text, at_ms)
        return json.dumps({"status": "success", "data": data}).encode()

    async def _build_info(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "success", "data": {"version": VERSION}})

    async def _metrics(self, request: web.Request) -> web.Response:
        for agent in self._cluster.agents:
            if agent.name == request.match_info["agent"]:
                return web.Response(text=exposition(self._cluster.readings(agent)))
        raise web.HTTPNotFound


def exposition(readings: Iterable[tuple[Mapping[str, str], float]]) -> str:
    """Return readings in Prometheus' text format, without the labels that a scraper adds."""
    lines = []
    for labels, value in readings:
        own = (
            f'{name}="{text}"'
            for name, text in labels.items()
            if name not in ("__name__", "job", "instance")
        )
        lines.append(f"{labels['__name__']}{{{','.join(own)}}} {number(value)}\n")
    return "".join(lines)
