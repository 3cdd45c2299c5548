"""The commands that set values and their TTL: a transaction under the lease, a script, or plain."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import redis.exceptions as gone_wrong

from poller.errors import LeaseLost
from poller.store.cluster_client import Cluster
from poller.store.connections import AnyRedis, StoreAccess
from poller.store.errors import translate

# One key at a time, each with the lease beside it: for servers that refuse a transaction whole. The
# lease is not ours either where its key holds no text (`pcall`).
_SET_IF_OURS = """
if redis.pcall('GET', KEYS[2]) ~= ARGV[3] then return redis.error_reply('LATE') end
return redis.pcall('SET', KEYS[1], ARGV[1], 'EX', ARGV[2], 'GET')
"""
# In a cluster the lease lies on another node: this one's clock has to do.
_SET_IN_TIME = """
local now = redis.call('TIME')
if now[1] * 1000 + now[2] / 1000 > tonumber(ARGV[3]) then return redis.error_reply('LATE') end
return redis.pcall('SET', KEYS[1], ARGV[1], 'EX', ARGV[2], 'GET')
"""
_TRIES = 2
"""Our own renewal of the lease changes its key, too; it does not come twice in a row."""


class Fence(NamedTuple):
    """What the server checks together with a write: the lease's key and its holder's token.

    `until_ms`: when the lease runs out, in Unix milliseconds by the clock of its server.
    """

    name: str
    token: str
    until_ms: int


class Writes:
    """`SET key value EX ttl GET` for each of some keys, in the way that the server allows."""

    def __init__(self, access: StoreAccess) -> None:
        self._access = access

    async def replies(
        self, client: AnyRedis, values: Mapping[str, bytes], fence: Fence | None
    ) -> list[Any]:
        """Write, and return what the server replies for each key: its old value, or an error.

        Raises `LeaseLost` where it writes nothing because the lease is not ours.
        """
        if fence is None:
            pipe = client.pipeline(transaction=False)
            for kernel, value in values.items():
                pipe.set(self._access.key(kernel), value, ex=self._access.ttl_s, get=True)
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
            key = self._access.key(kernel).encode()
            head = b"*6\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n" % (len(key), key, len(value))
            parts += (head, value, b"\r\n", tail)
        parts.append(b"*1\r\n$4\r\nEXEC\r\n")
        return b"".join(parts)

    async def _fenced(
        self, client: AnyRedis, values: Mapping[str, bytes], fence: Fence
    ) -> list[Any]:
        async with _watcher(client) as pipe:
            for _ in range(_TRIES):
                await pipe.watch(fence.name)
                if await _held(pipe, fence.name) != fence.token.encode():
                    raise LeaseLost("lease", "another poller holds the lease, or it is gone")
                pipe.watching = False  # EXEC ends the watch, and a lost connection too
                try:
                    replies = await _transaction(pipe.connection, self._packed(values), len(values))
                except gone_wrong.NoPermissionError:
                    # One key that may not be written refuses the whole transaction: one by one.
                    return await self._scripted(
                        client, values, _SET_IF_OURS, (fence.name,), fence.token
                    )
                if replies is not None:
                    return replies
        raise LeaseLost("lease", "the lease went to another poller")

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
            keys = (self._access.key(kernel), *beside)
            pipe.eval(script, len(keys), *keys, value, self._access.ttl_s, proof)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies


@asynccontextmanager
async def _watcher(client: AnyRedis) -> AsyncIterator[Any]:
    """Lend a pipeline that may watch keys. What it still watches at the end goes unwatched.

    That is by giving the connection up: UNWATCH, as the library sends it, is one more right, and
    where it is refused that takes the place of the reason for the end.
    """
    async with client.pipeline(transaction=True) as pipe:
        try:
            yield pipe
        finally:
            if pipe.watching and pipe.connection is not None:
                await pipe.connection.disconnect(nowait=True)
            pipe.watching = False


async def _held(pipe: Any, name: str) -> Any:
    """Return what a lease's key holds; None also where that is no text."""
    try:
        return await pipe.get(name)
    except gone_wrong.ResponseError as error:
        if translate(error).reason != "wrong_type":
            raise
        return None


async def _transaction(connection: Any, packed: bytes, commands: int) -> list[Any] | None:
    """Send MULTI, so many commands, EXEC; return the replies, errors among them.

    None: the lease's key changed meanwhile. Raises the first refusal where the server refuses a
    command and so the whole.
    """
    try:
        async with asyncio.timeout(connection.socket_timeout):
            await connection.send_packed_command(packed)
            return await _executed(connection, commands)
    except BaseException:
        # Replies may be on their way still: none may be read as another command's.
        await connection.disconnect(nowait=True)
        raise


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
