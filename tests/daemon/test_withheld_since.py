"""Which withheld kernels are worth a line of log."""

from __future__ import annotations

from poller.daemon.withheld_since import Long, Withheld
from poller.poll.withhold import REASONS, Reason

LACKING: dict[str, Reason] = {f"kernel-{number}": "incomplete" for number in range(7)}


def test_a_few_cycles_are_no_matter_and_more_are_told_once():
    withheld = Withheld(long_cycles=3)
    for _ in range(3):
        assert withheld.note(LACKING) == ([], [])
    names = tuple(f"kernel-{number}" for number in range(5))
    assert withheld.note(LACKING).begun == [Long("incomplete", names)]
    assert withheld.long == {"incomplete": 7}
    assert withheld.note(LACKING) == ([], [])


def test_kernels_that_join_later_are_told_and_the_last_one_ends_it():
    withheld = Withheld(long_cycles=1)
    for _ in range(2):
        withheld.note({"a": "incomplete"})
    withheld.note({"a": "incomplete", "b": "incomplete"})
    noted = withheld.note({"a": "incomplete", "b": "incomplete"})
    assert noted.begun == [Long("incomplete", ("b",))]
    assert withheld.note({"b": "incomplete"}) == ([], [])
    assert withheld.note({}).ended == ["incomplete"]
    assert withheld.note({}) == ([], [])


def test_a_kernel_that_was_written_in_between_or_has_another_reason_begins_anew():
    withheld = Withheld(long_cycles=1)
    withheld.note({"a": "waiting"})
    assert withheld.note({"a": "incomplete"}) == ([], [])
    withheld.note({})
    assert withheld.note({"a": "incomplete"}) == ([], [])
    assert withheld.note({"a": "incomplete"}).begun == [Long("incomplete", ("a",))]


def test_what_has_a_line_of_its_own_or_is_in_order_is_not_told():
    withheld = Withheld(long_cycles=0)
    noted = withheld.note({reason: reason for reason in REASONS})
    assert [long.reason for long in noted.begun] == ["incomplete", "mixed", "waiting"]
