"""The HTTP API of Prometheus: queries, typed rows, warnings; what is sent once more, and when.

Every failure is a `PrometheusError` with a reason fit for a metric label.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from poller.errors import DroppedConnection, PartialAnswer, PrometheusError
from poller.prometheus import answers, victoria
from poller.prometheus.answers import Answer, Form, Row, Series, SetRow
from poller.prometheus.failover import Failover
from poller.prometheus.transport import PrometheusAccess, Transport
from poller.values import Query, portions

log = logging.getLogger("poller")

T = TypeVar("T")
_QUERY = "/api/v1/query"
_PORTION = 10_000
"""So many rows are handed on before the event loop has its turn: some 10 ms."""


class Client:
    """Asks instant queries over one shared session. Use as an async context manager.

    `on_query(part, seconds)` and `on_warning(text)` are told what happens. A server that turns out
    to be VictoriaMetrics is asked to answer as of now, unless `params` decide that.
    """

    def __init__(
        self,
        access: PrometheusAccess,
        on_query: Callable[[str, float], None] = lambda part, seconds: None,
        on_warning: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._transport = Transport(access, clock)
        self._on_query = on_query
        self._on_warning = on_warning
        self._failover = Failover(self._transport.addresses, access.prefer_again_s)
        self._reading = asyncio.Lock()
        self._victoria: set[int] = set()
        self._warned = ""

    async def __aenter__(self) -> Client:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._transport.__aexit__(*exc)

    @property
    def server_ahead_s(self) -> float | None:
        """How far the server's clock was ahead of ours at its last answer, in seconds."""
        return self._transport.server_ahead_s

    def forget_server_clock(self) -> None:
        """Take what a server's clock said for done with: the next answer may come without it."""
        self._transport.server_ahead_s = 0.0

    @property
    def url(self) -> str:
        """The server that is asked now, without user information."""
        return self._failover.address

    async def rows(
        self, queries: Sequence[Query], at: float, take: Callable[[Query, Sequence[Row]], None]
    ) -> None:
        """Ask one batch concurrently, all at the same time `at`; hand the answers to `take`.

        A large answer comes in portions. The first failure cancels the rest and is raised.
        """

        async def one(query: Query) -> None:
            started = time.perf_counter()
            answer = await self._ask(answers.ROWS, query.text, at)
            self._on_query(query.part, time.perf_counter() - started)
            for some in portions(answer, _PORTION):
                take(query, some)
                await asyncio.sleep(0)

        await together(one(query) for query in queries)

    async def vector(self, text: str, at: float, timeout_s: float | None = None) -> list[Row]:
        """Ask one instant query that gives an instant vector."""
        return await self._ask(answers.ROWS, text, at, timeout_s)

    async def sets(self, text: str, at: float) -> list[SetRow]:
        """Ask one instant query and keep every label of its answer."""
        return await self._ask(answers.SET_ROWS, text, at)

    async def matrix(self, text: str, at: float, timeout_s: float | None = None) -> list[Series]:
        """Ask one instant query of a range vector: raw samples."""
        return await self._ask(answers.SERIES, text, at, timeout_s)

    async def server(self) -> str:
        """Return what the server says it is, such as `Prometheus 2.42.0`."""
        at = self._failover.at
        try:
            path = "/api/v1/status/buildinfo"
            reply = await self._transport.ask(at, path, self._access.timeout_s)
            self._recognize(at, reply.headers, b"")
            if at in self._victoria:
                return victoria.NAME  # the version it tells is that of a Prometheus
            data = msgspec.json.decode(reply.body)["data"]
            return f"Prometheus {data['version']}"
        except (PrometheusError, msgspec.MsgspecError, KeyError, TypeError):
            return "a server that does not tell its version"

    async def fail_over(self, attempt: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Run attempt against the server that answered last, then the others by preference.

        Nothing of one server is put together with something of another. Together they get
        `within_s` seconds.
        """
        return await self._failover.run(attempt, within_s)

    async def each(
        self, attempt: Callable[[], Awaitable[T]], within_s: float
    ) -> dict[str, T | PrometheusError]:
        """Run attempt against every server; return what each answered or why not, by address."""
        return await self._failover.each(attempt, within_s)

    @property
    def passed_over(self) -> PrometheusError | None:
        """Why the preferred server is not the one that answered last; None if it is."""
        return self._failover.passed_over

    async def _ask(
        self,
        form: Form[T],
        text: str,
        at: float,
        timeout_s: float | None = None,
    ) -> list[T]:
        url = self.url
        try:
            limit_s = timeout_s or self._access.timeout_s
            return await self._answer_of_now(form, text, at, limit_s)
        except PrometheusError as error:
            raise error.at(url) from error.__cause__

    async def _answer_of_now(
        self,
        form: Form[T],
        text: str,
        at: float,
        timeout_s: float,
    ) -> list[T]:
        fields = {
            **self._access.params,
            "query": text,
            "time": f"{at:.3f}",
            "timeout": f"{round(timeout_s * 1000)}ms",
        }
        place = self._failover.at
        asked = self._beside(place, at)
        answer = await self._answer(form, place, {**fields, **asked}, timeout_s)
        wanted = self._beside(place, at)
        if wanted != asked:  # this answer told what server it is
            answer = await self._answer(form, place, {**fields, **wanted}, timeout_s)
        self._weigh_warnings(answers.warnings(answer))
        assert answer.data is not None
        return answer.data.result

    def _beside(self, place: int, at: float) -> Mapping[str, str]:
        """Return what a server must be asked beside a query to answer as of the time asked."""
        return victoria.beside(self._access.params, at) if place in self._victoria else {}

    async def _answer(
        self,
        form: Form[T],
        place: int,
        fields: Mapping[str, str],
        timeout_s: float,
    ) -> Answer[T]:
        try:
            reply = await self._transport.ask(place, _QUERY, timeout_s, fields)
        except DroppedConnection:  # aiohttp retries no POST by itself
            reply = await self._transport.ask(place, _QUERY, timeout_s, fields)
        async with self._reading:  # one after another, or all would be in memory half read
            for answer in answers.in_portions(form, reply.body):  # noqa: B007 - the last is whole
                await asyncio.sleep(0)
        self._recognize(place, reply.headers, bytes(answer.stats))
        return answer

    def _recognize(self, place: int, headers: Collection[str], statistics: bytes) -> None:
        """Notice VictoriaMetrics, for good: what it is asked for does no harm to another server."""
        if place in self._victoria or not victoria.is_victoria(headers, statistics):
            return
        self._victoria.add(place)
        told = "prometheus.params decide as of when it answers"
        if not victoria.decided(self._access.params):
            told = "it is asked with nocache=1, or it would tell of 30 s ago"
        log.info(
            "prometheus: %s answers at %s; %s",
            victoria.NAME,
            self._transport.addresses[place],
            told,
        )

    def _weigh_warnings(self, warnings: Iterable[str]) -> None:
        # Since 2.48 Prometheus puts its notes on queries in with them: those miss no data.
        partial = [text for text in warnings if not text.startswith("PromQL ")]
        for text in partial:
            self._on_warning(text)
        if partial and self._access.skip_partial:
            raise PartialAnswer(
                "partial",
                partial[0][:200],
                'find the store or shard that is down; prometheus.on_partial = "publish" '
                "writes what is there",
            )
        self._warned = partial[0][:200] if partial else self._warned

    def take_warning(self) -> str:
        """Return the last warning that data is missing of the answers taken since this was asked.

        Empty where there was none, and where such answers are not taken.
        """
        warned, self._warned = self._warned, ""
        return warned


async def together(coroutines: Iterable[Awaitable[None]]) -> None:
    """Run coroutines at once; the first failure cancels the rest and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)  # type: ignore[arg-type]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
