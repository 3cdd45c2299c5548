"""The HTTP API of Prometheus and its kin: instant queries in, typed rows out.

Statuses are classified before anything is parsed. Every failure is a `PrometheusError`
with a reason fit for a metric label.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec
from yarl import URL

from poller.errors import DroppedConnection, PartialAnswer, PrometheusError
from poller.model import Query, Row, Series, SetRow

T = TypeVar("T")
_ERROR_BODY_BYTES = 4096
_PREFER_AGAIN_S = 60.0
_SLOW = "look at Prometheus' load, or raise prometheus.timeout_s"


class _Data(msgspec.Struct, Generic[T], rename={"kind": "resultType"}):
    kind: str
    result: list[T]


class _Answer(msgspec.Struct, Generic[T], rename={"error_type": "errorType"}):
    status: str
    data: _Data[T] | None = None
    error: str = ""
    error_type: str = ""
    warnings: list[str] | None = None


_ROWS = msgspec.json.Decoder(_Answer[Row])
_SET_ROWS = msgspec.json.Decoder(_Answer[SetRow])
_SERIES = msgspec.json.Decoder(_Answer[Series])
# A wrong resultType does not fit the row types; this finds out what it was.
_ANY = msgspec.json.Decoder(_Answer[Any])


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach Prometheus. `urls` in order of preference; `timeout_s` for one query.

    `headers` is asked anew for every query, so that a secret file may change.
    """

    urls: tuple[str, ...]
    timeout_s: float
    headers: Callable[[], Mapping[str, str]]
    params: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    max_response_bytes: int = 64 << 20
    concurrency: int = 8
    skip_partial: bool = True


def _is_loopback(url: URL) -> bool:
    try:
        return ipaddress.ip_address(url.host or "").is_loopback
    except ValueError:
        return url.host == "localhost"


class Client:
    """Asks instant queries over one shared session. Use as an async context manager.

    `on_query(part, seconds)`, `on_warning(text)` and `on_switch(url)` are told what happens.
    `server_ahead_s` is how far the server's clock was ahead of `clock` at the last answer.
    """

    def __init__(
        self,
        access: Access,
        on_query: Callable[[str, float], None] = lambda part, seconds: None,
        on_warning: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._urls = [URL(url) for url in access.urls]
        self._session: aiohttp.ClientSession | None = None
        self._on_query = on_query
        self._on_warning = on_warning
        self._clock = clock
        self._at = 0
        self._preferred_again = 0.0
        self.server_ahead_s: float | None = None

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._access.concurrency, ssl=self._access.tls or True
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=True,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def url(self) -> str:
        """The server that is asked now, without user information."""
        return str(self._urls[self._at].with_user(None))

    async def rows(
        self, queries: Sequence[Query], at: float, take: Callable[[Query, list[Row]], None]
    ) -> None:
        """Ask one batch concurrently, all at the same time `at`; hand each answer to `take`.

        The first failure cancels the rest and is raised.
        """

        async def one(query: Query) -> None:
            started = time.perf_counter()
            answer = await self._ask(_ROWS, "vector", query.text, at)
            self._on_query(query.part, time.perf_counter() - started)
            take(query, answer)

        await _together(one(query) for query in queries)

    async def vector(self, text: str, at: float, timeout_s: float | None = None) -> list[Row]:
        """Ask one instant query that gives an instant vector."""
        return await self._ask(_ROWS, "vector", text, at, timeout_s)

    async def sets(self, text: str, at: float) -> list[SetRow]:
        """Ask one instant query and keep every label of its answer."""
        return await self._ask(_SET_ROWS, "vector", text, at)

    async def matrix(self, text: str, at: float, timeout_s: float | None = None) -> list[Series]:
        """Ask one instant query of a range vector: raw samples."""
        return await self._ask(_SERIES, "matrix", text, at, timeout_s)

    async def server(self) -> str:
        """Return what the server says it is, such as `Prometheus 2.42.0`."""
        try:
            body = await self._request(
                "GET", "/api/v1/status/buildinfo", None, self._access.timeout_s
            )
            data = msgspec.json.decode(body)["data"]
            return f"Prometheus {data['version']}"
        except (PrometheusError, msgspec.MsgspecError, KeyError, TypeError):
            return "a server that does not tell its version"

    async def fail_over(self, attempt: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Run attempt against the server that answered last, then the others by preference.

        Every server but the last gets an equal share of the `within_s` seconds. The most
        preferred one is tried first again once a minute.
        """
        ends = time.monotonic() + within_s
        order = self._order()
        failure: PrometheusError | None = None
        for tried, place in enumerate(order):
            self._at = place
            share = (ends - time.monotonic()) / (len(order) - tried)
            try:
                async with asyncio.timeout(share):
                    return await attempt()
            except TimeoutError:
                failure = PrometheusError("timeout", f"no answer within {share:.1f} s", _SLOW)
            except PrometheusError as error:
                failure = error
        assert failure is not None
        raise failure

    def _order(self) -> list[int]:
        places = list(range(len(self._urls)))
        if self._at and time.monotonic() >= self._preferred_again:
            self._preferred_again = time.monotonic() + _PREFER_AGAIN_S
            return places
        return sorted(places, key=lambda place: place != self._at)

    async def _ask(
        self,
        decoder: msgspec.json.Decoder[_Answer[T]],
        kind: str,
        text: str,
        at: float,
        timeout_s: float | None = None,
    ) -> list[T]:
        timeout_s = timeout_s or self._access.timeout_s
        form = {
            **self._access.params,
            "query": text,
            "time": f"{at:.3f}",
            "timeout": f"{round(timeout_s * 1000)}ms",
        }
        try:
            body = await self._request("POST", "/api/v1/query", form, timeout_s)
        except DroppedConnection:  # aiohttp retries no POST by itself
            body = await self._request("POST", "/api/v1/query", form, timeout_s)
        answer = _decoded(decoder, body, kind)
        self._weigh_warnings(answer.warnings or ())
        assert answer.data is not None
        return answer.data.result

    def _weigh_warnings(self, warnings: Iterable[str]) -> None:
        # Prometheus 2.48 to 2.5x puts its notes on metric names in with the warnings.
        partial = [text for text in warnings if not text.startswith("PromQL info")]
        for text in partial:
            self._on_warning(text)
        if partial and self._access.skip_partial:
            raise PartialAnswer(
                "partial",
                partial[0][:200],
                'find the store or shard that is down; prometheus.on_partial = "publish" '
                "writes what is there",
            )

    async def _request(
        self, method: str, path: str, form: Mapping[str, str] | None, timeout_s: float
    ) -> bytes:
        assert self._session is not None, "use the client as an async context manager"
        base = self._urls[self._at]
        url = base.with_path(base.path.rstrip("/") + path)
        headers = {"Accept-Encoding": "identity" if _is_loopback(base) else "gzip"}
        headers.update(self._access.headers())
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, url, data=form, headers=headers, allow_redirects=False
                ) as response,
            ):
                self._read_clock(response.headers.get("Date"))
                if response.status != 200:
                    start = await response.content.read(_ERROR_BODY_BYTES)
                    raise _refusal(response.status, start)
                return await self._body(response)
        except PrometheusError:
            raise
        except TimeoutError as error:
            raise PrometheusError(
                "timeout",
                f"no answer within {timeout_s:g} s",
                _SLOW,
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _broken(error) from error

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        chunks = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._access.max_response_bytes:
                response.close()
                raise PrometheusError(
                    "oversized",
                    f"an answer is larger than {self._access.max_response_bytes} bytes",
                    "raise prometheus.max_response_bytes, or use shards",
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _read_clock(self, date: str | None) -> None:
        if date is None:
            return
        try:
            # The header has whole seconds: on average the server is half a second further.
            told = parsedate_to_datetime(date).timestamp() + 0.5
        except (ValueError, TypeError, OverflowError):
            return
        self.server_ahead_s = told - self._clock()


async def _together(coroutines: Iterable[Awaitable[None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for coroutine in coroutines:
                group.create_task(coroutine)  # type: ignore[arg-type]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures


def _decoded(decoder: msgspec.json.Decoder[_Answer[T]], body: bytes, kind: str) -> _Answer[T]:
    try:
        answer = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _misfit(body, kind) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PrometheusError(
            "not_json",
            "the answer is no complete JSON document",
            "look for a proxy that cuts or replaces answers",
        ) from error
    if answer.status != "success":
        raise PrometheusError("api_error", f"{answer.error_type}: {answer.error}"[:200])
    if answer.data is None or answer.data.kind != kind:
        raise _misfit(body, kind)
    return answer


def _misfit(body: bytes, kind: str) -> PrometheusError:
    try:
        answer = _ANY.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return PrometheusError("malformed", "the answer is not of the HTTP API's form")
    if answer.status != "success":
        return PrometheusError("api_error", f"{answer.error_type}: {answer.error}"[:200])
    found = answer.data.kind if answer.data else "no data"
    if found == kind:
        return PrometheusError("malformed", f"the {kind} has elements of another form")
    return PrometheusError("wrong_type", f"a {kind} was asked for, {found[:40]} came")


_REASONS = {
    400: ("rejected", "Prometheus refused the query; see the detail"),
    401: ("unauthorized", "check prometheus.username, password_file or bearer_token_file"),
    403: ("unauthorized", "check prometheus.username, password_file or bearer_token_file"),
    404: ("not_found", "check the path in prometheus.url"),
    422: ("rejected", "Prometheus could not run the query: its limits or its load"),
    429: ("rate_limited", "raise the tenant's limit, or poll.interval_s"),
    502: ("bad_gateway", "a proxy before Prometheus cannot reach it"),
    503: ("unavailable", "Prometheus is starting (WAL replay) or overloaded; it is asked again"),
    504: ("bad_gateway", "a proxy before Prometheus cannot reach it"),
}


def _refusal(status: int, start: bytes) -> PrometheusError:
    reason, advice = _REASONS.get(status, ("http_status", "see what answers at prometheus.url"))
    detail = start.decode("utf-8", "replace").strip()
    try:
        detail = msgspec.json.decode(start)["error"]
    except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError):
        if detail.startswith("<"):
            detail = "an HTML page"
    return PrometheusError(reason, f"HTTP {status}: {detail[:200]}", advice)


def _broken(error: Exception) -> PrometheusError:
    """Translate what aiohttp raises; no URL, header or credential is carried over."""
    dropped = (
        aiohttp.ServerDisconnectedError,
        aiohttp.ClientPayloadError,
        ConnectionResetError,
        BrokenPipeError,
    )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return PrometheusError("dns", "the host name does not resolve", "check prometheus.url")
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return PrometheusError("tls", type(error).__name__, "check prometheus.ca_file and the URL")
    if isinstance(error, aiohttp.ClientConnectorError):
        return PrometheusError(
            "refused", "nothing listens there", "start it, or check prometheus.url"
        )
    if isinstance(error, dropped):
        return DroppedConnection("reset", "the connection broke", "look at Prometheus and proxies")
    if isinstance(error, aiohttp.ClientOSError):
        return DroppedConnection("reset", "the connection broke", "look at Prometheus and proxies")
    return PrometheusError("http", type(error).__name__, "see what answers at prometheus.url")
