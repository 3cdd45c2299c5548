"""Several series of one kernel: which of them counts."""

from __future__ import annotations

from poller.poll import duplicates
from poller.poll.duplicates import Identity, Sets
from poller.prometheus.answers import SetRow
from poller.values import Batch, Reading, Stamp

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
OWNED = {"session_id": "s", "user_id": "u", "project_id": "p"}
GHOST = {"session_id": "undefined", "user_id": "undefined", "project_id": "undefined"}


def sets(*described: tuple[dict[str, str], str, float, int]) -> Sets:
    """Describe each set of series by (labels, mem's value, newest sample, changes)."""
    base = {"kernel_id": KERNEL, "instance": "a"}
    values, stamps, changes = [], [], []
    for labels, value, stamp, count in described:
        full = {**base, **labels}
        values.append(
            SetRow({**full, "container_metric_name": "mem", "value_type": "current"}, (1.0, value))
        )
        stamps.append(SetRow(full, (1.0, str(stamp))))
        changes.append(SetRow(full, (1.0, str(count))))
    return Sets(values, stamps, changes)


def stamp_of(identity: Identity) -> Stamp:
    return Stamp("a", float(len(identity)), 0.0, 50.0)


def conflicting() -> Batch:
    return Batch(100.0, {KERNEL: {"mem": Reading("900")}}, conflicts=frozenset({KERNEL}))


def settled(told: Sets) -> str:
    batch = conflicting()
    after = duplicates.settle(batch, told, 5.0, stamp_of)
    assert not after.conflicts
    return after.observations[KERNEL]["mem"].current


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


def test_settling_survives_rubbish():
    rubbish = Sets(
        [SetRow({}, None), SetRow({"kernel_id": KERNEL}, (1.0, "NaN"))],
        [SetRow({}, (1.0, "x"))],
        [SetRow({"kernel_id": "?"}, None)],
    )
    assert settled(rubbish) == "900"


def test_a_settled_kernel_is_read_in_the_round_of_its_best_set():
    one, two = OWNED, {**OWNED, "replica": "b"}
    told = sets((one, "900", 40.0, 9), (two, "100", 50.0, 9))
    after = duplicates.settle(conflicting(), told, 5.0, stamp_of)
    assert after.stamp_of(KERNEL) == stamp_of(frozenset(told.stamps[1].metric.items()))
