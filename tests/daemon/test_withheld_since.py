"""Which withheld kernels are worth a line of log."""

from __future__ import annotations

from collections.abc import Mapping

from poller.daemon.withheld_since import LONG_CYCLES, Long, Noted, Withheld
from poller.poll.withhold import REASONS, Reason

LACKING: dict[str, Reason] = {f"kernel-{number}": "incomplete" for number in range(7)}


def after(withheld: Withheld, cycles: int, kernels: Mapping[str, Reason]) -> Noted:
    """Let so many cycles withhold the same kernels; return what the last one alone changed."""
    *before, last = (withheld.note(kernels) for _ in range(cycles))
    assert all(noted == ([], []) for noted in before)
    return last


def test_a_few_cycles_are_no_matter_and_more_are_told_once():
    withheld = Withheld()
    for _ in range(LONG_CYCLES):
        assert withheld.note(LACKING) == ([], [])
    assert not withheld.long
    names = tuple(f"kernel-{number}" for number in range(5))
    assert withheld.note(LACKING).begun == [Long("incomplete", names)]
    assert withheld.long == {"incomplete": 7}
    assert withheld.note(LACKING) == ([], [])


def test_kernels_that_join_later_are_told_and_the_last_one_ends_it():
    withheld = Withheld()
    after(withheld, LONG_CYCLES + 1, {"a": "incomplete"})
    noted = after(withheld, LONG_CYCLES + 1, {"a": "incomplete", "b": "incomplete"})
    assert noted.begun == [Long("incomplete", ("b",))]
    assert withheld.note({"b": "incomplete"}) == ([], [])
    assert withheld.note({}).ended == ["incomplete"]
    assert withheld.note({}) == ([], [])


def test_a_kernel_that_was_written_in_between_or_has_another_reason_begins_anew():
    withheld = Withheld()
    after(withheld, LONG_CYCLES, {"a": "waiting"})
    assert after(withheld, LONG_CYCLES, {"a": "incomplete"}) == ([], [])
    withheld.note({})
    assert after(withheld, LONG_CYCLES, {"a": "incomplete"}) == ([], [])
    assert withheld.note({"a": "incomplete"}).begun == [Long("incomplete", ("a",))]


def test_what_has_a_line_of_its_own_or_is_in_order_is_not_told():
    noted = after(Withheld(), LONG_CYCLES + 1, {reason: reason for reason in REASONS})
    assert [long.reason for long in noted.begun] == ["incomplete", "mixed", "waiting"]
