"""The agents' clock: which round each exporter is in, and how much time passed between rounds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.poll.rounds import ExporterState, Rounds, newest_scrapes
from poller.prometheus.answers import Series
from poller.values import Stamp
from tests.poll.simulated import STAGE, TASK, Agent, scrapes

TARGET = {"instance": "a:1", "job": "agents"}


def watched(agent: Agent, at: list[float]) -> tuple[Rounds, list[Stamp]]:
    """Let a clock see these scrapes, one after another, as a poller does."""
    rounds, seen = Rounds(), []
    for when in at:
        seen += rounds.see(agent.series([when]), when).get("a:1", [])
    return rounds, seen


def errors(agent: Agent, rounds: Rounds, seen: list[Stamp]) -> list[float]:
    """Return by what share each step is off the true time between its measurements."""
    found = []
    for before, after in zip(seen, seen[1:], strict=False):
        step = rounds.step(before, after)
        assert step is not None
        truth = agent.measured[int(after.number) - 1] - agent.measured[int(before.number) - 1]
        found.append(abs(step.elapsed_s / truth - 1))
    return found


def state(rounds: Rounds) -> ExporterState:
    (one,) = rounds.states()
    return one


@pytest.mark.parametrize("timer", [False, True], ids=["sleeps after a round", "timer"])
@pytest.mark.parametrize("jitter_s", [0.0, 0.5])
@pytest.mark.parametrize(
    ("interval_s", "scrape_s"), [(3.0, 2.0), (5.0, 5.0), (30.0, 15.0), (2.0, 1.0), (5.0, 1.0)]
)
def test_the_time_between_measurements_is_found(
    interval_s: float, scrape_s: float, jitter_s: float, timer: bool
):
    agent = Agent(interval_s, timer, jitter_s).run(1000.0 + 40 * interval_s)
    at = scrapes(scrape_s, end=1000.0 + 40 * interval_s)
    rounds, seen = watched(agent, at)
    assert state(rounds).interval_s == pytest.approx(interval_s, rel=0.01)
    assert max(errors(agent, rounds, seen)[4:]) < 0.01


def test_scrapes_rarer_than_rounds_give_steps_of_several_rounds():
    agent = Agent(1.0).run(1100.0)
    rounds, seen = watched(agent, scrapes(3.0, end=1100.0))
    steps = [rounds.step(a, b) for a, b in zip(seen, seen[1:], strict=False)]
    assert {step.rounds for step in steps if step} <= {2.0, 3.0}
    assert max(errors(agent, rounds, seen)[4:]) < 0.02


@settings(deadline=None, max_examples=40)
@given(
    st.floats(0.8, 40.0),
    st.floats(0.2, 3.0),
    st.floats(0.0, 0.4),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_interval_lies_between_the_bounds_that_scrapes_give(
    interval_s: float, ratio: float, jitter_s: float, timer: bool, seed: int
):
    agent = Agent(interval_s, timer, min(jitter_s, interval_s / 4), seed=seed)
    agent.run(1000.0 + 25 * interval_s)
    at = scrapes(max(0.5, interval_s * ratio), end=1000.0 + 25 * interval_s)
    rounds, seen = watched(agent, at)
    found = state(rounds).interval_s
    for share in errors(agent, rounds, seen)[8:]:
        assert share < 0.12
    if found is not None and len(seen) > 12:
        assert found == pytest.approx(interval_s, rel=0.12, abs=0.12)


def test_a_poller_that_starts_later_learns_the_same_from_raw_samples():
    agent = Agent(3.0, jitter_s=0.4).run(1200.0)
    at = scrapes(2.0, end=1200.0)
    rounds, late = Rounds(), Rounds()
    for when in at:
        rounds.see(agent.series([when]), when)
    late.see(agent.series(at), at[-1])
    assert late.stamps(0.0) == rounds.stamps(0.0)
    assert state(late).interval_s == state(rounds).interval_s


def test_the_best_counter_of_several_is_taken():
    agent = Agent(5.0).run(1100.0)
    at = scrapes(5.0, end=1100.0)
    assert state(watched(agent, at)[0]).counter == "gather_measures"
    assert state(watched(replace(agent, timer=True), at)[0]).counter == "before_observe"
    tasks = [one for one in agent.series(at) if one.metric.get("stat_scope")]
    rounds = Rounds()
    rounds.see(tasks, at[-1])
    assert state(rounds).counter == "durations"


def test_the_count_of_successful_writes_is_a_sign_of_life_and_no_clock():
    samples = [(at, "7") for at in scrapes(5.0, end=1300.0)]
    only = Series(
        {"__name__": "backendai_stat_task_success_count_total", **TASK, **TARGET}, samples
    )
    rounds = Rounds()
    rounds.see([only], 1300.0)
    assert (state(rounds).counter, rounds.stamps(0.0), rounds.stalled()) == ("successes", {}, set())


def test_a_round_that_was_cancelled_is_none():
    agent = Agent(5.0).run(1100.0)
    at = scrapes(5.0, end=1100.0)
    cancelled = Series(
        {"__name__": "backendai_stage_count_total", **STAGE, "success": "False", **TARGET},
        [(when, "100") for when in at],
    )
    rounds = Rounds()
    rounds.see([*agent.series(at), cancelled], at[-1])
    assert rounds.stamps(0.0)["a:1"].number == agent.rounds(at[-1])


def test_samples_that_were_seen_are_passed_over():
    agent = Agent(5.0).run(1100.0)
    at = scrapes(5.0, end=1100.0)
    rounds = Rounds()
    assert rounds.see(agent.series(at[:10]), at[9])["a:1"]
    assert rounds.see(agent.series(at[:10]), at[9]) == {}
    assert [one.number for one in rounds.see(agent.series(at[:12]), at[11])["a:1"]] == [
        agent.rounds(when) for when in at[10:12]
    ]


def test_a_counter_that_begins_anew_gives_no_step_and_keeps_the_interval():
    old, new = Agent(5.0).run(1100.0), Agent(5.0, start=1112.0).run(1200.0)
    rounds, seen = watched(old, scrapes(5.0, end=1100.0))
    before = seen[-1]
    first = rounds.see(new.series([1115.0]), 1115.0)["a:1"][0]
    assert rounds.step(before, first) is None
    assert state(rounds).interval_s == pytest.approx(5.0, rel=0.01)


def test_an_agent_that_was_stopped_is_noticed_by_its_scrapes():
    agent = Agent(3.0).run(1200.0, pause=(1090.0, 20.0))
    rounds, seen = watched(agent, scrapes(2.0, end=1200.0))
    shares = errors(agent, rounds, seen)
    assert max(shares[4:]) < 0.1  # of 23 s, by at most a scrape
    assert sorted(shares[4:])[-2] < 0.01  # every other step
    assert state(rounds).interval_s == pytest.approx(3.0, rel=0.01)


def test_standing_still_under_scrapes_for_some_intervals_is_a_stall():
    agent = Agent(3.0).run(1060.0)
    rounds, _ = watched(agent, scrapes(2.0, end=1068.0))
    assert rounds.stalled() == set()
    for when in scrapes(2.0, 1070.0, 1080.0):
        rounds.see(agent.series([when]), when)
    assert rounds.stalled() == {"a:1"}
    agent.run(1085.0)
    rounds.see(agent.series([1086.0]), 1086.0)
    assert rounds.stalled() == set()


def test_a_gap_in_the_scrapes_is_no_stall():
    agent = Agent(3.0).run(1060.0)
    rounds, _ = watched(agent, scrapes(2.0, end=1060.0))
    rounds.see(agent.series([1100.0]), 1100.0)
    assert rounds.stalled() == set()


def test_an_exporter_that_is_scraped_no_more_is_silent_while_others_are():
    one, other = Agent(5.0).run(1100.0), Agent(5.0, target={"instance": "b:1"}).run(1200.0)
    rounds = Rounds()
    rounds.see(
        [*one.series(scrapes(5.0, end=1100.0)), *other.series(scrapes(5.0, end=1200.0))], 1200
    )
    assert {state.instance: state.silent for state in rounds.states()} == {
        "a:1": True,
        "b:1": False,
    }
    assert rounds.stamps(1150.0).keys() == {"b:1"}


def test_of_a_restarted_agents_series_the_newest_count():
    old = Agent(5.0, target={**TARGET, "service_id": "1"}).run(1100.0)
    new = Agent(5.0, start=1105.0, target={**TARGET, "service_id": "2"}).run(1200.0)
    rounds = Rounds()
    at = scrapes(5.0, end=1200.0)
    rounds.see([*old.series(at[:21]), *new.series(at[22:])], 1200.0)
    assert rounds.stamps(0.0)["a:1"].number == new.rounds(1200.0)


def test_series_without_an_instance_belong_to_nobody():
    agent = Agent(5.0, target={"job": "agents"}).run(1100.0)
    rounds = Rounds()
    assert rounds.see(agent.series(scrapes(5.0, end=1100.0)), 1100.0) == {}
    assert rounds.states() == []


@pytest.mark.parametrize(("tries", "still"), [(True, True), (False, False)])
def test_it_is_known_whether_an_agent_still_tries_to_write(tries: bool, still: bool):
    agent = Agent(5.0).run(1100.0)
    rounds = Rounds()
    for when in scrapes(5.0, end=1100.0):
        count = agent.rounds(when) if tries else min(3, agent.rounds(when))
        writes = Series(
            {"__name__": "backendai_stage_count_total", "stage": "redis_write", "success": "False",
             "upper_layer": "collect_container_stat", **TARGET},
            [(when, str(count))],
        )  # fmt: skip
        rounds.see([*agent.series([when]), writes], when)
    assert state(rounds).writes_itself is still


def test_the_newest_scrape_of_each_target_is_told():
    agent = Agent(5.0).run(1100.0)
    newest = newest_scrapes(agent.series([1000.0, 1005.0, 1010.0]))
    assert list(newest.values()) == [1010.0]


def test_exporters_that_are_long_gone_are_forgotten():
    agent = Agent(5.0).run(1100.0)
    rounds, _ = watched(agent, scrapes(5.0, end=1100.0))
    rounds.forget(1050.0)
    assert rounds.exporters
    rounds.forget(1150.0)
    assert (rounds.exporters, rounds.of("a:1")) == ({}, None)
