"""Tests of the test infrastructure itself: real servers and live exporters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis as Client
from redis import exceptions

from tests.support.exporter import Exporter, Replay
from tests.support.hand_clock import HandClock
from tests.support.openmetrics import (
    DURATION_COUNT,
    ROUNDS,
    STAGE_COUNT,
    UTILIZATION,
    Series,
    openmetrics_file,
    samples_of,
)
from tests.support.redis_server import connect
from tests.support.servers import (
    HOST,
    Prometheus,
    Redis,
    RedisCluster,
    SentinelGroup,
    StartFailedError,
    VictoriaMetrics,
    free_port,
    require,
    scrape_config,
    slot_of,
    wait_until,
)
from tests.support.tls import tls_files

LABELS = {"__name__": UTILIZATION, "kernel_id": 'quoted "k"\\n', "value_type": "current"}
RECORDED = [
    Series(LABELS, [(1_700_000_000.5 + second, 10.5 * second) for second in range(60)]),
    Series({"__name__": ROUNDS, "agent_id": "i-a"}, [(1_700_000_000.0, 1.0)]),
]


# --- processes ------------------------------------------------------------------------------


def test_free_ports_differ_and_stay_below_the_ephemeral_range() -> None:
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert max(ports) < 32768


def test_missing_binary_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLLER_TEST_NO_SKIP", raising=False)
    with pytest.raises(pytest.skip.Exception):
        require("no-such-binary")
    monkeypatch.setenv("POLLER_TEST_NO_SKIP", "1")
    with pytest.raises(pytest.fail.Exception):
        require("no-such-binary")


def test_failed_start_shows_the_log_and_leaves_nothing() -> None:
    server = Redis(settings=["no-such-directive 1"])
    with pytest.raises(StartFailedError, match="no-such-directive"), server:
        pass
    assert not server.running
    assert not server.directory.exists()


def test_servers_die_with_a_killed_test_process(tmp_path: Path) -> None:
    script = (
        "from tests.support.servers import Redis\n"
        "server = Redis(); server.start(); print(server.pid, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        child.kill()
    wait_until(lambda: not _lives(pid), "the server died with its parent", timeout_s=5)


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# --- Redis ----------------------------------------------------------------------------------


def test_redis_forgets_or_keeps_its_keys_over_a_kill() -> None:
    for persistent in (False, True):
        with Redis(persistent=persistent) as server:
            server.command("SET", "key", "value")
            server.kill()
            assert not server.running
            server.start()
            assert (server.command("GET", "key") == b"value") is persistent


def test_paused_redis_accepts_and_does_not_answer(redis: Redis) -> None:
    redis.pause()
    try:
        with connect(redis.port, protocol=2) as client:
            client.connection_pool.connection_kwargs["socket_timeout"] = 0.2
            with pytest.raises(exceptions.TimeoutError):
                client.ping()
    finally:
        redis.resume()
    assert redis.command("PING")


def test_redis_with_password_acl_and_unix_socket() -> None:
    with Redis(password="secret", unix_socket=True) as server:
        for url in (server.url, server.unix_url):
            with Client.from_url(url) as client:
                assert client.ping()
        with connect(server.port) as client, pytest.raises(exceptions.AuthenticationError):
            client.ping()
    with Redis(acl="user default on nopass ~* +ping +hello +client") as server:
        with (
            connect(server.port) as client,
            pytest.raises(exceptions.NoPermissionError),
        ):
            client.get("key")
        assert server.command("GET", "key") is None


def test_redis_over_tls_demands_a_client_certificate(tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    with Redis(tls=files, client_certificates=True) as server:
        assert server.url.startswith("rediss://")
        assert server.command("PING")
        with (
            Client.from_url(server.url, ssl_ca_certs=str(files.authority)) as client,
            pytest.raises(exceptions.ConnectionError),
        ):
            client.ping()


def test_sentinels_promote_the_replica_of_a_killed_master() -> None:
    with SentinelGroup(password="secret", sentinel_password="other") as group:
        old_port = group.kill_master()
        new_port = group.wait_promotion()
        assert new_port != old_port
        group.master().command("SET", "key", "value")
        group.server(old_port).start()
        assert group.wait_promotion(old_port) == new_port


def test_cluster_loses_and_regains_a_node_and_moves_a_slot() -> None:
    with RedisCluster(password="secret") as cluster:
        slot = slot_of("key")
        source = cluster.owner(slot)
        target = (source + 1) % 3
        cluster.nodes[source].command("SET", "key", "value")
        cluster.begin_move(slot, target)
        with pytest.raises(exceptions.AskError):
            cluster.nodes[source].command("GET", "{key}.absent")
        assert cluster.migrate_keys(slot, target) == 1
        cluster.finish_move(slot, target)
        assert cluster.owner(slot) == target
        assert cluster.nodes[target].command("GET", "key") == b"value"
        cluster.kill_node(source)
        assert cluster.keys() == {"key"}
        cluster.restart_node(source)
        with pytest.raises(exceptions.MovedError):
            cluster.nodes[source].command("GET", "key")


# --- Prometheus and VictoriaMetrics ---------------------------------------------------------


def test_openmetrics_text_reads_back_as_it_was_written(tmp_path: Path) -> None:
    assert samples_of(openmetrics_file(tmp_path / "samples.om", RECORDED)) == RECORDED


def test_both_metric_servers_show_recorded_samples(tmp_path: Path) -> None:
    path = openmetrics_file(tmp_path / "samples.om", RECORDED)
    with Prometheus(samples=path) as prometheus, VictoriaMetrics(samples=path) as victoria:
        for server in (prometheus, victoria):
            assert server.query(UTILIZATION, 1_700_000_030.5) == [(LABELS, 315.0)]
            assert len(server.query(f"count_over_time({ROUNDS}[5s])", 1_700_000_001)) == 1
            server.kill()
            server.start()
        assert prometheus.query(UTILIZATION, 1_700_000_030.5) == [(LABELS, 315.0)]


def test_unreadable_samples_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.om"
    path.write_text("what 1 is\n# EOF\n")
    with pytest.raises(StartFailedError, match="promtool refused"):
        Prometheus(samples=path)


def test_prometheus_scrapes_an_exporter_and_a_replay() -> None:
    replay = Replay(RECORDED, skip_s=30)
    exporter = Exporter(kernels=2)
    jobs = [
        scrape_config(exporter.port, interval_s=0.2),
        scrape_config(replay.port, job="replay", interval_s=0.2),
    ]
    with exporter, replay, Prometheus(scrape_configs=jobs) as prometheus:
        rows = prometheus.wait_for(f'{UTILIZATION}{{job="agents"}}', rows=28)
        assert {labels["kernel_id"] for labels, _ in rows} == {
            kernel.kernel_id for kernel in exporter.kernels
        }
        prometheus.wait_for(f'{ROUNDS}{{agent_id="i-agent0"}} > 1')
        (labels, value), *_ = prometheus.wait_for(f'{UTILIZATION}{{job="replay"}}')
        assert labels["instance"] == f"{HOST}:{replay.port}"
        assert value >= 10.5 * 29


# --- exporter -------------------------------------------------------------------------------


def test_exporter_freezes_and_idles() -> None:
    clock = HandClock()
    exporter = Exporter(kernels=3, agents=2, measure_every_s=5, clock=clock)
    first, second, third = exporter.kernels
    assert (first.agent_id, second.agent_id, third.agent_id) == ("i-agent0", "i-agent1", "i-agent0")
    clock.now += 14.9
    assert exporter.current(first.kernel_id)["cpu_used"] == 100 * 10
    exporter.freeze_agent("i-agent1")
    exporter.idle_kernel(third.kernel_id)
    clock.now += 10
    assert exporter.current(first.kernel_id)["cpu_used"] == 100 * 20
    assert exporter.current(second.kernel_id)["cpu_used"] == 200 * 10
    assert exporter.current(third.kernel_id)["cpu_used"] == 300 * 10
    assert [counted(exporter, agent, "gather_measures") for agent in exporter.agent_ids] == [4, 2]
    exporter.freeze_agent("i-agent1", False)
    assert exporter.current(second.kernel_id)["cpu_used"] == 200 * 20


def counted(exporter: Exporter, agent: str, stage: str, success: str = "True") -> float:
    """Return how often an agent went through a stage, by its page."""
    labels = {"__name__": STAGE_COUNT, "stage": stage, "success": success}
    found = [value for one, value in exporter.readings(agent) if labels.items() <= one.items()]
    return sum(found)


def test_an_agent_counts_its_rounds_with_its_gauges_and_tells_no_other_agents_kernels() -> None:
    clock = HandClock()
    exporter = Exporter(kernels=3, agents=2, measure_every_s=5, clock=clock)
    for passed_s, rounds in ((4.9, 0), (0.1, 1), (25.0, 6)):
        clock.now += passed_s
        readings = list(exporter.readings("i-agent1"))
        (kernel,) = {one["kernel_id"] for one, _ in readings if "kernel_id" in one}
        used = [value for one, value in readings if one.get("container_metric_name") == "cpu_used"]
        assert (kernel, used) == (exporter.kernels[1].kernel_id, [200 * 5 * rounds])
        assert counted(exporter, "i-agent1", "gather_measures") == rounds
        tasks = [value for one, value in readings if one["__name__"] == DURATION_COUNT]
        assert tasks == [rounds]
    with pytest.raises(KeyError):
        exporter.readings()  # two agents on one page would count as one


def test_a_cut_over_stops_the_successes_and_older_agents_count_less() -> None:
    clock = HandClock()
    exporter = Exporter(kernels=1, measure_every_s=5, clock=clock)
    clock.now += 10
    exporter.refuse_writes("i-agent0")
    clock.now += 15
    assert counted(exporter, "i-agent0", "gather_measures") == 5
    assert counted(exporter, "i-agent0", "redis_write") == 2
    assert counted(exporter, "i-agent0", "redis_write", "False") == 3
    exporter.count("i-agent0", "successes")
    names = [one["__name__"] for one, _ in exporter.readings() if "kernel_id" not in one]
    assert names == [ROUNDS]
    exporter.count("i-agent0", None)
    assert all("kernel_id" in one for one, _ in exporter.readings())


def test_replay_follows_the_recording_and_drops_the_scrapers_labels() -> None:
    clock = HandClock()
    labels = {"__name__": "x", "instance": "i", "job": "j", "kernel_id": "k"}
    late = Series({"__name__": "late"}, [(53.0, 1.0)])
    replay = Replay([Series(labels, [(50.0, 1.0), (51.0, 2.0)]), late], clock=clock)
    seen = []
    for _ in range(4):
        seen.append([value for _, value in replay.readings()])
        clock.now += 1
    assert seen == [[1], [2], [2], [2, 1]]
    assert next(iter(replay.readings()))[0] == {"__name__": "x", "kernel_id": "k"}
