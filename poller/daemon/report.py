"""A cycle's end, good or failed: into metrics, log, page and readiness (who stands by is ready)."""

from __future__ import annotations

import logging

from poller.daemon.conditions import Conditions
from poller.daemon.cycle_warnings import CycleWarnings
from poller.daemon.facts import Facts
from poller.daemon.metrics import Telemetry
from poller.daemon.status import Result
from poller.daemon.words import told
from poller.errors import CycleError
from poller.poll.outcome import Outcome
from poller.values import Stage

log = logging.getLogger("poller")

_NEIGHBOUR: dict[Stage | None, str] = {"backfill": "redis", "write": "redis"}
"""Which neighbour a part of a cycle waits for; Prometheus in every other part."""
_OF_BOTH = ("prometheus", "redis")
"""Who stands by asks them, too."""
_OF_ALL = frozenset({"http"})
"""What is told of whoever leads."""


class Report:
    """Takes the end of every cycle, good or bad."""

    def __init__(self, telemetry: Telemetry, conditions: Conditions) -> None:
        self._telemetry = telemetry
        self._conditions = conditions
        self._failures = 0
        self._faults: set[str] = set()
        self._succeeded = False
        self._warnings = CycleWarnings(conditions)
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
        if self._last is None:
            return "starting"
        withheld = len(self._last.withheld)  # of keys most cycles write none: few agents measured
        less = f", {withheld} withheld" if withheld else ""
        return f"leads, {told(self._last.kernels, 'active kernel', 'active kernels')}{less}"

    def _at_fault(self) -> str:
        """Return which neighbours made cycles fail; other troubles did not end one."""
        return ", ".join(sorted(self._faults))

    def stood_by(self) -> None:
        """Take a tick at which another poller writes; both neighbours have answered to tell that.

        All that only cycles could tell is the other's to tell now.
        """
        self._result = ("standby", "")
        self._failures = 0
        self._faults.clear()
        self._warnings.stood_by()
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
        troubles = self._warnings.troubles(outcome)
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
        self._warnings.warn(outcome, troubles)
        self._telemetry.long_withheld(self._warnings.withheld.long)


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
