"""A Prometheus that answers what the test says."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate

from aiohttp import web

from .answers import Answer, vector
from .background import WebService
from .openmetrics import STAGE_SECONDS

Handler = Callable[[str, float, dict[str, str]], Answer]

BUILD_INFO = {"version": "2.42.0", "revision": "scripted", "branch": "HEAD"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request that arrived. `time` is the evaluation time: now where none was asked for."""

    method: str
    path: str
    query: str
    time: float
    params: Mapping[str, str]
    headers: Mapping[str, str]


def empty(query: str, time: float, params: dict[str, str]) -> Answer:
    """Answer every query with no rows."""
    return vector((), time)


class ScriptedPrometheus(WebService):
    """Answer queries by `handler(query, time, params)`. Use as a context manager, sync or async.

    Settable at any time: `handler`, and `date_offset_s`, by which the `Date` header is ahead of the
    clock (None sends none).
    """

    def __init__(self, handler: Handler = empty, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.handler = handler
        self.date_offset_s: float | None = 0.0
        self.requests: list[Recorded] = []
        self._next: deque[Answer] = deque()

    def next_answers(self, *answers: Answer) -> None:
        """Give these answers to the next queries, one each, before the handler's."""
        self._next.extend(answers)

    @property
    def queries(self) -> list[str]:
        """The texts of all queries so far."""
        return [request.query for request in self.requests if request.query]

    @property
    def batches(self) -> list[float]:
        """The evaluation time of each batch that was asked: each looks at the rounds once."""
        return [request.time for request in self.requests if STAGE_SECONDS in request.query]

    def _application(self) -> web.Application:
        application = super()._application()
        application.on_response_prepare.append(self._set_date)
        return application

    def _routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/v1/status/buildinfo", self._answer_build_info),
            web.get("/api/v1/query", self._answer_query),
            web.post("/api/v1/query", self._answer_query),
            web.post("/{prefix}/api/v1/query", self._answer_query),
        ]

    async def _answer_query(self, request: web.Request) -> web.StreamResponse:
        recorded = await self._record(request)
        if self._next:
            answer = self._next.popleft()
        else:
            answer = self.handler(recorded.query, recorded.time, dict(recorded.params))
        return await self._send(request, answer)

    async def _answer_build_info(self, request: web.Request) -> web.StreamResponse:
        await self._record(request)
        return web.json_response({"status": "success", "data": BUILD_INFO})

    async def _record(self, request: web.Request) -> Recorded:
        form = await request.post() if request.method == "POST" else {}
        params = {**request.query, **{key: str(value) for key, value in form.items()}}
        recorded = Recorded(
            method=request.method,
            path=request.path,
            query=params.get("query", ""),
            time=float(params.get("time") or time.time()),
            params=params,
            headers=request.headers.copy(),
        )
        self.requests.append(recorded)
        return recorded

    async def _send(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        if answer.hangs:
            await asyncio.Event().wait()
        await asyncio.sleep(answer.delay_s)
        headers = {"Content-Type": answer.content_type, **answer.headers}
        if answer.cut_after_bytes is not None:
            return await self._send_part(request, answer, answer.cut_after_bytes, headers)
        response = web.Response(status=answer.status, body=answer.body, headers=headers)
        if answer.compressed:
            response.enable_compression(web.ContentCoding.gzip)
        return response

    async def _send_part(
        self, request: web.Request, answer: Answer, part_bytes: int, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_length = len(answer.body)
        await response.prepare(request)
        await response.write(answer.body[:part_bytes])
        if request.transport is not None:
            request.transport.close()
        return response

    async def _set_date(self, request: web.Request, response: web.StreamResponse) -> None:
        del response.headers["Date"]
        if self.date_offset_s is not None:
            stamp = time.time() + self.date_offset_s
            response.headers["Date"] = formatdate(stamp, usegmt=True)
