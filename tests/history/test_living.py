"""Who lives on which exporter, and who vanished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from poller.history.feeding import Fed
from poller.rounds.rounds import Rounds
from poller.values import Batch, Reading
from tests.support.histories import CLOCKS, KERNEL, OTHER, A, B, history, stamp
from tests.support.looks import feed


def two(at: float, kernels: Mapping[str, str], **more: object) -> Batch:
    """Return a batch of {kernel: its exporter}."""
    return Batch(
        at,
        {kernel: {"mem": Reading(str(at))} for kernel in kernels},
        instances=dict(kernels),
        stamps={name: stamp(at / 5, name) for name in set(kernels.values())},
        **more,  # type: ignore[arg-type]
    )


def vanished(last: Batch) -> set[str]:
    made = history(two(10.0, {KERNEL: A, OTHER: B}))
    fed: Fed = feed(made, last, CLOCKS)
    return fed.vanished


def test_a_kernel_that_is_not_in_the_answer_any_more_has_vanished():
    assert vanished(two(15.0, {OTHER: B})) == {KERNEL}


def test_a_kernel_of_an_exporter_that_was_not_asked_has_not_vanished():
    assert vanished(two(15.0, {OTHER: B}, asked=frozenset({B}))) == set()
    assert vanished(two(15.0, {}, asked=frozenset({A}))) == {KERNEL}


def test_kernels_of_an_exporter_that_is_gone_have_vanished():
    last = two(15.0, {OTHER: B}, asked=frozenset({B}), census={B: 1})
    assert vanished(last) == {KERNEL}


def test_a_kernel_that_went_to_another_exporter_has_not_vanished():
    assert vanished(two(15.0, {KERNEL: B, OTHER: B})) == set()


def test_kernels_are_living_by_exporter_and_those_without_rounds_are_told():
    made = history(two(10.0, {KERNEL: A, OTHER: B}))
    assert (made.living.kernels, made.living.count) == ({A: (KERNEL,), B: (OTHER,)}, 2)
    assert made.living.roundless == frozenset()
    silent = two(15.0, {KERNEL: A, OTHER: B})
    made = history(Batch(15.0, silent.observations, instances=silent.instances))
    assert made.living.roundless == {A, B}


def test_an_exporter_whose_rounds_were_read_before_or_are_mixed_counts_rounds():
    made = history(two(10.0, {KERNEL: A, OTHER: B}))
    silent = replace(two(15.0, {KERNEL: A, OTHER: B}), stamps={})
    feed(made, silent, CLOCKS)
    assert made.living.roundless == frozenset()
    feed(made, silent, CLOCKS)
    assert made.living.roundless == {A, B}
    made = history(replace(silent, mixed=frozenset({A})))
    assert made.living.roundless == {B}


def test_the_round_an_exporter_was_read_in_stays_known_while_others_are_asked():
    made = history(two(10.0, {KERNEL: A, OTHER: B}))
    feed(made, two(15.0, {OTHER: B}, asked=frozenset({B})), CLOCKS)
    assert made.stamps == {A: stamp(2, A), B: stamp(3, B)}


def test_how_many_kernels_an_exporter_held_is_noted_when_it_measures():
    made = history(two(10.0, {KERNEL: A, OTHER: A}))
    assert made.living.held == {A: 2}
    again = replace(two(12.0, {KERNEL: A}), stamps={A: stamp(2)})  # OTHER went, or its samples did
    feed(made, again, CLOCKS)
    assert made.living.held == {A: 2}
    feed(made, two(15.0, {KERNEL: A}), CLOCKS)
    assert made.living.held == {A: 1}


def test_what_an_exporter_held_is_forgotten_with_its_clock():
    made = history(two(10.0, {KERNEL: A, OTHER: B}))
    feed(made, two(15.0, {KERNEL: A}), Rounds())
    assert made.living.held == {}
