"""Several series of one kernel: which of them counts."""

from __future__ import annotations

from collections.abc import Callable

from poller.batch.duplicates import Identity, Sets, settle
from poller.prometheus.answers import Sample, SetRow
from poller.values import Batch, Reading, Stamp

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
OTHER = "ffffffff-7a0f-4c5e-9d53-0b7f5a7c2e11"
OWNED = {"session_id": "s", "user_id": "u", "project_id": "p"}
GHOST = {"session_id": "undefined", "user_id": "undefined", "project_id": "undefined"}


def sets(*described: tuple[dict[str, str], str, float, int]) -> Sets:
    """Describe each set of series by (labels, mem's value, newest sample, changes)."""
    base = {"kernel_id": KERNEL, "instance": "a"}
    values, stamps, changes = [], [], []
    for labels, value, stamp, count in described:
        full = {**base, **labels}
        values.append(
            SetRow(
                {**full, "container_metric_name": "mem", "value_type": "current"},
                Sample(1.0, value),
            )
        )
        stamps.append(SetRow(full, Sample(1.0, str(stamp))))
        changes.append(SetRow(full, Sample(1.0, str(count))))
    return Sets(values, stamps, changes)


def nobody(identity: Identity) -> None:
    """Tell of no round."""


def batch(conflicts: frozenset[str] = frozenset({KERNEL})) -> Batch:
    merged = {"mem": Reading("900", "1000"), "io_read": Reading("7", rate="2")}
    return Batch(100.0, {KERNEL: dict(merged), OTHER: {"mem": Reading("5")}}, conflicts=conflicts)


def after(
    told: Sets, stamp_of: Callable[[Identity], Stamp | None] = nobody, home: str = ""
) -> Batch:
    return settle(batch(), told, 5.0, stamp_of, {KERNEL: home})


def settled(told: Sets, home: str = "") -> str:
    done = after(told, home=home)
    assert not done.conflicts
    return done.observations[KERNEL]["mem"].current


def test_an_owned_set_goes_before_a_ghost_that_stands_still():
    assert settled(sets((OWNED, "100", 50.0, 3), (GHOST, "900", 50.0, 0))) == "100"


def test_an_owned_set_goes_before_a_ghost_where_both_stand_still():
    assert settled(sets((OWNED, "100", 50.0, 0), (GHOST, "900", 50.0, 0))) == "100"


def test_a_set_that_moves_goes_before_an_owned_one_that_stands_still():
    assert settled(sets((OWNED, "900", 50.0, 0), (GHOST, "100", 50.0, 4))) == "100"


def test_a_restarted_agents_new_series_go_before_the_lingering_old_ones():
    old, new = {**OWNED, "service_id": "1"}, {**OWNED, "service_id": "2"}
    assert settled(sets((old, "900", 20.0, 9), (new, "100", 50.0, 0))) == "100"


def test_of_two_replicas_the_fresher_one_counts():
    one, two = {**OWNED, "replica": "a"}, {**OWNED, "replica": "b"}
    assert settled(sets((one, "900", 48.0, 9), (two, "100", 50.0, 9))) == "100"


def test_of_two_exporters_that_move_the_one_counts_that_was_read_before():
    one, two = {**OWNED, "instance": "a"}, {**OWNED, "instance": "b"}
    told = sets((one, "900", 48.0, 9), (two, "100", 50.0, 9))
    assert [settled(told, home) for home in ("a", "b", "")] == ["900", "100", "100"]


def test_the_exporter_read_before_does_not_count_when_left_behind_standing_still_or_not_owned():
    one, two = {**OWNED, "instance": "a"}, {**OWNED, "instance": "b"}
    ghost = {**GHOST, "instance": "a"}
    assert settled(sets((ghost, "900", 50.0, 9), (two, "100", 50.0, 9)), "a") == "100"
    assert settled(sets((one, "900", 40.0, 9), (two, "100", 50.0, 9)), "a") == "100"
    assert settled(sets((one, "900", 50.0, 0), (two, "100", 50.0, 9)), "a") == "100"


def test_a_metric_that_the_best_set_lacks_comes_from_the_next():
    told = sets((OWNED, "100", 50.0, 3), (GHOST, "900", 50.0, 0))
    told.values[1].metric["container_metric_name"] = "io_read"
    readings = after(told).observations[KERNEL]
    assert (readings["mem"].current, readings["io_read"].current) == ("100", "900")


def test_what_is_not_in_conflict_stays_as_it_was_and_so_do_rates_and_capacities():
    told = sets((OWNED, "100", 50.0, 3), ({**OWNED, "kernel_id": OTHER}, "8", 50.0, 3))
    assert after(told).observations == {
        KERNEL: {"mem": Reading("100", "1000"), "io_read": Reading("7", rate="2")},
        OTHER: {"mem": Reading("5")},
    }


def test_the_kernel_is_in_the_round_of_the_exporter_whose_set_was_chosen():
    rounds = {name: Stamp(name, number, 0.0, 50.0) for name, number in (("a", 7.0), ("b", 70.0))}
    told = sets(
        ({**OWNED, "instance": "a"}, "100", 50.0, 3), ({**OWNED, "instance": "b"}, "9", 20.0, 3)
    )
    done = after(told, lambda identity: rounds[dict(identity)["instance"]])
    assert done.own_stamps == {KERNEL: rounds["a"]}
    assert done.stamp_of(KERNEL) == rounds["a"]


def test_settling_survives_rubbish():
    rubbish = Sets(
        [SetRow({}, None), SetRow({"kernel_id": KERNEL}, Sample(1.0, "NaN"))],
        [SetRow({}, Sample(1.0, "x"))],
        [SetRow({"kernel_id": "?"}, None)],
    )
    assert settled(rubbish) == "900"
