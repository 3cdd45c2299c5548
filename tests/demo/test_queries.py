"""The simulated Prometheus' arithmetic and shapes, on series small enough to reckon by hand."""

from __future__ import annotations

import math

import pytest

from poller.demo.cluster import Sample
from poller.demo.queries import MERGES, OVER_TIME, QueryError, answered, changes, rate
from tests.demo.recorded import Recorded

NAN = math.nan
AT_MS = 1_000_000


def every_second(*values: float) -> list[Sample]:
    """Return samples of which the last is at `AT_MS`."""
    return [Sample(AT_MS - 1000 * ago, float(v)) for ago, v in enumerate(reversed(values))][::-1]


def series(name: str, *values: float, **labels: str) -> Recorded:
    return Recorded({"__name__": name, **labels}, every_second(*values))


STORED = [
    series("a_total", 10, 12, 14, kernel="k1", agent="x"),
    series("a_total", 30, 33, 3, kernel="k2", agent="x"),
    series("b_total", 5, kernel="k1", agent="y"),
]


def vector(text: str) -> dict[str, float]:
    """Return the values of an answer by their labels, written in order."""
    kind, tracks = answered(STORED, text, AT_MS)
    assert kind == "vector"
    return {
        " ".join(value for _, value in sorted(labels)): samples[0].value
        for labels, samples in tracks.items()
    }


def test_a_counter_that_reaches_both_ends_of_a_range_is_not_extrapolated():
    assert rate(every_second(10, 12, 14), AT_MS - 2000, AT_MS) == 2


def test_a_near_end_is_reached_whole_and_a_far_one_by_half_a_sample_distance():
    assert rate(every_second(10, 12, 14), AT_MS - 3000, AT_MS) == pytest.approx(6 / 3)
    assert rate(every_second(10, 12, 14), AT_MS - 9000, AT_MS) == pytest.approx(5 / 9)


def test_a_counter_is_not_extrapolated_below_zero():
    assert rate(every_second(0, 2, 4), AT_MS - 3000, AT_MS) == pytest.approx(4 / 3)


def test_a_counter_that_falls_began_again_from_zero():
    assert rate(every_second(30, 33, 3), AT_MS - 2000, AT_MS) == 3


def test_changes_are_counted_between_neighbours_and_nan_equals_nan():
    assert changes([1, 1, 2, NAN, NAN, 2]) == 3


@pytest.mark.parametrize(
    ("name", "values", "merged"),
    [("sum", [1, 2, 6], 9), ("max", [NAN, 2, 6], 6), ("min", [NAN, 2, 6], 2), ("max", [NAN], NAN),
     ("count", [NAN, 2], 2), ("group", [7, 8], 1)],
)  # fmt: skip
def test_numbers_are_merged(name: str, values: list[float], merged: float):
    assert MERGES[name](values) == pytest.approx(merged, nan_ok=True)


def test_values_over_time():
    assert OVER_TIME["last_over_time"]([1, 2, 6]) == 6


def test_a_single_sample_has_no_rate():
    assert vector("rate(b_total[1m])") == {}


def test_matchers_hold_for_the_whole_value_and_a_missing_label_is_empty():
    assert vector('a_total{kernel=~"k"}') == {}
    assert vector('a_total{kernel!~"1|k2"}') == vector('{kernel=~".1",agent!="y",none=""}')
    assert vector('{__name__=~"a_total|b"}') == {"a_total x k1": 14, "a_total x k2": 3}


def test_a_group_has_the_labels_that_are_named_or_those_that_are_not():
    assert vector("sum by (agent) (a_total)") == {"x": 17}
    assert vector("max without (agent) (a_total)") == {"k1": 14, "k2": 3}
    assert vector("count(group by (kernel) (a_total))") == {"": 2}
    assert vector("topk(1, a_total)") == {"a_total x k1": 14}


def test_an_offset_looks_back_and_a_sample_is_seen_for_the_lookback():
    assert vector("a_total offset 1s") == {"a_total x k1": 12, "a_total x k2": 33}
    assert answered(STORED, "b_total", AT_MS + 299_999)[1]
    assert not answered(STORED, "b_total", AT_MS + 300_000)[1]


def test_a_subquery_looks_at_the_multiples_of_its_step():
    assert vector("min_over_time(timestamp(b_total)[1m:8s])") == {"y k1": 1000}
    assert vector("min_over_time(timestamp(a_total)[3s:1s])") == {"x k1": 998, "x k2": 998}


def test_a_range_is_answered_with_its_raw_samples():
    kind, tracks = answered(STORED, "b_total[250ms]", AT_MS + 250)
    assert (kind, list(tracks.values())) == ("matrix", [every_second(5)])
    assert answered(STORED, "b_total[249ms]", AT_MS + 250) == ("matrix", {})


def test_series_that_differ_by_name_alone_are_not_mixed_up():
    with pytest.raises(QueryError, match="same labelset"):
        answered([series("a", 1, 2), series("b", 3, 4)], 'rate({__name__=~"a|b"}[1m])', AT_MS)
