"""How often a poller's values are its agent's: shares of all instants, not single ones. Pure.

A poller is late by design: by a scrape, a poll, and what both take. So a value holds where it is
one that the agent showed within that time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Stat = Mapping[str, Mapping[str, str]]
Field = tuple[str, str]

RATES = frozenset(
    (metric, name)
    for metrics, names in (
        (("cpu_util", "net_rx", "net_tx"), ("current", "pct")),
        (("io_read", "io_write"), ("stats.rate",)),
    )
    for metric in metrics
    for name in names
)
PER_SECOND = RATES - {(metric, "pct") for metric, _ in RATES}
"""The rates themselves, without what is derived of them."""
_ROUNDED = 0.011  # two texts of one number, rounded to two decimals, differ by up to so much


@dataclass(frozen=True, slots=True)
class Look:
    """What stood in the keys at one time, by kernel; a kernel without a key is not in it."""

    time: float
    agent: Mapping[str, Stat]
    ours: Mapping[str, Stat]


@dataclass(frozen=True, slots=True)
class Rule:
    """When a value holds: `window_s` is how late it may be, the others are shares of it."""

    window_s: float
    rate: float = 0.03
    average: float = 0.001


@dataclass(slots=True)
class Agreement:
    """How many values were judged and how many held, by field."""

    judged: Counter[Field] = field(default_factory=Counter)
    held: Counter[Field] = field(default_factory=Counter)
    false_zeros: Counter[Field] = field(default_factory=Counter)
    """Rates of 0 where the agent showed none in the window."""
    missing: int = 0
    """Instants of a kernel at which the agent had a key all through the window, and we none."""

    @property
    def of_rates(self) -> float:
        """The share of rates that held."""
        return self._share([one for one in self.judged if one in RATES])

    @property
    def of_all(self) -> float:
        """The share of all fields that held."""
        return self._share(list(self.judged))

    def _share(self, fields: Sequence[Field]) -> float:
        """Return 0 where nothing was judged: nothing was proved."""
        judged = sum(self.judged[one] for one in fields)
        return sum(self.held[one] for one in fields) / judged if judged else 0.0

    def faults(self, least: float) -> list[str]:
        """Say what falls short of a share, or is missing or falsely 0; empty where all is well."""
        shares = {"rates": self.of_rates, "all fields": self.of_all}
        short = [f"{name}: {share:.2%}" for name, share in shares.items() if share < least]
        gaps = [f"{self.missing} instants without a key"] if self.missing else []
        zeros = [f"{'.'.join(one)}: {count} false zeros" for one, count in self.false_zeros.items()]
        return [*short, *gaps, *zeros, *(self.worst() if short else [])]

    def worst(self) -> list[str]:
        """Say how the fields did that did worst."""
        shares = {one: self.held[one] / judged for one, judged in self.judged.items()}
        worst = sorted(shares, key=lambda one: shares[one])[:8]
        return [f"{'.'.join(one)}: {shares[one]:.2%} of {self.judged[one]}" for one in worst]


def agreement(
    looks: Sequence[Look], rule: Rule, is_judged: Callable[[float], bool] = lambda time: True
) -> Agreement:
    """Judge every look, in order of time, but those at other times than `is_judged` says."""
    found = Agreement()
    for look, lately in _windows(looks, rule.window_s):
        if is_judged(look.time):
            for kernel in {*look.agent, *look.ours}:
                _judge(found, kernel, look, lately, rule)
    return found


def _windows(looks: Sequence[Look], window_s: float) -> Iterator[tuple[Look, Sequence[Look]]]:
    """Yield each look with those of its window, itself among them."""
    first = 0
    for index, look in enumerate(looks):
        while looks[first].time < look.time - window_s:
            first += 1
        yield look, looks[first : index + 1]


def _judge(found: Agreement, kernel: str, look: Look, lately: Sequence[Look], rule: Rule) -> None:
    shown = [one.agent[kernel] for one in lately if kernel in one.agent]
    if kernel not in look.ours:
        found.missing += len(shown) == len(lately)
        return
    for one in _fields(look.ours[kernel]).union(_fields_of_all(shown)):
        value = _value(look.ours[kernel], one)
        wanted = {text for stat in shown if (text := _value(stat, one)) is not None}
        found.judged[one] += 1
        found.held[one] += value is not None and _holds(one, value, wanted, rule)
        if _is_false_zero(one, value, wanted):
            found.false_zeros[one] += 1


def _fields_of_all(stats: Sequence[Stat]) -> set[Field]:
    return set.intersection(*map(_fields, stats)) if stats else set()


def _fields(stat: Stat) -> set[Field]:
    return {(metric, name) for metric, fields in stat.items() for name in fields}


def _value(stat: Stat, one: Field) -> str | None:
    metric, name = one
    return stat.get(metric, {}).get(name)


def _holds(one: Field, value: str, wanted: set[str], rule: Rule) -> bool:
    if one in RATES:
        return any(_is_near(value, text, rule.rate) for text in wanted)
    if one[1] == "stats.avg":
        return any(_is_near(value, text, rule.average) for text in wanted)
    return value in wanted


def _is_near(value: str, wanted: str, share: float) -> bool:
    return abs(float(value) - float(wanted)) <= max(share * abs(float(wanted)), _ROUNDED)


def _is_false_zero(one: Field, value: str | None, wanted: set[str]) -> bool:
    if one not in PER_SECOND or value is None or not wanted:
        return False
    return float(value) == 0 and all(float(text) > 0 for text in wanted)


def standstill(looks: Sequence[Look]) -> tuple[float, float]:
    """Return begin and end of the longest time in which the agent wrote nothing new."""
    changes = [
        after.time
        for before, after in zip(looks, looks[1:], strict=False)
        if before.agent != after.agent
    ]
    return max(zip(changes, changes[1:], strict=False), key=lambda pair: pair[1] - pair[0])
