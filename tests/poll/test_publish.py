"""What the publisher remembers of keys of another type."""

from __future__ import annotations

from poller.poll.publish import AGAIN_INTERVALS, Publisher


def publisher() -> Publisher:
    return Publisher(None, yields=False, interval_s=5.0)  # type: ignore[arg-type]


def test_a_key_of_another_type_is_looked_at_again_after_some_intervals():
    made = publisher()
    made.found_foreign(["a", "b"], 100.0)
    again = 100.0 + 5.0 * AGAIN_INTERVALS
    assert made.due_again(again - 1) == []
    assert made.due_again(again) == ["a", "b"]
    assert made.due_again(again) == []
    assert made.foreign == {}
    made.found_foreign(["b"], again)
    assert made.due_again(again + 1) == []
    assert made.foreign == {"b": again}


def test_kernels_that_live_no_more_are_forgotten():
    made = publisher()
    made.found_foreign(["a", "b"], 100.0)
    made.forget(["b"])
    assert list(made.foreign) == ["b"]
