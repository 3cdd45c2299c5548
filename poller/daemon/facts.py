"""What cycles came to, for the page: the last ones, kernels and since when withheld, agents."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from poller import __version__
from poller.daemon.agents import is_down
from poller.daemon.status import AgentStatus, CycleRecord, Result, Role, Status, WithheldKernel
from poller.poll.outcome import Outcome

_KEPT = 60
"""Cycles of which the page tells."""
_NAMED = 100
_A_FEW = 3
"""A kernel that is withheld for longer, in cycles, is named."""


class Facts:
    """Takes the end of every cycle. Everything is as of the last one that told of it."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._started = wall()
        self._cycles: deque[CycleRecord] = deque(maxlen=_KEPT)
        self._publishes_since: float | None = None
        self._fails_since: float | None = None
        self._last_success: float | None = None
        self._outcome = Outcome()
        self._withheld: dict[str, WithheldKernel] = {}
        self._agents: tuple[AgentStatus, ...] = ()

    def ended(self, result: Result, reason: str, outcome: Outcome, seconds: float) -> None:
        """Take the end of a cycle, or of a tick at which another poller writes."""
        now = self._wall()
        self._publishes_since = (self._publishes_since or now) if result == "success" else None
        self._fails_since = (self._fails_since or now) if result == "failed" else None
        if result == "standby":  # what it saw as a leader is another one's to tell now
            self._outcome, self._withheld, self._agents = Outcome(), {}, ()
            return
        if result == "success":
            self._last_success = now
        record = CycleRecord(
            now - seconds, result, reason, seconds, dict(outcome.seconds), outcome.written
        )
        self._cycles.append(record)

    def saw(self, outcome: Outcome) -> None:
        """Take what a finished cycle saw."""
        self._outcome = outcome
        self._withheld = self._since(outcome.withheld)
        self._agents = agents(outcome)

    def _since(self, withheld: Mapping[str, str]) -> dict[str, WithheldKernel]:
        now, before = self._wall(), self._withheld
        return {
            kernel: before[kernel]
            if kernel in before and before[kernel].reason == reason
            else WithheldKernel(kernel, reason, now)
            for kernel, reason in withheld.items()
        }

    def status(self, role: Role, interval_s: float) -> Status:
        """Return what is known here; readiness, troubles and the holder are the caller's."""
        outcome, now = self._outcome, self._wall()
        lasting = [one for one in self._withheld.values() if now - one.since > _A_FEW * interval_s]
        return Status(
            version=__version__,
            now=now,
            started=self._started,
            role=role,
            interval_s=interval_s,
            publishes_since=self._publishes_since,
            fails_since=self._fails_since,
            last_success=self._last_success,
            kernels=outcome.kernels,
            written=outcome.written,
            withheld=outcome.withheld_counts,
            failed_keys=dict(sorted(outcome.failed.items())),
            rival_keys=outcome.rivals,
            withheld_kernels=tuple(sorted(lasting, key=_by_reason)[:_NAMED]),
            cycles=tuple(self._cycles),
            agents=self._agents,
        )


def _by_reason(one: WithheldKernel) -> tuple[str, float, str]:
    return one.reason, one.since, one.kernel


def agents(outcome: Outcome) -> tuple[AgentStatus, ...]:
    """Return what a finished cycle knows of each agent, by its exporter."""
    return tuple(
        AgentStatus(
            one.agent or one.instance,
            kernels=outcome.kernels_of.get(one.instance, 0),
            stalled=not one.silent and (one.stalled or one.agent in outcome.stalled),
            counter=one.counter,
            rounds=one.rounds,
            interval_s=one.interval_s,
            measured=one.measured,
            writes=one.writes_itself,
            silent=is_down(one, outcome),
        )
        for one in outcome.exporters
    )
