"""Collects what the page shows: the last cycles, kernels, agents."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from poller import __version__
from poller.daemon.agents import down
from poller.daemon.status import KEPT_CYCLES, AgentStatus, CycleRecord, Result, Role, Status
from poller.daemon.withheld_since import Lasting
from poller.poll.outcome import Outcome


class Facts:
    """Takes the end of every cycle. Everything is as of the last one that told of it."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._started = wall()
        self._cycles: deque[CycleRecord] = deque(maxlen=KEPT_CYCLES)
        self._publishes_since: float | None = None
        self._fails_since: float | None = None
        self._last_success: float | None = None
        self._outcome = Outcome()
        self._lasting = Lasting()
        self._agents: tuple[AgentStatus, ...] = ()

    def ended(self, result: Result, reason: str, outcome: Outcome, seconds: float) -> None:
        """Take the end of a cycle, or of a tick at which another poller writes."""
        now = self._wall()
        self._publishes_since = (self._publishes_since or now) if result == "success" else None
        self._fails_since = (self._fails_since or now) if result == "failed" else None
        if result == "standby":  # what it saw as a leader is another one's to tell now
            self._outcome, self._lasting, self._agents = Outcome(), Lasting(), ()
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
        self._lasting.note(outcome.withheld, self._wall())
        self._agents = agents(outcome)

    def status(self, role: Role, interval_s: float) -> Status:
        """Return what is known here; readiness, troubles and the holder are the caller's."""
        outcome, now = self._outcome, self._wall()
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
            withheld_kernels=self._lasting.named(now, interval_s),
            cycles=tuple(self._cycles),
            agents=self._agents,
        )


def agents(outcome: Outcome) -> tuple[AgentStatus, ...]:
    """Return what a finished cycle knows of each agent, by its exporter."""
    dead = down(outcome)
    return tuple(
        AgentStatus(
            one.name,
            kernels=outcome.kernels_of.get(one.instance, 0),
            stalled=not one.silent and (one.stalled or one.agent in outcome.stalled),
            counter=one.counter,
            rounds=one.rounds,
            interval_s=one.interval_s,
            measured=one.measured,
            writes=one.writes_itself,
            silent=one.instance in dead,
        )
        for one in outcome.exporters
    )
