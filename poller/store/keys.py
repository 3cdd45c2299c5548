"""Each kernel's key in Redis or Valkey: read, its age, SET with the TTL under the lease's fence."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import redis.exceptions as gone_wrong

from poller.errors import LeaseLost
from poller.store.cluster_client import Cluster
from poller.store.connections import AnyRedis, StoreAccess, connect
from poller.store.errors import translate

__all__ = ["StoreAccess", "Fence", "Found", "Store", "Written", "connect", "translate"]

# One key at a time, each with the lease beside it: for servers that refuse a transaction whole.
_SET_IF_OURS = """
if redis.call('GET', KEYS[2]) ~= ARGV[3] then return redis.error_reply('LATE') end
return redis.pcall('SET', KEYS[1], ARGV[1], 'EX', ARGV[2], 'GET')
"""
# In a cluster the lease lies on another node: this one's clock has to do.
_SET_IN_TIME = """
local now = redis.call('TIME')
if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[3]) then return redis.error_reply('LATE') end
return redis.pcall('SET', KEYS[1], ARGV[1], 'EX', ARGV[2], 'GET')
"""


class Fence(NamedTuple):
    """What the server checks together with a write: the lease's key and its holder's token.

    `until_ms`: when the lease runs out, in Unix milliseconds by the clock of its server.
    """

    name: str
    token: str
    until_ms: int


@dataclass(frozen=True, slots=True)
class Found:
    """What reading some keys gave: values by kernel, and kernels whose key has another type.

    `failed`: why a key could not be read, where that is one node's of several.
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


class Store:
    """The keys of kernels. Every failure is a `StoreError`, or per key in what it returns."""

    def __init__(self, access: StoreAccess) -> None:
        self._access = access
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
        known = self._client.addresses if isinstance(self._client, Cluster) else ()
        clients = (self._client, *self._beside)
        self._client, self._beside = connect(self._access, known)
        await _close(clients)

    def key(self, kernel: str) -> str:
        """Return the key of a kernel."""
        return self._access.key_prefix + kernel

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
        for chunk in _chunks(kernels, self._access.batch_size):
            async with self.client() as client:
                for kernel, reply in await self._each(client, chunk, "get"):
                    if isinstance(reply, bytes):
                        values[kernel] = reply
                    elif isinstance(reply, Exception):
                        failed[kernel] = translate(reply).reason
                        if failed[kernel] != "wrong_type" and not self.is_cluster:
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
        """Return the seconds since each key was written, for keys with our TTL."""
        ages: dict[str, float] = {}
        for chunk in _chunks(kernels, self._access.batch_size):
            async with self.client() as client:
                for kernel, left in await self._each(client, chunk, "pttl"):
                    if isinstance(left, int) and left >= 0:
                        ages[kernel] = self._access.ttl_s - left / 1000
        return ages

    async def write(self, values: Mapping[str, bytes], fence: Fence | None = None) -> Written:
        """Write kernels' keys with their TTL: `SET key value EX ttl GET`.

        `GET` (Redis 6.2 or later) makes the server refuse a key of another type, and tells
        what was there. With a `fence` the server writes only while the lease is ours, however
        long this process was stopped in between: else `LeaseLost`, or per key `late`.
        """
        async with self.client() as client:
            replies = await self._replies(client, values, fence)
        before: dict[str, bytes | None] = {}
        failed: dict[str, str] = {}
        for kernel, reply in zip(values, replies, strict=True):
            if isinstance(reply, Exception):
                failed[kernel] = translate(reply).reason
            else:
                before[kernel] = reply
        return Written(before, failed)

    async def _replies(
        self, client: AnyRedis, values: Mapping[str, bytes], fence: Fence | None
    ) -> list[Any]:
        if fence is None:
            pipe = client.pipeline(transaction=False)
            self._queue(pipe, values)
            replies: list[Any] = await pipe.execute(raise_on_error=False)
            return replies
        if isinstance(client, Cluster):
            return await self._scripted(client, values, _SET_IN_TIME, (), fence.until_ms)
        return await self._fenced(client, values, fence)

    def _packed(self, values: Mapping[str, bytes]) -> bytes:
        """Return the commands of a transaction as the protocol has them.

        By hand, since the library's pipeline takes twice the time over its generality.
        """
        ttl = str(self._access.ttl_s).encode()
        tail = b"$2\r\nEX\r\n$%d\r\n%b\r\n$3\r\nGET\r\n" % (len(ttl), ttl)
        parts = [b"*1\r\n$5\r\nMULTI\r\n"]
        for kernel, value in values.items():
            key = self.key(kernel).encode()
            head = b"*6\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key, len(value))
            parts += (head, value, b"\r\n", tail)
        parts.append(b"*1\r\n$4\r\nEXEC\r\n")
        return b"".join(parts)

    def _queue(self, pipe: AnyRedis, values: Mapping[str, bytes]) -> None:
        ttl = self._access.ttl_s
        for kernel, value in values.items():
            pipe.set(self.key(kernel), value, ex=ttl, get=True)

    async def _fenced(
        self, client: AnyRedis, values: Mapping[str, bytes], fence: Fence
    ) -> list[Any]:
        async with client.pipeline(transaction=True) as pipe:
            await pipe.watch(fence.name)
            if await pipe.get(fence.name) != fence.token.encode():
                raise LeaseLost("lease", "another poller holds the lease, or it is gone")
            pipe.watching = False  # EXEC ends the watch, and a lost connection too
            try:
                replies = await _transaction(pipe.connection, self._packed(values), len(values))
            except gone_wrong.NoPermissionError:
                # One key that may not be written refuses the whole transaction: one by one then.
                return await self._scripted(
                    client, values, _SET_IF_OURS, (fence.name,), fence.token
                )
        return replies

    async def _scripted(
        self,
        client: AnyRedis,
        values: Mapping[str, bytes],
        script: str,
        beside: tuple[str, ...],
        proof: str | int,
    ) -> list[Any]:
        """Write key by key, each with the proof that we may; a failure is that key's alone."""
        pipe = client.pipeline(transaction=False)
        for kernel, value in values.items():
            keys = (self.key(kernel), *beside)
            pipe.eval(script, len(keys), *keys, value, self._access.ttl_s, proof)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies

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


async def _transaction(connection: Any, packed: bytes, commands: int) -> list[Any]:
    """Send MULTI, so many commands, EXEC; return the replies, errors among them.

    Raises the first refusal where the server refuses a command and so the whole.
    """
    try:
        async with asyncio.timeout(connection.socket_timeout):
            await connection.send_packed_command(packed)
            replies = await _executed(connection, commands)
    except BaseException:
        # Replies may be on their way still: none may be read as another command's.
        await connection.disconnect(nowait=True)
        raise
    if replies is None:
        raise LeaseLost("lease", "the lease went to another poller")
    return replies


async def _executed(connection: Any, commands: int) -> list[Any] | None:
    """Return what EXEC replies; None: a watched key changed.

    Time is kept by the caller: a timer for each of so many replies would cost more than to read it.
    """
    refused: Exception | None = None
    for _ in range(commands + 1):
        try:
            await connection.read_response(disable_decoding=True, timeout=math.inf)
        except gone_wrong.ResponseError as error:
            refused = refused or error
    try:
        replies: list[Any] | None = await connection.read_response(
            disable_decoding=True, timeout=math.inf
        )
    except gone_wrong.ResponseError as error:
        if refused is None and "NOPERM" in str(error):  # EXEC itself is not allowed
            refused = gone_wrong.NoPermissionError(str(error))
        raise refused or error from error
    return replies


def _info(reply: Any) -> dict[str, str]:
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


def _chunks(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
