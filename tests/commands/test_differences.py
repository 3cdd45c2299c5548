"""Verdicts: what may differ because it was measured at another time, and what may not."""

from __future__ import annotations

import pytest

from poller.commands.differences import (
    WHOLE_KEY,
    Difference,
    Lately,
    Seen,
    Verdict,
    compare,
    settled,
)

KERNEL = "3f9d4d5e-8a1b-4c6e-9d53-0b7f5a7c2e11"
CPU = Seen(low=1_000, high=6_000, counts=True, rated=True)
YOUNG_CPU = CPU._replace(young=True)
YOUNG_MEM = Seen(low=100, high=900, young=True)


def verdict(metric: str, field: str, ours: str, theirs: str, seen: Seen | None = None) -> Verdict:
    lately: Lately = {} if seen is None else {(KERNEL, metric): seen}
    (one,) = compare({KERNEL: {metric: {field: ours}}}, {KERNEL: {metric: {field: theirs}}}, lately)
    return one.verdict


@pytest.mark.parametrize("field", ["stats.max", "stats.avg"])
def test_life_long_statistics_of_a_counter_may_be_some_measurements_apart(field: str):
    assert verdict("cpu_util", field, "6000", "2500", CPU) == "within"
    assert verdict("cpu_util", field, "2500", "6000", CPU) == "within"
    assert verdict("cpu_util", field, "6000", "500", CPU) == "different"
    assert verdict("cpu_util", field, "6000", "2500") == "different"


@pytest.mark.parametrize("field", ["stats.max", "stats.avg"])
def test_those_of_a_young_kernel_as_far_as_it_has_come(field: str):
    assert verdict("cpu_util", field, "6000", "0", YOUNG_CPU) == "within"
    assert verdict("cpu_util", field, "6000", "12001", YOUNG_CPU) == "different"


def test_a_rate_is_not_held_against_the_counter_it_is_of():
    assert verdict("cpu_util", "current", "100", "3000", YOUNG_CPU) == "different"
    assert verdict("cpu_util", "pct", "10", "3000", YOUNG_CPU) == "different"


def test_a_gauges_maximum_may_be_any_of_its_values_while_it_is_young():
    assert verdict("mem", "stats.max", "900", "100", YOUNG_MEM) == "within"
    assert verdict("mem", "stats.max", "900", "2000", YOUNG_MEM) == "different"
    old = YOUNG_MEM._replace(young=False)
    assert verdict("mem", "stats.max", "900", "100", old) == "different"


def test_a_side_that_has_nothing_of_a_kernel_is_one_difference():
    stat = {"mem": {"current": "1", "pct": "2"}, "cpu_util": {"current": "3"}}
    (one,) = compare({KERNEL: stat}, {}, {})
    assert (one.metric, one.verdict, one.ours, one.theirs) == (WHOLE_KEY, "extra", "3 fields", None)
    (one,) = compare({KERNEL: {}}, {KERNEL: stat}, {})
    assert (one.metric, one.verdict, one.ours, one.theirs) == (
        WHOLE_KEY, "missing", None, "3 fields",
    )  # fmt: skip
    assert compare({KERNEL: {}}, {KERNEL: {}}, {}) == []


def looked(ours: str | None, theirs: str | None) -> list[Difference]:
    """Return the verdicts of one look at a gauge beside a field that never differs."""

    def stat(value: str | None) -> dict[str, dict[str, str]]:
        return {} if value is None else {"mem": {"current": value, "unit_hint": "bytes"}}

    return compare({KERNEL: stat(ours)}, {KERNEL: stat(theirs)}, {})


def verdicts(differences: list[Difference]) -> list[Verdict]:
    return [one.verdict for one in differences]


def test_what_agreed_in_one_look_has_agreed():
    apart, equal = looked("100", "900"), looked("900", "900")
    assert verdicts(settled(apart, equal)) == ["equal", "equal"]
    assert verdicts(settled(equal, apart)) == ["equal", "equal"]
    assert verdicts(settled(apart, looked("100", "800"))) == ["different", "equal"]
    assert settled(apart, looked("100", "800"))[0].theirs == "800"
    assert settled(apart, []) == apart


def test_a_key_that_came_meanwhile_is_compared_and_one_that_has_gone_is_not():
    none, gone = looked("100", None), looked("100", None)
    assert verdicts(settled(none, looked("100", "100"))) == ["equal", "equal"]
    assert verdicts(settled(none, gone)) == ["extra"]
    apart = looked("100", "900")
    assert settled(apart, gone) == apart


def test_a_field_that_neither_side_has_any_more_is_left_out():
    apart = compare(
        {KERNEL: {"mem": {"current": "1"}, "cuda_mem": {"current": "1"}}},
        {KERNEL: {"mem": {"current": "1"}}}, {},
    )  # fmt: skip
    assert verdicts(apart) == ["equal", "extra"]
    assert verdicts(settled(apart, looked("1", "1"))) == ["equal"]
