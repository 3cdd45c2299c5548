"""The daemon in a process of its own: deadlines, stops, reloads, one line a change of state."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from poller import __version__
from poller.config import Config
from poller.daemon.daemon import Daemon
from poller.errors import PrometheusError, StoreError
from poller.poll import assembly
from poller.poll.outcome import Outcome
from poller.poll.withhold import Reason
from tests.support.answers import Answer, replaying
from tests.support.exporter import Exporter
from tests.support.live import LivePoller, read_legacy, settings, tables
from tests.support.process import HOST
from tests.support.proxy import FaultProxy, blackhole, passing
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Prometheus, Redis, scrape_config, wait_until
from tests.support.world import World

STUCK = """
import socket, time
true = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    if host == "stuck.test":
        time.sleep(3600)
    return true(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
"""
IO_READ = 'container_metric_name="io_read",value_type="current"'
BAD_SIGNS = ("Traceback", "never retrieved", "never awaited", "was destroyed", "Unclosed", "Error:")


@pytest.fixture
def world(prometheus: ScriptedPrometheus) -> World:
    world = World(3)
    prometheus.handler = world.handler
    return world


def url_of(proxy: FaultProxy, scheme: str) -> str:
    return f"{scheme}://{HOST}:{proxy.port}"


def check_log(live: LivePoller) -> None:
    for sign in BAD_SIGNS:
        assert sign not in live.log, live.log


# --- the deadline -------------------------------------------------------------------------------


@pytest.mark.parametrize("leads", [False, True], ids=["alone", "with a lease"])
def test_a_black_holed_prometheus_costs_no_tick_and_is_told_once(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path, leads: bool
) -> None:
    with FaultProxy(prometheus.port) as proxy:
        made = tables(url_of(proxy, "http"), redis.url, 0.8, leader__enabled=leads)
        with LivePoller(tmp_path, made) as live:
            live.wait_metric("cycles_total", 1, result="success")
            proxy.fault = blackhole()
            live.wait_metric("cycles_total", 5, result="failed", reason="timeout")
            assert live.page("/-/ready")[0] == 503
            proxy.fault = passing()
            since = time.monotonic()
            good = live.metric("cycles_total", result="success")
            live.wait_metric("cycles_total", good + 1, result="success")
            assert time.monotonic() - since < 3 * 0.8
            assert live.page("/-/ready")[0] == 200
            assert live.metric("missed_cycles_total") == 0
            assert live.stop() == 0
        assert len(live.lines("prometheus: no answer within")) == 1
        (line,) = live.lines("prometheus: well again after")
        assert " INFO " in line
        check_log(live)


def test_a_black_holed_redis_costs_no_tick_and_each_overrun_is_counted(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    with FaultProxy(redis.port) as proxy:
        more = {"redis__timeout_s": 0.7, "poll__deadline_s": 0.7}
        made = tables(prometheus.url, url_of(proxy, "redis"), 0.8, **more)
        with LivePoller(tmp_path, made) as live:
            live.wait_metric("cycles_total", 1, result="success")
            proxy.fault = blackhole()
            live.wait_metric("cycles_total", 5, result="failed", reason="deadline")
            proxy.fault = passing()
            good = live.metric("cycles_total", result="success")
            live.wait_metric("cycles_total", good + 2, result="success")
            failed = live.metric("cycles_total", result="failed", reason="deadline")
            assert live.metric("overrun_cycles_total") == failed >= 5
            assert live.metric("missed_cycles_total") == 0
            assert live.stop() == 0
        assert len(live.lines("redis: no answer within the deadline of 0.7 s")) == 1
        assert len(live.lines("redis: well again after")) == 1
        check_log(live)


@pytest.mark.parametrize("neighbour", ["prometheus", "redis"])
def test_a_name_resolution_that_hangs_costs_no_tick_and_does_not_hold_up_the_end(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path, neighbour: str
) -> None:
    urls = {"prometheus": prometheus.url, "redis": redis.url}
    urls[neighbour] = re.sub(r"127\.0\.0\.1", "stuck.test", urls[neighbour])
    # Long before the deadline, so that what it says of it does not change on a busy machine.
    brief = {"prometheus__timeout_s": 0.3, "redis__timeout_s": 0.3}
    made = tables(urls["prometheus"], urls["redis"], 1.0, **brief)
    with LivePoller(tmp_path, made, before=STUCK) as live:
        live.wait_metric("cycles_total", 4, result="failed", reason="timeout")
        assert live.metric("missed_cycles_total") == 0
        since = time.monotonic()
        assert live.stop() == 0
        assert time.monotonic() - since < 5
    assert len(live.lines(f"{neighbour}: ")) == 1
    check_log(live)


def test_a_tick_beside_a_cycle_is_missed_but_not_beside_one_that_runs_between_ticks(tmp_path):
    config = settings(tmp_path, "http://127.0.0.1:9", "redis://127.0.0.1:9")
    daemon = Daemon(config, lambda: config)
    daemon._running = True
    daemon._on_tick(0)
    assert daemon.telemetry.missed._value.get() == 1
    assert not daemon._tick.is_set()
    daemon._between_ticks = True
    daemon._on_tick(0)
    assert daemon.telemetry.missed._value.get() == 1
    assert daemon._tick.is_set()
    daemon._between_ticks, daemon.leadership.stands_by = False, True
    daemon._on_tick(0)
    assert daemon.telemetry.missed._value.get() == 1


async def test_a_cycle_that_waited_for_the_end_of_one_between_ticks_misses_none_either(tmp_path):
    config = settings(tmp_path, "http://127.0.0.1:9", "redis://127.0.0.1:9")
    daemon = Daemon(config, lambda: config)
    meets = [True, True, False]

    async def polled(run: object, outcome: Outcome) -> bool:
        if meets.pop(0):
            daemon._on_tick(0)
        return True

    daemon._lead = polled
    daemon._running = daemon._between_ticks = True
    for _ in range(3):  # the first meets a tick, so the second begins late and meets the next one
        daemon._tick.clear()
        await daemon._one_cycle(SimpleNamespace(config=config, lease=None))
    assert daemon.telemetry.missed._value.get() == 0
    daemon._on_tick(0)  # the third began late, too, and was over in time
    assert daemon.telemetry.missed._value.get() == 1


@pytest.mark.parametrize("cut", ["", "io_read"], ids=["all", "one of several at once"])
async def test_a_failed_cycle_lets_go_of_the_answers_that_its_errors_hold(
    prometheus: ScriptedPrometheus, world: World, tmp_path: Path, cut: str
) -> None:
    """Else megabytes that a proxy cut off pile up until the collector comes by."""

    def handler(query: str, time: float, params: dict[str, str]) -> Answer:
        if cut in query:
            return Answer(200, b'{"status":"success","data":' * 1000)
        return world.handler(query, time, params)

    prometheus.handler = handler
    config = settings(tmp_path, prometheus.url, "redis://127.0.0.1:9")
    daemon = Daemon(config, lambda: config)
    async with assembly.cycle(config) as cycle:
        await daemon._one_cycle(SimpleNamespace(config=config, cycle=cycle, lease=None))
        left = [one for one in gc.get_objects() if isinstance(one, PrometheusError)]
    assert daemon.report.failing
    assert len(left) == 1  # why the first server was passed over, without where it came from
    frames = {frame.name for frame in traceback.extract_tb(left[0].__traceback__)}
    assert "run" in frames
    assert frames.isdisjoint({"_parsed", "in_portions", "_answer"})
    assert left[0].__context__ is left[0].__cause__ is None


def test_where_ticks_and_scrapes_are_in_step_another_cycle_follows_at_once(tmp_path: Path) -> None:
    config = settings(tmp_path, "http://127.0.0.1:9", "redis://127.0.0.1:9")
    daemon = Daemon(config, lambda: config)

    def follows(**withheld: Reason) -> bool:
        daemon._between_ticks = daemon._meets_scrapes(Outcome(withheld=dict(withheld)))
        return daemon._between_ticks

    assert not follows(a="mixed")
    assert not follows(b="mixed", a="waiting")
    assert follows(a="mixed", b="mixed")
    assert not follows(b="mixed")  # that one followed
    assert follows(a="mixed")
    assert not follows()  # that one followed
    assert not follows()
    assert follows(a="mixed")
    assert not follows()  # that one followed
    assert not any([follows(), follows(), follows()])
    assert not follows(a="mixed")


def test_a_process_that_stood_still_counts_what_it_missed_and_does_not_catch_up(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    with LivePoller(tmp_path, tables(prometheus.url, redis.url, 0.5)) as live:
        live.wait_metric("cycles_total", 3, result="success")
        before = prometheus.batches
        assert live.metric("missed_cycles_total") == 0
        live.send(signal.SIGSTOP)
        time.sleep(3.0)
        live.send(signal.SIGCONT)
        live.wait_metric("missed_cycles_total", 1)
        missed = live.metric("missed_cycles_total")
        done = live.metric("cycles_total", result="success")
        live.wait_metric("cycles_total", done + 3, result="success")
        times = prometheus.batches
        gap = max(later - earlier for earlier, later in zip(times, times[1:], strict=False))
        assert missed == round(gap / 0.5) - 1
        (line,) = live.lines("stood still")
        assert (
            f" WARNING clock: this process stood still for about {(missed + 1) / 2:.0f} s" in line
        )
        after = times[len(before) + 1 :]
        assert min(b - a for a, b in zip(after, after[1:], strict=False)) > 0.25
        assert live.stop() == 0
    check_log(live)


# --- the end ------------------------------------------------------------------------------------


def slow(world: World, sign: str, delay_s: float) -> Any:
    def handler(query: str, at: float, params: dict[str, str]) -> Answer:
        answer = world.handler(query, at, params)
        return answer.slow(delay_s) if sign in query else answer

    return handler


def wait_for_query(prometheus: ScriptedPrometheus, sign: str) -> None:
    asked = sum(sign in query for query in prometheus.queries)
    wait_until(lambda: sum(sign in query for query in prometheus.queries) > asked, "a query")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_the_cycle_in_flight_finish(
    prometheus: ScriptedPrometheus,
    world: World,
    redis: Redis,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    made = tables(prometheus.url, redis.url, 5.0, leader__enabled=True, poll__stop_grace_s=4)
    prometheus.handler = slow(world, IO_READ, 0.7)
    with LivePoller(tmp_path, made) as live:
        wait_for_query(prometheus, IO_READ)
        assert redis.command("EXISTS", *world.ids) == 0
        live.send(number)
        assert live.process is not None
        assert live.process.wait(10) == 0
    assert redis.command("EXISTS", *world.ids) == 3
    assert live.lines("stopped")
    check_log(live)


def test_a_stop_cancels_a_cycle_that_does_not_finish_within_the_grace(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    made = tables(prometheus.url, redis.url, 30.0, poll__stop_grace_s=0.3)
    prometheus.handler = slow(world, IO_READ, 20)
    with LivePoller(tmp_path, made) as live:
        wait_for_query(prometheus, IO_READ)
        since = time.monotonic()
        assert live.stop() == 0
        assert time.monotonic() - since < 5
    assert redis.command("DBSIZE") == 0
    check_log(live)


def test_a_stop_while_both_neighbours_are_black_holes_is_a_stop(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    with FaultProxy(prometheus.port) as first, FaultProxy(redis.port) as second:
        made = tables(url_of(first, "http"), url_of(second, "redis"), 2.0, leader__enabled=True)
        made["poll"]["stop_grace_s"] = 0.2
        with LivePoller(tmp_path, made) as live:
            live.wait_metric("cycles_total", 1, result="success")
            first.fault, second.fault = blackhole(), blackhole()
            live.wait_metric("cycles_total", 1, result="failed")
            since = time.monotonic()
            assert live.stop() == 0
            assert time.monotonic() - since < 6
        check_log(live)


# --- the settings -------------------------------------------------------------------------------


def test_good_settings_are_taken_and_bad_ones_refused_while_the_old_go_on(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    made = tables(prometheus.url, redis.url, 0.5)
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"\xff\xfe")
    with LivePoller(tmp_path, made) as live:
        live.wait_metric("cycles_total", 2, result="success")
        bad: list[dict[str, dict[str, Any]]] = [
            tables("ftp://x", redis.url),
            tables(prometheus.url, redis.url, prometheus__ca_file=rubbish),
            tables(prometheus.url, redis.url, redis__ca_file=rubbish),
            tables(prometheus.url, redis.url, prometheus__bearer_token_file=rubbish),
            tables(prometheus.url, redis.url, redis__password_file=rubbish),
            tables(prometheus.url, redis.url, redis__password_file="/no/such/file"),
        ]
        for count, settings in enumerate(bad, 1):
            live.write(settings)
            live.send(signal.SIGHUP)
            live.wait_line("settings: refused, the old ones go on", count)
        live.path.write_text("[poll\n")
        live.send(signal.SIGHUP)
        live.wait_line("settings: refused, the old ones go on", len(bad) + 1)
        done = live.metric("cycles_total", result="success")
        live.wait_metric("cycles_total", done + 2, result="success")
        assert live.metric("config_reloads_total", result="refused") == len(bad) + 1

        live.write(tables(prometheus.url, redis.url, 0.7))
        live.send(signal.SIGHUP)
        live.wait_metric("config_reloads_total", 1, result="taken")
        wait_until(lambda: live.metric("interval_seconds") == 0.7, "the new interval")
        done = live.metric("cycles_total", result="success")
        live.wait_metric("cycles_total", done + 2, result="success")
        assert live.stop() == 0
    assert len(live.lines("http: listening on")) == 1  # it did not change
    (line,) = live.lines("settings: read again")
    assert " INFO " in line
    assert line.endswith("changed: poll.interval_s, poll.deadline_s, prometheus.timeout_s, "
                         "redis.timeout_s")  # fmt: skip
    check_log(live)


def test_settings_that_cannot_be_read_for_a_reason_nobody_foresaw_are_refused_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def reload() -> Config:
        raise ValueError("Geheim")

    daemon = Daemon(settings(tmp_path, "http://127.0.0.1:9", "redis://127.0.0.1:9"), reload)
    assert not daemon._reloaded()
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("settings: refused, the old ones go on: unexpected ValueError; ")
    assert "\n" not in told
    assert "Geheim" not in caplog.text
    refused = {"result": "refused"}
    name = "livestat_poller_config_reloads_total"
    assert daemon.telemetry.registry.get_sample_value(name, refused) == 1


def test_who_writes_is_told_by_one_that_stands_by_only_while_it_can_ask(tmp_path: Path) -> None:
    config = settings(tmp_path, "http://127.0.0.1:9", "redis://127.0.0.1:9")
    daemon = Daemon(config, lambda: config)
    daemon.leadership.stands_by, daemon.leadership.holder = True, "host:1:abc"
    assert daemon._status(config).holder == "host:1:abc"
    daemon.report.failed(StoreError("refused", "connection refused"), Outcome())
    assert daemon._status(config).holder is None


def test_a_life_goes_on_over_a_reload(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    with LivePoller(tmp_path, tables(prometheus.url, redis.url, 0.5)) as live:
        live.wait_metric("keys_written_total", 6)
        before = read_legacy(redis.command("GET", world.ids[0]))
        live.send(signal.SIGHUP)
        live.wait_metric("config_reloads_total", 1, result="taken")
        written = live.metric("keys_written_total")
        live.wait_metric("keys_written_total", written + 6)
        after = read_legacy(redis.command("GET", world.ids[0]))
        assert after["cpu_used"]["capacity"] == before["cpu_used"]["capacity"]
        assert live.stop() == 0


def test_a_port_in_use_is_told_polling_goes_on_and_the_port_is_tried_until_it_is_free(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    live = LivePoller(tmp_path, tables(prometheus.url, redis.url, 0.5))
    with socket.create_server((HOST, live.port)) as taken, live:
        live.wait_line(f"http: cannot listen on {HOST}:{live.port}: Address already in use")
        wait_until(lambda: redis.command("EXISTS", *world.ids) == 3, "keys")
        time.sleep(1.5)  # a second try that fails is not told again
        taken.close()
        live.wait_line("http: well again after")
        assert live.page("/-/healthy") == (200, "alive\n")
        assert live.stop() == 0
    (line,) = live.lines("http: cannot listen on")
    assert "http.port of its own (POLLER_HTTP__PORT)" in line
    check_log(live)


def test_a_stop_does_not_wait_for_a_port_in_use(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    live = LivePoller(tmp_path, tables(prometheus.url, redis.url, 0.5))
    with socket.create_server((HOST, live.port)), live:
        live.wait_line("http: cannot listen on")
        since = time.monotonic()
        assert live.stop() == 0
        assert time.monotonic() - since < 3
    check_log(live)


# --- what is told of a start ---------------------------------------------------------------------


def test_a_start_tells_version_settings_neighbours_and_who_leads(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    url = redis.url.replace("redis://", "redis://default:@")
    more = {"leader__enabled": True, "redis__key_prefix": "shadow:"}
    made = tables(prometheus.url, url, 0.5, **more)
    with LivePoller(tmp_path, made) as live:
        live.wait_line("leader: this poller writes")
        assert live.stop() == 0
    first, second = live.lines(" start: ")
    assert re.search(rf"livestat-poller {re.escape(__version__)}, Python 3\.\d+\.\d+, ", first)
    assert first.endswith(f"settings: {live.path}")
    assert f"from {prometheus.url} to redis://default:(hidden)@127.0.0.1:" in second
    assert second.endswith("under the prefix shadow:, a cycle every 0.5 s")
    assert not live.lines(" cycle: ")


def test_the_log_level_of_the_command_line_goes_first_and_debug_tells_of_every_cycle(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    made = tables(prometheus.url, redis.url, 0.5, log__level="error")
    with LivePoller(tmp_path, made, arguments=["--log-level", "debug"]) as live:
        live.wait_line("cycle: success in ", 2)
        prometheus.handler = lambda query, at, params: replaying()
        live.wait_line("cycle: failed in ")
        live.send(signal.SIGHUP)
        live.wait_line("settings: read again; changed: nothing")
        told = len(live.lines("cycle: "))
        live.wait_line("cycle: ", told + 2)
        assert live.stop() == 0
    good = live.lines("cycle: success in ")[-1]
    assert " DEBUG " in good
    assert re.search(r", 3 kernels, 3 written, .*query 0\.\d{3} s", good)
    assert ", unavailable" in live.lines("cycle: failed in ")[-1]


# --- one line a change of state -----------------------------------------------------------------


@pytest.fixture(scope="module")
def scraped() -> Iterator[tuple[Prometheus, Exporter]]:
    with (
        Exporter(kernels=3, measure_every_s=0.5) as exporter,
        Prometheus(scrape_configs=[scrape_config(exporter.port, interval_s=0.5)]) as server,
    ):
        server.wait_for("backendai_container_utilization", 3)
        yield server, exporter


@contextmanager
def revived_at_last(server: Prometheus) -> Iterator[None]:
    try:
        yield
    finally:
        if not server.running:
            server.start()


INTERVAL_S = 1.0
"""Shorter, and a busy machine adds troubles of its own to those that are told."""
ORDERS = list(product(("pr", "rp"), ("pr", "rp")))


@pytest.mark.parametrize(("killed", "revived"), ORDERS, ids=["-".join(one) for one in ORDERS])
def test_neighbours_killed_and_revived_in_any_order_are_told_once_each_way(
    scraped: tuple[Prometheus, Exporter], tmp_path: Path, killed: str, revived: str
) -> None:
    with revived_at_last(scraped[0]), Redis(persistent=True) as redis:
        neighbours: dict[str, Any] = {"p": scraped[0], "r": redis}
        made = tables(scraped[0].url, redis.url, INTERVAL_S)
        with LivePoller(tmp_path, made) as live:
            live.wait_metric("cycles_total", 2, result="success")
            for one in killed:
                neighbours[one].kill()
                failed = live.metric("cycles_total", result="failed")
                live.wait_metric("cycles_total", failed + 3, result="failed")
            for one in revived:
                neighbours[one].start()
            good = live.metric("cycles_total", result="success")
            since = time.monotonic()
            live.wait_metric("cycles_total", good + 1, result="success")
            assert time.monotonic() - since < 2 * INTERVAL_S + 1.0  # and a little for the machine
            assert live.stop() == 0
    assert len(live.lines("prometheus: well again")) == 1
    bad = [line for line in live.lines(" ERROR ") if " redis: " in line]
    assert len(live.lines("redis: well again")) == bool(bad)
    assert bad or killed == "pr"  # behind a dead Prometheus nobody looks at Redis
    for line in live.lines(" ERROR "):
        assert live.log.count(line.split(" ERROR ")[1]) == 1, "each reason once"
    check_log(live)


def test_keys_stay_as_they_are_while_prometheus_is_gone(
    scraped: tuple[Prometheus, Exporter], redis: Redis, tmp_path: Path
) -> None:
    server, exporter = scraped
    ids = [kernel.kernel_id for kernel in exporter.kernels]
    made = tables(server.url, redis.url, 0.5)
    with revived_at_last(server), LivePoller(tmp_path, made) as live:
        live.wait_metric("keys_written_total", 6)
        server.kill()
        live.wait_line("prometheus: ")
        live.wait_metric("cycles_total", 1, result="failed")
        before = [redis.command("GET", kernel) for kernel in ids]
        live.wait_metric("cycles_total", 4, result="failed")
        assert [redis.command("GET", kernel) for kernel in ids] == before
        assert all(before)
        server.start()
        written = live.metric("keys_written_total")
        live.wait_metric("keys_written_total", written + 3)
        assert live.stop() == 0
    check_log(live)


def test_it_runs_as_the_only_one_with_open_sockets_that_do_not_grow(
    prometheus: ScriptedPrometheus, world: World, redis: Redis, tmp_path: Path
) -> None:
    # How many connections lie ready for queries depends on how quick the answers are.
    made = tables(prometheus.url, redis.url, 0.3, prometheus__concurrency=1)
    with LivePoller(tmp_path, made) as live:
        live.wait_metric("cycles_total", 5, result="success")
        assert live.process is not None
        files = Path(f"/proc/{live.process.pid}/fd")
        before = len(os.listdir(files))
        for number in range(3):
            live.send(signal.SIGHUP)
            live.wait_metric("config_reloads_total", number + 1, result="taken")
            done = live.metric("cycles_total", result="success")
            live.wait_metric("cycles_total", done + 2, result="success")
        # What a reload replaced is closed a moment later.
        wait_until(
            lambda: len(os.listdir(files)) <= before + 2, "the sockets of before the reloads"
        )
        assert live.stop() == 0
    check_log(live)


@pytest.mark.parametrize(
    ("change", "forgets"),
    [
        ({"shard__index": 1, "shard__count": 2}, True),
        ({"prometheus__url": "http://127.0.0.1:8"}, True),
        ({"format__profile": "26.9"}, True),
        ({"redis__ttl_s": 60}, False),
    ],
)
def test_a_reload_forgets_kernels_where_others_are_seen_from_then_on(
    tmp_path: Path, change: dict[str, Any], forgets: bool
) -> None:
    (tmp_path / "new").mkdir()
    servers = ("http://127.0.0.1:9", "redis://127.0.0.1:9")
    before = settings(tmp_path, *servers)
    after = settings(tmp_path / "new", *servers, **change)
    daemon = Daemon(before, lambda: after)
    kept: Any = object()
    daemon._history = daemon._rounds = kept
    assert daemon._reloaded()
    assert (daemon._history is None, daemon._rounds is None) == (forgets, forgets)
