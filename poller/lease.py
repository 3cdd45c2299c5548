"""The lease: of several pollers with the same settings exactly one writes.

A key of our own outside the UUID space holds the holder's token and goes away by itself. The
local monotonic clock decides before every write whether it can still be ours; the server
decides again with the write (`Store.write`).
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable

from poller.valkey import Store

_TAKE = """
local holder = redis.call('GET', KEYS[1])
if not holder then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return 1
end
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


def new_token() -> str:
    """Return a token that no other poller has, and that tells an operator who holds the lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


class Lease:
    """One poller's claim to the lease of `name`, for `length_s` seconds at a time."""

    def __init__(
        self,
        store: Store,
        name: str,
        length_s: float,
        token: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.token = token or new_token()
        self._store = store
        self._length_s = length_s
        self._monotonic = monotonic
        self._until = float("-inf")

    @property
    def held(self) -> bool:
        """Whether the lease is surely still ours, by the local clock alone."""
        return self._monotonic() < self._until

    @property
    def fence(self) -> tuple[str, str]:
        """What the server checks together with a write: (key, token)."""
        return self.name, self.token

    async def take(self) -> bool:
        """Take the lease if it is free, renew it if it is ours; whether we hold it now."""
        asked = self._monotonic()  # before the call: the server's clock starts later than ours
        taken = await self._store.script(_TAKE, self.name, self.token, round(self._length_s * 1000))
        self._until = asked + self._length_s if taken else float("-inf")
        return bool(taken)

    async def release(self) -> None:
        """Give the lease up at once, if it is ours."""
        self._until = float("-inf")
        await self._store.script(_RELEASE, self.name, self.token)

    def forget(self) -> None:
        """Act as if the lease were lost, without telling the server."""
        self._until = float("-inf")

    async def holder(self) -> str | None:
        """Return the token that stands on the server, or None."""
        async with self._store.client() as client:
            token = await client.get(self.name)
        return token.decode("utf-8", "replace") if token else None
