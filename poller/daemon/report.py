"""What cycles came to: into metrics, readiness, and one line of log per change of state."""

from __future__ import annotations

import logging

from poller.clock import TOLERANCE_S
from poller.daemon.conditions import Conditions
from poller.daemon.facts import Facts
from poller.daemon.metrics import Telemetry
from poller.daemon.status import Result
from poller.errors import CycleError
from poller.poll.cycle import Cycle, Outcome
from poller.values import Survey

log = logging.getLogger("poller")

_NEIGHBOUR = {"recall": "redis", "write": "redis"}
"""At whose door a cycle stood when it ran into its deadline; Prometheus' otherwise."""
_EXPECTED_DROPS = frozenset({"duplicate"})
_NAMED = 5
_MANY = 500
"""So many kernels' past takes Prometheus a while."""


class Watch:
    """Takes the end of every cycle, good or bad."""

    def __init__(self, telemetry: Telemetry, conditions: Conditions) -> None:
        self._telemetry = telemetry
        self._conditions = conditions
        self._failures = 0
        self._faults: set[str] = set()
        self._succeeded = False
        self._survey: Survey | None = None
        self._recalling = False
        self._stalled: frozenset[str] = frozenset()
        self._last: Outcome | None = None
        self._result: tuple[Result, str] = ("failed", "")
        self.facts = Facts()

    @property
    def failing(self) -> bool:
        """Whether the last cycle failed."""
        return self._failures > 0

    def why_not_ready(self, unready_after: int) -> str:
        """Return why the daemon is not ready; an empty text if it is."""
        if not self._succeeded:
            return "no good cycle yet"
        if self._failures >= unready_after:
            return f"{self._failures} cycles failed one after another: {self._at_fault()}"
        return ""

    def status(self, stands_by: bool) -> str:
        """Return one line for the service manager."""
        if stands_by:
            return "standing by"
        if self._failures:
            return f"{self._failures} cycles failed: {self._at_fault()}"
        return f"{self._last.written} keys written" if self._last else "starting"

    def _at_fault(self) -> str:
        """Return at whose doors the cycles failed; other troubles did not end one."""
        return ", ".join(sorted(self._faults))

    def stood_by(self) -> None:
        """Take a tick at which another poller writes."""
        self._result = ("standby", "")
        self._telemetry.stood_by()

    def ended(self, outcome: Outcome, seconds: float) -> None:
        """Take how long a cycle took, after what it came to."""
        result, reason = self._result
        self._telemetry.cycle_seconds.labels(result).observe(seconds)
        self.facts.ended(result, reason, outcome, seconds)
        log.debug("cycle: %s in %.3f s%s", result, seconds, _details(reason, outcome))

    def overran(self, outcome: Outcome, deadline_s: float) -> None:
        """Take a cycle that ran into its deadline."""
        subject = _NEIGHBOUR.get(outcome.stage, "prometheus")
        error = CycleError(
            "deadline",
            f"no answer within the deadline of {deadline_s:g} s",
            "look at its load; the next cycle starts on time",
        )
        self._note(subject, error, outcome)

    def failed(self, error: CycleError, outcome: Outcome) -> None:
        """Take a cycle that failed."""
        self._note(error.subject, error, outcome)

    def _note(self, subject: str, error: CycleError, outcome: Outcome) -> None:
        self._failures += 1
        self._faults.add(subject)
        self._result = ("failed", error.reason)
        self._telemetry.cycles.labels("failed", error.reason).inc()
        self._telemetry.saw_parts(outcome)
        if outcome.observed and subject != "prometheus":
            self._conditions.good("prometheus")
        self._conditions.bad(subject, error.reason, error.detail, error.advice)

    def succeeded(self, outcome: Outcome, cycle: Cycle) -> None:
        """Take a cycle that went through; it still failed if no key at all could be written."""
        self._telemetry.saw_parts(outcome)
        self._telemetry.saw(outcome)
        self.facts.saw(outcome, cycle)
        self._telemetry.owing.set(len(cycle.history.owing))
        self._telemetry.rivals.set(len(cycle.publisher.rivals))
        self._telemetry.skew.set(-cycle.clock.step_s)
        for subject in ("prometheus", "kernels", "cycle", "leader"):
            self._conditions.good(subject)
        if outcome.failed and not outcome.written:
            reason = outcome.failed.most_common(1)[0][0]
            self._note("redis", _unwritten(outcome, reason), outcome)
            return
        self._failures = 0
        self._faults.clear()
        self._succeeded = True
        self._result = ("success", "")
        self._last = outcome
        self._telemetry.succeeded(outcome)
        self._weigh(outcome, cycle)
        self._weigh_recall(len(cycle.history.owing))
        self._weigh_survey(cycle.observer.surveyor.last)

    def _weigh(self, outcome: Outcome, cycle: Cycle) -> None:
        """Note what is not as it should be in a cycle that went through."""
        ahead_s = -cycle.clock.step_s
        self._state(
            "clock",
            abs(ahead_s) > TOLERANCE_S,
            "skew",
            f"Prometheus' clock is {ahead_s:+.0f} s from this host's; its time is used",
            "synchronise the clocks of this host and of Prometheus",
        )
        self._state(
            "redis",
            bool(outcome.failed),
            "keys_failed",
            f"{sum(outcome.failed.values())} keys were not written ({_listed(outcome.failed)})",
            "they are written again in the next cycle",
        )
        rivals = len(cycle.publisher.rivals)
        self._state(
            "rivals",
            rivals > 0,
            "rivals",
            f"{rivals} keys are written by somebody else too, probably agents",
            "switch the agents' writing off, or set redis.yield_to_agents",
        )
        foreign = len(cycle.publisher.foreign)
        self._state(
            "foreign keys",
            foreign > 0,
            "foreign",
            f"{foreign} kernels' keys hold another type than string; they are left alone",
            "find out who uses kernel ids as keys in this database",
        )
        for reason in outcome.dropped.keys() - _EXPECTED_DROPS:
            self._state(
                f"rows ({reason})",
                True,
                reason,
                f"{outcome.dropped[reason]} rows of the answers cannot serve",
                "look for the exporter or relabelling that makes them",
            )
        for subject in self._conditions.troubled:
            if subject.startswith("rows (") and subject[6:-1] not in outcome.dropped:
                self._conditions.good(subject)
        self._weigh_stalls(outcome)

    def _weigh_stalls(self, outcome: Outcome) -> None:
        for agent in sorted(outcome.stalled):
            self._state(
                f"agent {agent[:64]}",
                True,
                "stalled",
                "its exporter answers but its measurements stand still; its kernels are withheld",
                "restart the agent's statistics, or the agent",
            )
        for agent in self._stalled - outcome.stalled:
            self._conditions.good(f"agent {agent[:64]}", "moves again, or is gone,")
        self._stalled = outcome.stalled

    def _state(self, subject: str, bad: bool, reason: str, detail: str, advice: str) -> None:
        if bad:
            self._conditions.bad(subject, reason, detail, advice)
        else:
            self._conditions.good(subject)

    def _weigh_recall(self, owing: int) -> None:
        """Tell of a recall that takes more than a moment when it begins and when it is over."""
        if owing >= _MANY and not self._recalling:
            self._recalling = True
            log.info("recall: the past of %d kernels is being asked of Prometheus", owing)
        elif not owing and self._recalling:
            self._recalling = False
            log.info("recall: every kernel's past is known")

    def _weigh_survey(self, survey: Survey | None) -> None:
        if survey is None or survey is self._survey:
            return
        before = self._survey.intervals.window_s if self._survey else 0.0
        self._survey = survey
        self._telemetry.surveyed(survey)
        found = survey.intervals
        if abs(found.window_s - before) > 0.1 * before:
            log.info(
                "prometheus: rates over %.1f s (scrape interval %s, measurement interval %s)",
                found.window_s,
                _interval(found.scrape_s),
                _interval(found.measure_s),
            )


def _details(reason: str, outcome: Outcome) -> str:
    """Return what a cycle did and where its time went, for the log at level debug."""
    told = [reason] if reason else []
    if outcome.observed:
        told += [f"{outcome.kernels} kernels", f"{outcome.written} written"]
        told += [f"{count} {why}" for why, count in sorted(outcome.withheld.items())]
    told += [f"{part} {spent:.3f} s" for part, spent in outcome.seconds.items()]
    return "".join(f", {one}" for one in told)


def _interval(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:.1f} s"


def _unwritten(outcome: Outcome, reason: str) -> CycleError:
    return CycleError(
        reason,
        f"none of {sum(outcome.failed.values())} keys could be written ({reason})",
        "look at the server's log; every key is as it was",
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(sorted(counts)[:_NAMED])
