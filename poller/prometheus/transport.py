"""One HTTP request to one server: headers, deadline, status, size, and what its clock says.

A status is judged before anything is parsed. Every failure is a `PrometheusError` with a reason
fit for a metric label.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from poller.clock import told_time
from poller.errors import PrometheusError
from poller.prometheus import errors

_ERROR_BODY_BYTES = 4096
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PrometheusAccess:
    """How to reach Prometheus. `urls` in order of preference; `timeout_s` for one query.

    `headers` is asked anew for every query, so that a secret file may change. The preferred
    server is tried again `prefer_again_s` seconds after it failed.
    """

    urls: tuple[str, ...]
    timeout_s: float
    headers: Callable[[], Mapping[str, str]]
    params: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    max_response_bytes: int = 64 << 20
    concurrency: int = 8
    skip_partial: bool = True
    prefer_again_s: float = 60.0


class Reply(NamedTuple):
    """What a server said with HTTP 200: the names of its headers, and the body."""

    headers: Collection[str]
    body: bytes


class Transport:
    """Sends requests over one shared session. Use as an async context manager.

    `addresses` are the servers without what is secret in their URLs. `server_ahead_s` is how far
    the server's clock was ahead of `clock` at the last reply; None before the first.
    """

    def __init__(self, access: PrometheusAccess, clock: Callable[[], float]) -> None:
        self._access = access
        self._clock = clock
        self._urls = [URL(url) for url in access.urls]
        self._session: aiohttp.ClientSession | None = None
        self.addresses = [str(url.with_user(None).with_query(None)) for url in self._urls]
        self.server_ahead_s: float | None = None

    async def __aenter__(self) -> Transport:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._access.concurrency, ssl=self._access.tls or True
            ),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=_READ_BYTES,
            auto_decompress=True,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, place: int, path: str, timeout_s: float, form: Mapping[str, str] | None = None
    ) -> Reply:
        """Ask the server at a place among `addresses`; by POST where there is a form to send."""
        assert self._session is not None, "use it as an async context manager"
        base = self._urls[place]
        headers = {"Accept-Encoding": "identity" if _is_loopback(base) else "gzip"}
        if form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        headers.update(self._access.headers())
        if any(name.lower() == "authorization" for name in headers):
            base = base.with_user(None)  # two ways to authenticate are refused by the library
        url = base.with_path(base.path.rstrip("/") + path)
        method = "GET" if form is None else "POST"
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.request(
                    method, url, data=_encoded(form), headers=headers, allow_redirects=False
                ) as response,
            ):
                return await self._reply(response)
        except PrometheusError:
            raise
        except TimeoutError as error:
            raise errors.too_slow(timeout_s) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise errors.broken(error) from error

    async def _reply(self, response: aiohttp.ClientResponse) -> Reply:
        if response.status != 200:
            start = await response.content.read(_ERROR_BODY_BYTES)
            location = response.headers.get("Location", "")
            raise errors.refusal(response.status, start, location)
        self._read_clock(response.headers.get("Date"))  # a proxy's error page has its own
        return Reply(tuple(response.headers), await self._body(response))

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        chunks = []
        size = 0
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._access.max_response_bytes:
                response.close()
                raise errors.too_large(self._access.max_response_bytes)
            chunks.append(chunk)
        return b"".join(chunks)

    def _read_clock(self, date: str | None) -> None:
        told = told_time(date) if date else None
        if told is not None:
            self.server_ahead_s = told - self._clock()


def _is_loopback(url: URL) -> bool:
    try:
        return ipaddress.ip_address(url.host or "").is_loopback
    except ValueError:
        return url.host == "localhost"


def _encoded(form: Mapping[str, str] | None) -> bytes | None:
    # By hand: the library makes a multipart boundary for every form, needed or not.
    return urlencode(form).encode() if form is not None else None
