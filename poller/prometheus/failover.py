"""Which of several servers is asked: who answered last; the preferred one again now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from poller.errors import PrometheusError
from poller.prometheus import errors

T = TypeVar("T")


class Failover:
    """Chooses among servers, in the order of preference; `at` is the place of the one in use.

    The preferred one is tried first again `prefer_again_s` seconds after it failed. `passed_over`
    is why it is not the one that answered last; None if it is.
    """

    def __init__(self, addresses: Sequence[str], prefer_again_s: float) -> None:
        self._addresses = addresses
        self._prefer_again_s = prefer_again_s
        self._preferred_again = 0.0
        self.at = 0
        self.passed_over: PrometheusError | None = None

    @property
    def address(self) -> str:
        """That of the server in use."""
        return self._addresses[self.at]

    async def run(self, attempt: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Run attempt against the server that answered last, then the others by preference.

        Each gets an equal share of what is left of the `within_s` seconds, and the whole
        attempt: nothing of one server is put together with something of another. Where all fail
        the last failure is raised, and tells of the others.
        """
        ends = time.monotonic() + within_s
        order = self._order()
        failures: list[PrometheusError] = []
        for tried, place in enumerate(order):
            share_s = (ends - time.monotonic()) / (len(order) - tried)
            try:
                answer = await self._try(place, attempt, share_s)
            except PrometheusError as error:
                failures.append(errors.bare(error))
            else:
                self.passed_over = self.passed_over if place else None
                return answer
            if place == 0:
                self.passed_over = failures[-1]
                self._preferred_again = time.monotonic() + self._prefer_again_s
        self.at = order[0]  # none is better than another
        raise errors.of_all(failures)

    async def each(
        self, attempt: Callable[[], Awaitable[T]], within_s: float
    ) -> dict[str, T | PrometheusError]:
        """Run attempt against every server; return what each answered or why not, by address."""
        told: dict[str, T | PrometheusError] = {}
        in_use = self.at
        try:
            for place, address in enumerate(self._addresses):
                try:
                    told[address] = await self._try(place, attempt, within_s)
                except PrometheusError as error:
                    told[address] = error
        finally:
            self.at = in_use
        return told

    async def _try(self, place: int, attempt: Callable[[], Awaitable[T]], within_s: float) -> T:
        """Run attempt against one server, which is in use from then on."""
        self.at = place
        try:
            async with asyncio.timeout(within_s):
                return await attempt()
        except TimeoutError:
            raise errors.too_slow(within_s).at(self.address) from None

    def _order(self) -> list[int]:
        first = 0 if time.monotonic() >= self._preferred_again else self.at
        return sorted(range(len(self._addresses)), key=lambda place: place != first)
