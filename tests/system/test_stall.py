"""Empty, idle and stalled are three things: nothing written, zeros written, keys left alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.support.command import environment, poller
from tests.support.exporter import Exporter
from tests.support.kernels import METRICS, Kernel, make_kernel
from tests.support.live import LivePoller, read_legacy, tables
from tests.support.openmetrics import ROUNDS, STAGE_COUNT, UTILIZATION, Series, openmetrics_file
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Prometheus, Redis, scrape_config, wait_until
from tests.support.world import World

AT = 1_790_000_000.0
STEP_S = 5
LENGTH_S = 1800
STALLED_AT = AT - 300
OFTEN = "import poller.batch.census; poller.batch.census.CENSUS_S = 1.0"
"""Kernels are counted so often, that a test need not wait for a minute."""
OLD = msgpack.packb(
    {"cpu_util": {"current": "7", "capacity": "1000", "pct": "0.7", "unit_hint": "percent"}}
)


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


# --- empty --------------------------------------------------------------------------------------


def test_an_empty_answer_writes_nothing_is_told_once_and_ends_readiness(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World(3)
    prometheus.handler = world.handler
    # An exporter that was not scraped for longer than the lookback counts no rounds any more.
    made = tables(prometheus.url, redis.url, 0.4, prometheus__lookback_s=2.0)
    with LivePoller(tmp_path, made, before=OFTEN) as live:
        live.wait_metric("cycles_total", 2, result="success")
        assert live.page("/-/ready")[0] == 200
        world.gone = True
        live.wait_metric("cycles_total", 1, result="failed", reason="empty")
        keys = [redis.command("GET", kernel) for kernel in world.ids]
        redis.command("CONFIG", "RESETSTAT")
        live.wait_metric("cycles_total", 3, result="failed", reason="empty")
        status, text = live.page("/-/ready")
        assert status == 503
        assert "kernels" in text
        live.wait_metric("cycles_total", 5, result="failed", reason="empty")
        assert [redis.command("GET", kernel) for kernel in world.ids] == keys
        assert "cmdstat_set" not in redis.command("INFO", "commandstats")
        assert "cmdstat_del" not in redis.command("INFO", "commandstats")
        world.gone = False
        done = live.metric("cycles_total", result="success")
        live.wait_metric("cycles_total", done + 1, result="success")
        assert live.page("/-/ready")[0] == 200
        assert live.stop() == 0
    assert len(live.lines("kernels: Prometheus holds no kernel any more")) == 1
    assert len(live.lines("kernels: well again")) == 1


def test_a_cluster_that_never_had_a_kernel_is_in_order(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World()
    world.gone = True
    prometheus.handler = world.handler
    with LivePoller(tmp_path, tables(prometheus.url, redis.url, 0.4)) as live:
        live.wait_metric("cycles_total", 3, result="success")
        assert live.page("/-/ready")[0] == 200
        assert live.stop() == 0
    assert redis.command("DBSIZE") == 0


def test_a_cluster_whose_agents_still_count_is_empty_indeed(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World(3)
    prometheus.handler = world.handler
    made = tables(prometheus.url, redis.url, 1.0, prometheus__lookback_s=2.0)
    with LivePoller(tmp_path, made) as live:
        live.wait_metric("cycles_total", 2, result="success")
        ids, world.ids = world.ids, []
        wait_until(lambda: live.metric("active_kernels") == 0, "no kernel any more")
        done = live.metric("cycles_total", result="success")
        live.wait_metric("cycles_total", done + 4, result="success")  # for longer than the lookback
        live.wait_line("kernels: the last one has ended")
        assert live.metric("cycles_total", result="failed") == 0
        assert live.page("/-/ready")[0] == 200
        assert live.stop() == 0
    assert redis.command("EXISTS", *ids) == 3  # a key is never deleted


# --- stalled, beside healthy and idle: recorded -------------------------------------------------

Course = Callable[[float], float]
"""Seconds of work done by that time."""


def busy(time: float) -> float:
    return time - (AT - LENGTH_S)


def stopped(time: float) -> float:
    return busy(min(time, STALLED_AT))


def ended(time: float) -> float:
    return busy(min(time, AT - 1100))


def series_of(kernel: Kernel, course: Course) -> Iterator[Series]:
    times = range(int(AT - LENGTH_S), int(AT) + 1, STEP_S)
    for metric, slope, capacity in (("cpu_util", 500.0, 1000.0), ("mem", 0.0, 1e9)):
        for value_type in ("current", "capacity"):
            labels = {
                "__name__": UTILIZATION,
                "container_metric_name": metric,
                "value_type": value_type,
                "kernel_id": kernel.kernel_id,
                "agent_id": kernel.agent_id,
                "session_id": kernel.session_id,
                "instance": f"{kernel.agent_id}:6003",
            }
            samples = [
                (float(at), capacity if value_type == "capacity" else 4096 + slope * course(at))
                for at in times
            ]
            yield Series(labels, samples)


def counter_of(agent: str, course: Course, **labels: str) -> Series:
    times = range(int(AT - LENGTH_S), int(AT) + 1, STEP_S)
    labels = {"instance": f"{agent}:6003", **labels}
    return Series(labels, [(float(at), course(at) // STEP_S) for at in times])


def successes_of(agent: str, course: Course) -> Series:
    return counter_of(agent, course, __name__=ROUNDS, agent_id=agent, stat_scope="container")


def rounds_of(agent: str, course: Course) -> Series:
    stage = {"stage": "gather_measures", "upper_layer": "collect_container_stat"}
    return counter_of(agent, course, __name__=STAGE_COUNT, success="True", **stage)


CAST: dict[str, tuple[str, Course]] = {
    "healthy": ("i-counts", busy),
    "idle": ("i-counts", stopped),
    "ended": ("i-counts", ended),
    "stalled 1": ("i-counts-stalled", stopped),
    "stalled alone": ("i-counts-alone", stopped),
    "refused healthy": ("i-refused", busy),
    "refused idle": ("i-refused", stopped),
    "old refused healthy": ("i-old-refused", busy),
    "old refused idle": ("i-old-refused", stopped),
    "old idle 1": ("i-old", stopped),
    "old idle 2": ("i-old", stopped),
    "mute healthy": ("i-mute", busy),
    "mute idle": ("i-mute", stopped),
    "mute stalled 1": ("i-mute-stalled", stopped),
    "mute stalled 2": ("i-mute-stalled", stopped),
}
KERNELS = {
    role: make_kernel(100 + number, agent) for number, (role, (agent, _)) in enumerate(CAST.items())
}
STALLED = {role for role in CAST if "stalled" in role}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    series: list[Series] = []
    for role, (_, course) in CAST.items():
        series += series_of(KERNELS[role], course)
    courses = {"i-counts": busy, "i-counts-stalled": stopped, "i-counts-alone": stopped}
    for agent, course in courses.items():
        series += [rounds_of(agent, course), successes_of(agent, course)]
    # Their writes are refused, as at a cut-over; the older one counts nothing else.
    series += [rounds_of("i-refused", busy), successes_of("i-refused", stopped)]
    series.append(successes_of("i-old-refused", stopped))
    series.append(successes_of("i-old", busy))
    path = tmp_path_factory.mktemp("recorded") / "stall.om"
    with Prometheus(samples=openmetrics_file(path, series)) as server:
        yield server


def test_recorded_healthy_idle_ended_and_stalled_are_told_apart(
    recorded: Prometheus, redis: Redis
) -> None:
    for kernel in KERNELS.values():
        redis.command("SET", kernel.kernel_id, OLD)
    env = environment(recorded.url, redis.url)
    done = poller("once", "--time", str(AT), env=env)
    assert done.returncode == 0, done.stderr
    assert "10 of 15 kernels written" in done.stderr
    assert "1 kernel withheld: still" in done.stderr
    assert "4 kernels withheld: stalled" in done.stderr

    values = {role: redis.command("GET", kernel.kernel_id) for role, kernel in KERNELS.items()}
    assert {role for role, value in values.items() if value == OLD} == {*STALLED, "ended"}
    for role in (role for role in CAST if "healthy" in role):
        assert read_legacy(values[role])["cpu_util"]["pct"] == "50"
    for role in (role for role in CAST if "idle" in role):
        assert read_legacy(values[role])["cpu_util"]["pct"] == "0"
        assert read_legacy(values[role])["cpu_util"]["current"] == "0"


def test_the_same_agents_moments_before_they_stalled_were_written(
    recorded: Prometheus, redis: Redis
) -> None:
    env = environment(recorded.url, redis.url)
    done = poller("once", "--time", str(STALLED_AT), env=env)
    assert done.returncode == 0, done.stderr
    assert redis.command("EXISTS", *(kernel.kernel_id for kernel in KERNELS.values())) == 15
    for role in STALLED:
        stat = read_legacy(redis.command("GET", KERNELS[role].kernel_id))
        assert stat["cpu_util"]["pct"] == "50"


# --- the same, live -----------------------------------------------------------------------------


INTERVAL_S = 0.5
NEAR = 0.35
"""So short an interval is not known well where scrapes come late; a rate that sinks is far off."""
MISSED_S = 6.0
"""Longer than four rounds, and than any patience with a scrape every half second."""


@contextmanager
def scraped(**more: Any) -> Iterator[tuple[Exporter, Prometheus]]:
    """Run agents that measure twice a second, on a Prometheus that scrapes as often."""
    with Exporter(measure_every_s=INTERVAL_S, **more) as exporter:
        job = scrape_config(interval_s=INTERVAL_S, static_configs=exporter.targets)
        with Prometheus(scrape_configs=[job]) as server:
            server.wait_for(f'{UTILIZATION}{{container_metric_name="cpu_used"}}', more["kernels"])
            yield exporter, server


def cpu(redis: Redis, kernel: Kernel) -> float:
    return float(read_legacy(redis.command("GET", kernel.kernel_id))["cpu_util"]["current"])


def speed(kernel: Kernel) -> float:
    return kernel.rate(next(metric for metric in METRICS if metric.name == "cpu_util"))


def keys(redis: Redis, kernels: list[Kernel]) -> list[bytes]:
    """Return what the kernels' keys hold."""
    return [redis.command("GET", one.kernel_id) for one in kernels]


def have_moved(redis: Redis, kernels: list[Kernel], before: list[bytes]) -> bool:
    """Whether every key holds something else than before."""
    return all(old != new for old, new in zip(before, keys(redis, kernels), strict=True))


def moves(redis: Redis, kernels: list[Kernel]) -> bool:
    """Whether every key changes within three intervals."""
    before = keys(redis, kernels)
    time.sleep(3 * INTERVAL_S)
    return have_moved(redis, kernels, before)


def check_holds(redis: Redis, kernel: Kernel, values: Mapping[str, float]) -> None:
    """The key is of the last measurement, whose values these are, at the kernel's true rate."""
    stat = read_legacy(redis.command("GET", kernel.kernel_id))
    assert float(stat["cpu_used"]["current"]) == pytest.approx(values["cpu_used"])
    assert float(stat["mem"]["current"]) == values["mem"]
    assert cpu(redis, kernel) == pytest.approx(speed(kernel), rel=NEAR)


def check_is_told(server: Prometheus, redis: Redis, *agents: str) -> None:
    """`check` fails and names the agents that stand still."""
    done = poller("check", env=environment(server.url, redis.url))
    assert done.returncode == 1
    told = f"stand still while their exporters answer: {', '.join(agents)}"
    assert told in " ".join(done.stdout.split())


def test_agents_that_stall_while_the_daemon_runs_are_withheld_until_they_move(
    redis: Redis, tmp_path: Path
) -> None:
    with scraped(kernels=6, agents=3, counts={"i-agent2": None}) as (exporter, server):
        of = {
            agent: [one for one in exporter.kernels if one.agent_id == agent]
            for agent in exporter.agent_ids
        }
        idle, healthy = of["i-agent0"]
        with LivePoller(tmp_path, tables(server.url, redis.url, INTERVAL_S)) as live:
            live.wait_metric("keys_written_total", 6 * 8, 30)
            exporter.idle_kernel(idle.kernel_id)
            exporter.freeze_agent("i-agent1")
            exporter.freeze_agent("i-agent2")
            last = {one: exporter.current(one.kernel_id) for one in of["i-agent1"]}
            live.wait_line(
                "agent i-agent1: its exporter i-agent1:6003 answers but its measurements"
            )
            live.wait_line("agent i-agent2: its exporter answers but its measurements stand still")
            live.wait_metric("withheld_kernels", 4, reason="stalled")
            assert live.metric("stalled_agents") == 2
            frozen = [*of["i-agent1"], *of["i-agent2"]]
            before = keys(redis, frozen)
            for kernel, values in last.items():
                check_holds(redis, kernel, values)

            wait_until(lambda: cpu(redis, idle) == 0, "the idle kernel reads 0")
            assert cpu(redis, healthy) == pytest.approx(speed(healthy), rel=NEAR)
            assert keys(redis, frozen) == before
            check_is_told(server, redis, "i-agent1", "i-agent2")

            exporter.freeze_agent("i-agent1", frozen=False)
            exporter.freeze_agent("i-agent2", frozen=False)
            live.wait_line("agent i-agent1: measures again")
            live.wait_line("agent i-agent2: ", 2)
            wait_until(lambda: have_moved(redis, frozen, before), "their keys move again")
            assert live.stop() == 0
    for agent in ("i-agent1", "i-agent2"):
        assert len(live.lines(f"agent {agent}: its exporter ")) == 1
    assert not live.lines("agent i-agent0")


def test_agents_whose_own_writes_are_refused_measure_on_and_nothing_is_withheld(
    redis: Redis, tmp_path: Path
) -> None:
    """The counter of successes stands still at every cut-over, of agents of any age."""
    with scraped(kernels=4, agents=2, counts={"i-agent1": "successes"}) as (exporter, server):
        with LivePoller(tmp_path, tables(server.url, redis.url, INTERVAL_S)) as live:
            live.wait_metric("keys_written_total", 4 * 4, 30)
            for agent in exporter.agent_ids:
                exporter.refuse_writes(agent)
            time.sleep(MISSED_S)
            assert moves(redis, exporter.kernels)
            for reason in ("stalled", "still", "waiting", "mixed"):
                assert live.metric("withheld_kernels", reason=reason) == 0
            for kernel in exporter.kernels:
                assert cpu(redis, kernel) == pytest.approx(speed(kernel), rel=NEAR)
            assert live.stop() == 0
        assert not live.lines("stand still"), live.log


def test_an_agent_that_is_set_back_to_an_older_version_is_read_as_one(
    redis: Redis, tmp_path: Path
) -> None:
    """It counts successes alone from then on, under the name that it had."""
    with scraped(kernels=2, agents=1) as (exporter, server):
        live = LivePoller(tmp_path, tables(server.url, redis.url, INTERVAL_S))
        with live:
            live.wait_metric("keys_written_total", 2 * 4, 30)
            exporter.count("i-agent0", "successes")
            time.sleep(MISSED_S)
            assert moves(redis, exporter.kernels)
            assert live.metric("withheld_kernels", reason="stalled") == 0
            assert live.stop() == 0
