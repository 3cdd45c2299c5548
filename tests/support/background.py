"""Event loops in threads, so that sync and async tests use the same in-process servers."""

from __future__ import annotations

import abc
import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self, TypeVar

from aiohttp import web

from .process import HOST, free_port

T = TypeVar("T")
_TIMEOUT_S = 20.0


class BackgroundLoop:
    """An event loop that runs in a daemon thread of its own."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop; return or raise what it does."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_TIMEOUT_S)

    def call(self, work: Callable[[], T]) -> T:
        """Call a plain function on the loop; return or raise what it does."""

        async def wrapped() -> T:
            return work()

        return self.run(wrapped())

    def close(self) -> None:
        """Cancel what still runs, then end the loop and its thread."""
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_TIMEOUT_S)
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    # One more turn, for transports that close in a callback.
    await asyncio.sleep(0)


class BackgroundService(abc.ABC):
    """Something that listens on `port` of 127.0.0.1 from a background loop.

    A context manager for sync and async tests alike; nothing of it runs on the test's loop.
    """

    def __init__(self) -> None:
        self.host = HOST
        self.port = free_port()
        self._background: BackgroundLoop | None = None

    @property
    def _loop(self) -> BackgroundLoop:
        if self._background is None:
            raise RuntimeError(f"{type(self).__name__} is used outside its context")
        return self._background

    @abc.abstractmethod
    async def _open(self) -> None:
        """Start to listen."""

    @abc.abstractmethod
    async def _close(self) -> None:
        """Stop to listen and drop every connection."""

    def __enter__(self) -> Self:
        self._background = BackgroundLoop(type(self).__name__)
        try:
            self._loop.run(self._open())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        background, self._background = self._loop, None
        try:
            background.run(self._close())
        finally:
            background.close()


class WebService(BackgroundService):
    """An aiohttp application on a background loop."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self._tls = tls
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @abc.abstractmethod
    def _routes(self) -> list[web.RouteDef]:
        """Return what the application answers."""

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=64 << 20)
        application.add_routes(self._routes())
        return application

    async def _open(self) -> None:
        # Handlers that hang on purpose get no grace.
        self._runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.01
        )
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self.host, self.port, ssl_context=self._tls, reuse_address=True
        )
        await site.start()

    async def _close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
