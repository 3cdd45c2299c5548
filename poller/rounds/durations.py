"""How late in its round an exporter measured, by the durations that it counts. Pure state."""

from __future__ import annotations

from poller.rounds.scrape import CounterName, Scrape


class Durations:
    """What the durations of one exporter's rounds come to; `mean_s` is that of a whole round.

    Of one life: where the count of rounds falls they begin anew, as the exporter's do.
    """

    def __init__(self) -> None:
        self.mean_s = 0.0
        self._lasted: tuple[float, float] | None = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._ended = self._rested_s = self._gathered_s = self._written_s = 0.0
        self._ahead = float("inf")

    def shift(
        self,
        counter: CounterName | None,
        scrape: Scrape,
        counts: tuple[float | None, float],
        before_s: float,
    ) -> float:
        """Return what durations put a round's measurement off, in seconds.

        `counts`: the round seen before, None if there is none, and the one that the scrape sees;
        `before_s` is what was put off before.

        Since 26.4.4 an agent sleeps its interval after each round, so all durations before the
        measurement add up: all of this round but its write to Redis, which comes after it. Before,
        a timer fired every interval, and only the round's own duration counts.
        """
        rounds, lasted_s = scrape.counts.get("durations"), scrape.lasted_s
        if rounds and lasted_s is not None:
            self.mean_s = lasted_s / rounds
        if counter == "gather_measures":
            last, count = counts
            if last is None or count < last:  # the first round seen, of this agent's life
                last = 0.0
                self._begin_anew()
            return (scrape.gathering_s or 0.0) + self._rested(last, count, scrape)
        if counter == "durations":
            return lasted_s or 0.0
        return self._own(rounds, lasted_s, before_s)

    def _rested(self, last: float, count: float, scrape: Scrape) -> float:
        """Return the durations beside the gathering before this round's measurement, in seconds.

        Where it has not ended yet, what it took beside its write is taken for that of the others.
        """
        rounds, lasted_s = scrape.counts.get("durations", 0.0), scrape.lasted_s or 0.0
        gathered_s, written_s = scrape.gathering_s or 0.0, scrape.writing_s or 0.0
        gathered_before_s, self._gathered_s = self._gathered_s, gathered_s
        if not rounds:  # not one has ended in this life
            return self._rested_s
        self._ahead = min(self._ahead, count - rounds)
        if count - rounds > self._ahead:  # it has gathered, and has not ended yet
            if count > last:
                own_s = (gathered_s - gathered_before_s) / (count - last)
                self._ended, self._rested_s = count - 1, max(0.0, lasted_s - gathered_s + own_s)
                self._written_s = written_s
            return self._rested_s + max(0.0, self._rested_s - self._written_s) / rounds
        ended, written_before_s = self._ended, self._written_s
        self._ended, self._written_s = count, written_s
        self._rested_s = max(0.0, lasted_s - gathered_s)
        return self._rested_s - (written_s - written_before_s) / max(1.0, count - ended)

    def _own(self, rounds: float | None, lasted_s: float | None, before_s: float) -> float:
        """Return how long the last round of a timer's lasted, in seconds; of several the mean."""
        if rounds is None or lasted_s is None:
            return 0.0
        before, self._lasted = self._lasted, (rounds, lasted_s)
        if before is None or rounds < before[0]:
            return self.mean_s
        if rounds == before[0]:
            return before_s
        return (lasted_s - before[1]) / (rounds - before[0])
