"""Empty, idle and stalled are three things: nothing written, zeros written, keys left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest

from tests.support.command import environment, poller
from tests.support.exporter import Exporter, Series, openmetrics_file
from tests.support.kernels import Kernel, make_kernel
from tests.support.live import LivePoller, read_legacy, tables
from tests.support.openmetrics import ROUNDS, UTILIZATION
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Prometheus, Redis, scrape_config, wait_until
from tests.support.world import World

AT = 1_790_000_000.0
STEP_S = 5
LENGTH_S = 1800
STALLED_AT = AT - 300
OLD = msgpack.packb(
    {"cpu_util": {"current": "7", "capacity": "1000", "pct": "0.7", "unit_hint": "percent"}}
)


@pytest.fixture
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def prometheus() -> Iterator[ScriptedPrometheus]:
    with ScriptedPrometheus() as server:
        yield server


# --- empty --------------------------------------------------------------------------------------


def test_an_empty_answer_writes_nothing_is_told_once_and_ends_readiness(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World(3)
    prometheus.handler = world.handler
    with LivePoller(tmp_path, tables(prometheus.url, redis.url, 0.4)) as live:
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


def test_a_cluster_whose_agents_still_count_is_empty_indeed_after_the_lookback(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World(3)
    prometheus.handler = world.handler
    made = tables(prometheus.url, redis.url, 0.4, prometheus__lookback_s=2.0)
    with LivePoller(tmp_path, made) as live:
        live.wait_metric("cycles_total", 2, result="success")
        ids, world.ids = world.ids, []
        live.wait_metric("cycles_total", 1, result="failed", reason="empty")
        done = live.metric("cycles_total", result="success")
        live.wait_metric("cycles_total", done + 2, result="success")
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
            }
            samples = [
                (float(at), capacity if value_type == "capacity" else 4096 + slope * course(at))
                for at in times
            ]
            yield Series(labels, samples)


def rounds_of(agent: str, course: Course) -> Series:
    times = range(int(AT - LENGTH_S), int(AT) + 1, STEP_S)
    labels = {"__name__": ROUNDS, "agent_id": agent, "stat_scope": "container"}
    return Series(labels, [(float(at), course(at) // STEP_S) for at in times])


CAST: dict[str, tuple[str, Course]] = {
    "healthy": ("i-counts", busy),
    "idle": ("i-counts", stopped),
    "ended": ("i-counts", ended),
    "stalled 1": ("i-counts-stalled", stopped),
    "stalled alone": ("i-counts-alone", stopped),
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
    series.append(rounds_of("i-counts", busy))
    series += [rounds_of(agent, stopped) for agent in ("i-counts-stalled", "i-counts-alone")]
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
    assert "4 of 9 kernels written" in done.stderr
    assert "1 kernels withheld: still" in done.stderr
    assert "4 kernels withheld: stalled" in done.stderr

    values = {role: redis.command("GET", kernel.kernel_id) for role, kernel in KERNELS.items()}
    assert {role for role, value in values.items() if value == OLD} == {*STALLED, "ended"}
    for role in ("healthy", "mute healthy"):
        assert read_legacy(values[role])["cpu_util"]["pct"] == "50"
    for role in ("idle", "mute idle"):
        assert read_legacy(values[role])["cpu_util"]["pct"] == "0"
        assert read_legacy(values[role])["cpu_util"]["current"] == "0"


def test_the_same_agents_moments_before_they_stalled_were_written(
    recorded: Prometheus, redis: Redis
) -> None:
    env = environment(recorded.url, redis.url)
    done = poller("once", "--time", str(STALLED_AT), env=env)
    assert done.returncode == 0, done.stderr
    assert redis.command("EXISTS", *(kernel.kernel_id for kernel in KERNELS.values())) == 9
    for role in STALLED:
        stat = read_legacy(redis.command("GET", KERNELS[role].kernel_id))
        assert stat["cpu_util"]["pct"] == "50"


# --- the same, live -----------------------------------------------------------------------------


def mute(agent: str) -> dict[str, object]:
    """Return a rule that hides an agent's counter of rounds, as old agents have none."""
    return {
        "source_labels": ["__name__", "agent_id"],
        "regex": f"{ROUNDS};{agent}",
        "action": "drop",
    }


def test_agents_that_stall_while_the_daemon_runs_are_withheld_until_they_move(
    redis: Redis, tmp_path: Path
) -> None:
    with (
        Exporter(kernels=6, agents=3, measure_every_s=0.5) as exporter,
        Prometheus(
            scrape_configs=[
                scrape_config(
                    exporter.port, interval_s=0.5, metric_relabel_configs=[mute("i-agent2")]
                )
            ]
        ) as server,
    ):
        server.wait_for(UTILIZATION, 6)
        of = {
            agent: [one.kernel_id for one in exporter.kernels if one.agent_id == agent]
            for agent in exporter.agent_ids
        }
        idle, healthy = of["i-agent0"]
        with LivePoller(tmp_path, tables(server.url, redis.url, 0.5)) as live:
            wait_until(lambda: redis.command("EXISTS", *sum(of.values(), [])) == 6, "six keys")
            exporter.idle_kernel(idle)
            exporter.freeze_agent("i-agent1")
            exporter.freeze_agent("i-agent2")
            live.wait_line("agent i-agent1: its exporter answers but its measurements stand still")
            live.wait_line("agent i-agent2: its exporter answers but its measurements stand still")
            live.wait_metric("withheld_kernels", 4, reason="stalled")
            assert live.metric("stalled_agents") == 2
            frozen = [*of["i-agent1"], *of["i-agent2"]]
            before = [redis.command("GET", kernel) for kernel in frozen]

            def reads_idle() -> bool:
                return read_legacy(redis.command("GET", idle))["cpu_util"]["current"] == "0"

            wait_until(reads_idle, "the idle kernel reads 0")
            assert float(read_legacy(redis.command("GET", healthy))["cpu_util"]["current"]) > 0
            assert [redis.command("GET", kernel) for kernel in frozen] == before

            env = environment(server.url, redis.url)
            checked = poller("check", env=env)
            assert checked.returncode == 1
            assert "2 stand still while their exporters answer: i-agent1, i-agent2" in " ".join(
                checked.stdout.split()
            )

            exporter.freeze_agent("i-agent1", frozen=False)
            exporter.freeze_agent("i-agent2", frozen=False)
            live.wait_line("agent i-agent1: moves again")
            live.wait_line("agent i-agent2: moves again")
            wait_until(
                lambda: all(
                    redis.command("GET", kernel) != old
                    for kernel, old in zip(frozen, before, strict=True)
                ),
                "their keys move again",
            )
            assert live.stop() == 0
    for agent in ("i-agent1", "i-agent2"):
        assert len(live.lines(f"agent {agent}: its exporter answers")) == 1
    assert not live.lines("agent i-agent0")
