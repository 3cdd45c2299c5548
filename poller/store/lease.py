"""The lease: who may take it, from whom, for how long: exactly one poller of the keys writes.

A key of our own outside the UUID space holds the holder's token, and goes away with the lease.
The local monotonic clock decides before every write whether it can still be ours; the server
decides again with the write (`Store.write`), or in a cluster just before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from poller.errors import StoreError
from poller.store.holders import has_ended, new_token
from poller.store.keys import Store
from poller.store.writes import Fence

_INTERVALS = 1.5
"""A lease outlives one late cycle, and is free again before two intervals have passed."""

# Returns when the lease runs out, in Unix milliseconds of the server; 0: it is not ours. A free
# one, and one of the holder named in ARGV[4], is taken only if asked to (ARGV[3]). One that never
# runs out was made so by somebody else: it is nobody's.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder == '' or holder == ARGV[4] then holder = false end
if holder and redis.call('PTTL', KEYS[1]) == -1 then holder = false end
if holder ~= ARGV[1] and (holder or ARGV[3] == '0') then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local now = redis.call('TIME')
return now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2]
"""
# Returns the holder's token, '' where it is nobody's, nil where it is gone; and how many
# milliseconds it has left.
_LOOK = """
local holder = redis.call('GET', KEYS[1])
if not holder or holder == '' then return {holder, 0} end
local left = redis.call('PTTL', KEYS[1])
if left == -1 then return {'', 0} end
return {holder, left}
"""
# Not DEL, so that the ACL user needs no right to delete: an empty token is nobody's. It stays for
# as long as the lease would, so that who stands by sees that it was given up and not lost.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], '', 'PX', ARGV[2]) end
return 0
"""


def length_s(interval_s: float) -> float:
    """Return how long a lease lasts for a holder that polls so often."""
    return _INTERVALS * interval_s


class _Sight(NamedTuple):
    """Whose the lease is by the last look, until when by the local clock, how long one lasts.

    `gone`: it was lost before its time, and is its holder's to take back until then.
    """

    holder: str
    until: float
    length_s: float
    gone: bool = False


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
        self._until_ms = 0
        self._seen: _Sight | None = None

    @property
    def held(self) -> bool:
        """Whether the lease is surely still ours, by the local clock alone."""
        return self._monotonic() < self._until

    @property
    def runs_out(self) -> bool:
        """Whether it is to be renewed if it shall last until the next cycle."""
        return self._until - self._monotonic() < self._length_s / 2

    @property
    def fence(self) -> Fence:
        """What the server checks together with a write."""
        return Fence(self.name, self.token, self._until_ms)

    async def take(self) -> bool:
        """Take the lease if it is free, renew it if it is ours; whether we hold it now.

        Who was killed on this host does not hold it any more. Who lost it with all keys of the
        server may have it back first: nobody else knows the kernels' past.
        """
        holder = await self._whose()
        if holder not in ("", self.token) and not has_ended(holder):
            self.forget()
            return False
        return await self._ask(even_free=True, ended=holder)

    async def _whose(self) -> str:
        """Return the token of whom the lease is to be left to; "": nobody.

        Where it is gone before its time and was not given up, its holder has as long as a lease
        lasts to take it back. So it has where the server answers again: it did not to the holder.
        """
        before, asked = self._seen, self._monotonic()
        # Until it answers.
        self._seen = before and before._replace(until=float("inf"), gone=False)
        with self._named():
            told, left_ms = await self._store.script(_LOOK, self.name)
        self._seen = None
        if told:
            holder, left_s = bytes(told).decode("utf-8", "replace"), left_ms / 1000
            length_s = before.length_s if before and before.holder == holder else 0.0
            self._seen = _Sight(holder, asked + left_s, max(left_s, length_s))
        elif told is None and before and self._monotonic() < before.until:
            until = before.until if before.gone else asked + before.length_s
            self._seen = before._replace(until=until, gone=True)
        return self._seen.holder if self._seen else ""

    async def renew(self) -> bool:
        """Renew the lease while it is ours; whether we hold it now.

        One that ran out may have been another's since: what we observed before is then too
        old to be written.
        """
        return await self._ask(even_free=False)

    async def allows_write(self) -> bool:
        """Whether it is ours for one write that begins now.

        In a cluster the server of a key cannot look at the lease beside it: its own is asked.
        """
        return self.held and (not self._store.is_cluster or await self.renew())

    async def _ask(self, even_free: bool, ended: str = "") -> bool:
        asked = self._monotonic()  # before the call: the server's clock starts later than ours
        length_ms = round(self._length_s * 1000)
        with self._named():
            until_ms = await self._store.script(
                _TAKE, self.name, self.token, length_ms, int(even_free), ended
            )
        if not until_ms:
            self.forget()
            return False
        self._until, self._until_ms = asked + self._length_s, until_ms
        return True

    async def release(self) -> None:
        """Give the lease up at once, if it is ours."""
        self.forget()
        with self._named():
            length_ms = round(self._length_s * 1000)
            await self._store.script(_RELEASE, self.name, self.token, length_ms)

    async def keep(self) -> None:
        """Renew the lease until cancelled, for work that takes longer than it lasts."""
        while True:
            await asyncio.sleep(self._length_s / 3)
            await self.renew()

    def forget(self) -> None:
        """Act as if the lease were lost, without telling the server."""
        self._until = float("-inf")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the key where it is none that a lease can be in."""
        try:
            yield
        except StoreError as error:
            if error.reason != "wrong_type":
                raise
            told = f"the lease's key {self.name} holds another type than string"
            advice = "it belongs to somebody else: set another leader.name"
            raise StoreError(error.reason, told, advice).at(error.address) from error

    async def holder(self) -> str | None:
        """Return the token of who holds the lease now, or None."""
        with self._named():
            async with self._store.client() as client:
                pipe = client.pipeline(transaction=False)  # what a cluster's client has, too
                pipe.get(self.name)
                (token,) = await pipe.execute()
        return bytes(token).decode("utf-8", "replace") if token else None
