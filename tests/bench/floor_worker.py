"""The floor as a worker: `python -m tests.bench.floor_worker PROMETHEUS_URL REDIS_URL`.

The least that the same batch can cost: its queries sent together by a client that parses
nothing, then one pipelined write of the same values. A request is `{"at": Unix seconds,
"queries": texts, "kernels": ids}`; the values are read from database 0 before the clock runs,
and written to `REDIS_URL`'s.
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import redis.asyncio
from redis.asyncio import Redis

from tests.bench.worker import Figures, measured, peak_mib, serve

TTL_S = 86_400


class Floor:
    """Asks and writes, and understands nothing."""

    def __init__(self, session: aiohttp.ClientSession, url: str, store: Redis, into: Redis):
        self._session, self._url = session, f"{url}/api/v1/query"
        self._store, self._into = store, into

    async def round(self, request: Figures) -> Figures:
        """Run one round; return its figures."""
        held = await self._store.mget(request["kernels"])
        values = {
            kernel: value
            for kernel, value in zip(request["kernels"], held, strict=True)
            if isinstance(value, bytes)
        }
        figures: Figures = {}
        with measured(figures):
            sizes = await asyncio.gather(
                *(self._ask(text, request["at"]) for text in request["queries"])
            )
            await self._write(values)
        return figures | {
            "kernels": len(values),
            "bytes": sum(sizes),
            "peak_mib": peak_mib(),
        }

    async def _ask(self, text: str, at: float) -> int:
        form = {"query": text, "time": f"{at:.3f}"}
        headers = {"Accept-Encoding": "identity"}
        async with self._session.post(self._url, data=form, headers=headers) as answer:
            body = await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"HTTP {answer.status}: {body[:200]!r}")
        return len(body)

    async def _write(self, values: dict[str, bytes]) -> None:
        pipe = self._into.pipeline(transaction=False)
        for kernel, value in values.items():
            pipe.set(kernel, value, ex=TTL_S)
        await pipe.execute()


async def main(prometheus_url: str, redis_url: str) -> None:
    """Answer requests."""
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        redis.asyncio.from_url(redis_url, db=0) as store,
        redis.asyncio.from_url(redis_url, db=2) as into,
    ):
        await serve(Floor(session, prometheus_url, store, into).round)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
