"""The demo: its simulated Prometheus against a real one, and the whole of it as a command."""

from __future__ import annotations

import asyncio
import json
import math
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgpack
import pytest
import redis

from poller.demo import promapi, servers
from poller.demo.cluster import Sample, SimulatedCluster, SimulatedSeries
from poller.demo.promapi import Api
from poller.demo.queries import MERGES, OVER_TIME, QueryError
from poller.poll import assembly
from poller.prometheus import lookup_queries
from poller.prometheus.selectors import EVERYTHING, Scope
from tests.demo.recorded import Recorded
from tests.support.answers import Answer
from tests.support.command import environment, poller, start_poller
from tests.support.live import settings
from tests.support.openmetrics import UTILIZATION, openmetrics_file
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import HOST, Prometheus, require, wait_until

T0 = 1_700_000_000.0
"""When the recorded series end, or nearly so."""
TIMES = (T0 - 0.451, T0 - 7.322, T0 - 61.003, T0 - 299.51, T0 + 240.123, T0 + 400.7)
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def odd_series() -> list[Recorded]:
    """Return what the simulated cluster has not: gaps, duplicates, resets, single samples, NaN."""
    shapes: dict[str, list[tuple[float, float]]] = {
        "fallen": [(second, second % 37 * 100) for second in range(-300, 0)],
        "sparse": [(second, 5000 + second * 3) for second in range(-600, 0, 47)],
        "gap": [(second, second + 1000) for second in range(-500, 0) if not -400 < second < -60],
        "single": [(-3, 7)],
        "from zero": [(second, (second + 6) * 250.125) for second in range(-6, 0)],
        "not a number": [(second, math.nan if second % 3 else second) for second in range(-90, 0)],
        "large": [(second, 1e21 + second * 1e17) for second in range(-90, 0)],
        "small": [(second, 1e-7 * (second + 91)) for second in range(-90, 0)],
        "negative": [(second, -(second % 5)) for second in range(-90, 0)],
        "near": [(second - 0.16, 5e6 + second * 3) for second in range(-4, 0)],
        "old": [(second, second + 900) for second in range(-700, -320)],
    }
    found = []
    for place, (shape, samples) in enumerate(shapes.items()):
        for metric in ("cpu_used", "cpu_util", "mem"):
            for owner in ("owned", "undefined") if shape in ("gap", "fallen") else ("owned",):
                labels = odd_labels(place, metric, owner)
                shift = 11 if owner == "undefined" else 0
                found.append(recorded(labels, [(at, value + shift) for at, value in samples]))
    return found


def odd_labels(place: int, metric: str, owner: str) -> dict[str, str]:
    return {
        "__name__": UTILIZATION,
        "container_metric_name": metric,
        "kernel_id": f"00000000-0000-4000-8000-{place:012}",
        "session_id": owner,
        "user_id": owner,
        "value_type": "current",
        "agent_id": "i-odd",
        "job": "agents",
        "instance": "odd:6003",
    }


def recorded(labels: Mapping[str, str], samples: list[tuple[float, float]]) -> Recorded:
    return Recorded(
        labels, [Sample(round((T0 + at) * 1000) - 137, float(value)) for at, value in samples]
    )


def everything() -> list[SimulatedSeries | Recorded]:
    """Return the demo's own cluster, as it was 20 s before the end, and the odd series."""
    clock = iter((T0 - 20,))
    cluster = SimulatedCluster(9, clock=lambda: next(clock, T0))
    return [*cluster.series, *odd_series()]


CONSTRUCTS = (
    "vector(1)", "max without (", "max by (", "rate(", "changes(", "timestamp(", " offset ",
    ":60s]",
    "max_over_time(", "min_over_time(", "sum_over_time(", "count_over_time(",
    "count by (", "(group by (", "topk(", "sum by (", "sum without (", "=~", "!~",
)  # fmt: skip


@pytest.fixture(scope="module")
def queries(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return every query that a poller asks in some cycles over these series."""
    texts = asyncio.run(asked_by_the_poller(tmp_path_factory.mktemp("settings")))
    texts += [
        lookup_queries.busiest_query(3, EVERYTHING),
        lookup_queries.measurements_query(Scope(kernels=some_kernels())),
    ]
    missing = [construct for construct in CONSTRUCTS if construct not in "\n".join(texts)]
    assert not missing
    return list(dict.fromkeys(texts))


async def asked_by_the_poller(directory: Path) -> list[str]:
    stored = everything()

    def handler(query: str, at: float, params: Mapping[str, str]) -> Answer:
        found = promapi.answer(stored, query, round(at * 1000))
        return Answer(body=json.dumps({"status": "success", "data": found}).encode())

    more = {"metrics__mem": {"stats": ["min", "max", "sum", "avg"]}}
    choices = (assembly.Choice(wait=True), assembly.Choice(some_kernels(), wait=True))
    with ScriptedPrometheus(handler) as prometheus:
        async with servers.embedded(SimulatedCluster(1), 0) as found:
            config = settings(directory, prometheus.url, found.redis_url, **more)
            for choice in choices:
                async with assembly.cycle(config, choice) as cycle:
                    await cycle.evaluation.probe()
                    for at in (T0 - 9.3, T0 - 6.2, T0 - 3.1):
                        await cycle.poll(at=at)
        return prometheus.queries


def some_kernels() -> tuple[str, ...]:
    return tuple(kernel.kernel_id for kernel in SimulatedCluster(9).kernels[2:5])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    path = tmp_path_factory.mktemp("samples") / "samples.om"
    series = [
        (one.labels, [(at_ms / 1000, value) for at_ms, value in one.between(0, 1 << 50)])
        for one in everything()
    ]
    with Prometheus(samples=openmetrics_file(path, series)) as server:
        yield server


STAGE = 'stage=~"gather_measures|before_observe",upper_layer="collect_container_stat"'
OF_ODD = f'{UTILIZATION}{{kernel_id=~"0.*"}}'
SHAPES = (
    f"backendai_stage_count_total{{{STAGE}}}[30s]",
    f"sum without (success) (rate(backendai_stage_count_total{{{STAGE}}}[30s]))",
    '{__name__=~"backendai_stage_(count_total|duration_sec_sum)",success!="False"}[10m]',
    '{__name__=~"backendai_stat_task.+_(count|sum)",stat_scope="container"} offset 250ms',
    f'{UTILIZATION}{{instance=~"i-demo-agent-1:6003|odd:6003",value_type!~"cap.*",}}[5s] offset 2s',
    'max by (agent_id) (rate(backendai_stat_task_duration_sec_sum{agent_id!=""}[1m]))',
    "min by (instance, ) (timestamp(backendai_stage_count_total offset 1m))",
    *(f"{function}({OF_ODD}[90s])" for function in (*OVER_TIME, "rate")),
    *(f"{merge} without (kernel_id) ({OF_ODD})" for merge in MERGES),
    f"topk(4, sum by (__name__, kernel_id) (rate({OF_ODD}[1d] offset 5m)))",
    f"topk ( 3,{OF_ODD})",
    f"max(min by(user_id)(rate( {OF_ODD} [90s] )))",
    f"last_over_time(timestamp({OF_ODD})[10m:7s] offset 3s)",
    "count ( group by (kernel_id) (backendai_container_utilization) )",
)
"""What the poller does not ask, or does not yet, of every part of the shape."""


def asked(url: str, text: str, at: float) -> dict[str, Any]:
    body = urllib.parse.urlencode({"query": text, "time": f"{at:.3f}"}).encode()
    with _opener.open(f"{url}/api/v1/query", body, timeout=30) as response:
        return json.load(response)["data"]


def rows_of(data: dict[str, Any]) -> dict[frozenset, list[tuple[float, str]]]:
    rows = {}
    for row in data["result"]:
        values = row["values"] if data["resultType"] == "matrix" else [row["value"]]
        rows[frozenset(row["metric"].items())] = [(at, text) for at, text in values]
    assert len(rows) == len(data["result"])
    return rows


def assert_same(ours: dict[str, Any], theirs: dict[str, Any], what: str) -> None:
    assert ours["resultType"] == theirs["resultType"]
    mine, real = rows_of(ours), rows_of(theirs)
    assert mine.keys() == real.keys(), what
    for labels, values in real.items():
        assert [at for at, _ in mine[labels]] == [at for at, _ in values], (what, labels)
        for (_, found), (_, truth) in zip(mine[labels], values, strict=True):
            close = pytest.approx(float(truth), rel=1e-9, abs=1e-12, nan_ok=True)
            assert float(found) == close, (what, labels)
            # The same number must be the same text: the poller publishes it.
            assert found == truth or float(found) != float(truth), (what, labels)


@pytest.mark.parametrize("at", TIMES)
def test_every_query_of_the_poller_is_answered_as_prometheus_answers_it(
    real: Prometheus, queries: list[str], at: float
):
    stored = everything()
    answered = 0
    for text in [*queries, *SHAPES]:
        ours = promapi.answer(stored, text, round(at * 1000))
        theirs = asked(real.url, text, at)
        assert_same(ours, theirs, text)
        answered += bool(theirs["result"])
        if at == TIMES[0] and text in SHAPES:
            assert theirs["result"], text
    if at < T0:
        assert answered > len(queries) / 2


NO_QUERIES = (
    "", "up{", "up}", 'up{a="b"', "rate(up)", "rate(up[0s])", "rate(up[5m]", "up[5x]", "up ? 1",
    "max by (kernel_id (up)", 'up{a=~"("}', r'up{a="\q"}', "{}", '{a=~".*"}', "topk(up)",
    "max(up[5m])", "timestamp(up[5m])", "count_over_time(up)", "up offset", "nothing(up)",
    "topk(3, up[5m])", "timestamp(up) offset 5m", "sum by (a-b) (up)", "sum()", "offset 5m",
    "upoffset 5m", "sum(upoffset 5m)", "max(up))", "(" * 5000 + "up" + ")" * 5000, "up,",
    'up{__name__="up"}', 'up{,}', "max by (,) (up)", 'up{a="b" c="d"}', "rate(up offset 1m[5m])",
    "rate(timestamp(up)[5m])",
)  # fmt: skip
NOT_SIMULATED = (
    "up + 1", "histogram_quantile(0.9, up)", "up @ 5", "sort(up)", "vector(2)", "up or down",
    "avg(up)", "max(up) by (a)", "(up)", "up[5m:1m]", "max_over_time(rate(up[1m])[5m:10s])",
    "up[1h30m]", "up offset -5m", "up > 0", "quantile(0.5, up)", "up{a='b'}",
    "max(" * 5000 + "up" + ")" * 5000,
    "bottomk(1, up)", "-up", "rate(up[5m]) * 60", "absent(up)", "1",
)  # fmt: skip


@pytest.mark.parametrize("text", NO_QUERIES)
def test_what_prometheus_refuses_is_refused(real: Prometheus, text: str):
    with pytest.raises(QueryError):
        promapi.answer([], text, 0)
    if len(text) < 1000:  # Prometheus nests deeper
        with pytest.raises(urllib.error.HTTPError) as refusal:
            asked(real.url, text, T0)
        refusal.value.close()
        assert refusal.value.code == 400


async def answer_of(api: Api, method: str, **fields: str) -> tuple[int, dict[str, Any]]:
    port = await api.start(HOST)
    try:
        async with aiohttp.ClientSession() as session:
            where = {"data": fields} if method == "POST" else {"params": fields}
            url = f"http://{HOST}:{port}/api/v1/query"
            async with session.request(method, url, **where) as response:
                return response.status, await response.json()
    finally:
        await api.stop()


@pytest.mark.parametrize("text", [*NO_QUERIES[1:8], *NOT_SIMULATED])
async def test_an_unknown_construct_is_a_400_in_the_form_of_prometheus(text: str):
    status, body = await answer_of(Api(SimulatedCluster(1)), "POST", query=text)
    assert status == 400
    assert (body["status"], body["errorType"]) == ("error", "bad_data")
    assert f'invalid parameter "query" {text!r}' in body["error"]
    assert "data" not in body


async def test_a_bad_time_is_a_400():
    for time in ("noon", "nan", "inf"):
        status, body = await answer_of(Api(SimulatedCluster(1)), "GET", query="up", time=time)
        assert (status, body["errorType"]) == (400, "bad_data")


async def test_nothing_is_known_of_the_future():
    cluster = SimulatedCluster(1, clock=lambda: T0)
    text = f"{UTILIZATION}[10s]"
    _, body = await answer_of(Api(cluster), "GET", query=text, time=str(T0 + 5))
    stamps = [at for row in body["data"]["result"] for at, _ in row["values"]]
    assert T0 - 1 < max(stamps) <= T0


def address(line_start: str, process: subprocess.Popen[str]) -> str:
    """Return the URL at the end of a line that the demo prints at its start."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(line_start):
            return line.split()[-1]
    raise AssertionError(f"no {line_start} in what the demo says")


def values(url: str, kernels: int) -> dict[str, dict[str, dict[str, str]]]:
    """Return every kernel's key once so many are there and the busy one has a rate.

    Of its first measurement alone a busy kernel reads 0, as the agents had it.
    """
    busy = SimulatedCluster(12).kernels[4].kernel_id
    with redis.Redis.from_url(url, protocol=2) as client:
        wait_until(lambda: len(client.keys("*-*-*-*-*")) >= kernels, "keys")
        wait_until(lambda: msgpack.unpackb(client.get(busy))["cpu_util"]["pct"] != "0", "a rate")
        names = [name for name in client.keys("*-*-*-*-*") if b":" not in name]
        assert all(86_300 < client.ttl(name) <= 86_400 for name in names)
        return {name.decode(): msgpack.unpackb(client.get(name)) for name in names}


def frames(process: subprocess.Popen[str], count: int) -> str:
    """Return what the demo prints until so many tables have begun."""
    assert process.stdout is not None
    text = ""
    while text.count(" kernel ") < count:
        line = process.stdout.readline()
        assert line, f"the demo ended\n{text}"
        text += line
    return text


@pytest.mark.parametrize("real_servers", [False, True], ids=["embedded", "real"])
def test_the_demo_fills_the_keys_and_shows_them(real_servers: bool):
    if real_servers:
        require("prometheus")
        require("redis-server")
    # A real installation's settings in the environment must not be used.
    env = environment(f"http://{HOST}:1", f"redis://{HOST}:1/0", shard__count=7)
    process = start_poller("demo", *(["--real"] if real_servers else []), env=env)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        found = values(address("redis ", process), kernels=11)
        text = frames(process, 6)
        process.send_signal(signal.SIGINT)
        text += process.stdout.read()  # not `communicate`, which leaves out what waits in a buffer
        errors = process.stderr.read()
        process.wait(60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    # A real Prometheus has just begun to scrape: it extrapolates from few samples.
    busy_percent = pytest.approx(385.0, rel=0.5 if real_servers else 0.01)
    assert_sensible(found, busy_percent)
    assert_shown(text, found, busy_percent)


def assert_sensible(found: dict[str, Any], busy_percent: Any) -> None:
    """The fifth kernel works on 3.85 cores all the time, the sixth has an idle GPU."""
    kernels = SimulatedCluster(12).kernels
    busy, idle = found[kernels[4].kernel_id], found[kernels[5].kernel_id]
    assert float(busy["cpu_util"]["pct"]) == busy_percent
    assert int(busy["mem"]["current"]) == 13 * 2**30
    assert int(busy["mem"]["capacity"]) == 24 * 2**30
    assert "cuda_util" not in busy
    assert float(idle["cpu_util"]["pct"]) < 1
    assert (idle["cuda_util"]["pct"], idle["cuda_util"]["capacity"]) == ("0", "100")


def assert_shown(text: str, found: dict[str, Any], busy_percent: Any) -> None:
    assert "\x1b" not in text
    frames = text.split(" kernel ")[1:]
    assert len(frames) >= 4
    for kernel in found:
        assert f" {kernel[:8]} " in frames[-1]
    (busy,) = (line for line in frames[-1].splitlines() if line.split()[:1] == ["e81257fc"])
    assert float(busy.split()[1]) == busy_percent
    assert busy.split()[2:6] == ["14.0", "GB", "25.8", "GB"]
    told = r"The poller ran (\d+) cycles(?: \((\d+) failed\))? and wrote (\d+) keys\."
    last = re.fullmatch(told, lines(text)[-1])
    assert last is not None
    assert int(last[1]) >= 4
    # Every kernel twice; on a busy machine a cycle may fail, and what it measured is not written.
    assert int(last[3]) >= (11 if last[2] else 22)


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


def test_the_demo_ends_by_itself_when_its_time_is_over():
    done = poller("demo", "--duration", "1", env=environment())
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"The poller ran \d+ cycles.*\.", lines(done.stdout)[-1])


def test_the_demo_says_which_extra_is_missing():
    code = "import sys; sys.modules['fakeredis'] = None; from poller.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "demo", "--duration", "1"],
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'livestat-poller[demo]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_demo_says_which_program_is_missing(tmp_path: Path):
    done = poller("demo", "--real", env={**environment(), "PATH": str(tmp_path)})
    assert done.returncode == 2
    assert "prometheus and redis-server not found in PATH" in done.stderr
    assert "Traceback" not in done.stderr
