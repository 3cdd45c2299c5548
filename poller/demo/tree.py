"""The tree of a query: one class for each construct of the subset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; a missing label is the empty text."""

    label: str
    operator: str
    text: str
    holds: Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Selector:
    """An instant vector selector, or the series part of a range."""

    matchers: tuple[Matcher, ...]
    offset_ms: int = 0


@dataclass(frozen=True, slots=True)
class Range:
    """The raw samples of a selector's series over a range."""

    selector: Selector
    range_ms: int


@dataclass(frozen=True, slots=True)
class Subquery:
    """An expression evaluated at every multiple of a step over a range."""

    inner: Expression
    range_ms: int
    step_ms: int


@dataclass(frozen=True, slots=True)
class Constant:
    """`vector(number)`."""

    value: float


@dataclass(frozen=True, slots=True)
class OverRange:
    """A function of a range: `rate`, `changes`, `…_over_time`."""

    function: str
    samples: Range | Subquery


@dataclass(frozen=True, slots=True)
class Timestamp:
    """`timestamp(…)`."""

    inner: Expression


@dataclass(frozen=True, slots=True)
class Aggregation:
    """`max by (…) (…)` and its kin. `without`: the labels are those left out."""

    operator: str
    inner: Expression
    labels: frozenset[str] = frozenset()
    without: bool = False
    parameter: float = 0.0


Expression = Selector | Range | Subquery | Constant | OverRange | Timestamp | Aggregation


def is_range(expression: Expression) -> bool:
    """Whether an expression gives a range vector."""
    return isinstance(expression, Range | Subquery)


def has_series(expression: Expression) -> bool:
    """Whether an expression is about stored series at all."""
    if isinstance(expression, Constant):
        return False
    if isinstance(expression, Timestamp | Aggregation):
        return has_series(expression.inner)
    return True
