"""The daemon over HTTP: a page, its facts as JSON, liveness, readiness, metrics."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable

from aiohttp import web

from poller.daemon import page
from poller.daemon.conditions import Conditions
from poller.daemon.metrics import Telemetry
from poller.daemon.status import LookUp, Status
from poller.errors import CycleError, PollerError
from poller.settings import Http

log = logging.getLogger("poller")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_GONE = 1.0
"""How long an open connection may take to end at a stop, in seconds."""
_PATIENCE_S = 20.0
_LONGEST_ID = 64
_FRESH = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_PAGE_HEADERS = {
    **_FRESH,
    "Content-Security-Policy": page.POLICY,
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Endpoints:
    """The page, its facts as JSON, liveness, readiness and metrics over HTTP; all read only."""

    def __init__(
        self, telemetry: Telemetry, status: Callable[[], Status], look_up: LookUp | None = None
    ) -> None:
        self._telemetry = telemetry
        self._status = status
        self._look_up = look_up
        self._one_at_a_time = asyncio.Lock()
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port, which is chosen by the system where 0 was asked for."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/api/status", self._json),
                web.get("/-/healthy", self._healthy),
                web.get("/-/ready", self._readiness),
                web.get("/metrics", self._metrics),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_GONE)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, reuse_address=True).start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop(self) -> None:
        """Listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _page(self, request: web.Request) -> web.Response:
        given = request.query.get("kernel")
        asked = None if given is None else given.strip()[:_LONGEST_ID]
        answer = await self._answer(asked) if asked else None
        body = page.render(self._status(), asked, answer)
        return web.Response(text=body, content_type="text/html", headers=_PAGE_HEADERS)

    async def _answer(self, asked: str) -> page.Answer:
        """Look a kernel up, one at a time: it costs both servers a little."""
        if self._look_up is None:
            return "Looking a kernel up is not available here."
        try:
            async with asyncio.timeout(_PATIENCE_S), self._one_at_a_time:
                return await self._look_up(asked)
        except CycleError as error:
            return f"{error.subject}: {error.detail}. {error.advice}".rstrip(" .") + "."
        except PollerError as error:
            return str(error)
        except TimeoutError:
            return f"No answer within {_PATIENCE_S:g} s."

    async def _json(self, request: web.Request) -> web.Response:
        return web.json_response(self._status().as_json(), headers=_FRESH)

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _readiness(self, request: web.Request) -> web.Response:
        status = self._status()
        leads = "leads: yes" if status.role == "leads" else "leads: no"
        if status.holder:
            leads += f", {status.holder} writes"
        if status.why_not_ready:
            text = f"not ready: {status.why_not_ready}\n{leads}\n"
            return web.Response(status=503, text=text)
        return web.Response(text=f"ready\n{leads}\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        body, kind = self._telemetry.exposition()
        return web.Response(body=body, headers={"Content-Type": kind})


class Listener:
    """Keeps endpoints open. An address that cannot be had is tried again until it can.

    Nobody can watch the poller meanwhile, but the keys matter more: polling goes on. `told` is the
    address that the log has named last.
    """

    def __init__(
        self, endpoints: Endpoints, settings: Http, conditions: Conditions, told: str = ""
    ) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._conditions = conditions
        self.told = told
        self._trying: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen if the settings say so, at once or as soon as the address can be had."""
        if self._settings.enabled and not await self._listens():
            self._trying = asyncio.create_task(self._try_again())

    async def close(self) -> None:
        """Listen no more, and try no more."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)
        await self._endpoints.stop()

    async def _try_again(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            await asyncio.sleep(pause_s)
            if await self._listens():
                return
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _listens(self) -> bool:
        host = self._settings.host
        try:
            port = await self._endpoints.start(host, self._settings.port)
        except OSError as error:
            await self._endpoints.stop()
            detail = f"cannot listen on {host}:{self._settings.port}: {_why(error)}"
            self._conditions.bad("http", f"errno {error.errno}", detail, _advice(error))
            return False
        self._conditions.good("http")
        address = f"{host}:{port}"
        if address != self.told:
            log.info("http: listening on %s", address)
        self.told = address
        return True


def _why(error: OSError) -> str:
    # The loop puts the address into `strerror`; a name that does not resolve has its own numbers.
    known = error.errno in errno.errorcode
    return os.strerror(error.errno) if known and error.errno else str(error.strerror or error)


def _advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            "it is tried again until the port is free; a poller beside another one, such as a "
            "shadow, needs an http.port of its own (POLLER_HTTP__PORT)"
        )
    return "it is tried again; change http.host or http.port, or set http.enabled = false"
