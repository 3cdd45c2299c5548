"""A clock that a test moves by hand."""

from __future__ import annotations


class HandClock:
    """Stands at `now` until it is moved; wall clock or monotonic, as a test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
