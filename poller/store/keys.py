"""The store: keys read, aged, written (how: `writes`); its client is made anew after a failure."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import redis.exceptions as gone_wrong

from poller.store.cluster_client import Cluster
from poller.store.connections import AnyRedis, StoreAccess, connect
from poller.store.errors import is_of_key, translate
from poller.store.writes import Fence, Writes
from poller.values import portions

NO_PREFIX = ""
"""What stands before the keys that legacy readers read."""


@dataclass(frozen=True, slots=True)
class Found:
    """What reading some keys gave: values by kernel, and kernels whose key has another type.

    `failed`: why a key could not be read, where that is its own: the user has no right to it, or
    its node of several is gone.
    """

    values: Mapping[str, bytes]
    foreign: frozenset[str]
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """What writing some keys gave, by kernel.

    `before`: what the key held, None for nothing. `failed`: why it was not written.
    """

    before: Mapping[str, bytes | None]
    failed: Mapping[str, str]

    def failures(self) -> Counter[str]:
        """Return how many keys failed, by reason."""
        return Counter(self.failed.values())


AGENTS_TTL_S = 86_400
"""The TTL that agents give their keys, whatever ours is."""


class Store:
    """The keys of kernels. Every failure is a `StoreError`, or per key in what it returns."""

    def __init__(self, access: StoreAccess) -> None:
        self._access = access
        self._writes = Writes(access)
        self._client: AnyRedis = None
        self._beside: list[AnyRedis] = []

    async def __aenter__(self) -> Store:
        self._client, self._beside = connect(self._access)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def is_cluster(self) -> bool:
        """Whether the keys lie on several nodes."""
        return isinstance(self._client, Cluster)

    @property
    def address(self) -> str:
        """Where the store is, without credentials."""
        return self._access.address

    async def close(self) -> None:
        """Close every connection; waits for nothing that is under way."""
        clients = (self._client, *self._beside)
        self._client, self._beside = None, []
        await _close(clients)

    async def renew(self) -> None:
        """Make the client anew: what it believed of the servers may no longer hold."""
        known = self._client.known if isinstance(self._client, Cluster) else None
        clients = (self._client, *self._beside)
        self._client, self._beside = connect(self._access, known)
        await _close(clients)

    def key(self, kernel: str) -> str:
        """Return the key of a kernel."""
        return self._access.key(kernel)

    async def nodes(self) -> list[AnyRedis]:
        """Return a client of each server that holds keys: of a cluster, of each node with slots."""
        async with self.client() as client:
            return await client.owners() if isinstance(client, Cluster) else [client]

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AnyRedis]:
        """Lend the client; translate what it raises, and start afresh where it may be confused."""
        client = self._client
        try:
            yield client
        except asyncio.CancelledError:
            # A reply may still be on its way: it must not be read as another command's.
            await asyncio.shield(self._discard(client))
            raise
        except (gone_wrong.RedisError, OSError, TimeoutError) as error:
            await self._discard(client)
            raise translate(error).at(self._access.address) from error

    async def _discard(self, client: AnyRedis) -> None:
        if client is self._client:  # or another one failed with it, and it was renewed then
            await self.renew()

    async def read(self, kernels: Sequence[str]) -> Found:
        """Read kernels' keys. A key of another type than string is foreign, not an error."""
        values: dict[str, bytes] = {}
        failed: dict[str, str] = {}
        for chunk in portions(kernels, self._access.batch_size):
            async with self.client() as client:
                for kernel, reply in await self._each(client, chunk, "get"):
                    if isinstance(reply, bytes):
                        values[kernel] = reply
                    elif isinstance(reply, Exception):
                        failed[kernel] = translate(reply).reason
                        if not self.is_cluster and not is_of_key(reply):
                            raise reply
        foreign = {kernel for kernel, reason in failed.items() if reason == "wrong_type"}
        for kernel in foreign:
            del failed[kernel]
        return Found(values, frozenset(foreign), failed)

    async def _each(
        self, client: AnyRedis, kernels: Sequence[str], command: str
    ) -> list[tuple[str, Any]]:
        """Send one command for each kernel's key; return the replies, errors among them."""
        pipe = client.pipeline(transaction=False)
        for kernel in kernels:
            getattr(pipe, command)(self.key(kernel))
        return list(zip(kernels, await pipe.execute(raise_on_error=False), strict=True))

    async def ages(self, kernels: Sequence[str]) -> dict[str, float]:
        """Return the seconds since each key was written, for keys with our TTL or agents'.

        A key that lives for longer than ours do was written by an agent. An old one of an agent may
        have less left, and then passes for one of ours.
        """
        ages: dict[str, float] = {}
        for chunk in portions(kernels, self._access.batch_size):
            async with self.client() as client:
                for kernel, left in await self._each(client, chunk, "pttl"):
                    if isinstance(left, int) and left >= 0:
                        ours = left <= self._access.ttl_s * 1000
                        ages[kernel] = (self._access.ttl_s if ours else AGENTS_TTL_S) - left / 1000
        return ages

    async def write(self, values: Mapping[str, bytes], fence: Fence | None = None) -> Written:
        """Write kernels' keys with their TTL: `SET key value EX ttl GET`.

        `GET` (Redis 6.2 or later) makes the server refuse a key of another type, and tells
        what was there. With a `fence` the server writes only while the lease is ours, however
        long this process was stopped in between: else `LeaseLost`, or per key `late`.
        """
        async with self.client() as client:
            replies = await self._writes.replies(client, values, fence)
        if any(isinstance(reply, gone_wrong.ReadOnlyError) for reply in replies):
            await self._discard(client)  # the address may lead to another master by now
        before: dict[str, bytes | None] = {}
        failed: dict[str, str] = {}
        for kernel, reply in zip(values, replies, strict=True):
            if isinstance(reply, Exception):
                failed[kernel] = translate(reply).reason
            else:
                before[kernel] = reply
        return Written(before, failed)

    async def command(self, *words: Any) -> Any:
        """Run one command on the server (of a cluster: on one of its nodes)."""
        async with self.client() as client:
            return await client.execute_command(*words)

    async def script(self, text: str, key: str, *arguments: str | int) -> Any:
        """Run a small script on the server that holds key."""
        async with self.client() as client:
            return await client.eval(text, 1, key, *arguments)

    async def server(self) -> str:
        """Return what the server says it is, such as `Redis 7.0.15`."""
        reply = await self.command("INFO", "server")
        info = reply if isinstance(reply, dict) else _info(reply)
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info.get('redis_version', 'of unknown version')}"


async def _close(clients: Iterable[AnyRedis]) -> None:
    for client in clients:
        if client is not None:
            try:
                await client.aclose()
            except (gone_wrong.RedisError, OSError):  # a broken connection is closed too
                continue


def _info(reply: Any) -> dict[str, str]:
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}
