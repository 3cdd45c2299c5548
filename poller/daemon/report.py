"""What a cycle was: good or failed, ready or not (who stands by is), worth which line."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from poller.clock import TOLERANCE_S
from poller.daemon import agents
from poller.daemon.agents import AgentTrouble
from poller.daemon.conditions import Conditions
from poller.daemon.facts import Facts
from poller.daemon.metrics import Telemetry
from poller.daemon.status import Result
from poller.daemon.withheld import LONG_CYCLES, Withheld
from poller.daemon.words import told
from poller.errors import CycleError
from poller.poll.outcome import Outcome
from poller.values import DEFAULT_INTERVAL_S, Drop, Stage

log = logging.getLogger("poller")

_NEIGHBOUR: dict[Stage | None, str] = {"backfill": "redis", "write": "redis"}
"""Which neighbour a part of a cycle waits for; Prometheus in every other part."""
_OF_BOTH = ("prometheus", "redis")
"""Who stands by asks them, too."""
_OF_ALL = frozenset({"http"})
"""What is told of whoever leads."""
_EXPECTED_DROPS: frozenset[Drop] = frozenset({"duplicate"})
_NAMED = 5
_MANY_MORE = 1.5
"""Rivals are told of again when there are so many times as many."""
_QUIET_ROUNDS = 2
"""Rows that cannot serve are no more when there were none for so many measurements."""
_MANY = 500
"""So many kernels' past takes Prometheus a while."""


class Report:
    """Takes the end of every cycle, good or bad."""

    def __init__(self, telemetry: Telemetry, conditions: Conditions) -> None:
        self._telemetry = telemetry
        self._conditions = conditions
        self._failures = 0
        self._faults: set[str] = set()
        self._succeeded = False
        self._backfilling = False
        self._agents: frozenset[str] = frozenset()
        self._troubles: Mapping[str, AgentTrouble] = {}
        self._counting = ""
        self._withheld = Withheld()
        self._rivals = 0
        self._late = 0
        self._dropped: dict[Drop, float] = {}
        self._last: Outcome | None = None
        self._result: tuple[Result, str] = ("failed", "")
        self.facts = Facts()

    @property
    def failing(self) -> bool:
        """Whether the last cycle failed."""
        return self._failures > 0

    def why_not_ready(self, unready_after: int, stands_by: bool) -> str:
        """Return why the daemon is not ready; an empty text if it is, as one that stands by is too
        while its neighbours answer."""
        if not (self._succeeded or stands_by):
            return "no good cycle yet"
        if self._failures >= unready_after:
            failed = told(self._failures, "cycle failed", "cycles failed one after another")
            return f"{failed}: {self._at_fault()}"
        return ""

    def status(self, stands_by: bool) -> str:
        """Return one line for the service manager."""
        if self._failures:
            return f"{told(self._failures, 'cycle', 'cycles')} failed: {self._at_fault()}"
        if stands_by:
            return "standing by"
        return told(self._last.written, "key written", "keys written") if self._last else "starting"

    def _at_fault(self) -> str:
        """Return which neighbours made cycles fail; other troubles did not end one."""
        return ", ".join(sorted(self._faults))

    def stood_by(self) -> None:
        """Take a tick at which another poller writes; both neighbours have answered to tell that.

        All that only cycles could tell is the other's to tell now.
        """
        self._result = ("standby", "")
        self._failures = self._late = 0
        self._faults.clear()
        self._withheld = Withheld()
        self._dropped.clear()
        self._troubles = {}
        for subject in _OF_BOTH:
            self._conditions.good(subject)
        self._conditions.drop_others(_OF_ALL)
        self._telemetry.stood_by()

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """Take how long a cycle took, after what it came to."""
        result, reason = self._result
        self._telemetry.cycle_seconds.labels(result).observe(seconds)
        self.facts.ended(result, reason, outcome, seconds)
        log.debug("cycle: %s in %.3f s%s", result, seconds, _details(reason, outcome))

    def overran(self, outcome: Outcome, deadline_s: float) -> None:
        """Take a cycle that ran into its deadline."""
        subject = "redis" if outcome.asks_lease else _NEIGHBOUR.get(outcome.stage, "prometheus")
        error = CycleError(
            "deadline",
            f"no answer within the deadline of {deadline_s:g} s",
            "look at its load; the next cycle starts on time",
        )
        self._telemetry.saw_parts(outcome)
        self._note(subject, error, outcome)

    def failed(self, error: CycleError, outcome: Outcome) -> None:
        """Take a cycle that failed."""
        self._telemetry.saw_parts(outcome)
        self._note(error.subject, error, outcome)

    def _note(self, subject: str, error: CycleError, outcome: Outcome) -> None:
        self._failures += 1
        self._faults.add(subject)
        self._result = ("failed", error.reason)
        self._telemetry.cycles.labels("failed", error.reason).inc()
        if outcome.observed and subject != "prometheus":
            self._conditions.good("prometheus")
        self._conditions.bad(subject, error.reason, error.detail, error.advice)

    def succeeded(self, outcome: Outcome) -> None:
        """Take a cycle that went through; it still failed if no key at all could be written."""
        self._telemetry.saw_parts(outcome)
        troubles = agents.still_silent(self._troubles, outcome) | agents.troubles(outcome)
        self._troubles = troubles
        self._telemetry.saw(outcome, troubles.values())
        self.facts.saw(outcome)
        for subject in ("prometheus", "kernels", "cycle", "leader"):
            self._conditions.good(subject)
        if outcome.failed and not outcome.written:
            reason = outcome.failed.most_common(1)[0][0]
            self._note("redis", _unwritten(outcome, reason), outcome)
            return
        if self._last is not None and self._last.kernels and not outcome.kernels:
            log.info("kernels: the last one has ended, or is no longer scraped; agents measure on")
        self._failures = 0
        self._faults.clear()
        self._succeeded = True
        self._result = ("success", "")
        self._last = outcome
        self._telemetry.succeeded(outcome)
        self._weigh(outcome, troubles)
        self._weigh_backfill(outcome.owing)

    def _weigh(self, outcome: Outcome, troubles: Mapping[str, AgentTrouble]) -> None:
        """Note what is not as it should be in a cycle that went through."""
        ahead_s = outcome.skew_s
        self._state(
            "clock",
            abs(ahead_s) > TOLERANCE_S,
            "skew",
            f"Prometheus' clock is {ahead_s:+.0f} s from this host's; its time is used",
            "synchronise the clocks of this host and of Prometheus",
        )
        self._weigh_fallback(outcome.passed_over)
        self._state(
            "redis",
            bool(outcome.failed),
            "keys_failed",
            f"{told(outcome.failed.total(), 'key was', 'keys were')} not written "
            f"({_listed(outcome.failed)})",
            "they are written again in the next cycle",
        )
        self._weigh_rivals(outcome)
        foreign, names = outcome.foreign, ", ".join(outcome.foreign_kernels)
        more = ", …" if foreign > len(outcome.foreign_kernels) else ""
        self._state(
            "foreign keys",
            foreign > 0,
            "foreign",
            told(foreign, "kernel's key holds", "kernels' keys hold")
            + f" another type than string ({names}{more}); they are left alone",
            "find out who uses kernel ids as keys in this database",
        )
        self._weigh_rows(outcome)
        self._weigh_agents(outcome, troubles)
        self._weigh_load(outcome)
        self._weigh_withheld(outcome)
        self._telemetry.long_withheld(self._withheld.long)

    def _weigh_rows(self, outcome: Outcome) -> None:
        """Note rows that cannot serve; they are no more when every agent was read without any.

        A cycle reads those agents that have measured: most see nothing of the one at fault.
        """
        for reason in outcome.dropped.keys() - _EXPECTED_DROPS:
            self._dropped[reason] = outcome.time
            self._conditions.bad(
                f"rows ({reason})",
                reason,
                f"{told(outcome.dropped[reason], 'row', 'rows')} of the answers cannot serve",
                "look for the exporter or relabelling that makes them",
            )
        intervals = [one.interval_s or DEFAULT_INTERVAL_S for one in outcome.exporters]
        quiet_s = _QUIET_ROUNDS * max(intervals, default=0.0)
        for reason, last in list(self._dropped.items()):
            if reason not in outcome.dropped and not 0 <= outcome.time - last < quiet_s:
                del self._dropped[reason]
                self._conditions.good(f"rows ({reason})")

    def _weigh_fallback(self, passed_over: CycleError | None) -> None:
        if passed_over is None:
            self._conditions.good("fallback", "the first Prometheus answers again")
            return
        detail = f"{passed_over.detail}; another Prometheus answers instead"
        self._conditions.bad("fallback", passed_over.reason, detail, passed_over.advice)

    def _weigh_rivals(self, outcome: Outcome) -> None:
        """Tell of rivals, again where they have become many more; that none is left when known."""
        rivals = outcome.rivals
        if rivals:
            self._conditions.bad(
                "rivals",
                "rivals",
                f"{told(rivals, 'key is', 'keys are')} written by somebody else too, probably "
                "agents",
                "that may stay so; see the README's cut-over",
                again=rivals >= _MANY_MORE * self._rivals,
                level=logging.WARNING,
            )
            self._rivals = max(rivals, self._rivals)
        elif outcome.rivals_known:
            self._conditions.good("rivals", "nobody else writes any more")
            self._rivals = 0

    def _weigh_agents(self, outcome: Outcome, troubles: Mapping[str, AgentTrouble]) -> None:
        for agent, trouble in sorted(troubles.items()):
            self._conditions.bad(f"agent {agent[:64]}", *trouble)
        for agent in self._agents - troubles.keys():
            self._conditions.good(f"agent {agent[:64]}", agents.ending(agent, outcome))
        self._agents = frozenset(troubles)
        uncounted = agents.roundless(outcome)
        if uncounted is not None:
            self._conditions.bad("rounds", *uncounted)
        else:
            self._conditions.good("rounds")
        plugins = sorted(f"{plugin} of {place}" for place, plugin in outcome.standing)
        self._state(
            "plugins",
            bool(plugins),
            "standing",
            f"{', '.join(plugins[:_NAMED])} measures nothing while the agent does",
            "see that agent's log; its metrics keep their last values",
        )
        counting = agents.counting(outcome)
        if outcome.exporters and counting != self._counting:
            log.log(
                logging.DEBUG if self._counting else logging.INFO, "rounds: counted %s", counting
            )
            self._counting = counting

    def _weigh_load(self, outcome: Outcome) -> None:
        """Tell of measurements that wait, where that is so for longer than a few cycles."""
        waits = outcome.late or outcome.unwritten
        self._late = self._late + 1 if waits else 0
        self._state(
            "load",
            self._late > LONG_CYCLES,
            "late",
            "there is not time for all that was measured; "
            f"{told(outcome.late, 'agent', 'agents')} and {told(outcome.unwritten, 'key', 'keys')} "
            "wait for a later cycle, and rates are taken over more than one measurement",
            "give Prometheus cores, raise poll.interval_s, or shard; keys that wait may also be "
            "due to a slow Redis",
        )

    def _weigh_withheld(self, outcome: Outcome) -> None:
        noted = self._withheld.note(outcome.withheld)
        for long in noted.begun:
            self._conditions.bad(
                f"withheld ({long.reason})",
                long.reason,
                told(self._withheld.long[long.reason], "kernel is", "kernels are")
                + f" not written for longer than {LONG_CYCLES} cycles: {', '.join(long.names)}",
                _ADVICE.get(long.reason, "livestat-poller show KERNEL says what is missing"),
            )
        for reason in noted.ended:
            self._conditions.good(f"withheld ({reason})", "no kernel is any more")

    def _state(self, subject: str, bad: bool, reason: str, detail: str, advice: str) -> None:
        if bad:
            self._conditions.bad(subject, reason, detail, advice)
        else:
            self._conditions.good(subject)

    def _weigh_backfill(self, owing: int) -> None:
        """Tell of a recall that takes more than a moment when it begins and when it is over."""
        if owing >= _MANY and not self._backfilling:
            self._backfilling = True
            log.info("backfill: the past of %d kernels is being asked of Prometheus", owing)
        elif not owing and self._backfilling:
            self._backfilling = False
            log.info("backfill: every kernel's past is known")


_ADVICE: Mapping[str, str] = {
    "mixed": "where samples come by remote write, a scrape is stored in parts: raise "
    "poll.query_offset_s above its batch_send_deadline",
}
"""What to do where kernels are withheld for long, if it is not that something is missing."""


def _details(reason: str, outcome: Outcome) -> str:
    """Return what a cycle did and where its time went, for the log at level debug."""
    parts = [reason] if reason else []
    if outcome.observed:
        parts += [f"{outcome.kernels} kernels", f"{outcome.written} written"]
        parts += [f"{count} {why}" for why, count in outcome.withheld_counts.items()]
    parts += [f"{part} {spent:.3f} s" for part, spent in outcome.seconds.items()]
    return "".join(f", {one}" for one in parts)


def _unwritten(outcome: Outcome, reason: str) -> CycleError:
    return CycleError(
        reason,
        f"none of {told(outcome.failed.total(), 'key', 'keys')} could be written ({reason})",
        "look at the server's log; every key is as it was",
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(sorted(counts)[:_NAMED])
