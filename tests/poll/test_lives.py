"""Whatever befalls a cluster, the values are those of the agents: means, maxima, rates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from poller.backfill.backfill import Reach
from poller.errors import EmptyAnswer, PrometheusError
from poller.format import encode
from tests.support.lives import COUNTER, T0, Kernel, Lives, SecondTarget, stored_in_parts

HOLE = (1000.0, 1400.0)
"""Longer than the lookback."""

REPEATS = 0.05
"""What comes of the past is this near where scrapes repeat measurements."""


def outside(start: float, end: float) -> Callable[[float], bool]:
    return lambda at: not start <= at < end


def since(born: float, value: Callable[[float], float | None]) -> Callable[[float], float | None]:
    return lambda at: value(at) if at >= born else None


def means_of(lives: Lives, kernel: Kernel) -> dict[str, float]:
    """Return each mean as its key has it, as a share of the true one."""
    stat = lives.memory.stat(kernel)
    truth = {name: kernel.truth[name].mean for name in ("cpu_util", "cuda_util")}
    return {name: float(stat[name]["stats.avg"]) / mean for name, mean in truth.items()}


def holds(lives: Lives, kernel: Kernel, within: float = 0.02) -> None:
    """The key of a kernel was written by its last measurement, and is what an agent knows."""
    stat = lives.memory.stat(kernel)
    assert lives.memory.now - lives.memory.written[kernel.id] < 40.0
    means = means_of(lives, kernel)
    assert means["cpu_util"] == pytest.approx(1.0, abs=within)
    assert means["cuda_util"] == pytest.approx(1.0, abs=max(within, REPEATS))
    assert float(stat["mem"]["stats.max"]) == pytest.approx(kernel.truth["mem"].maximum, abs=60)
    assert float(stat["cpu_util"]["current"]) == pytest.approx(700, rel=0.01)
    assert float(stat["io_read"]["stats.rate"]) == pytest.approx(1000, rel=0.01)
    first = kernel.truth["io_read"].values[0][1]
    assert float(stat["io_read"]["capacity"]) == pytest.approx(first, abs=1.0)


async def test_a_cluster_that_nothing_befalls():
    lives = Lives()
    lives.until(900)
    await lives.poll(900, 1500)
    for kernel in lives.kernels:
        holds(lives, kernel, within=0.01)


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize(
    ("measure_s", "scrape_s", "every_s"), [(3.0, 2.0, 10.0), (2.0, 5.0, 5.0), (2.0, 7.0, 1.0)]
)
async def test_a_kernel_that_was_measured_several_times_before_it_is_first_read_is_told_no_zero(
    measure_s: float, scrape_s: float, every_s: float, starts: bool
):
    """Its agent writes 0 in the first of those measurements only, a poller that starts then too."""
    lives = Lives(agents=2, measure_s=measure_s, scrape_s=scrape_s)
    kernel = Kernel("late")
    kernel.metrics = {name: since(121.5, value) for name, value in kernel.metrics.items()}
    lives.agents[0].kernels = [*lives.agents[0].kernels, kernel]
    lives.until(100)
    at, told = 100.0, []
    while at < 160:
        if starts and not told:
            lives.start()
        await lives.poll(at, at + every_s / 2)
        if kernel.id in lives.memory.keys:
            stat = lives.memory.stat(kernel)
            told += [(stat["cpu_util"]["current"], stat["io_read"]["stats.rate"])]
        at += every_s
    assert len(told) >= 2
    if starts:  # of its first rates only Prometheus can tell, over a window
        assert all(350 < float(cpu) < 1400 and 500 < float(read) < 2000 for cpu, read in told)
    assert set(told[-2:] if starts else told) == {("700", "1000")}


async def test_an_agent_that_hangs_holds_up_no_other_and_goes_on_where_it_was():
    lives = Lives()
    lives.agents[0].measures = outside(*HOLE)
    lives.until(900)
    outcomes = await lives.poll(900, 1400)
    assert outcomes[-1].withheld == {lives.kernels[0].id: "stalled"}
    assert lives.memory.now - lives.memory.written[lives.kernels[0].id] > 350
    holds(lives, lives.kernels[1])
    await lives.poll(1400, 1500)
    for kernel in lives.kernels:
        holds(lives, kernel)


async def test_after_an_agent_was_down_its_kernels_are_as_old_as_they_are():
    lives = Lives()
    lives.agents[0].up = outside(*HOLE)
    lives.until(900)
    await lives.poll(900, 1500)
    holds(lives, lives.kernels[0])


async def test_a_poller_that_starts_soon_after_an_agent_was_down_knows_what_was_before():
    lives = Lives()
    lives.agents[0].up = outside(3000, 3090)
    lives.until(2900)
    await lives.poll(2900, 3160)
    lives.start()
    await lives.poll(3160, 3260)
    holds(lives, lives.kernels[0])


async def test_after_an_agent_could_not_be_scraped_its_kernels_are_not_taken_for_new():
    lives = Lives()
    lives.agents[0].reachable = outside(*HOLE)
    lives.until(900)
    await lives.poll(900, 1500)
    holds(lives, lives.kernels[0], within=0.05)  # of those 400 s nobody knows


@pytest.mark.parametrize("outage_s", [450.0, 1200.0])
async def test_what_an_agent_measured_while_it_alone_was_not_scraped_is_part_of_a_counters_mean(
    outage_s: float,
):
    lives = Lives()
    agent, kernel = lives.agents[1], lives.kernels[1]
    agent.reachable = outside(900, 900 + outage_s)
    lives.until(300)
    await lives.poll(300, 900 + outage_s + 120)
    assert means_of(lives, kernel)["cpu_util"] == pytest.approx(1.0, abs=0.01)
    holds(lives, kernel, within=0.25)  # of gauges nobody knows


async def test_a_kernel_that_its_agent_left_out_for_long_is_not_taken_for_new():
    lives = Lives()
    lives.agents[0].leaves_out = lambda kernel, at: HOLE[0] <= at < HOLE[1]
    lives.until(900)
    await lives.poll(900, 1500)
    holds(lives, lives.kernels[0])


@pytest.mark.parametrize("late", [False, True])
async def test_a_poller_that_was_down_for_an_hour_knows_that_hour_however_late_its_past_comes(
    late: bool,
):
    lives = Lives()
    lives.until(100)
    await lives.poll(100, 1000)
    lives.until(4600)
    lives.start()
    if late:
        lives.memory.past.clear()
    await lives.poll(4600, 4700)
    await lives.past_comes()
    await lives.poll(4700, 4800)
    for kernel in lives.kernels:
        holds(lives, kernel)


async def after_an_outage() -> Lives:
    """Return a cluster whose kernels had a peak of memory while Prometheus did not answer."""
    lives = Lives()
    for kernel in lives.kernels:
        kernel.metrics["mem"] = lambda at: 5e9 if 1200 <= at < 1300 else 1e9 + at
    lives.until(100)
    await lives.poll(100, 1000)
    lives.memory.down = True
    await lives.poll(1000, 1600, every_s=20)
    lives.memory.down = False
    return lives


@pytest.mark.parametrize("lapsed", [False, True])
async def test_what_happened_while_prometheus_did_not_answer_is_known(lapsed: bool):
    lives = await after_an_outage()
    if lapsed:  # the lease ran out meanwhile
        lives.cycle.read_keys_again()
    await lives.poll(1600, 1700)
    for kernel in lives.kernels:
        holds(lives, kernel)


async def test_also_of_an_agent_that_is_scraped_in_the_middle_of_the_first_batch_after_it():
    lives = await after_an_outage()

    def scraped() -> None:
        lives.memory.in_mid_batch = lambda: None
        agent, now = lives.agents[0], lives.memory.now
        agent.next_scraped = now - T0 - 0.02
        lives.until(now - T0)

    lives.memory.in_mid_batch = scraped
    (first, *_) = await lives.poll(1600, 1605)
    assert first.withheld[lives.kernels[0].id] == "mixed"
    await lives.poll(1605, 1700)
    for kernel in lives.kernels:
        holds(lives, kernel)


async def with_keys_lost() -> tuple[Lives, dict[str, bytes]]:
    """Return a cluster whose keys were all lost after the last cycle, at 600; and what they held.

    The first agent hangs, the second is dead; the next cycle meets a new measurement of few.
    """
    lives = Lives(agents=10)
    lives.agents[0].measures = outside(300, 10_000)
    lives.agents[1].up = outside(550, 10_000)
    lives.until(100)
    outcomes = await lives.poll(100, 600)
    assert outcomes[-1].withheld == {lives.kernels[0].id: "stalled"}
    assert outcomes[-1].written < 5
    held, lives.memory.keys = lives.memory.keys, {}
    lives.memory.written.clear()
    lives.cycle.read_keys_again()
    return lives, held


async def test_keys_that_were_lost_are_written_again_at_once_where_the_agent_lives():
    lives, held = await with_keys_lost()
    (outcome,) = await lives.poll(600, 605)
    silent = {kernel.id for kernel in lives.kernels[:2]}
    assert lives.memory.keys.keys() == held.keys() - silent
    as_before = [
        kernel for kernel in lives.memory.keys if lives.memory.keys[kernel] == held[kernel]
    ]
    assert len(as_before) >= 3
    await lives.poll(605, 700)
    assert not lives.memory.keys.keys() & silent
    for kernel in lives.kernels[2:]:
        holds(lives, kernel)


async def test_keys_that_were_not_lost_are_left_until_they_are_measured_again():
    """Another poller may have written them since: what it knew may be newer than what we know."""
    lives, held = await with_keys_lost()
    theirs = {kernel: held[lives.kernels[2].id] for kernel in held}
    lives.memory.keys |= theirs
    await lives.poll(600, 605)
    left = [kernel for kernel in held if lives.memory.keys[kernel] == theirs[kernel]]
    assert len(left) >= 5
    (outcome,) = await lives.poll(605, 610)
    assert outcome.written < 5


async def test_a_metric_that_only_the_key_knew_at_a_start_goes_on_when_it_is_measured_again():
    lives = Lives()
    for kernel in lives.kernels:
        kernel.metrics["cuda_util"] = lambda at: (
            None if 1200 <= at < 1900 else 20.0 if at < 1200 else 90.0
        )
    lives.until(100)
    await lives.poll(100, 1700)
    lives.start()
    await lives.poll(1700, 1890)
    assert lives.memory.stat(lives.kernels[0])["cuda_util"]["stats.avg"] == "20"
    await lives.poll(1890, 3000)
    for kernel in lives.kernels:
        holds(lives, kernel)


async def test_an_agent_that_comes_to_count_its_rounds_has_no_other_mean():
    lives = Lives(agents=2)
    for agent in lives.agents:
        agent.counts = False
    lives.until(30)
    await lives.poll(30, 1800)
    for agent in lives.agents:
        agent.counts = True
    await lives.poll(1800, 2400)
    for kernel in lives.kernels:
        holds(lives, kernel)


async def test_a_kernel_that_two_exporters_tell_of_is_the_one_that_moves_in_every_write():
    lives = Lives()
    kernel = lives.kernels[3]
    ghost = {"cpu_util": 5.0, "mem": 7e7, "io_read": 3.0}
    lives.agents[0].ghosts = {(kernel.id, name): value for name, value in ghost.items()}
    lives.until(100)
    written = []
    for at in range(100, 500, 5):
        await lives.poll(at, at + 5)
        if lives.memory.written.get(kernel.id) == lives.memory.now:
            stat = lives.memory.stat(kernel)
            written.append((float(stat["mem"]["current"]), float(stat["cpu_util"]["current"])))
    assert len(written) > 10
    assert all(memory > 1e9 for memory, _ in written)
    assert [rate for _, rate in written[2:]] == pytest.approx([700.0] * len(written[2:]))


async def test_a_young_kernel_without_rounds_whose_past_comes_late_has_the_rate_of_the_last_poll():
    lives = Lives(agents=2, measure_s=5.0, scrape_s=15.0)
    for agent in lives.agents:
        agent.counts = False
        agent.leaves_out = lambda kernel, at: at < 590
    lives.until(595)
    lives.memory.past.clear()
    await lives.poll(605, 720)
    assert not lives.memory.written
    lives.memory.past.set()
    for at in range(720, 760, 5):
        await lives.poll(at, at + 5)
        for kernel in lives.kernels:
            rate = float(lives.memory.stat(kernel)["cpu_util"]["current"])
            assert rate == pytest.approx(700, rel=0.05)


class RunningOut:
    """A lease that nobody renewed since the last cycle failed."""

    held, runs_out, fence = True, True, None

    async def renew(self) -> bool:
        self.runs_out = False
        return True

    async def allows_write(self) -> bool:
        return self.held


async def test_a_cycle_renews_a_lease_that_runs_out_once_it_knows_what_to_write():
    lives, lease = Lives(agents=1), RunningOut()
    lives.memory.down = True
    lives.until(100)
    with pytest.raises(PrometheusError):
        await lives.cycle.poll(lease)  # type: ignore[arg-type]
    assert lease.runs_out
    lives.memory.down = False
    await lives.cycle.poll(lease)  # type: ignore[arg-type]
    assert not lease.runs_out
    assert lives.memory.written


async def test_devices_in_full_use_for_long_are_counted():
    lives = Lives(agents=4)
    first, second = lives.agents[:2]
    first.kernels = [*first.kernels, *second.kernels]
    second.kernels = []
    for kernel in first.kernels:
        kernel.metrics["cuda_util"] = lambda at: 30.0 + at // 30 % 7 if at < 300 else 100.0
        kernel.metrics["cuda_mem"] = lambda at: 8e9
    lives.until(60)
    await lives.poll(60, 1500)
    for kernel in first.kernels:
        assert means_of(lives, kernel)["cuda_util"] == pytest.approx(1.0, abs=0.02)


async def test_devices_in_steady_use_whose_kernels_pause_together_are_counted_in_every_round():
    """As of a session that trains on several devices of one agent and evaluates now and then."""
    lives = Lives(agents=3, measure_s=5.0, scrape_s=5.0)
    first, second = lives.agents[:2]
    first.kernels, second.kernels = [*first.kernels, *second.kernels], []
    for kernel in first.kernels:
        kernel.metrics["cuda_util"] = lambda at: 93.0 if at % 260 < 240 else 12.0 + at // 5 % 4
        kernel.metrics["cuda_mem"] = lambda at: 8e9
    lives.until(60)
    ticks = await lives.poll(60, 1500)
    assert not any(tick.standing for tick in ticks)
    for kernel in first.kernels:
        assert means_of(lives, kernel)["cuda_util"] == pytest.approx(1.0, abs=0.005)


@pytest.mark.parametrize("counts", [True, False])
async def test_what_a_batch_told_that_the_clock_refused_is_told_by_the_next_one(counts: bool):
    lives = Lives(measure_s=10.0)
    for agent in lives.agents:
        agent.counts = counts
    for kernel in lives.kernels:
        kernel.metrics["mem"] = lambda at: 5e9 if 1000 <= at < 1040 else 1e9 + at
        kernel.metrics["cuda_util"] = lambda at: 95.0 if at < 1010 or at > 1100 else at - 1010
    lives.until(100)
    await lives.poll(100, 1000)
    lives.memory.skewed = True
    await lives.poll(1000, 1060)
    lives.memory.skewed = False
    await lives.poll(1060, 1200)
    for kernel in lives.kernels:
        holds(lives, kernel)
        assert means_of(lives, kernel)["cuda_util"] == pytest.approx(1.0, abs=0.002)


async def test_the_last_scrape_before_an_outage_is_read_though_the_next_one_has_failed():
    lives = Lives(agents=1, measure_s=5.0, scrape_s=5.0)
    lives.kernels[0].metrics["mem"] = lambda at: 9e9 if at == 1000.0 else 1e9 + at
    lives.agents[0].reachable = outside(1004, 1060)
    lives.until(900)
    await lives.poll(900, 1000)
    await lives.poll(1007, 1200)  # the scrape of 1001.3 saw it, that of 1006.3 failed
    assert float(lives.memory.stat(lives.kernels[0])["mem"]["stats.max"]) == 9e9


async def test_kernels_of_an_agent_that_is_not_scraped_at_a_start_are_not_taken_for_new():
    lives = Lives(agents=2)
    lives.kernels[0].metrics["mem"] = lambda at: 5e9 if 400 <= at < 500 else 1e9 + at
    lives.agents[0].reachable = outside(3570, 3620)
    lives.until(3600)
    await lives.poll(3600, 3800)
    for kernel in lives.kernels:
        holds(lives, kernel)


@pytest.mark.parametrize("phase", range(3))
async def test_after_a_restart_of_an_agent_that_is_scraped_rarely_no_rate_is_half_of_the_true_one(
    phase: int,
):
    lives = Lives(agents=1, measure_s=5.0, scrape_s=20.0)
    lives.agents[0].next_scraped += 6.6 * phase
    lives.agents[0].up = outside(1500, 1510)
    lives.until(900)
    for at in range(900, 1700, 5):
        await lives.poll(at, at + 5)
        if lives.memory.written.get(lives.kernels[0].id) == lives.memory.now:
            rate = float(lives.memory.stat(lives.kernels[0])["cpu_util"]["current"])
            assert rate == pytest.approx(700, rel=0.03)
    assert lives.memory.written.keys() == {lives.kernels[0].id}


@pytest.mark.parametrize("what", ["metric", "kernel"])
async def test_rounds_that_left_a_metric_or_a_kernel_out_are_none_of_its_mean(what: str):
    def gone(at: float) -> bool:
        return 600 <= at < 840

    lives = Lives(agents=1, measure_s=5.0, scrape_s=5.0)
    (kernel,) = lives.kernels
    kernel.metrics["cuda_util"] = lambda at: (
        None if what == "metric" and gone(at) else (20 if at < 600 else 90) + at % 1.7
    )
    lives.agents[0].leaves_out = lambda kernel, at: what == "kernel" and gone(at)
    lives.until(300)
    await lives.poll(300, 900)
    assert means_of(lives, kernel)["cuda_util"] == pytest.approx(1.0, abs=0.02)


async def test_scrapes_that_are_stored_late_count_for_an_exporter_without_rounds_at_once():
    lives = Lives(agents=1, measure_s=5.0, scrape_s=15.0)
    (agent,), (kernel,) = lives.agents, lives.kernels
    agent.counts = False
    agent.leaves_out = lambda kernel, at: at < 300
    kernel.metrics["mem"] = lambda at: 1e9 + at * 1e6
    lives.until(100)
    lives.memory.stored_s = 1.2
    for at in range(100, 420):
        await lives.poll(at, at + 1, every_s=1.0)
        if kernel.id in lives.memory.keys:
            memory = lives.memory.stat(kernel)["mem"]
            assert float(memory["stats.max"]) >= float(memory["current"])
    assert kernel.id in lives.memory.keys


@pytest.mark.parametrize("late_s", [25.0, 60.0])
async def test_scrapes_that_are_stored_late_all_at_once_are_read_one_by_one(late_s: float):
    lives = Lives(measure_s=5.0, scrape_s=5.0)
    for kernel in lives.kernels:
        kernel.metrics["mem"] = lambda at: 8e9 if 302 <= at < 322 else 1e9 + at
        kernel.metrics["cuda_util"] = lambda at: 99.0 if 302 <= at < 322 else 10.0 + at % 1.7
    lives.until(100)
    await lives.poll(100, 300)
    lives.memory.stored_s = 1e9
    await lives.poll(300, 300 + late_s)
    lives.memory.stored_s = 0.0
    await lives.poll(300 + late_s, 500)
    for kernel in lives.kernels:
        assert float(lives.memory.stat(kernel)["mem"]["stats.max"]) == 8e9
        assert means_of(lives, kernel)["cuda_util"] == pytest.approx(1.0, abs=0.005)


async def test_where_prometheus_has_lost_its_past_the_keys_means_and_maxima_go_on():
    lives = Lives(measure_s=5.0, scrape_s=5.0)
    lives.until(100)
    await lives.poll(100, 900)
    lives.memory.lose_all()
    lives.start()
    await lives.poll(900, 1000)
    for kernel in lives.kernels:
        holds(lives, kernel, within=0.05)


async def test_kernels_that_a_first_scrape_finds_are_not_taken_for_new_and_idle():
    lives = Lives()
    lives.agents[0].reachable = outside(0, 900)
    (kernel,) = lives.agents[0].kernels
    lives.until(600)
    told = set()
    for at in range(600, 1100, 5):
        await lives.poll(at, at + 5)
        if kernel.id in lives.memory.keys:
            told.add(lives.memory.stat(kernel)["cpu_util"]["current"])
    assert [float(rate) for rate in told] == pytest.approx([700.0] * len(told), rel=0.01)
    assert told


@pytest.mark.parametrize("back_s", [400.0, 30.0])
async def test_a_server_whose_clock_is_behind_the_last_ones_is_read_at_once(back_s: float):
    lives = Lives(measure_s=5.0, scrape_s=5.0)
    lives.memory.ahead_s = back_s
    lives.until(100)
    await lives.poll(100, 600)
    lives.memory.ahead_s = 0.0
    lives.memory.lose_all()
    await lives.poll(605, 610)
    for at in range(610, 700, 5):
        await lives.poll(at, at + 5)
        for kernel in lives.kernels:
            assert lives.memory.now - lives.memory.written[kernel.id] < 12.0
            rate = float(lives.memory.stat(kernel)["io_read"]["stats.rate"])
            assert rate == pytest.approx(1000, rel=0.03)


async def test_a_prometheus_that_has_lost_everything_is_not_taken_for_an_empty_cluster():
    lives = Lives(agents=3, measure_s=5.0, scrape_s=5.0)
    lives.until(300)
    await lives.poll(300, 400)
    for agent in lives.agents:
        agent.reachable = outside(400, 900)
    lives.until(400)
    lives.memory.lose_all()
    with pytest.raises(EmptyAnswer):  # by the next census, which is taken once a minute
        await lives.poll(400, 460)


async def test_a_cluster_whose_last_kernel_has_ended_is_in_order():
    lives = Lives(agents=3, measure_s=5.0, scrape_s=5.0)
    lives.until(300)
    await lives.poll(300, 400)
    for agent in lives.agents:
        agent.leaves_out = lambda kernel, at: True
    (*_, last) = await lives.poll(400, 900)
    assert last.kernels == 0


async def test_an_old_kernel_without_rounds_is_not_told_to_be_idle_after_a_gap():
    lives = Lives(agents=2, measure_s=5.0, scrape_s=5.0)
    agent, kernel = lives.agents[0], lives.kernels[0]
    agent.counts = False
    agent.leaves_out = lambda kernel, at: at < 250  # it is met while it is young
    agent.reachable = outside(900, 960)
    lives.until(200)
    await lives.poll(200, 900)
    for at in range(900, 1020, 5):
        await lives.poll(at, at + 5)
        assert float(lives.memory.stat(kernel)["cpu_util"]["current"]) > 500


@pytest.mark.parametrize("stored_s", [0.8, 20.8])
async def test_what_was_scraped_in_mid_batch_is_written_by_a_cycle_that_follows_at_once(
    stored_s: float,
):
    lives = Lives(agents=1, measure_s=5.0, scrape_s=5.0)
    (agent,), (kernel,), memory = lives.agents, lives.kernels, lives.memory
    lives.cycle.evaluation.configured_s = 0.5
    agent.next_scraped = 94.45
    memory.stored_s = stored_s
    memory.in_mid_batch = lambda: memory.store_until(memory.now + 0.4)
    lives.until(90)
    ticks = await lives.poll(130, 200)
    assert all(tick.mixed == {kernel.id} for tick in ticks)  # polls and scrapes are in step
    (after,) = await lives.poll(195.5, 196)
    if stored_s < 1:  # of what is stored much later a first rate is known after two rounds
        assert after.written == 1


@pytest.mark.parametrize("late_s", [20.0, 30.0, 60.0])
async def test_agents_whose_scrapes_are_stored_much_later_than_others_are_read_all_the_same(
    late_s: float,
):
    lives = Lives(agents=4)
    late, kernel = lives.agents[0].instance, lives.kernels[0]
    lives.memory.late_s = lambda labels: late_s if labels["instance"] == late else 0.0
    lives.until(900)
    await lives.poll(900, 930)  # of the first look's exporters it is not known who is late
    for at in range(930, 1500, 5):
        (tick,) = await lives.poll(at, at + 5)
        assert lives.memory.now - lives.memory.written[kernel.id] <= 35.0
        assert float(lives.memory.stat(kernel)["cpu_util"]["current"]) == pytest.approx(700)
        assert not any(one.silent for one in tick.exporters)
    lives.agents[0].reachable = outside(1500, 1800)
    await lives.poll(1500, 1700)
    (tick,) = await lives.poll(1700, 1705)
    assert [one.instance for one in tick.exporters if one.silent] == [late]


async def rates_of(lives: Lives, start: float, end: float) -> Counter[str]:
    """Poll, and count what the keys say of kernels that run at 700 all the time."""
    seen: Counter[str] = Counter()
    for at in range(int(start), int(end), 5):
        await lives.poll(at, at + 5)
        for kernel in lives.kernels:
            rate = float(lives.memory.stat(kernel)["cpu_util"]["current"])
            seen["right" if rate == pytest.approx(700, rel=0.03) else f"{rate:.0f}"] += 1
    return seen


async def test_scrapes_that_are_stored_in_parts_are_read_when_they_are_whole():
    lives = stored_in_parts(3.0)
    lives.until(300)
    assert (await rates_of(lives, 300, 360))["0"] > 0  # nobody knows yet
    assert (
        lives.cycle.evaluation.offset_s == 6.5
    )  # above `batch_send_deadline`, which is 5 s by default
    for at in range(360, 700, 5):
        assert set(await rates_of(lives, at, at + 5)) == {"right"}
        assert all(lives.memory.now - at < 12.0 for at in lives.memory.written.values())


@pytest.mark.parametrize("stored_s", [0.0, 1.2, 9.0])
async def test_scrapes_that_are_stored_whole_are_read_as_soon_as_set_however_late(stored_s: float):
    lives = stored_in_parts(0.0)
    lives.memory.stored_s = stored_s
    lives.agents[0].reachable = outside(400, 430)
    lives.agents[1].up = outside(450, 480)
    lives.until(300)
    ticks = await lives.poll(300, 700)
    assert not any(tick.in_parts for tick in ticks)
    assert lives.cycle.evaluation.offset_s == 0.0


@pytest.mark.parametrize("rubbish", [0.0, -5.0, 1e6, 1e18, 1e308])
async def test_one_scrape_of_rubbish_in_an_agents_counter_does_not_outweigh_what_was_measured(
    rubbish: float,
):
    lives = Lives(measure_s=5.0, scrape_s=5.0)
    agent = lives.agents[0]
    agent.counted = lambda at: rubbish if 600 <= at < 605 else None
    lives.until(100)
    await lives.poll(100, 800)
    for kernel in lives.kernels:
        holds(lives, kernel)


@pytest.mark.parametrize("rubbish", [1.7e308, -1.7e308, 9e307])
@pytest.mark.parametrize("name", ["cuda_util", "mem", "io_read"])
async def test_one_kernels_numbers_near_the_largest_one_cost_no_other_kernel_its_key(
    rubbish: float, name: str
):
    lives = Lives(agents=3, measure_s=5.0, scrape_s=5.0)
    usual = lives.kernels[0].metrics[name]
    lives.kernels[0].metrics[name] = lambda at: rubbish if 300 <= at < 312 else usual(at)
    lives.until(100)
    await lives.poll(100, 400)
    for kernel in lives.kernels:
        assert lives.memory.now - lives.memory.written[kernel.id] < 12.0
    for kernel in lives.kernels[1:]:
        holds(lives, kernel)


async def prometheus_is_down(lives: Lives, start: float, end: float) -> None:
    """Let Prometheus scrape nothing and answer nobody from start to end, and the poller go on."""
    for agent in lives.agents:
        agent.reachable = outside(start, end)
    await lives.poll(start - 300, start)
    lives.memory.down = True
    await lives.poll(start, end)
    lives.memory.down = False
    for at in range(int(end), int(end) + 60, 5):
        try:
            await lives.poll(at, at + 5)
        except EmptyAnswer:
            continue


async def test_measurements_while_prometheus_was_down_for_long_are_part_of_a_counters_mean():
    lives = Lives()
    lives.until(600)
    await prometheus_is_down(lives, 900, 3000)
    for kernel in lives.kernels:
        assert means_of(lives, kernel)["cpu_util"] == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_busy_kernel_without_rounds_is_never_told_to_be_idle_after_prometheus_was_down(
    restarted: bool,
):
    lives = Lives(agents=2, measure_s=30.0, scrape_s=10.0)
    for agent in lives.agents:
        agent.counts = False
    for kernel in lives.kernels:
        kernel.metrics["cpu_used"] = kernel.metrics["cpu_util"]  # it tells the intervals
    lives.until(600)
    await prometheus_is_down(lives, 900, 2700)
    if restarted:
        lives.start()
    for at in range(2760, 2900, 5):
        await lives.poll(at, at + 5)
        for kernel in lives.kernels:
            rate = float(lives.memory.stat(kernel)["cpu_util"]["current"])
            assert rate > (0 if restarted else 350)


async def test_a_kernel_older_than_the_restore_window_is_not_as_young_as_that_after_a_start():
    lives = Lives(agents=2)
    lives.reach = Reach(window_s=900.0)
    for kernel in lives.kernels:
        kernel.metrics["cuda_util"] = lambda at: (2.0 if at < 9000 else 90.0) + at % 1.7
    lives.until(100)
    await lives.poll(100, 9000, every_s=30.0)
    lives.start()
    await lives.poll(9000, 9900, every_s=30.0)
    for kernel in lives.kernels:
        assert means_of(lives, kernel)["cuda_util"] == pytest.approx(1.0, abs=0.4)


async def test_a_peak_that_no_scrape_saw_does_not_make_a_young_kernel_an_old_one():
    lives = Lives(agents=1, measure_s=5.0, scrape_s=15.0)
    (kernel,) = lives.kernels
    kernel.metrics["mem"] = lambda at: 9e9 if at == 500.0 else 1e9 + at
    kernel.metrics["cuda_util"] = lambda at: (2.0 if at < 600 else 90.0) + at % 1.7
    lives.agents[0].leaves_out = lambda kernel, at: at < 480
    lives.until(600)
    stat = {
        name: {"current": str(truth.values[-1][1]), "unit_hint": "count", "capacity": "1000",
               "stats.max": str(truth.maximum), "stats.avg": str(truth.mean)}
        for name, truth in kernel.truth.items()
    }  # fmt: skip
    lives.memory.keys[kernel.id] = encode.pack(stat)
    await lives.poll(600, 900)
    assert means_of(lives, kernel)["cuda_util"] == pytest.approx(1.0, abs=0.05)


async def test_a_key_that_is_newer_than_the_last_scrape_does_not_make_a_young_kernel_an_old_one():
    lives = Lives(agents=1, measure_s=30.0, scrape_s=20.0)
    (kernel,) = lives.kernels
    kernel.metrics["cuda_util"] = lambda at: (2.0 if at < 600 else 90.0) + at % 1.7
    lives.agents[0].leaves_out = lambda kernel, at: at < 300
    lives.until(600)  # measured just now, and not scraped yet
    stat = {
        name: {"current": str(truth.values[-1][1]), "unit_hint": "count", "capacity": "1000",
               "stats.max": str(truth.maximum), "stats.avg": str(truth.mean)}
        for name, truth in kernel.truth.items()
    }  # fmt: skip
    stat["cpu_util"]["current"] = "700"
    lives.memory.keys[kernel.id] = encode.pack(stat)
    await lives.poll(600, 1800)
    assert means_of(lives, kernel)["cuda_util"] == pytest.approx(1.0, abs=0.05)
    assert means_of(lives, kernel)["cpu_util"] == pytest.approx(1.0, abs=0.05)


async def test_two_agents_of_one_process_have_no_rate_that_is_0_or_the_double():
    """Its counter of rounds is the sum of both: a step of it says that one of them measured."""
    lives = Lives(agents=2, measure_s=10.0, scrape_s=5.0)
    first, second = lives.agents
    second.instance, second.next_scraped = first.instance, float("inf")
    own, other = first._exported, second._exported

    def exported(at: float) -> Iterator[tuple[dict[str, str], float]]:
        counted = 0.0
        for labels, value in (*own(at), *other(at)):
            if labels["__name__"] == "backendai_stage_count_total":
                counted += value
            else:
                yield labels, value
        target = {"instance": first.instance, "job": "agents"}
        yield {**target, **COUNTER}, counted
        for agent in lives.agents:
            ended = {"__name__": "backendai_stat_task_duration_sec_count", "agent_id": agent.name}
            yield {**target, **ended, "stat_scope": "container"}, float(agent._rounds)

    first._exported = exported  # type: ignore[method-assign]
    for at in range(0, 300):
        lives.until(at)
    for at in range(300, 600, 5):
        await lives.poll(at, at + 5)
        for kernel in lives.kernels:
            rate = float(lives.memory.stat(kernel)["cpu_util"]["current"])
            assert rate == pytest.approx(700, rel=0.3)


@pytest.mark.parametrize(("measure_s", "scrape_s"), [(30.0, 10.0), (30.0, 15.0), (5.0, 5.0)])
async def test_kernels_of_an_agent_without_rounds_that_stands_still_are_told_no_zero_before(
    measure_s: float, scrape_s: float
):
    """Their keys stay as they were written last, for as long as it stands still."""
    lives = Lives(agents=3, measure_s=measure_s, scrape_s=scrape_s)
    agent, kernels = lives.agents[0], lives.kernels[:2]
    agent.kernels, lives.agents[1].kernels = kernels, []
    agent.measures = lambda at: at < 1000
    for one in lives.agents:
        one.counts = one.ends = False
    for kernel in kernels:
        kernel.metrics["cpu_used"] = kernel.metrics["cpu_util"]
    lives.until(700)
    (*_, last) = await lives.poll(700, 1400)
    assert last.withheld.keys() == {kernel.id for kernel in kernels}
    for kernel in kernels:
        assert float(lives.memory.stat(kernel)["cpu_util"]["current"]) > 300


@pytest.mark.parametrize("down_s", [0, 60])
async def test_a_poller_that_starts_while_a_plugin_stands_still_tells_no_zero(down_s: int):
    lives = Lives(measure_s=5.0, scrape_s=5.0)
    kernels = lives.agents[0].kernels = lives.kernels[:2]
    lives.agents[1].kernels = []
    for kernel in kernels:
        kernel.metrics["cpu_util"] = lambda at: (min(at, 1000.0) + 3600) * 700
    lives.until(300)
    await lives.poll(300, 1100)
    lives.until(1100 + down_s)
    lives.start()
    await lives.poll(1100 + down_s, 1300)
    for kernel in kernels:
        assert lives.memory.now - lives.memory.written[kernel.id] < 10.0
        assert lives.memory.stat(kernel)["cpu_util"]["current"] == "700"


@pytest.mark.parametrize("labels", [{"replica": "b"}, {"job": "other"}], ids=str)
async def test_a_plugin_that_stands_still_is_found_where_two_replicas_scrape_its_agent(
    labels: dict[str, str],
):
    """Each round is met twice, by the scrapes of both: the second time nothing has moved."""
    lives = Lives(agents=2, measure_s=30.0, scrape_s=30.0)
    agent, kernels = lives.agents[0], lives.kernels
    agent.kernels, lives.agents[1].kernels = kernels, []
    for kernel in kernels:
        kernel.metrics["cpu_util"] = lambda at: (min(at, 990.0) + 3600) * 700
    lives.agents.append(SecondTarget(agent, 7.0, **labels))
    lives.until(300)
    await lives.poll(300, 1000)
    for at in range(1000, 1400, 5):
        await lives.poll(at, at + 5)
        assert {lives.memory.stat(one)["cpu_util"]["current"] for one in kernels} == {"700"}


@pytest.mark.parametrize("moves", [True, False])
async def test_a_plugin_that_stood_still_is_told_no_more_where_its_agent_has_gone(moves: bool):
    """As by who restarts an agent for it: in a pod it has another address then."""
    lives = Lives(measure_s=5.0, scrape_s=5.0)
    agent = lives.agents[0]
    agent.kernels, lives.agents[1].kernels = lives.kernels[:2], []
    for kernel in agent.kernels:
        kernel.metrics["cpu_util"] = lambda at: (min(at, 600.0) + 3600) * 700
    lives.until(300)
    (*_, last) = await lives.poll(300, 700)
    assert last.standing == {(agent.instance, "cpu")}
    if moves:
        agent.instance = "i-00:2"
        for kernel in agent.kernels:
            kernel.metrics["cpu_util"] = lambda at: (at + 3600) * 700
    else:
        agent.up = lambda at: False
    (*_, last) = await lives.poll(700, 900)
    assert last.standing == set()


def rate_told(lives: Lives, kernel: Kernel) -> float | None:
    """Return the rate that a kernel's key tells; None where it has no key."""
    found = kernel.id in lives.memory.keys
    return float(lives.memory.stat(kernel)["io_read"]["stats.rate"]) if found else None


async def rates_told(lives: Lives, kernel: Kernel, start: int, end: int) -> set[float | None]:
    """Return the rates that a kernel's key tells after each poll from start to end."""
    told = set()
    for at in range(start, end, 5):
        await lives.poll(at, at + 1)
        told.add(rate_told(lives, kernel))
    return told


async def test_the_rate_of_a_kernel_is_not_0_where_its_agent_was_found_after_its_first_rounds():
    lives = Lives(agents=3, measure_s=5.0, scrape_s=15.0)
    lives.agents[0].up = lambda at: at >= 906
    lives.agents[0].reachable = lambda at: at >= 956
    lives.until(600)
    await lives.poll(600, 900)
    assert await rates_told(lives, lives.kernels[0], 900, 1060) == {None, 1000.0}


@pytest.mark.parametrize("outage_s", [50.0, 200.0])
async def test_the_rate_of_a_kernel_is_not_0_that_began_while_its_agent_could_not_be_scraped(
    outage_s: float,
):
    lives = Lives(agents=3, measure_s=5.0, scrape_s=15.0)
    agent, late = lives.agents[0], Kernel("late")
    late.metrics = {name: since(1010, value) for name, value in late.metrics.items()}
    agent.kernels = [*agent.kernels, late]
    agent.reachable = outside(1000, 1000 + outage_s)
    lives.until(900)
    assert await rates_told(lives, late, 900, 1300) == {None, 1000.0}


def begins_at(kernel: Kernel, began: float) -> None:
    """Let a kernel do nothing before that time."""
    for name, rate in (("io_read", 1000), ("cpu_util", 700)):
        kernel.metrics[name] = lambda at, rate=rate: 1e6 + max(0.0, at - began) * rate


@pytest.mark.parametrize("down_s", [20, 60, 100])
async def test_the_rate_of_a_kernel_that_began_to_work_while_no_poller_ran_is_not_the_0_of_its_key(
    down_s: int,
):
    lives = Lives(measure_s=30.0, scrape_s=10.0)
    kernel = lives.kernels[0]
    begins_at(kernel, 885)
    lives.until(300)
    await lives.poll(300, 881)
    assert rate_told(lives, kernel) == 0.0
    lives.until(905 + down_s)
    lives.start()
    for at in range(905 + down_s, 1100, 5):
        await lives.poll(at, at + 1)
        if lives.memory.written[kernel.id] == lives.memory.now:
            assert (rate_told(lives, kernel) or 0.0) > 100


@pytest.mark.parametrize("alone", [False, True])
async def test_the_first_rate_after_a_long_outage_is_not_that_of_the_outage(alone: bool):
    lives = Lives(measure_s=5.0, scrape_s=15.0)
    begins_at(lives.kernels[0], 2000)
    for agent in lives.agents[: 1 if alone else None]:
        agent.reachable = outside(900, 2100)
    lives.until(300)
    await lives.poll(300, 900)
    lives.memory.down = not alone
    await lives.poll(900, 2105)
    lives.memory.down = False
    assert await rates_told(lives, lives.kernels[0], 2115, 2200) == {0.0, 1000.0}


async def test_an_agent_that_is_set_up_anew_at_its_address_counts_rounds_there_alone():
    lives = Lives(measure_s=30.0, scrape_s=10.0)
    agent, pod = lives.agents[0], ["pod-1"]
    agent.ends, exported = True, agent._exported
    agent._exported = lambda at: (  # type: ignore[method-assign]
        ({**labels, "pod": pod[0]}, value) for labels, value in exported(at)
    )
    agent.up = outside(1000, 1020)
    lives.until(300)
    await lives.poll(300, 1000)
    agent.name, pod[0] = "i-new", "pod-2"
    assert await rates_told(lives, lives.kernels[0], 1000, 1400) == {1000.0}


@pytest.mark.parametrize("stopped", [(903.0, 923.0), (907.5, 967.5), (911.0, 971.0)])
@pytest.mark.parametrize("scrape_s", [5.0, 10.0, 15.0])
async def test_no_rate_is_a_multiple_where_an_agents_process_was_stopped_for_a_while(
    scrape_s: float, stopped: tuple[float, float]
):
    """It neither measures nor answers: its next round is of all that time, not of one interval."""
    lives = Lives(agents=2, measure_s=5.0, scrape_s=scrape_s)
    agent = lives.agents[0]
    agent.measures = agent.reachable = outside(*stopped)
    lives.until(700)
    await lives.poll(700, 880)
    assert await rates_told(lives, lives.kernels[0], 880, 1060) == {1000.0}


async def test_who_begins_to_work_while_an_agents_process_is_stopped_is_told_no_multiple_either():
    lives = Lives(agents=2, measure_s=5.0, scrape_s=5.0)
    agent, kernel = lives.agents[0], lives.kernels[0]
    begins_at(kernel, 890)
    agent.measures = agent.reachable = outside(888.0, 948.0)
    lives.until(700)
    await lives.poll(700, 880)
    told = await rates_told(lives, kernel, 880, 1060)
    assert {0.0, 1000.0} <= told
    assert max(filter(None, told)) == 1000.0


SECOND = [{"instance": "host-00:1"}, {"instance": "zz-00:1"}, {"job": "other"}, {"replica": "b"}]


@pytest.mark.parametrize("labels", SECOND, ids=str)
@pytest.mark.parametrize(("measure_s", "scrape_s"), [(5.0, 15.0), (30.0, 10.0), (5.0, 5.0)])
async def test_the_rate_follows_a_kernel_of_an_agent_that_is_scraped_as_two_targets(
    measure_s: float, scrape_s: float, labels: dict[str, str]
):
    """The newest sample is now of the one, now of the other; no rate follows from rounds of two."""
    lives = Lives(agents=2, measure_s=measure_s, scrape_s=scrape_s)
    agent, kernel = lives.agents[0], lives.kernels[0]
    begins_at(kernel, 700)
    lives.agents.append(SecondTarget(agent, scrape_s * 0.47, **labels))
    lives.until(300)
    await lives.poll(300, 700)
    assert rate_told(lives, kernel) == 0.0
    await lives.poll(700, 790)
    assert await rates_told(lives, kernel, 790, 900) == {1000.0}


async def test_a_kernel_that_began_when_its_agent_was_scraped_by_two_replicas_has_its_rate_soon():
    lives = Lives(agents=2, measure_s=5.0, scrape_s=15.0)
    agent, late = lives.agents[0], Kernel("late")
    late.metrics = {name: since(701, value) for name, value in late.metrics.items()}
    agent.kernels = [*agent.kernels, late]
    lives.agents.append(SecondTarget(agent, 7.0, replica="b"))
    lives.until(600)
    await lives.poll(600, 740)
    assert await rates_told(lives, late, 740, 900) == {1000.0}
