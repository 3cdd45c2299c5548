"""Troubles that last: a line of log as one begins and as it ends; what repeats is counted.

A new reason for the same trouble is told too, each reason once until all is well again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container
from dataclasses import dataclass, field

from poller.daemon.status import Trouble

log = logging.getLogger("poller")


@dataclass(slots=True)
class _Trouble:
    reason: str
    since: float
    detail: str = ""
    advice: str = ""
    count: int = 0
    told: set[str] = field(default_factory=set)


class Conditions:
    """What is wrong now, by subject. Logs when something goes wrong and when it is well again."""

    def __init__(self) -> None:
        self._troubles: dict[str, _Trouble] = {}

    def troubles(self, now: float) -> tuple[Trouble, ...]:
        """Return what is not well; `now` is the wall clock's Unix time."""
        passed = time.monotonic()
        return tuple(
            Trouble(
                subject, one.reason, one.detail, one.advice, now - (passed - one.since), one.count
            )
            for subject, one in sorted(self._troubles.items())
        )

    def bad(
        self,
        subject: str,
        reason: str,
        detail: str,
        advice: str = "",
        again: bool = False,
        level: int = logging.ERROR,
    ) -> None:
        """Note that a subject is not well, and why; logged unless it was told already.

        `again`: it is worse than when it was told. `level`: that of the line.
        """
        trouble = self._troubles.setdefault(subject, _Trouble(reason, time.monotonic()))
        trouble.count += 1
        trouble.reason, trouble.detail, trouble.advice = reason, detail, advice
        if reason in trouble.told and not again:
            return
        trouble.told.add(reason)
        log.log(
            level,
            "%s: %s%s",
            _one_line(subject),
            _one_line(detail),
            f"; {advice}" if advice else "",
            extra={"subject": subject, "reason": reason, "state": "bad"},
        )

    def good(self, subject: str, detail: str = "well again") -> None:
        """Note that a subject is well; logged only if it was not."""
        trouble = self._troubles.pop(subject, None)
        if trouble is None:
            return
        log.info(
            "%s: %s after %.0f s%s",
            _one_line(subject),
            detail,
            time.monotonic() - trouble.since,
            f" and {trouble.count} failures" if trouble.count > 1 else "",
            extra={"subject": subject, "reason": trouble.reason, "state": "good"},
        )

    def drop_others(self, kept: Container[str]) -> None:
        """Forget without a word what is wrong with all but some subjects: nobody looks any more."""
        self._troubles = {one: trouble for one, trouble in self._troubles.items() if one in kept}

    def is_bad(self, subject: str) -> bool:
        """Whether a subject is not well now."""
        return subject in self._troubles


def _one_line(text: str) -> str:
    """Return foreign text as it may stand in a log: a server must not write lines of its own."""
    return "".join(mark if mark.isprintable() else " " for mark in text)
