"""What the log warns of after a good cycle: skew, load, rivals, agents, rows, withheld kernels."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from poller.clock import TOLERANCE_S
from poller.daemon import agents
from poller.daemon.agents import AgentTrouble
from poller.daemon.conditions import Conditions
from poller.daemon.withheld_since import LONG_CYCLES, Withheld
from poller.daemon.words import told
from poller.errors import CycleError
from poller.poll.evaluation import PARTS_S
from poller.poll.outcome import Outcome
from poller.values import DEFAULT_INTERVAL_S, Drop

log = logging.getLogger("poller")

_EXPECTED_DROPS: frozenset[Drop] = frozenset({"duplicate"})
_NAMED = 5
_MANY_MORE = 1.5
"""Rivals are told of again when there are so many times as many."""
_QUIET_ROUNDS = 2
"""What comes with some answers is over when it did not for so many measurements."""
_MANY = 500
"""So many kernels' past takes Prometheus a while."""
_ADVICE: Mapping[str, str] = {
    "mixed": "where samples come by remote write, a scrape is stored in parts: raise "
    "poll.query_offset_s above its batch_send_deadline",
}
"""What to do where kernels are withheld for long, if it is not that something is missing."""


class CycleWarnings:
    """Keeps what must be known of earlier cycles to tell what begins and ends in this one."""

    def __init__(self, conditions: Conditions) -> None:
        self.withheld = Withheld()
        self._conditions = conditions
        self._backfilling = False
        self._troubles: Mapping[str, AgentTrouble] = {}
        self._counting = ""
        self._rivals = 0
        self._late = 0
        self._dropped: dict[Drop, float] = {}
        self._warned = -math.inf

    def stood_by(self) -> None:
        """Take that another poller wrote; how long kernels and agents wait begins anew after it."""
        self._late = 0
        self.withheld = Withheld()
        self._dropped.clear()
        self._troubles = {}

    def troubles(self, outcome: Outcome) -> dict[str, AgentTrouble]:
        """Return what is wrong with each agent, those among them that were never heard again."""
        return agents.still_silent(self._troubles, outcome) | agents.troubles(outcome)

    def warn(self, outcome: Outcome, troubles: Mapping[str, AgentTrouble]) -> None:
        """Note what is not as it should be in a cycle that went through."""
        ahead_s = outcome.skew_s
        self._state(
            "clock",
            abs(ahead_s) > TOLERANCE_S,
            "skew",
            f"Prometheus' clock is {ahead_s:+.0f} s from this host's; its time is used",
            "synchronise the clocks of this host and of Prometheus",
        )
        self._warn_of_parts(outcome.in_parts)
        self._warn_of_fallback(outcome.passed_over)
        self._warn_of_warnings(outcome)
        self._state(
            "redis",
            bool(outcome.failed),
            "keys_failed",
            f"{told(outcome.failed.total(), 'key was', 'keys were')} not written "
            f"({_listed(outcome.failed)})",
            "they are written again in the next cycle",
        )
        self._warn_of_rivals(outcome)
        self._warn_of_foreign(outcome)
        self._warn_of_rows(outcome)
        self._warn_of_agents(outcome, troubles)
        self._warn_of_load(outcome)
        self._warn_of_withheld(outcome)
        self._warn_of_backfill(outcome.owing)

    def _warn_of_parts(self, in_parts: bool) -> None:
        if not in_parts:
            self._conditions.good("scrapes", "whole ones are read as set")
            return
        self._conditions.bad(
            "scrapes",
            "in_parts",
            "they are stored in parts, as remote write does, and rates of half a scrape are false; "
            f"Prometheus is asked for {PARTS_S:g} s ago from now on",
            f"set poll.query_offset_s = {PARTS_S:g}, or more if batch_send_deadline is more than "
            "5 s: a poller that starts does not know",
            level=logging.WARNING,
        )

    def _warn_of_fallback(self, passed_over: CycleError | None) -> None:
        if passed_over is None:
            self._conditions.good("fallback", "the first Prometheus answers again")
            return
        detail = f"{passed_over.detail}; another Prometheus answers instead"
        self._conditions.bad("fallback", passed_over.reason, detail, passed_over.advice)

    def _warn_of_warnings(self, outcome: Outcome) -> None:
        """Note answers that miss data and were taken nevertheless."""
        if outcome.warned:
            self._warned = outcome.time
            detail = f"{outcome.warned}; what is there is written"
            advice = "find the store or shard that is down"
            self._conditions.bad("partial answers", "partial", detail, advice)
        elif not _is_recent(self._warned, outcome):
            self._conditions.good("partial answers")

    def _warn_of_rivals(self, outcome: Outcome) -> None:
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

    def _warn_of_foreign(self, outcome: Outcome) -> None:
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

    def _warn_of_rows(self, outcome: Outcome) -> None:
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
        for reason, last in list(self._dropped.items()):
            if reason not in outcome.dropped and not _is_recent(last, outcome):
                del self._dropped[reason]
                self._conditions.good(f"rows ({reason})")

    def _warn_of_agents(self, outcome: Outcome, troubles: Mapping[str, AgentTrouble]) -> None:
        for agent, trouble in sorted(troubles.items()):
            self._conditions.bad(f"agent {agent[:64]}", *trouble.told)
        for agent in self._troubles.keys() - troubles.keys():
            self._conditions.good(f"agent {agent[:64]}", agents.ending(agent, outcome))
        self._troubles = troubles
        uncounted = agents.roundless(outcome)
        if uncounted is not None:
            self._conditions.bad("rounds", *uncounted.told)
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

    def _warn_of_load(self, outcome: Outcome) -> None:
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

    def _warn_of_withheld(self, outcome: Outcome) -> None:
        noted = self.withheld.note(outcome.withheld)
        for long in noted.begun:
            self._conditions.bad(
                f"withheld ({long.reason})",
                long.reason,
                told(self.withheld.long[long.reason], "kernel is", "kernels are")
                + f" not written for longer than {LONG_CYCLES} cycles: {', '.join(long.names)}",
                _ADVICE.get(long.reason, "livestat-poller show KERNEL says what is missing"),
            )
        for reason in noted.ended:
            self._conditions.good(f"withheld ({reason})", "no kernel is any more")

    def _warn_of_backfill(self, owing: int) -> None:
        """Tell of a recall that takes more than a moment when it begins and when it is over."""
        if owing >= _MANY and not self._backfilling:
            self._backfilling = True
            log.info("backfill: the past of %d kernels is being asked of Prometheus", owing)
        elif not owing and self._backfilling:
            self._backfilling = False
            log.info("backfill: every kernel's past is known")

    def _state(self, subject: str, bad: bool, reason: str, detail: str, advice: str) -> None:
        if bad:
            self._conditions.bad(subject, reason, detail, advice)
        else:
            self._conditions.good(subject)


def _is_recent(last: float, outcome: Outcome) -> bool:
    """Whether not every agent was read since that time: a cycle asks for those that measured."""
    intervals = [one.interval_s or DEFAULT_INTERVAL_S for one in outcome.exporters]
    return 0 <= outcome.time - last < _QUIET_ROUNDS * max(intervals, default=0.0)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(sorted(counts)[:_NAMED])
