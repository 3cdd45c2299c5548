"""The daemon's own endpoints and metrics, over HTTP, from the real process."""

from __future__ import annotations

import math
import re
import socket
import subprocess
import time
from collections.abc import Callable

import pytest
import redis.exceptions

from poller.daemon.metrics import Telemetry
from poller.poll.outcome import Outcome
from poller.store.errors import REASONS, translate
from tests.support import answers
from tests.support.answers import Answer, Row
from tests.support.daemon import DaemonProcess, metric_of
from tests.support.exporter import Exporter
from tests.support.process import require, wait_until
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Prometheus, Redis, scrape_config

KERNEL = "0f4e1c9a-5d2b-4c3e-8a7f-1b2c3d4e5f60"
TICK_S = 0.5


@pytest.fixture(autouse=True)
def _nothing_there(prometheus: ScriptedPrometheus) -> None:
    prometheus.handler = empty


def empty(query: str, at: float, params: dict[str, str]) -> Answer:
    """Answer as a Prometheus without a single series does."""
    return answers.matrix(()) if query.endswith("]") else answers.vector((), at)


class ByCycle:
    """A script of answers: the first cycle's, the second's …, and the last one from then on.

    The queries of one cycle have one evaluation time. What only asks for the server's clock
    belongs to none.
    """

    def __init__(self, *script: Callable[[str, float, dict[str, str]], Answer]) -> None:
        self._script = script
        self._times: list[float] = []

    def __call__(self, query: str, at: float, params: dict[str, str]) -> Answer:
        if query == "vector(1)":
            return empty(query, at, params)
        if at not in self._times:
            self._times.append(at)
        place = min(self._times.index(at), len(self._script) - 1)
        return self._script[place](query, at, params)


def unavailable(query: str, at: float, params: dict[str, str]) -> Answer:
    return answers.replaying()


def partial(query: str, at: float, params: dict[str, str]) -> Answer:
    return answers.matrix(()) if query.endswith("]") else answers.partial((), at)


def hanging(query: str, at: float, params: dict[str, str]) -> Answer:
    return answers.hanging()


def alone(prometheus: ScriptedPrometheus, redis: Redis, **settings: object) -> DaemonProcess:
    """Return a daemon without a lease, so that its cycles ask nothing but their batch."""
    more = {"poll__interval_s": TICK_S, "leader__enabled": "false", **settings}
    return DaemonProcess(prometheus.url, redis.url, **more)


def is_ready(daemon: DaemonProcess) -> bool:
    return daemon.page("/-/ready")[0] == 200


def test_unready_until_the_first_good_cycle_and_healthy_all_the_while(
    prometheus: ScriptedPrometheus, redis: Redis
) -> None:
    prometheus.handler = unavailable
    with alone(prometheus, redis) as daemon:
        failed = {"result": "failed", "reason": "unavailable"}
        wait_until(lambda: daemon.metric("cycles_total", **failed) >= 2, "two failed cycles")
        assert daemon.page("/-/ready") == (503, "not ready: no good cycle yet\nleads: yes\n")
        assert daemon.page("/-/healthy") == (200, "alive\n")
        assert daemon.metric("last_success_timestamp_seconds") == 0
        prometheus.handler = empty
        wait_until(lambda: is_ready(daemon), "ready after a good cycle")


def test_ready_through_two_bad_cycles_and_not_through_more(
    prometheus: ScriptedPrometheus, redis: Redis
) -> None:
    prometheus.handler = ByCycle(empty, unavailable, unavailable, empty)
    with alone(prometheus, redis, http__unready_after=3) as daemon:
        wait_until(lambda: is_ready(daemon), "ready")
        seen = []
        while daemon.metric("cycles_total", result="success", reason="") < 3:
            seen.append(daemon.page("/-/ready")[0])
            time.sleep(0.02)
        assert set(seen) == {200}
        prometheus.handler = unavailable
        wait_until(lambda: not is_ready(daemon), "not ready after several bad cycles")
        status, text = daemon.page("/-/ready")
        assert status == 503
        assert "cycles failed one after another: prometheus\n" in text
        assert daemon.metric("cycles_total", result="failed", reason="unavailable") >= 2 + 3
        prometheus.handler = empty
        wait_until(lambda: is_ready(daemon), "ready again")


def test_every_cycle_is_counted_once_by_result_and_reason(
    prometheus: ScriptedPrometheus, redis: Redis
) -> None:
    prometheus.handler = ByCycle(empty, empty, empty, unavailable, unavailable, partial, hanging)
    with alone(prometheus, redis) as daemon:

        def timeouts() -> float:
            return daemon.metric("cycles_total", result="failed", reason="timeout")

        wait_until(lambda: timeouts() >= 1, "a cycle without an answer")
        series = daemon.series()
        cycles = {
            tuple(sorted(dict(labels).items(), reverse=True)): number
            for (name, labels), number in series.items()
            if name == "livestat_poller_cycles_total"
        }
        assert cycles.pop((("result", "failed"), ("reason", "timeout"))) >= 1
        assert cycles == {
            (("result", "success"), ("reason", "")): 3,
            (("result", "standby"), ("reason", "")): 0,
            (("result", "failed"), ("reason", "unavailable")): 2,
            (("result", "failed"), ("reason", "partial")): 1,
        }
        assert metric_of(series, "partial_answers_total") >= 1


def test_dropped_rows_are_counted_by_reason(prometheus: ScriptedPrometheus, redis: Redis) -> None:
    good = {"kernel_id": KERNEL, "container_metric_name": "mem", "value_type": "current"}
    bad: list[Row] = [
        ({**good, "kernel_id": "KERNEL"}, 1.0),
        ({**good, "kernel_id": KERNEL.upper()}, 1.0),
        ({"kernel_id": KERNEL}, 1.0),
        (good, "NaN"),
        (good, "+Inf"),
    ]

    def handler(query: str, at: float, params: dict[str, str]) -> Answer:
        is_rest = query.startswith("max by (kernel_id, container_metric_name)") and "!~" in query
        return answers.vector(bad, at) if is_rest else empty(query, at, params)

    prometheus.handler = handler
    with alone(prometheus, redis) as daemon:

        def cycles() -> float:
            return daemon.metric("cycles_total", result="success", reason="")

        wait_until(lambda: cycles() >= 3, "three cycles")
        series = daemon.series()
    number = metric_of(series, "cycles_total", result="success", reason="")
    expected = {"bad_uuid": 2, "missing_label": 1, "nan": 1, "infinite": 1}
    dropped = {
        dict(labels)["reason"]: count / number
        for (name, labels), count in series.items()
        if name == "livestat_poller_rows_dropped_total" and count
    }
    assert dropped == expected


def test_listens_on_loopback_unless_told_otherwise(
    prometheus: ScriptedPrometheus, redis: Redis
) -> None:
    # All of 127.0.0.0/8 reaches this host, but only 127.0.0.1 was bound.
    with alone(prometheus, redis) as daemon, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", daemon.port), 5)
    with alone(prometheus, redis, http__host="0.0.0.0") as daemon:
        socket.create_connection(("127.0.0.2", daemon.port), 5).close()


def test_a_live_page_passes_promtool_and_names_what_was_written(redis: Redis) -> None:
    promtool = require("promtool")
    with (
        Exporter(kernels=3) as exporter,
        Prometheus(scrape_configs=[scrape_config(exporter.port)]) as prometheus,
    ):
        prometheus.wait_for("backendai_container_utilization")
        with DaemonProcess(prometheus.url, redis.url, poll__interval_s=1) as daemon:
            wait_until(lambda: daemon.metric("keys_written_total") >= 6, "two rounds of keys")
            # A cycle that a busy machine does not let finish has seen no kernel.
            wait_until(lambda: daemon.metric("active_kernels") == 3, "a good cycle")
            wait_until(lambda: daemon.metric("restored_kernels_total") == 3, "their past")
            page = daemon.page("/metrics")[1]
            series = daemon.series()
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert metric_of(series, "restored_kernels_total") == 3
    assert metric_of(series, "leader") == 1
    assert metric_of(series, "interval_seconds") == 1
    assert metric_of(series, "keys_written_total") % 3 == 0
    assert abs(metric_of(series, "last_success_timestamp_seconds") - time.time()) < 30


def test_a_good_cycle_is_no_older_for_being_asked_of_an_earlier_time(
    prometheus: ScriptedPrometheus, redis: Redis
) -> None:
    """The alert on stale keys counts in intervals: it fired wherever the offset was longer."""
    with alone(prometheus, redis, poll__query_offset_s=120) as daemon:
        wait_until(lambda: is_ready(daemon), "a good cycle")
        assert abs(daemon.metric("last_success_timestamp_seconds") - time.time()) < 30


def test_a_poller_on_standby_is_ready_and_does_not_lead(
    prometheus: ScriptedPrometheus, redis: Redis
) -> None:
    # A lease that outlasts a process's wait for a core: who leads is not to change here.
    settings = {"poll__interval_s": 4 * TICK_S, "leader__name": "test-standby"}
    with DaemonProcess(prometheus.url, redis.url, **settings) as first:
        wait_until(lambda: first.metric("leader") == 1, "the first leads")
        with DaemonProcess(prometheus.url, redis.url, **settings) as second:
            standby = {"result": "standby", "reason": ""}
            wait_until(lambda: second.metric("cycles_total", **standby) >= 2, "it stands by")
            assert second.metric("leader") == 0
            assert first.page("/-/ready") == (200, "ready\nleads: yes\n")
            status, text = second.page("/-/ready")
            assert status == 200
            assert re.fullmatch(r"ready\nleads: no, \S+:\d+:\w+-\d+-\w+ writes\n", text)
            assert second.metric("cycle_duration_seconds_count", result="standby") >= 2
            assert second.metric("cycle_duration_seconds_count", result="success") == 0
            first.stop()
            wait_until(lambda: second.metric("leader") == 1, "the second takes over")
            assert second.metric("cycles_total", result="failed", reason="lease") == 0


def test_a_leader_whose_lease_ran_out_says_so(prometheus: ScriptedPrometheus, redis: Redis) -> None:
    settings = {"poll__interval_s": TICK_S, "leader__name": "test-ran-out"}
    with DaemonProcess(prometheus.url, redis.url, **settings) as daemon:
        wait_until(lambda: daemon.metric("leader") == 1, "it leads")
        prometheus.handler = unavailable
        wait_until(lambda: daemon.metric("leader") == 0, "it leads no more")


def test_every_reason_of_a_failed_key_is_shown_from_the_start() -> None:
    classes = [kind for kind in vars(redis.exceptions).values() if isinstance(kind, type)]
    replies = ["WRONGTYPE", "NOAUTH", "WRONGPASS", "MISCONF", "MASTERDOWN", "MOVED", "TRYAGAIN"]
    errors: list[Exception] = [redis.exceptions.ResponseError(text) for text in replies]
    errors += [kind("") for kind in classes if issubclass(kind, redis.exceptions.ConnectionError)]
    errors += [redis.exceptions.OutOfMemoryError(""), redis.exceptions.ReadOnlyError("")]
    errors += [redis.exceptions.NoPermissionError(""), redis.exceptions.ResponseError("ODD")]
    errors += [TimeoutError(), OSError()]
    assert {translate(error).reason for error in errors} <= set(REASONS)


def test_an_interval_that_is_not_known_is_no_number() -> None:
    registry = Telemetry().registry
    for name in ("rate_window", "scrape_interval", "sample_lag"):
        found = registry.get_sample_value(f"livestat_poller_{name}_seconds")
        assert found is not None
        assert found != found


def test_the_age_of_the_newest_sample_is_not_known_until_it_is_told() -> None:
    telemetry = Telemetry()
    name = "livestat_poller_sample_lag_seconds"
    assert math.isnan(telemetry.registry.get_sample_value(name))
    telemetry.saw(Outcome(lag_s=2.5), [])
    assert telemetry.registry.get_sample_value(name) == 2.5
    telemetry.saw(Outcome(lag_s=None), [])
    assert math.isnan(telemetry.registry.get_sample_value(name))
