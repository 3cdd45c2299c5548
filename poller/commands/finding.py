"""One line of `check`: what was looked at, how it is, what to do; and words that lines share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from poller.errors import CycleError
from poller.poll.withhold import Reason

Level = Literal["ok", "warn", "fail"]
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report: what was looked at, how it is, and what to do."""

    level: Level
    subject: str
    text: str
    advice: str = ""


def failed(subject: str, error: CycleError) -> Finding:
    """Return the finding that a server does not do what it is asked."""
    return Finding("fail", subject, error.detail, error.advice)


def listed(names: Collection[str]) -> str:
    """Return the first names in their order, and how many there are beside them."""
    told = ", ".join(sorted(names)[:_NAMED])
    return f"{told} and {len(names) - _NAMED} more" if len(names) > _NAMED else told


def left_alone(
    withheld: Mapping[str, Reason], missing: Mapping[str, Iterable[str]]
) -> list[tuple[tuple[Reason, str], list[str]]]:
    """Return the kernels that are not written, by why and by that in words: what they lack."""
    groups: dict[tuple[Reason, str], list[str]] = {}
    for kernel, why in withheld.items():
        lacks = " and ".join(missing.get(kernel, ()))
        words = f"{why}, without {lacks}" if lacks else why
        groups.setdefault((why, words), []).append(kernel)
    return sorted(groups.items())


def counted(count: int, what: str) -> str:
    """Return how many of something there are: `1 agent`, `2 agents`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def agreed(count: int, verb: str, several: str) -> str:
    """Return the form of a verb that goes with so many."""
    return verb if count == 1 else several
