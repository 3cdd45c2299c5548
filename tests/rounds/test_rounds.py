"""The agents' clock: held against simulated agents whose measurements are known to the instant."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.prometheus.answers import Sample, Series
from poller.rounds.arrivals import Step
from poller.rounds.counters import target_of
from poller.rounds.exporter import Exporter, ExporterState
from poller.rounds.rounds import Rounds
from poller.rounds.scrape import Scrape
from poller.values import Stamp
from tests.support.examples import examples
from tests.support.looks import look, series_of

A = {"instance": "a:1", "job": "agents"}
STAGES = {"upper_layer": "collect_container_stat"}
TASKS = {"stat_scope": "container", "agent_id": "i-a"}
SERIES = {
    "gathers": {**STAGES, "__name__": "backendai_stage_count_total", "stage": "gather_measures",
                "success": "True"},
    "gathering": {**STAGES, "__name__": "backendai_stage_duration_sec_sum",
                  "stage": "gather_measures", "success": "True"},
    "observes": {**STAGES, "__name__": "backendai_stage_count_total", "stage": "before_observe",
                 "success": "True"},
    "writing": {**STAGES, "__name__": "backendai_stage_duration_sec_sum", "stage": "redis_write"},
    "writes": {**STAGES, "__name__": "backendai_stage_count_total", "stage": "redis_write",
               "success": "True"},
    "ends": {**TASKS, "__name__": "backendai_stat_task_duration_sec_count"},
    "lasted": {**TASKS, "__name__": "backendai_stat_task_duration_sec_sum"},
    "successes": {**TASKS, "__name__": "backendai_stat_task_success_count_total"},
}  # fmt: skip
SLEEPER = ("gathers", "gathering", "writing", "ends", "lasted", "successes")
"""What an agent since 26.4.4 has: it sleeps its interval after each round."""
TIMER = ("observes", "ends", "lasted", "successes")
"""What an agent of 25.12 to 26.4.3 has: a timer fires every interval."""
Look = tuple[Stamp, Stamp, Step | None]


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a simulated agent: when it measured and ended, its durations so far."""

    measured: float
    ended: float
    gathered_s: float
    lasted_s: float
    written_s: float = 0.0


def sleeping(
    interval_s: float,
    durations: Iterable[tuple[float, float]],
    pauses: Mapping[int, float] | None = None,
    start: float = 0.0,
) -> list[Round]:
    """Run rounds of (gathering, write) seconds, and sleep after each; by number, longer."""
    three = ((0.0, gather_s, write_s) for gather_s, write_s in durations)
    return preparing(interval_s, three, pauses, start)


def preparing(
    interval_s: float,
    durations: Iterable[tuple[float, float, float]],
    pauses: Mapping[int, float] | None = None,
    start: float = 0.0,
) -> list[Round]:
    """Run rounds of (preparation, gathering, write) seconds, as `sleeping` does."""
    rounds: list[Round] = []
    now, gathered_s, written_s, lasted_s = start, 0.0, 0.0, 0.0
    for number, (prepare_s, gather_s, write_s) in enumerate(durations, 1):
        gathered_s, written_s = gathered_s + gather_s, written_s + write_s
        lasted_s += prepare_s + gather_s + write_s
        measured = now + prepare_s + gather_s
        rounds.append(Round(measured, measured + write_s, gathered_s, lasted_s, written_s))
        now = measured + write_s + interval_s + (pauses or {}).get(number, 0.0)
    return rounds


def firing(interval_s: float, durations: Iterable[float]) -> list[Round]:
    """Run a round every interval; it measures at its end, but for a few milliseconds."""
    rounds: list[Round] = []
    lasted_s = 0.0
    for number, duration_s in enumerate(durations):
        lasted_s += duration_s
        ended = number * interval_s + duration_s
        rounds.append(Round(ended - 0.005, ended, lasted_s, lasted_s))
    return rounds


def every(scrape_s: float, until: float, start: float = 0.3, jitter_s: float = 0.0) -> list[float]:
    """Return the times of scrapes."""
    dice = random.Random(7)
    count = int((until - start) / scrape_s)
    return [start + place * scrape_s + dice.uniform(0, jitter_s) for place in range(count)]


def scraped(
    rounds: Sequence[Round],
    scrapes: Iterable[float],
    has: Iterable[str] = SLEEPER,
    target: Mapping[str, str] = A,
    late_s: float = 0.0,
) -> list[Series]:
    """Return what the scrapes saw; each saw it `late_s` after its timestamp."""
    values: dict[str, list[tuple[float, str]]] = {name: [] for name in has}
    for at in scrapes:
        measured = [one for one in rounds if one.measured <= at + late_s]
        ended = [one for one in rounds if one.ended <= at + late_s]
        now = {
            "gathers": len(measured),
            "observes": len(measured),
            "gathering": measured[-1].gathered_s if measured else 0.0,
            "ends": len(ended),
            "lasted": ended[-1].lasted_s if ended else 0.0,
            "successes": len(ended),
            "writes": len(ended),
            "writing": ended[-1].written_s if ended else 0.0,
        }
        for name in has:
            values[name].append((at, repr(float(now[name]))))
    return [series_of({**SERIES[name], **target}, samples) for name, samples in values.items()]


def count(
    *samples: tuple[float, float], name: str = "gathers", target: Mapping[str, str] = A,
    **more: str,
) -> Series:  # fmt: skip
    """Return one counter as it was scraped: (time, count)."""
    return series_of(
        {**SERIES[name], **target, **more}, [(at, repr(float(number))) for at, number in samples]
    )


def followed(*answers: Sequence[Series]) -> Rounds:
    made = Rounds()
    for answer in answers:
        look(made, answer, max(sample.at for one in answer for sample in one.values))
    return made


def clock(rounds: Rounds, instance: str = "a:1") -> Exporter:
    found = rounds.of(instance)
    assert found is not None
    return found


def state(rounds: Rounds) -> ExporterState:
    (found,) = rounds.states()
    return found


def interval_of(rounds: Rounds) -> float | None:
    """Return what the agent keeps beside its rounds' durations."""
    return clock(rounds).interval_s


def stamps_of(answer: Sequence[Series]) -> tuple[Rounds, list[Stamp]]:
    made = Rounds()
    return made, look(made, answer, 1e6)["a:1"]


def truth(rounds: Sequence[Round], before: Stamp, after: Stamp) -> float:
    """Return how many seconds there were between two measurements."""
    return rounds[int(after.number) - 1].measured - rounds[int(before.number) - 1].measured


def step(clocks: Rounds, before: Stamp, after: Stamp) -> Step:
    """Return how far apart two measurements are, which must be known."""
    found = clocks.step(before, after)
    assert found is not None
    return found


def are_true(
    clocks: Rounds, rounds: Sequence[Round], stamps: Sequence[Stamp], **within: float
) -> None:
    """The steps between neighbours of some measurements are as long as those truly were."""
    for before, after in zip(stamps, stamps[1:], strict=False):
        found = step(clocks, before, after)
        assert found.rounds == after.number - before.number
        assert found.elapsed_s == pytest.approx(truth(rounds, before, after), **within)


# Which counter.


@pytest.mark.parametrize(
    ("has", "counter"),
    [
        (SLEEPER, "gather_measures"),
        (("gathers", "observes", "ends"), "gather_measures"),
        (TIMER, "before_observe"),
        (("ends", "lasted", "successes"), "durations"),
        (("successes",), "successes"),
        (("writes", "lasted"), None),
    ],
)
def test_the_best_of_several_counters_counts(has: tuple[str, ...], counter: str | None):
    rounds = followed(scraped(sleeping(5.0, [(0.1, 0.1)] * 9), every(2.0, 40.0), has))
    assert state(rounds).counter == counter


def test_a_count_of_successful_writes_gives_no_round_and_no_stall():
    rounds = followed([count((0.0, 5), (5.0, 6), (10.0, 7), name="successes")])
    look(rounds, [count(*((at, 7) for at in range(15, 900, 5)), name="successes")], 900.0)
    assert rounds.stamps(0.0) == {}
    assert rounds.stalled() == set()


def test_a_count_of_successful_writes_that_moves_is_a_sign_of_life():
    moving = [(float(at), at // 5) for at in range(0, 60, 5)]
    rounds = followed([count(*moving, name="successes")])
    assert rounds.living() == {"a:1"}
    look(rounds, [count(*((at, 11) for at in range(60, 300, 5)), name="successes")], 300.0)
    assert rounds.living() == set()
    assert followed([count(*moving)]).living() == set()  # it counts its rounds


def test_a_round_that_was_cancelled_is_none():
    done = [(at, at // 5) for at in range(0, 60, 5)]
    cancelled = [(at, at) for at in range(0, 60, 5)]
    rounds = followed([count(*done), count(*cancelled, success="False")])
    assert rounds.stamps(0.0)["a:1"].number == 11.0
    alone = followed([count(*cancelled, success="False")])
    assert (state(alone).counter, alone.stamps(0.0)) == (None, {})


def test_a_better_counter_takes_over_and_a_worse_one_does_not_stand_in():
    rounds = followed([count((0.0, 50), (5.0, 51), name="ends")])
    assert rounds.stamps(0.0)["a:1"].number == 51.0
    new = look(rounds, [count((10.0, 3)), count((10.0, 52), (15.0, 53), name="ends")], 15.0)
    assert [stamp.number for stamp in new["a:1"]] == [3.0]
    assert rounds.stamps(0.0)["a:1"].number == 3.0


# Which exporter.


def test_a_counter_without_an_instance_is_nobodys():
    series = count((0.0, 1), (5.0, 2))
    del series.metric["instance"]
    rounds = followed([series])
    assert (rounds.states(), rounds.stamps(0.0)) == ([], {})
    assert rounds.newest_scrapes([series]) == {}


def test_what_is_counted_of_something_else_than_rounds_is_passed_over():
    node = count((0.0, 1), (5.0, 2), upper_layer="collect_node_stat")
    ends = count((0.0, 1), (5.0, 2), name="ends", stat_scope="node")
    assert followed([node, ends]).states() == []


def test_labels_that_tell_what_is_counted_tell_no_targets_apart():
    assert target_of(SERIES["gathers"] | A) == target_of(SERIES["lasted"] | A)
    assert target_of(A | {"replica": "x"}) != target_of(A)


def test_two_agents_of_one_host_are_two_clocks():
    other = {**A, "instance": "a:2"}
    rounds = followed([count((0.0, 1), (5.0, 2)), count((0.0, 70), (5.0, 71), target=other)])
    found = {name: stamp.number for name, stamp in rounds.stamps(0.0).items()}
    assert found == {"a:1": 2.0, "a:2": 71.0}


def test_of_two_replicas_the_one_that_was_scraped_last_counts():
    x, y = {**A, "replica": "x"}, {**A, "replica": "y"}
    answer = [count((0.0, 6), (5.0, 7), target=x), count((1.0, 6), (4.0, 6), target=y)]
    for order in (answer, answer[::-1]):
        rounds = followed(order)
        assert rounds.stamps(0.0)["a:1"] == Stamp("a:1", 7.0, 0.0, 5.0)
        assert len(rounds.states()) == 1


def test_a_restarted_agents_new_series_go_before_the_lingering_old_ones():
    old, new = {**A, "service_id": "1"}, {**A, "service_id": "2"}
    rounds = followed([count((0.0, 600), (5.0, 601), target=old)])
    before = rounds.stamps(0.0)["a:1"]
    look(rounds, [count((5.0, 601), target=old), count((20.0, 1), (25.0, 2), target=new)], 25.0)
    after = rounds.stamps(0.0)["a:1"]
    assert after.number == 2.0
    assert rounds.step(before, after) is None


def test_an_exporter_that_is_not_scraped_any_more_is_in_no_round():
    gone = {**A, "instance": "b:1"}
    rounds = followed([count((0.0, 1), (500.0, 9)), count((0.0, 1), (100.0, 3), target=gone)])
    assert rounds.stamps(200.0).keys() == {"a:1"}


def test_an_exporter_that_comes_back_goes_on_counting_and_is_not_told_of_meanwhile():
    other = {**A, "instance": "b:1"}
    early = [(at, at / 5 + 1) for at in range(0, 100, 5)]
    rounds = followed([count(*early), count(*early, target=other)])
    before = rounds.stamps(0.0)["b:1"]
    look(rounds, [count(*((at, at / 5 + 1) for at in range(100, 1000, 5)))], 1000.0)
    rounds.lay_by_silent(600.0)
    assert [one.instance for one in rounds.states()] == ["a:1"]
    assert rounds.of("b:1") is None
    assert ("b:1", 20.0) in rounds.last_rounds()
    look(rounds, [count((1000.0, 201), target=other)], 1000.0)
    found = step(rounds, before, rounds.stamps(0.0)["b:1"])
    assert (found.rounds, found.elapsed_s) == (181.0, pytest.approx(905.0, abs=10))


def test_an_exporter_that_does_not_come_back_for_a_day_is_forgotten():
    rounds = followed([count((0.0, 1), (5.0, 2)), count((0.0, 1), target={**A, "instance": "b"})])
    for at in range(10, 90_000, 10):
        look(rounds, [count((at, at))], float(at))
        rounds.lay_by_silent(600.0)
    assert {instance for instance, _ in rounds.last_rounds()} == {"a:1"}


def test_an_exporter_is_silent_where_others_were_scraped_since():
    other = {**A, "instance": "b:1"}
    steady = [(at, at) for at in range(0, 60, 5)]
    late = count(*steady[:8], target=other)
    assert [one.silent for one in followed([count(*steady[:9]), late]).states()] == [False, False]
    assert [one.silent for one in followed([count(*steady), late]).states()] == [False, True]


@pytest.mark.parametrize("outage_s", [6, 12, 25, 200])
@pytest.mark.parametrize("every_s", [2, 5])
def test_a_time_in_which_nobody_was_scraped_makes_nobody_silent(outage_s: int, every_s: int):
    rounds, targets = Rounds(), [{**A, "instance": f"{name}:1"} for name in "abcd"]
    down = range(60, 60 + outage_s)
    for now in range(10, 120 + outage_s, 3):
        if now in down:
            continue  # who was to ask, was not answered
        answer = []
        for first, one in enumerate(targets):
            scrapes = (at for at in range(first, now, every_s) if at not in down)
            answer.append(count(*((at, at) for at in scrapes), target=one))
        look(rounds, answer, float(now))
        assert [one.instance for one in rounds.states() if one.silent] == []


def test_an_exporter_that_does_not_come_back_after_an_outage_is_silent():
    other = {**A, "instance": "b:1"}
    before = [(at, at) for at in range(0, 60, 5)]
    after = [(at, at) for at in range(300, 400, 5)]

    def silent(scrapes: int) -> list[bool]:
        rounds = followed([count(*before), count(*before, target=other)])
        look(rounds, [count(*after[:scrapes])], 500.0)
        return [one.silent for one in rounds.states()]

    assert silent(3) == [False, False]
    assert silent(6) == [False, True]


def test_an_exporter_is_silent_though_the_last_one_of_the_others_misses_scrapes():
    gone = {**A, "instance": "b:1"}
    steady = [(at, at) for at in range(0, 60, 5)]
    limping = [(at, at) for at in range(60, 120, 5) if at % 15]
    rounds = followed([count(*steady), count(*steady, target=gone)])
    look(rounds, [count(*limping)], 120.0)
    assert [one.silent for one in rounds.states()] == [False, True]


def test_an_exporter_tells_its_agent():
    rounds = followed(scraped(sleeping(5.0, [(0.1, 0.1)] * 3), every(2.0, 15.0)))
    assert state(rounds).agent == "i-a"


# Samples.


def test_samples_that_were_seen_before_are_passed_over():
    rounds = sleeping(3.0, [(0.2, 0.1)] * 40)
    scrapes = every(2.0, 100.0)
    once, twice = Rounds(), Rounds()
    new = look(once, scraped(rounds, scrapes), 100.0)
    bits = [look(twice, scraped(rounds, scrapes[at : at + 12]), 100.0) for at in range(0, 60, 5)]
    assert [stamp for bit in bits for stamp in bit.get("a:1", [])] == new["a:1"]
    assert twice.states() == once.states()


def test_a_look_at_many_agents_gives_the_collector_next_to_nothing_to_see():
    """Each object that it sees calls for a pass through all that is kept sooner."""
    targets = [{"instance": f"a:{number}"} for number in range(200)]
    clocks = Rounds()
    look(clocks, [count((1.0, 4), target=target) for target in targets], 1.0)
    answer = [count((1.0, 4), (5.0, 5), target=target) for target in targets]
    gc.collect()
    before = len(gc.get_objects())
    there = [stamp for stamps in clocks.see(answer, 5.0) for stamp in stamps[1]]
    states = clocks.states()
    gc.collect()
    assert len(there) == len(states) == 200
    assert len(gc.get_objects()) - before < 50


def test_new_rounds_are_told_in_order_each_by_the_scrape_that_saw_it_first():
    rounds = Rounds()
    answer = [count((1.0, 4), (3.0, 4), (5.0, 5), (7.0, 7), (9.0, 7))]
    new = look(rounds, answer, 9.0)
    assert [(one.number, one.scraped) for one in new["a:1"]] == [(4.0, 1.0), (5.0, 5.0), (7.0, 7.0)]
    assert look(rounds, answer, 9.0) == {}


def test_a_look_that_is_broken_off_has_seen_what_it_told_and_nothing_else():
    rounds = sleeping(3.0, [(0.2, 0.1)] * 9)
    first, second = A, {**A, "instance": "b:1"}
    answer = [
        series
        for target in (first, second)
        for series in scraped(rounds, every(2.0, 25.0), target=target)
    ]
    broken_off, whole = Rounds(), Rounds()
    assert next(broken_off.see(answer, 25.0)) == ("", [])  # while it sorts
    assert broken_off.stamps(0.0) == {}
    told = next(new for new in broken_off.see(answer, 25.0) if new[1])
    assert broken_off.at is None
    assert broken_off.stamps(0.0).keys() == {"a:1"}
    again = look(broken_off, answer, 25.0)
    assert {"a:1": told[1], "b:1": again.pop("b:1")} == look(whole, answer, 25.0)
    assert again == {}
    assert (broken_off.at, broken_off.states()) == (25.0, whole.states())


def test_what_is_no_number_is_no_sample():
    answer = [count((0.0, 1), (5.0, 2))]
    answer[0].values += (Sample(10.0, "NaN"), Sample(15.0, "+Inf"))
    assert followed(answer).stamps(0.0)["a:1"].number == 2.0


def test_the_newest_scrape_of_a_target_is_told_whatever_it_counts():
    answer = [count((0.0, 1), (5.0, 2)), count((0.0, 1), (6.0, 2), name="observes")]
    assert list(Rounds().newest_scrapes(answer).values()) == [6.0]


def test_a_poller_that_starts_later_learns_the_same_from_raw_samples():
    rounds = sleeping(3.0, [(0.2, 0.1)] * 40)
    scrapes = every(2.0, 120.0)
    early, late = followed(scraped(rounds, scrapes)), followed(scraped(rounds, scrapes[30:]))
    assert late.stamps(0.0)["a:1"].number == early.stamps(0.0)["a:1"].number
    assert interval_of(late) == interval_of(early)


# The interval, and the time between measurements.


def uneven(count: int, gather_s: float, rest_s: float) -> list[tuple[float, float]]:
    dice = random.Random(3)
    return [
        (gather_s * dice.uniform(0.5, 2.0), rest_s * dice.uniform(0.5, 2.0)) for _ in range(count)
    ]


@pytest.mark.parametrize("late_s", [0.0, 0.08])
@pytest.mark.parametrize(
    ("interval_s", "scrape_s"), [(3.0, 2.0), (3.0, 0.7), (5.0, 5.0), (30.0, 15.0), (2.0, 6.0)]
)
def test_a_sleeping_agents_interval_and_every_step_are_found(
    interval_s: float, scrape_s: float, late_s: float
):
    rounds = sleeping(interval_s, uneven(120, 0.25, 0.05))
    scrapes = every(scrape_s, rounds[-1].ended, jitter_s=0.1 * scrape_s)
    clocks, stamps = stamps_of(scraped(rounds, scrapes, late_s=late_s))
    assert interval_of(clocks) == pytest.approx(interval_s, rel=0.01)
    # Of rounds between two scrapes nobody saw how long each one gathered.
    are_true(clocks, rounds, stamps[-40:], rel=0.02 if scrape_s <= interval_s else 0.025)


def test_what_is_told_is_how_often_an_agent_measures_its_rounds_durations_included():
    slow = sleeping(3.0, [(0.4, 0.8)] * 60)
    clocks, _ = stamps_of(scraped(slow, every(2.0, slow[-1].ended)))
    assert state(clocks).interval_s == pytest.approx(4.2, rel=0.01)
    timed = firing(3.0, [0.4] * 100)
    clocks, _ = stamps_of(scraped(timed, every(2.0, timed[-1].ended), TIMER))
    assert state(clocks).interval_s == pytest.approx(3.0, rel=0.01)


@pytest.mark.parametrize(("interval_s", "scrape_s"), [(5.0, 2.0), (3.0, 2.0), (3.0, 10.0)])
def test_a_timers_interval_and_every_step_are_found(interval_s: float, scrape_s: float):
    rounds = firing(interval_s, [gather for gather, _ in uneven(200, 0.05, 0.0)])
    clocks, stamps = stamps_of(scraped(rounds, every(scrape_s, rounds[-1].ended), TIMER))
    assert interval_of(clocks) == pytest.approx(interval_s, rel=0.01)
    are_true(clocks, rounds, stamps[-30:], rel=0.02)


def test_rounds_of_a_timer_that_came_two_at_a_time_lasted_as_long_as_these_did_not_a_whole_life():
    durations = [4.0] * 40 + [0.1] * 40
    rounds = firing(10.0, durations)
    clocks, stamps = stamps_of(scraped(rounds, every(15.0, rounds[-1].ended), TIMER))
    are_true(clocks, rounds, stamps[-20:], rel=0.02)


def test_durations_are_no_part_of_a_timers_period_and_are_of_a_sleepers():
    slow = [(0.9, 0.1)] * 60
    sleeper = followed(scraped(sleeping(5.0, slow), every(1.0, 300.0)))
    timer = followed(scraped(firing(5.0, [1.0] * 60), every(1.0, 290.0), TIMER))
    assert clock(sleeper).period_s == pytest.approx(6.0, rel=0.01)
    assert clock(timer).period_s == pytest.approx(5.0, rel=0.01)


def test_one_slow_round_is_known_by_its_duration():
    durations = [(0.1, 0.1)] * 60
    durations[50] = (4.0, 0.1)
    rounds = sleeping(5.0, durations)
    clocks, stamps = stamps_of(scraped(rounds, every(1.0, rounds[-1].ended)))
    slow = next(place for place, stamp in enumerate(stamps) if stamp.number == 51.0)
    found = step(clocks, stamps[slow - 1], stamps[slow])
    assert found.elapsed_s == pytest.approx(9.1, rel=0.01)


@pytest.mark.parametrize("scrape_s", [0.3, 0.7, 1.0])
def test_what_a_round_takes_before_it_gathers_puts_off_its_own_measurement(scrape_s: float):
    dice = random.Random(3)
    durations = [(dice.choice((0.01, 0.2)), 0.1, dice.choice((0.002, 0.1))) for _ in range(120)]
    rounds = preparing(1.0, durations)
    scrapes = [
        at for at in every(scrape_s, rounds[-1].ended)
        if not any(one.measured <= at < one.ended for one in rounds)
    ]  # fmt: skip
    clocks, stamps = stamps_of(scraped(rounds, scrapes))
    are_true(clocks, rounds, stamps[-30:], rel=0.01)


def test_a_scrape_between_a_measurement_and_the_end_of_its_round_is_as_good_as_any():
    gathers = [0.3 + 0.2 * (number % 3) for number in range(60)]
    rounds = sleeping(5.0, [(gather_s, 1.5) for gather_s in gathers])
    scrapes = every(1.0, rounds[-1].ended)
    assert sum(any(one.measured <= at < one.ended for one in rounds) for at in scrapes) > 60
    clocks, stamps = stamps_of(scraped(rounds, scrapes))
    are_true(clocks, rounds, stamps[-30:], rel=0.005)


@pytest.mark.parametrize("exported", [True, False])
@pytest.mark.parametrize("lived_before", [False, True])
@pytest.mark.parametrize("seen_next", ["the same, ended", "the second, ended"])
def test_the_first_scrape_may_see_a_first_round_that_has_not_ended(
    exported: bool, lived_before: bool, seen_next: str
):
    clocks = Rounds()
    if lived_before:
        look(clocks, scraped(sleeping(5.0, [(0.2, 1.5)] * 40), every(2.0, 260.0)), 260.0)
    rounds = sleeping(5.0, [(0.3, 0.2), (0.4, 0.4), (0.5, 0.2)], start=400.0)
    ended = rounds[0 if seen_next == "the same, ended" else 1].ended
    scrapes = [rounds[0].measured + 0.05, ended + 0.05, rounds[2].measured + 0.05]
    answer = scraped(rounds, scrapes)
    if not exported:  # a client library tells of a histogram from its first observation on
        answer = [
            Series(one.metric, tuple(it for it in one.values if it.text != "0.0")) for one in answer
        ]
    first, *others = look(clocks, answer, 500.0)["a:1"]
    assert others[-1].number == 3.0
    for stamp in others:
        number = int(stamp.number) - 1
        put_off_s = rounds[number].measured - rounds[0].measured - number * 5.0
        assert stamp.shift_s - first.shift_s == pytest.approx(put_off_s, abs=0.11)


def test_unseen_rounds_count():
    rounds = sleeping(2.0, [(0.1, 0.1)] * 100)
    clocks, stamps = stamps_of(scraped(rounds, every(6.0, 210.0)))
    found = step(clocks, stamps[-2], stamps[-1])
    assert found.rounds in (2.0, 3.0)
    assert found.elapsed_s == pytest.approx(found.rounds * 2.2, rel=0.01)


def test_before_the_interval_is_known_the_scrapes_tell_the_time():
    clocks, stamps = stamps_of([count((0.0, 5), (4.0, 6))])
    assert interval_of(clocks) is None
    found = step(clocks, *stamps)
    assert found == Step(1.0, 4.0, sure=False)  # the first one may have been long before 0


@pytest.mark.parametrize(
    ("measure_s", "scrape_s", "first"), [(5.0, 5.0, 3.0), (30.0, 30.0, 12.0), (5.0, 5.0, 1.5)]
)
def test_an_interval_is_not_taken_for_twice_as_long_because_that_is_rounder(
    measure_s: float, scrape_s: float, first: float
):
    rounds, scrapes = sleeping(measure_s, [(0.0, 0.0)] * 8), every(scrape_s, 7 * scrape_s, first)
    clocks, stamps = Rounds(), []
    for place, at in enumerate(scrapes):
        stamps += look(clocks, scraped(rounds, scrapes[: place + 1]), at)["a:1"]
        if place > 0:
            found = step(clocks, *stamps[-2:])
            assert found.elapsed_s == pytest.approx(measure_s)


@examples(60)
@given(
    st.floats(1.0, 40.0),
    st.floats(0.3, 20.0),
    st.floats(0.0, 0.5),
    st.floats(0.0, 0.09),
    st.booleans(),
    st.integers(0, 1000),
)
def test_the_true_interval_always_lies_between_the_bounds(
    interval_s: float,
    scrape_s: float,
    duration_s: float,
    late_s: float,
    sleeps: bool,
    seed: int,
):
    dice = random.Random(seed)
    if sleeps:
        durations = [(dice.uniform(0, duration_s), 0.1 * duration_s) for _ in range(40)]
        rounds, has = sleeping(interval_s, durations), SLEEPER
    else:
        rounds, has = firing(interval_s, [0.1 * duration_s] * 40), TIMER
    scrapes = every(scrape_s, rounds[-1].ended, start=dice.uniform(0, scrape_s))
    answer = scraped(rounds, scrapes, has, late_s=late_s)
    followed_by_scrape = Rounds()
    for place in range(len(scrapes)):
        one = [Series(series.metric, series.values[place : place + 1]) for series in answer]
        look(followed_by_scrape, one, scrapes[place])
        known = clock(followed_by_scrape)
        assert known.arrivals._low_s <= interval_s + 1e-6
        assert known.arrivals._high_s >= interval_s - 1e-6


@examples(40)
@given(
    st.sampled_from([1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 30.0]) | st.floats(2.0, 40.0),
    st.floats(0.2, 1.5),
    st.floats(0.0, 0.4),
    st.integers(0, 1000),
)
def test_after_some_rounds_every_step_is_true(
    interval_s: float, share: float, duration_s: float, seed: int
):
    dice = random.Random(seed)
    durations = [(dice.uniform(0, duration_s), dice.uniform(0, 0.03)) for _ in range(100)]
    rounds = sleeping(interval_s, durations)
    scrape_s = share * interval_s
    scrapes = [
        at + dice.uniform(0, 0.02 * scrape_s) for at in every(scrape_s, rounds[-1].ended)
    ]  # fmt: skip
    # Of two rounds between two scrapes it is not told how long each gathered, if one still runs.
    guessed_s = duration_s / 2 + 0.06 if 1.02 * scrape_s > interval_s else 0.0
    clocks, stamps = stamps_of(scraped(rounds, scrapes))
    are_true(clocks, rounds, stamps[-20:], rel=0.03, abs=guessed_s)


# What breaks the rhythm.


def test_a_counter_that_falls_gives_no_step_and_keeps_the_interval():
    rounds = sleeping(3.0, [(0.2, 0.1)] * 50)
    again = sleeping(3.0, [(0.2, 0.1)] * 3, start=rounds[-1].ended + 20.0)
    scrapes = every(2.0, again[-1].ended)
    boundary = again[0].measured - 10.0
    clocks, old = stamps_of(scraped(rounds, [at for at in scrapes if at < boundary]))
    new = look(clocks, scraped(again, [at for at in scrapes if at >= again[0].measured]), 1e6)
    assert clocks.step(old[-1], new["a:1"][0]) is None
    assert interval_of(clocks) == pytest.approx(3.0, rel=0.01)


def test_no_step_leads_from_one_life_of_an_agent_into_the_middle_of_another():
    old = sleeping(5.0, [(0.1, 0.1)] * 6)
    new = sleeping(5.0, [(0.1, 0.1)] * 20, start=600.0)
    scrapes = every(2.0, 700.0)
    before, after = [at for at in scrapes if at < 30], [at for at in scrapes if at > 600]
    for target in (A, {**A, "service_id": "2"}):
        clocks, stamps = stamps_of(scraped(old, before))
        later = look(clocks, scraped(new, after, target=target), 700.0)["a:1"][-1]
        assert later.number > stamps[-1].number
        assert clocks.step(stamps[-1], later) is None


def test_a_step_may_lead_from_one_replica_to_the_other():
    rounds = sleeping(5.0, [(0.1, 0.1)] * 60)
    scrapes = every(2.0, 300.0)
    clocks, stamps = stamps_of(scraped(rounds, scrapes, target={**A, "replica": "x"}))
    other = scraped(rounds, [at + 0.9 for at in scrapes], target={**A, "replica": "y"})
    new = look(clocks, other, 300.0)["a:1"]
    found = step(clocks, stamps[-2], new[-1])
    assert found.elapsed_s == pytest.approx(5.2 * found.rounds, rel=0.01)


def test_a_step_may_lead_over_a_replica_that_saw_a_round_that_the_other_skipped():
    rounds = sleeping(5.0, [(0.1, 0.1)] * 30)
    scrapes = every(15.0, 150.0)
    clocks, stamps = stamps_of(scraped(rounds, scrapes, target={**A, "replica": "x"}))
    other = scraped(rounds, [at + 7.0 for at in scrapes[:-1]], target={**A, "replica": "y"})
    skipped = look(clocks, other, 150.0)["a:1"]
    assert not {one.number for one in skipped} & {one.number for one in stamps}
    step = clocks.step(skipped[-1], stamps[-1])
    assert step is not None
    assert step.elapsed_s == pytest.approx(5.2 * step.rounds, rel=0.05)


def test_a_step_over_more_rounds_than_are_kept_is_known_all_the_same():
    rounds = sleeping(5.0, [(0.1, 0.1)] * 200)
    clocks, stamps = stamps_of(scraped(rounds, every(2.0, 1000.0)))
    found = step(clocks, stamps[10], stamps[-1])
    assert found.elapsed_s == pytest.approx(truth(rounds, stamps[10], stamps[-1]), rel=0.01)


def test_a_pause_that_no_duration_explains_is_noticed_and_forgotten():
    rounds = sleeping(5.0, [(0.1, 0.1)] * 60, pauses={40: 20.0})
    clocks, stamps = stamps_of(scraped(rounds, every(2.0, rounds[-1].ended)))
    numbers = [int(stamp.number) for stamp in stamps]
    paused = numbers.index(41)
    found = step(clocks, stamps[paused - 1], stamps[paused])
    assert abs(found.elapsed_s - 25.2) <= 2.0 + 0.2  # a scrape at each end, and its lateness
    assert interval_of(clocks) == pytest.approx(5.0, rel=0.01)
    found = step(clocks, stamps[paused], stamps[paused + 1])
    assert found.elapsed_s == pytest.approx(5.2, rel=0.01)


@pytest.mark.parametrize("seed", [18, 130, 200, 250, 300])  # both windows err the same way
def test_a_paused_step_is_as_long_as_the_window_of_its_later_round_tells(seed: int):
    dice = random.Random(seed)
    durations = [(dice.uniform(0, 0.2), 0.02) for _ in range(60)]
    rounds = sleeping(5.0, durations, pauses={50: dice.uniform(5.0, 12.0)})
    scrapes = every(2.0, rounds[-1].ended, start=dice.uniform(0, 2.0), jitter_s=0.04)
    clocks, stamps = stamps_of(scraped(rounds, scrapes))
    later = next(place for place, stamp in enumerate(stamps) if stamp.number > 50)
    found = step(clocks, stamps[later - 1], stamps[later])
    true_s = truth(rounds, stamps[later - 1], stamps[later])
    # Half a scrape, and what is left open of when the earlier round came.
    assert abs(found.elapsed_s - true_s) <= 1.0 + 0.3


@pytest.mark.parametrize(
    ("interval_s", "scrape_s"),
    [(3.0, 2.0), (12.0, 2.0), (20.0, 30.0)],  # the last looks like standing still in each scrape
)
def test_an_interval_that_changes_is_learnt_anew(interval_s: float, scrape_s: float):
    first = sleeping(5.0, [(0.1, 0.1)] * 60)
    then = sleeping(interval_s, [(0.1, 0.1)] * 60, start=first[-1].ended + interval_s)
    last = first[-1]
    rounds = first + [
        Round(one.measured, one.ended, last.gathered_s + one.gathered_s,
              last.lasted_s + one.lasted_s) for one in then
    ]  # fmt: skip
    clocks, stamps = stamps_of(scraped(rounds, every(scrape_s, rounds[-1].ended)))
    assert interval_of(clocks) == pytest.approx(interval_s, rel=0.01)
    found = step(clocks, stamps[-2], stamps[-1])
    assert found.elapsed_s == pytest.approx(truth(rounds, *stamps[-2:]), rel=0.01)


def test_more_rounds_than_there_was_time_for_are_a_step_of_which_nothing_is_sure():
    steady = [(5.0 * number, float(number)) for number in range(1, 21)]
    clocks, stamps = stamps_of([count(*steady, (105.0, 31.0))])
    assert step(clocks, *stamps[-3:-1]) == Step(1.0, 5.0)
    assert not step(clocks, *stamps[-2:]).sure


def looked_at(answer: Sequence[Series], times: Sequence[float]) -> tuple[Rounds, list[Look]]:
    """Look after each scrape, as a poller does; return each step and the stamps of its ends."""
    clocks, found, last = Rounds(), list[Look](), None
    for place, at in enumerate(times):
        since = times[max(0, place - 2)]
        seen = [
            Series(one.metric, tuple(it for it in one.values if since <= it.at <= at))
            for one in answer
        ]
        for stamp in look(clocks, seen, at).get("a:1", []):
            if last is not None:
                found.append((last, stamp, clocks.step(last, stamp)))
            last = stamp
    return clocks, found


@pytest.mark.parametrize(
    ("interval_s", "lasts_s", "scrape_s"),
    [(5.0, 2.0, 30.0), (5.0, 0.6, 60.0), (5.0, 20.0, 15.0), (10.0, 4.0, 60.0)],
)
def test_rounds_that_take_their_time_are_no_standstill(
    interval_s: float, lasts_s: float, scrape_s: float
):
    dice = random.Random(3)
    rounds = sleeping(interval_s, [(lasts_s * dice.uniform(0.8, 1.2), 0.1) for _ in range(400)])
    scrapes = every(scrape_s, rounds[-1].ended)
    _, found = looked_at(scraped(rounds, scrapes), scrapes)
    steps = [(truth(rounds, before, after), step) for before, after, step in found[8:]]
    assert len(steps) > 10
    for true_s, step in steps:
        assert step is not None
        assert step.sure
        assert step.elapsed_s == pytest.approx(true_s, rel=0.06)


def joined(first: Iterable[Series], then: Iterable[Series]) -> list[Series]:
    """Return the series of two lives of an agent: the labels that they share have one each."""
    found: dict[frozenset[tuple[str, str]], Series] = {}
    for one in (*first, *then):
        kept = found.setdefault(frozenset(one.metric.items()), Series(one.metric))
        kept.values += one.values
    return list(found.values())


LONGER = [(5.0, 30.0, 20.0), (30.0, 60.0, 40.0), (5.0, 15.0, 10.0), (5.0, 60.0, 40.0)]
"""Scrapes of which a longer round takes now one, now two: every other one fits the old interval."""


@pytest.mark.parametrize("upgraded", [True, False])
@pytest.mark.parametrize("start", [0.3, 4.0, 7.0, 13.0])
@pytest.mark.parametrize(("before_s", "after_s", "scrape_s"), LONGER)
def test_a_longer_interval_is_learnt_soon_whatever_the_rhythm_of_scrapes_is(
    before_s: float, after_s: float, scrape_s: float, start: float, upgraded: bool
):
    """The agent counts otherwise after an upgrade; or nobody saw that its count began anew."""
    began = 1020.0 if upgraded else 62.0
    old = firing(before_s, [0.04] * 400) if upgraded else sleeping(before_s, [(0.02, 0.02)] * 400)
    new = sleeping(after_s, [(0.1, 0.02)] * 400, start=began)
    times = every(scrape_s, new[-1].ended - after_s, start=start)
    early = [at for at in times if at < min(began, 1000.0) - 2.0]
    late = [at for at in times if at > began + (0.0 if upgraded else 12 * max(300.0, after_s))]
    has = TIMER if upgraded else SLEEPER
    _, found = looked_at(joined(scraped(old, early, has), scraped(new, late)), early + late)
    steps = [(truth(new, *one[:2]), one[2]) for one in found if one[0].scraped > late[5]]
    assert len(steps) > 100
    for true_s, step in steps:
        assert step is not None
        assert step.sure
        assert step.elapsed_s == pytest.approx(true_s, rel=0.06)


@pytest.mark.parametrize("back_s", [10.0, 60.0])
@pytest.mark.parametrize("scrape_s", [5.0, 15.0])
def test_no_step_is_too_short_after_the_servers_clock_was_set_back(scrape_s: float, back_s: float):
    """It takes no samples until it is where it was, and then many rounds have come at once."""
    rounds = sleeping(5.0, [(0.1, 0.1)] * 200)
    scrapes = every(scrape_s, rounds[-1].ended)
    stored, times = list[float](), list[float]()
    for at in scrapes:
        by_server = at if at < 500 else at - back_s
        if not times or by_server > times[-1]:
            stored.append(at)
            times.append(by_server)
    answer = [
        series_of(one.metric, [(at, it.text) for at, it in zip(times, one.values, strict=True)])
        for one in scraped(rounds, stored)
    ]
    clocks, found = looked_at(answer, times)
    assert interval_of(clocks) == pytest.approx(5.0, rel=0.01)
    lasting = [
        step.elapsed_s / truth(rounds, before, after)
        for before, after, step in found[8:]
        if step is not None and step.sure
    ]
    assert len(lasting) > 20
    assert min(lasting) > 0.95


# Stalls.

STEADY = sleeping(5.0, [(0.1, 0.1)] * 20)
"""It measures every 5.2 s, for the last time at 98.9."""
STILL_AT = STEADY[-1].ended


def stands(until: float, scrapes: Iterable[float] | None = None) -> bool:
    """Whether the agent is taken to have stalled at a time after its last round."""
    times = every(2.0, until) if scrapes is None else scrapes
    return followed(scraped(STEADY, times)).stalled() == {"a:1"}


def test_standing_still_for_several_periods_while_scraped_is_a_stall():
    assert not stands(STILL_AT + 3 * 5.2)
    assert stands(STILL_AT + 6 * 5.2)


def test_an_exporter_that_is_not_scraped_has_not_stalled():
    before = [at for at in every(2.0, 110.0) if at < STILL_AT + 4]
    assert not stands(0.0, before)
    assert not stands(0.0, [*before, STILL_AT + 300.0])  # nor right after a gap
    after = [STILL_AT + 300.0 + 2.0 * place for place in range(20)]
    assert stands(0.0, [*before, *after])


def test_scrapes_rarer_than_rounds_are_given_their_time():
    rare = every(60.0, 800.0)
    known = sleeping(5.0, [(0.1, 0.1)] * 80)
    assert followed(scraped(known, [at for at in rare if at < 600])).stalled() == set()
    assert followed(scraped(known, rare)).stalled() == {"a:1"}


def test_a_round_ends_a_stall():
    rounds = sleeping(5.0, [(0.1, 0.1)] * 30, pauses={20: 100.0})
    scrapes = every(2.0, 250.0)
    clocks = followed(scraped(rounds, [at for at in scrapes if at < STILL_AT + 90]))
    assert clocks.stalled() == {"a:1"}
    look(clocks, scraped(rounds, scrapes), 250.0)
    assert clocks.stalled() == set()


# Whether the agent writes keys itself.


def writing(*tries: tuple[float, float], rounds: int, **more: str) -> bool | None:
    counted = [count(*((float(at), at) for at in range(rounds)))]
    return state(
        followed([*counted, count(*tries, name="writes", **more)] if tries else counted)
    ).writes_itself  # fmt: skip


def test_tries_that_go_on_with_the_rounds_are_an_agent_that_writes():
    assert writing(*((float(at), at) for at in range(6)), rounds=6) is True


def test_a_refused_write_is_a_try():
    assert writing(*((float(at), at) for at in range(6)), rounds=6, success="False") is True


def test_an_agent_that_tried_nothing_for_some_rounds_writes_none():
    assert writing(*((float(at), 9) for at in range(6)), rounds=6) is False
    assert writing(rounds=6) is False


def test_until_some_rounds_have_passed_it_is_not_known():
    assert writing((0.0, 9), (1.0, 9), rounds=2) is None
    assert writing(rounds=2) is None


def test_where_no_stage_is_counted_it_is_never_known():
    counted = count(*((float(at), at) for at in range(9)), name="ends")
    assert state(followed([counted])).writes_itself is None


# All exporters together.


def test_how_often_most_exporters_are_scraped_and_how_far_behind_the_newest_is():
    rounds = followed(
        [
            count(*((float(at), at) for at in range(0, 60, step)), target={"instance": name})
            for name, step in (("a:1", 5), ("b:1", 5), ("c:1", 15))
        ]
    )
    assert rounds.scrape_s == 5.0
    assert rounds.lag_s(70.0) == 15.0
    assert (Rounds().scrape_s, Rounds().lag_s(70.0)) == (None, None)


# Several agents behind one exporter, or one name.


def tasks_of(agent: str, *samples: tuple[float, float], **target: str) -> Series:
    """Return how many rounds of one agent have ended: (time, count)."""
    return count(*samples, name="ends", agent_id=agent, **target)


def test_a_counter_that_several_agents_of_one_process_share_tells_of_none_of_them_a_round():
    both = [(float(at), at // 5) for at in range(0, 60, 5)]
    each = [(float(at), at // 10) for at in range(0, 60, 5)]
    rounds = followed([count(*both), tasks_of("i-a", *each), tasks_of("i-b", *each)])
    assert rounds.stamps(0.0) == {}
    assert rounds.stalled() == set()
    alone = [(float(at), 12 + (at - 60) // 5) for at in range(60, 90, 5)]
    look(rounds, [count(*alone), tasks_of("i-a", *alone)], 90.0)  # the other one is gone
    assert rounds.stamps(0.0)["a:1"].number == 17.0


def test_an_instance_that_two_clusters_have_tells_of_no_round():
    moving = [(float(at), at // 5) for at in range(0, 60, 5)]
    other = [(at + 1.0, number + 4000) for at, number in moving]
    east = [count(*moving, cluster="e"), tasks_of("i-a", *moving, cluster="e")]
    west = [count(*other, cluster="w"), tasks_of("i-b", *other, cluster="w")]
    assert followed([*east, *west]).stamps(0.0) == {}
    replica = [count(*other, cluster="w"), tasks_of("i-a", *other, cluster="w")]
    assert followed([*east, *replica]).stamps(0.0).keys() == {"a:1"}


def test_a_timers_first_round_after_a_restart_is_not_put_off_by_the_durations_of_its_last_life():
    clock = Exporter("a:1")
    for number in range(1, 1001):
        lasted = {"before_observe": float(number), "durations": float(number)}
        clock.see(5.0 * number, Scrape(lasted, lasted_s=0.2 * number))
    stamps = [
        clock.see(6000.0 + 5.0 * number, Scrape(
            {"before_observe": float(number), "durations": float(number)}, lasted_s=0.2 * number))
        for number in (1, 2)
    ]  # fmt: skip
    first, second = stamps
    assert first
    assert second
    found = clock.step(first, second)
    assert found
    assert found.elapsed_s == pytest.approx(5.0, abs=0.3)


def parts(clocks: Rounds, at: float) -> None:
    """Let clocks look at a scrape twice: the second time a counter is there that was not before."""
    labels = ({**A, **SERIES["gathers"]}, {**A, **SERIES["ends"]})
    early, before = series_of(labels[0], [(at, "8")]), (at - 5, "7")
    look(clocks, [early, series_of(labels[1], [before])], at + 1)
    look(clocks, [early, series_of(labels[1], [before, (at, "8")])], at + 4)


def test_scrapes_come_in_parts_if_parts_of_some_that_were_seen_come_later():
    clocks = Rounds()
    for at in (100.0, 105.0):
        parts(clocks, at)
        assert not clocks.in_parts  # a server may have been asked while it stored
    parts(clocks, 110.0)
    assert clocks.in_parts
    clocks.clear()
    assert clocks.in_parts


def test_a_look_that_is_broken_off_while_it_sorts_has_noted_the_parts_that_it_met():
    clocks = Rounds()
    gathers, ends = ({**A, **SERIES[name]} for name in ("gathers", "ends"))
    others = [
        series_of({**gathers, "instance": f"o:{number}"}, [(100.0, "8")]) for number in range(9)
    ]
    for at in (100.0, 105.0, 110.0):
        early, before = series_of(gathers, [(at, "8")]), (at - 5, "7")
        look(clocks, [early, series_of(ends, [before])], at + 1)
        answer = [early, series_of(ends, [before, (at, "8")]), *others]
        next(clocks.see(answer, at + 4))
        look(clocks, answer, at + 4)
    assert clocks.in_parts


def test_parts_that_come_later_now_and_then_prove_nothing():
    clocks = Rounds()
    for at in (100.0, 350.0, 600.0, 850.0):
        parts(clocks, at)
    assert not clocks.in_parts


def test_a_series_that_is_new_is_no_part_of_a_scrape_that_came_later():
    """VictoriaMetrics finds new series some seconds after it has stored their first samples."""
    clocks = Rounds()
    for at in (100.0, 105.0, 110.0):
        old = [series_of({**A, **SERIES["gathers"]}, [(at, "8")])]
        new = [series_of({**A, **SERIES["writes"], "success": f"{at}"}, [(at, "8")])]
        look(clocks, old, at + 1)
        look(clocks, old + new, at + 4)
    assert not clocks.in_parts
