"""The floor as a worker: `python -m tests.bench.floor_worker PROMETHEUS_URL REDIS_URL`.

The least that the same cycle can cost: its queries sent together by a client that parses
nothing, then one pipelined write of as many values. A request is `{"at": Unix seconds,
"queries": texts, "kernels": how many}`; the values are read from database 0 before the clock
runs, and written to another one.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

import aiohttp
import redis.asyncio
from redis.asyncio import Redis

from poller.values import is_canonical_uuid
from tests.bench.worker import Figures, measured, peak_mib, serve

TTL_S = 86_400


class Floor:
    """Asks and writes, and understands nothing."""

    def __init__(self, session: aiohttp.ClientSession, url: str, store: Redis, into: Redis):
        self._session, self._url = session, f"{url}/api/v1/query"
        self._store, self._into = store, into
        self._held: dict[str, bytes] = {}

    async def round(self, request: Figures) -> Figures:
        """Run one round; return its figures."""
        values = await self._values(request["kernels"])
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

    async def _values(self, wanted: int) -> dict[str, bytes]:
        """Return so many keys as the poller wrote them."""
        if len(self._held) < wanted:
            keys = [key.decode() async for key in self._store.scan_iter(count=1000)]
            keys = [key for key in keys if is_canonical_uuid(key)]
            held = await self._store.mget(keys)
            pairs = zip(keys, held, strict=True)
            self._held = {key: value for key, value in pairs if isinstance(value, bytes)}
        return dict(itertools.islice(self._held.items(), wanted))

    async def _ask(self, text: str, at: float) -> int:
        form = {"query": text, "time": f"{at:.3f}"}
        headers = {"Accept-Encoding": "identity"}
        async with self._session.post(self._url, data=form, headers=headers) as answer:
            body = await answer.read()
        if answer.status != 200:
            raise RuntimeError(f"HTTP {answer.status}: {body[:200]!r}")
        return len(body)

    async def _write(self, values: dict[str, bytes]) -> None:
        if not values:
            return
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
