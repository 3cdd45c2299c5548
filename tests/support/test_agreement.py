from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.agreement import Look, Rule, Stat, agreement, standstill

RULE = Rule(window_s=3.0)
KERNEL = "11111111-1111-4111-8111-111111111111"


def stat(round_: int) -> dict[str, dict[str, str]]:
    """Return values of a round; every field is another one in each."""
    rate, mean = 100.0 * (1 + round_ % 2), 50.0 + round_
    return {
        "cpu_util": {"current": f"{rate}", "pct": f"{rate / 10}", "stats.avg": f"{mean}"},
        "mem": {"current": f"{1000 + round_}", "unit_hint": "bytes"},
    }


def of_agent(at: float) -> Stat:
    """Return what an agent shows that measures every five seconds."""
    return stat(int(at // 5))


def looks(ours: Callable[[float], Stat | None], until: int = 60) -> list[Look]:
    """Look once a second at the agent and at what somebody else shows."""
    found = []
    for at in map(float, range(until)):
        value = ours(at)
        shown = {} if value is None else {KERNEL: value}
        found.append(Look(at, {KERNEL: of_agent(at)}, shown))
    return found


def test_the_agent_agrees_with_itself():
    found = agreement(looks(of_agent), RULE)
    assert found.of_rates == found.of_all == 1.0
    assert found.faults(1.0) == []


def test_a_value_may_be_as_late_as_the_window_and_no_later():
    late = agreement(looks(lambda at: of_agent(max(0.0, at - 3))), RULE)
    assert late.of_all == 1.0
    too_late = agreement(looks(lambda at: of_agent(max(0.0, at - 4))), RULE)
    assert too_late.of_all < 0.9


def changed(metric: str, field: str, share: float) -> Callable[[float], Stat]:
    def ours(at: float) -> Stat:
        value = {name: dict(fields) for name, fields in of_agent(at).items()}
        value[metric][field] = f"{float(value[metric][field]) * share}"
        return value

    return ours


@pytest.mark.parametrize(
    ("metric", "field", "within", "without"),
    [
        ("cpu_util", "current", 1.029, 1.031),
        ("cpu_util", "pct", 0.971, 0.969),
        ("cpu_util", "stats.avg", 1.0009, 1.0011),
        ("mem", "current", 1.0, 1.0001),
    ],
)
def test_each_field_has_its_tolerance(metric: str, field: str, within: float, without: float):
    def is_whole(value: float) -> bool:
        return agreement(looks(changed(metric, field, value)), RULE).of_all == 1.0

    if metric == "cpu_util":  # other fields must be the same text
        assert is_whole(within)
    assert not is_whole(without)


def test_a_rate_that_is_a_mean_over_rounds_does_not_hold():
    def ours(at: float) -> Stat:
        value = of_agent(at)
        return {**value, "cpu_util": {**value["cpu_util"], "current": "150.0", "pct": "15.0"}}

    found = agreement(looks(ours), RULE)
    assert found.of_rates == 0.0
    assert found.of_all == pytest.approx(0.6)
    assert "rates: 0.00%" in found.faults(0.99)


def test_a_zero_is_false_where_the_agent_showed_none():
    zero = changed("cpu_util", "current", 0.0)
    assert agreement(looks(zero), RULE).false_zeros == {("cpu_util", "current"): 60}
    assert "cpu_util.current: 60 false zeros" in agreement(looks(zero), RULE).faults(0.0)


def test_a_zero_is_true_where_the_agent_showed_one_lately():
    idle = {KERNEL: changed("cpu_util", "current", 0.0)(0.0)}
    both = [Look(0.0, idle, {}), Look(1.0, {KERNEL: of_agent(1.0)}, idle)]
    assert not agreement(both, RULE).false_zeros


def test_a_key_is_missing_once_the_agent_had_one_all_through_the_window():
    found = agreement(looks(lambda at: None if at < 20 else of_agent(at)), RULE, lambda at: at > 9)
    assert found.missing == 10
    assert found.faults(0.99) == ["10 instants without a key"]
    born = [Look(0.0, {}, {}), Look(1.0, {KERNEL: of_agent(1.0)}, {})]
    assert agreement(born, RULE).missing == 0


def test_a_field_that_only_one_of_them_has_does_not_hold():
    more = agreement(looks(lambda at: {**of_agent(at), "net_rx": {"current": "1"}}), RULE)
    less = agreement(looks(lambda at: {"mem": of_agent(at)["mem"]}), RULE)
    assert more.held["net_rx", "current"] == less.held["cpu_util", "current"] == 0
    assert more.judged["net_rx", "current"] == less.judged["cpu_util", "current"] == 60


def test_instants_that_are_not_judged_count_for_nothing():
    found = agreement(looks(lambda at: stat(99)), RULE, lambda at: at < 0)
    assert found.of_all == 0.0
    assert found.judged.total() == 0
    assert found.faults(0.99)[:2] == ["rates: 0.00%", "all fields: 0.00%"]


def test_a_standstill_is_the_longest_time_without_a_change():
    seen = [of_agent(float(at)) if at < 15 or at >= 30 else of_agent(14.0) for at in range(45)]
    both = [Look(float(at), {KERNEL: value}, {}) for at, value in enumerate(seen)]
    assert standstill(both) == (10.0, 30.0)
