"""A batch's time: the corrected clock less `query_offset_s`, or more, so that scrapes are whole."""

from __future__ import annotations

from poller.batch.batch import Observer
from poller.clock import Clock
from poller.errors import ClockError

PARTS_S = 6.5
"""Where scrapes are stored in parts a batch's time is at least so long ago, in seconds: Prometheus'
remote write sends the last part 5 s later (`batch_send_deadline`), and sending takes its time."""


class EvaluationTime:
    """Tells the time of each batch; `configured_s`: how many seconds ago, by the settings."""

    def __init__(self, clock: Clock, observer: Observer, configured_s: float) -> None:
        self.clock = clock
        self.configured_s = configured_s
        self._observer = observer
        self._went_back = self.goes_back

    async def now(self) -> float:
        """Return the one time of a batch: now by the server's clock, less the offset."""
        if self._observer.client.server_ahead_s is None:
            await self.probe()  # every answer tells the time; one of several servers has it
        return round(self.clock.now() - self.offset_s, 3)

    @property
    def offset_s(self) -> float:
        """How long ago a batch's time is, in seconds: as set, or so that scrapes are whole."""
        parts_s = PARTS_S if self._observer.rounds.in_parts else 0.0
        return max(self.configured_s, parts_s)

    @property
    def goes_back(self) -> bool:
        """Whether that is longer ago than set."""
        return self.offset_s > self.configured_s

    def went_back(self) -> bool:
        """Whether scrapes have turned out to be stored in parts since this was asked last.

        Then counters and gauges of different scrapes were put together.
        """
        before, self._went_back = self._went_back, self._went_back or self.goes_back
        return self._went_back and not before

    async def probe(self) -> None:
        """Raise `PrometheusError` if Prometheus answers not even the lightest query.

        Its time is followed from then on.
        """
        client = self._observer.client
        await client.fail_over(
            lambda: client.vector("vector(1)", self.clock.now()), self._observer.limits.within_s
        )
        self._follow()

    def check(self) -> None:
        """Raise `ClockError` if a batch's time was not the server's; the next one's will be."""
        ahead_s = self._observer.client.server_ahead_s
        if self._follow():
            raise ClockError(
                "skew",
                f"the server's clock is {ahead_s:+.0f} s from ours; its time is used from now on",
                "synchronise the clocks of this host and of Prometheus",
            )

    def _follow(self) -> bool:
        """Go along with the server's clock; whether that was a jump."""
        client = self._observer.client
        jumped = self.clock.follow(client.server_ahead_s)
        if jumped:
            client.forget_server_clock()
        return jumped
