"""Query text into a tree: the part of PromQL that the poller speaks. Pure.

What is not in the subset is a `QueryError`, as any mistake is: it is never answered wrongly.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from poller.demo.tree import (
    Aggregation,
    Constant,
    Expression,
    Matcher,
    OverRange,
    Range,
    Selector,
    Subquery,
    Timestamp,
    has_series,
    is_range,
)

OVER_TIME = ("min", "max", "avg", "sum", "count")
RANGE_FUNCTIONS = frozenset({"rate", "changes", *(f"{name}_over_time" for name in OVER_TIME)})
AGGREGATIONS = frozenset({"min", "max", "avg", "sum", "count", "group", "topk"})
_UNITS_MS = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 604_800_000,
    "y": 31_536_000_000,
}
_DURATION_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<duration>(?:\d+(?:ms|[smhdwy]))+)
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<word>[a-zA-Z_][a-zA-Z0-9_:]*)
    | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    | (?P<sign>=~|!~|!=|[={}()\[\],:])
    )""",
    re.VERBOSE,
)
_ESCAPES = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}


class QueryError(Exception):
    """The text is no query that is answered here."""


def duration_ms(text: str) -> int:
    """Return a PromQL duration in milliseconds."""
    return sum(int(count) * _UNITS_MS[unit] for count, unit in _DURATION_PART.findall(text))


def parsed(text: str) -> Expression:
    """Return the tree of a query, or raise `QueryError`."""
    try:
        return _Parser(text).query()
    except RecursionError:
        raise QueryError("parse error: nested too deeply") from None


class _Token(NamedTuple):
    kind: str
    text: str
    place: int


def _tokens(text: str) -> list[_Token]:
    tokens = []
    place = 0
    end = len(text.rstrip())
    while place < end:
        match = _TOKEN.match(text, place)
        if match is None or match.lastgroup is None:
            raise QueryError(f"1:{place + 1}: parse error: unexpected character")
        tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start() + 1))
        place = match.end()
    return [*tokens, _Token("end", "end of input", end + 1)]


class _Parser:
    """One method a rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    def query(self) -> Expression:
        expression = self._expression()
        if self._next.kind != "end":
            self._refuse()
        return expression

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _refuse(self, why: str = "") -> NoReturn:
        token = self._next
        raise QueryError(f"1:{token.place}: parse error: {why or f'unexpected {token.text!r}'}")

    def _take(self, kind: str) -> str:
        token = self._next
        if token.kind != kind:
            self._refuse()
        self._at += 1
        return token.text

    def _sees(self, text: str) -> bool:
        return self._next.text == text and self._next.kind in ("sign", "word")

    def _skip(self, text: str) -> bool:
        if self._sees(text):
            self._at += 1
            return True
        return False

    def _expect(self, text: str) -> None:
        if not self._skip(text):
            self._refuse()

    def _expression(self) -> Expression:
        expression = self._plain()
        while self._sees("[") or self._sees("offset"):
            expression = self._ranged(expression) if self._skip("[") else self._shifted(expression)
        return expression

    def _plain(self) -> Expression:
        if self._skip("("):
            expression = self._expression()
            self._expect(")")
            return expression
        if self._sees("{"):
            return self._selector("")
        name = self._take("word")
        if name in AGGREGATIONS and (self._sees("(") or self._sees("by") or self._sees("without")):
            return self._aggregation(name)
        return self._call(name) if self._sees("(") else self._selector(name)

    def _ranged(self, inner: Expression) -> Expression:
        range_ms = self._duration()
        if not self._skip(":"):
            self._expect("]")
            if not isinstance(inner, Selector) or inner.offset_ms:
                self._refuse("ranges are for plain selectors only")
            return Range(inner, range_ms)
        step_ms = self._duration()
        self._expect("]")
        if is_range(inner) or not has_series(inner):
            self._refuse("a subquery is for an instant vector of series only")
        return Subquery(inner, range_ms, step_ms)

    def _shifted(self, inner: Expression) -> Expression:
        self._expect("offset")
        offset_ms = self._duration()
        if isinstance(inner, Selector):
            return Selector(inner.matchers, offset_ms)
        if not isinstance(inner, Range):
            self._refuse("an offset is for a selector only")
        return Range(Selector(inner.selector.matchers, offset_ms), inner.range_ms)

    def _duration(self) -> int:
        milliseconds = duration_ms(self._take("duration"))
        return milliseconds or self._refuse("a duration must be greater than 0")

    def _instant(self) -> Expression:
        expression = self._expression()
        if is_range(expression):
            self._refuse("expected an instant vector")
        return expression

    def _call(self, name: str) -> Expression:
        self._expect("(")
        made: Expression
        if name == "vector":
            made = Constant(float(self._take("number")))
        elif name == "timestamp":
            made = Timestamp(self._instant())
        elif name in RANGE_FUNCTIONS:
            inner = self._expression()
            if not isinstance(inner, Range | Subquery):
                self._refuse(f"expected a range vector in {name}()")
            made = OverRange(name, inner)
        else:
            self._refuse(f"no function {name!r} in this simulation")
        self._expect(")")
        return made

    def _aggregation(self, operator: str) -> Expression:
        labels, without, grouped = self._grouping()
        self._expect("(")
        parameter = 0.0
        if operator == "topk":
            parameter = float(self._take("number"))
            self._expect(",")
        inner = self._instant()
        self._expect(")")
        if not grouped:
            labels, without, _ = self._grouping()
        return Aggregation(operator, inner, labels, without, parameter)

    def _grouping(self) -> tuple[frozenset[str], bool, bool]:
        """Return the labels, whether they are those left out, whether there is any grouping."""
        without = self._skip("without")
        if not without and not self._skip("by"):
            return frozenset(), False, False
        self._expect("(")
        labels = []
        while not self._skip(")"):
            labels.append(self._take("word"))
            if not self._sees(")"):
                self._expect(",")
        return frozenset(labels), without, True

    def _selector(self, name: str) -> Selector:
        matchers = [_matcher("__name__", "=", name)] if name else []
        if self._skip("{"):
            while not self._skip("}"):
                matchers.append(self._condition())
                if not self._sees("}"):
                    self._expect(",")
        if all(matcher.holds("") for matcher in matchers):
            self._refuse("a selector must contain at least one non-empty matcher")
        return Selector(tuple(matchers))

    def _condition(self) -> Matcher:
        label = self._take("word")
        operator = self._take("sign")
        if operator not in ("=", "!=", "=~", "!~"):
            self._refuse()
        try:
            return _matcher(label, operator, _unquoted(self._take("string")))
        except re.error as error:
            self._refuse(f"bad regular expression: {error}")


def _unquoted(literal: str) -> str:
    def character(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            raise QueryError(f"parse error: unknown escape \\{match[1]} in {literal}")
        return _ESCAPES[match[1]]

    return re.sub(r"\\(.)", character, literal[1:-1])


def _matcher(label: str, operator: str, text: str) -> Matcher:
    if operator == "=":
        return Matcher(label, operator, text, text.__eq__)
    if operator == "!=":
        return Matcher(label, operator, text, text.__ne__)
    whole = re.compile(text).fullmatch  # a pattern matches the whole value
    if operator == "=~":
        return Matcher(label, operator, text, lambda value: whole(value) is not None)
    return Matcher(label, operator, text, lambda value: whole(value) is None)
