"""The lease: of several pollers with the same settings exactly one writes.

A key of our own outside the UUID space holds the holder's token. The local monotonic clock
decides before every write whether it can still be ours; the server decides again with the
write (`Store.write`).

The token outlives the lease by a day: who comes back late can tell whether somebody else has
written in the meantime, even if that one has gone again.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable

from poller.valkey import Fence, Store

_KEPT_MS = 86_400_000

# Returns {whose it was, when it runs out}: 0 another's and still is, 1 ours or nobody's,
# 2 another's that has run out. Takes it in the case of 1, and of 2 if asked to (ARGV[4]).
_TAKE = """
local holder = redis.call('GET', KEYS[1])
local whose = 1
if holder and holder ~= ARGV[1] then
  whose = redis.call('PTTL', KEYS[1]) > tonumber(ARGV[3]) and 0 or 2
end
if whose == 0 or (whose == 2 and ARGV[4] == '0') then return {whose, 0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2] + ARGV[3])
local now = redis.call('TIME')
return {whose, now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2]}
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
_HOLDER = """
if redis.call('PTTL', KEYS[1]) > tonumber(ARGV[1]) then return redis.call('GET', KEYS[1]) end
return false
"""


def new_token() -> str:
    """Return a token that no other poller has, and that tells an operator who holds the lease."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"


class Lease:
    """One poller's claim to the lease of `name`, for `length_s` seconds at a time.

    `taken_over`: whether it was another's before we took it last.
    """

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
        self.taken_over = False
        self._store = store
        self._length_s = length_s
        self._monotonic = monotonic
        self._until = float("-inf")
        self._until_ms = 0

    @property
    def held(self) -> bool:
        """Whether the lease is surely still ours, by the local clock alone."""
        return self._monotonic() < self._until

    @property
    def fence(self) -> Fence:
        """What the server checks together with a write."""
        return Fence(self.name, self.token, self._until_ms)

    async def take(self) -> bool:
        """Take the lease if it is free, renew it if it is ours; whether we hold it now."""
        return await self._ask(from_others=True)

    async def renew(self) -> bool:
        """Renew the lease if nobody else has had it since we took it; whether we hold it now.

        What was observed before somebody else wrote is too old to be written.
        """
        return await self._ask(from_others=False)

    async def _ask(self, from_others: bool) -> bool:
        asked = self._monotonic()  # before the call: the server's clock starts later than ours
        whose, until_ms = await self._store.script(
            _TAKE,
            self.name,
            self.token,
            round(self._length_s * 1000),
            _KEPT_MS,
            int(from_others),
        )
        if not until_ms:
            self.forget()
            return False
        self.taken_over = whose == 2
        self._until, self._until_ms = asked + self._length_s, until_ms
        return True

    async def release(self) -> None:
        """Give the lease up at once, if it is ours."""
        self.forget()
        await self._store.script(_RELEASE, self.name, self.token, _KEPT_MS)

    def forget(self) -> None:
        """Act as if the lease were lost, without telling the server."""
        self._until = float("-inf")

    async def holder(self) -> str | None:
        """Return the token of who holds the lease now, or None."""
        token = await self._store.script(_HOLDER, self.name, _KEPT_MS)
        return token.decode("utf-8", "replace") if token else None
