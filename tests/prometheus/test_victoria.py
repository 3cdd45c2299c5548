"""VictoriaMetrics tells of 30 s ago unless it is asked not to: it is recognised, and asked."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping

import pytest

from poller.prometheus import selectors
from poller.prometheus.client import Client
from poller.prometheus.transport import PrometheusAccess
from tests.support.answers import Answer, vector
from tests.support.kernels import METRICS, make_kernel
from tests.support.openmetrics import Series
from tests.support.proxy import FaultProxy, passing, refusing
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import VictoriaMetrics

CPU_UTIL = next(metric for metric in METRICS if metric.name == "cpu_util")
LATE_S = 30.0


def named(answer: Answer) -> Answer:
    """Return the answer as VictoriaMetrics sends it: its header tells."""
    return dataclasses.replace(answer, headers={"X-Server-Hostname": "vm"})


def counted(answer: Answer) -> Answer:
    """Return the answer as later versions send it without the header: their statistics tell."""
    stats = b',"stats":{"seriesFetched": "1","executionTimeMsec":0}}'
    return dataclasses.replace(answer, body=answer.body[:-1] + stats)


def told(query: str, time: float, params: Mapping[str, str]) -> Answer:
    """Answer with the age of what would be told."""
    late_s = 0.0 if params.get("nocache") == "1" else float(params.get("latency_offset", LATE_S))
    return vector([({}, late_s)], time)


@pytest.fixture
def victoria() -> Iterator[ScriptedPrometheus]:
    with ScriptedPrometheus(lambda *asked: named(told(*asked))) as server:
        yield server


def client_of(*urls: str, **more: object) -> Client:
    access = PrometheusAccess(urls, 5.0, dict)
    return Client(dataclasses.replace(access, **more))  # type: ignore[arg-type]


async def age(client: Client) -> float:
    """Return how old what one query tells is."""
    rows = await client.fail_over(lambda: client.vector("x", time.time()), 5.0)
    assert rows[0].value
    return float(rows[0].value.text)


@pytest.mark.parametrize("sign", [named, counted], ids=["by its header", "by its statistics"])
async def test_a_late_server_is_recognised_by_its_first_answer_which_is_asked_for_anew(
    victoria: ScriptedPrometheus, sign
) -> None:
    victoria.handler = lambda *asked: sign(told(*asked))
    async with client_of(victoria.url) as client:
        assert [await age(client) for _ in range(3)] == [0, 0, 0]
    assert [one.params.get("nocache") for one in victoria.requests] == [None, "1", "1", "1"]


async def test_a_server_on_time_is_asked_once_and_for_nothing_more() -> None:
    with ScriptedPrometheus(told) as prometheus:
        async with client_of(prometheus.url) as client:
            assert await age(client) == LATE_S
        assert [one.params.get("nocache") for one in prometheus.requests] == [None]


async def test_statistics_that_prometheus_was_asked_for_are_no_sign() -> None:
    stats = b',"stats":{"timings":{"evalTotalTime":0.1},"samples":{"totalQueryableSamples":1}}}'

    def answered(query: str, time: float, params: Mapping[str, str]) -> Answer:
        plain = told(query, time, params)
        return dataclasses.replace(plain, body=plain.body[:-1] + stats)

    with ScriptedPrometheus(answered) as prometheus:
        async with client_of(prometheus.url, params={"stats": "all"}) as client:
            assert await age(client) == LATE_S


@pytest.mark.parametrize(
    ("params", "expected"),
    [({"nocache": "0"}, LATE_S), ({"latency_offset": "3"}, 3.0), ({"nocache": "1"}, 0.0)],
)
async def test_the_settings_win(
    victoria: ScriptedPrometheus, params: dict[str, str], expected: float
) -> None:
    params |= {"extra_filters": '{tenant="a"}'}
    async with client_of(victoria.url, params=params) as client:
        assert await age(client) == expected
    assert len(victoria.requests) == 1
    assert "extra_filters[]" not in victoria.requests[0].params
    assert params.items() <= victoria.requests[0].params.items()


async def test_each_time_it_is_asked_with_a_filter_that_it_does_not_know(
    victoria: ScriptedPrometheus,
) -> None:
    async with client_of(victoria.url) as client:
        for at in (100.0, 105.0, 105.0):
            await client.vector("x", at)
    filters = [one.params.get("extra_filters[]") for one in victoria.requests]
    assert filters == [None, *(f'{{livestat_poller_asked!="{at}"}}' for at in
                               ("100.000", "105.000", "105.000"))]  # fmt: skip


async def test_each_server_of_several_is_asked_as_it_needs(victoria: ScriptedPrometheus) -> None:
    with ScriptedPrometheus(told) as prometheus, FaultProxy(prometheus.port) as proxy:
        first = f"http://127.0.0.1:{proxy.port}"
        async with client_of(first, victoria.url, prefer_again_s=0.0) as client:
            assert await age(client) == LATE_S
            proxy.fault = refusing()
            proxy.cut()
            assert await age(client) == 0
            proxy.fault = passing()
            assert await age(client) == LATE_S
        assert {one.params.get("nocache") for one in prometheus.requests} == {None}


async def test_a_server_that_becomes_a_late_one_is_noticed() -> None:
    with ScriptedPrometheus(told) as prometheus:
        async with client_of(prometheus.url) as client:
            assert await age(client) == LATE_S
            prometheus.handler = lambda *asked: named(told(*asked))
            assert await age(client) == 0


async def test_what_was_found_is_said_once(
    victoria: ScriptedPrometheus, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "poller"):
        async with client_of(victoria.url) as client:
            for _ in range(3):
                await age(client)
    assert [record.getMessage() for record in caplog.records] == [
        f"prometheus: VictoriaMetrics answers at {victoria.url}; "
        "it is asked with nocache=1, or it would tell of 30 s ago"
    ]


@pytest.fixture(scope="module")
def real() -> Iterator[VictoriaMetrics]:
    """Yield a VictoriaMetrics as installed, with a sample a second for the last two minutes."""
    now = time.time()
    labels = make_kernel(1, "i-agent0").labels(CPU_UTIL, "current")
    samples = [(now - second, now - second) for second in range(120, -1, -1)]
    with VictoriaMetrics(arguments=[f"-search.latencyOffset={LATE_S:.0f}s"]) as server:
        server.import_series([Series(labels, samples)])
        yield server


async def lag(server: VictoriaMetrics, **params: str) -> float:
    async with client_of(server.url, params=params) as client:
        at = time.time()
        series = selectors.selector("cpu_util", "current")
        (newest,) = await client.vector(f"max(timestamp({series}))", at)
    assert newest.value is not None
    return at - float(newest.value.text)


async def test_a_real_one_tells_of_now_with_no_setting_made(real: VictoriaMetrics) -> None:
    began = time.monotonic()
    late_s = await lag(real, nocache="0")
    on_time_s = await lag(real)
    assert abs(late_s - on_time_s - LATE_S) <= 2 + time.monotonic() - began


async def test_a_real_one_shows_a_kernel_that_begins_when_its_samples_are_stored(
    real: VictoriaMetrics,
) -> None:
    """It takes ten seconds where the filters are those of the query before."""
    query = f"count({selectors.selector('cpu_used', 'current')})"
    cpu_used = next(metric for metric in METRICS if metric.name == "cpu_used")
    async with client_of(real.url) as client:
        for number in (1, 2):
            began = time.time()
            labels = make_kernel(number, "i-agent0").labels(cpu_used, "current")
            real.import_series([Series(labels, [(began, 1.0)])], at_once=False)
            while not (rows := await client.vector(query, time.time())) or (  # noqa: ASYNC110
                rows[0].value and rows[0].value.text != str(number)
            ):
                await asyncio.sleep(0.1)
            assert time.time() - began < 7


async def test_a_real_one_is_named(real: VictoriaMetrics) -> None:
    async with client_of(real.url) as client:
        assert await client.server() == "VictoriaMetrics"
