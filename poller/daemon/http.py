"""The daemon's HTTP endpoints: whether it lives, whether it is ready, its metrics."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable

from aiohttp import web

from poller.daemon.conditions import Conditions
from poller.daemon.metrics import Telemetry
from poller.settings import Http

log = logging.getLogger("poller")

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_GONE = 1.0
"""How long an open connection may take to end at a stop, in seconds."""


class Endpoints:
    """`/-/healthy`, `/-/ready` and `/metrics` over HTTP.

    `ready` returns why the daemon is not ready, or an empty text if it is.
    """

    def __init__(self, telemetry: Telemetry, ready: Callable[[], str]) -> None:
        self._telemetry = telemetry
        self._ready = ready
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; return the port, which is chosen by the system where 0 was asked for."""
        application = web.Application()
        application.add_routes(
            [
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

    async def _healthy(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _readiness(self, request: web.Request) -> web.Response:
        why_not = self._ready()
        if why_not:
            return web.Response(status=503, text=f"not ready: {why_not}\n")
        return web.Response(text="ready\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        body, kind = self._telemetry.exposition()
        return web.Response(body=body, headers={"Content-Type": kind})


class Listener:
    """Keeps endpoints open. An address that cannot be had is tried again until it can.

    Nobody can watch the poller meanwhile, but the keys matter more: polling goes on.
    """

    def __init__(self, endpoints: Endpoints, settings: Http, conditions: Conditions) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._conditions = conditions
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
        log.info("http: listening on %s:%d", host, port)
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
