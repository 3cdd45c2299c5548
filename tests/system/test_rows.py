"""Rows that cannot serve: each is dropped alone and counted, and no reader ever meets it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from poller.poll import assembly
from poller.poll.outcome import Outcome
from tests.support.answers import Answer, data, matrix, vector
from tests.support.live import PATIENT, read_legacy, settings
from tests.support.openmetrics import STAGE_SECONDS
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis
from tests.support.world import World

AGENT = {"agent_id": "i-agent0"}
STRANGER = "ffffffff-0000-4000-8000-00000000000f"
HUGE = "x" * (10 << 20)


async def poll(
    world: World, prometheus: ScriptedPrometheus, redis: Redis, directory: Path
) -> tuple[Outcome, dict[str, dict[str, dict[str, str]]]]:
    """Run one cycle on an empty store; return what it came to and what readers see."""
    prometheus.handler = world.handler
    redis.command("FLUSHALL")
    async with assembly.cycle(settings(directory, prometheus.url, redis.url), PATIENT) as cycle:
        outcome = await cycle.poll()
    found = {key.decode(): redis.command("GET", key) for key in redis.command("KEYS", "*")}
    return outcome, {key: read_legacy(value) for key, value in found.items()}


def row(kernel: str, value: str) -> tuple[Mapping[str, str], str]:
    return {"kernel_id": kernel, "container_metric_name": "mem", **AGENT}, value


def third_party(world: World, name: str) -> Mapping[str, str]:
    """Return the labels of a metric that the catalog does not know."""
    labels = {"container_metric_name": name, "value_type": "current"}
    return {"kernel_id": world.ids[0], **labels, **AGENT}


async def test_bad_rows_are_dropped_and_counted_and_cost_nobody_else_anything(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    """What is a bad row `tests/batch/test_merge.py` tells in full."""
    world = World(2)
    bad = [
        (row(STRANGER, "NaN"), "nan"),
        (row(STRANGER, "+Inf"), "infinite"),
        (row(STRANGER, "9" * 5000), "not_a_number"),
        (row(STRANGER, "\N{ARABIC-INDIC DIGIT ONE}"), "not_a_number"),
        (({"container_metric_name": "mem", **AGENT}, "1"), "missing_label"),
        (row("", "1"), "missing_label"),
        (row("i-agent0", "1"), "bad_uuid"),
        (row(HUGE, "1"), "bad_uuid"),
    ]
    world.more["mem", "current"] = [one for one, _ in bad]
    outcome, seen = await poll(world, prometheus, redis, tmp_path)
    assert outcome.dropped == Counter(reason for _, reason in bad)
    assert set(seen) == set(world.ids)
    for stat in seen.values():
        assert stat["mem"]["current"] == str(round(world.value("mem", outcome.time)))


async def test_a_counter_below_zero_is_no_value_and_its_kernel_is_left_alone(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World(1)
    labels = {"container_metric_name": "cpu_util", **AGENT}
    world.more["cpu_util", "current"] = [({**labels, "kernel_id": STRANGER}, "-5")]
    world.more["mem", "current"] = [row(STRANGER, "-5")]
    outcome, seen = await poll(world, prometheus, redis, tmp_path)
    assert outcome.dropped == Counter(negative=1)
    assert outcome.withheld == {STRANGER: "incomplete"}
    assert set(seen) == set(world.ids)


async def test_any_notation_of_a_number_is_written_as_plain_digits(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World(1)
    texts = {
        "1e+21": "1" + "0" * 21,
        "1.7976931348623157e+308": "17976931348623157" + "0" * 292,
        "5e-07": "0",
        "1485.000": "1485",
        "-1.5": "-1.5",
        "-0": "0",
    }
    world.rows = [(third_party(world, f"third_{place}"), text) for place, text in enumerate(texts)]
    outcome, seen = await poll(world, prometheus, redis, tmp_path)
    assert not outcome.dropped
    stat = seen[world.ids[0]]
    found = [stat[f"third_{place}"]["current"] for place in range(len(texts))]
    assert found == list(texts.values())


async def test_metrics_whose_names_readers_cannot_bear_are_dropped(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World(1)
    names = ["version", "a b", "ü", HUGE]
    world.rows = [(third_party(world, name), "1") for name in names]
    outcome, seen = await poll(world, prometheus, redis, tmp_path)
    assert outcome.dropped == Counter(bad_metric_name=len(names))
    assert set(seen[world.ids[0]]) == {"cpu_util", "cpu_used", "mem", "io_read"}


async def test_a_native_histogram_is_no_value(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World(1)
    histogram = {"count": "3", "sum": "6.5", "buckets": [[0, "1", "2", "3"]]}
    labels = {"kernel_id": world.ids[0], "container_metric_name": "x", "value_type": "current"}

    def handler(query: str, time: float, params: dict[str, str]) -> Answer:
        if "!~" in query:
            return data("vector", [{"metric": labels, "histogram": [time, histogram]}])
        return world.handler(query, time, params)

    prometheus.handler = handler
    redis.command("FLUSHALL")
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url), PATIENT) as cycle:
        outcome = await cycle.poll()
    assert outcome.dropped == Counter(histogram=1)
    assert outcome.written == 1


SIGNS = {
    "capacity": 'value_type="capacity"',
    "rate": ") (rate(",
    "over": "_over_time(",
    "rounds": STAGE_SECONDS,
    "tasks": STAGE_SECONDS,
    "newest": 'success!="False"',
    "census": "count by (instance)",
    "births": "timestamp(",
    "first": "[60000ms]",
}
"""The parts of what is asked, and what is in their queries alone."""


def with_value(
    answer: Answer, query: str, at: float, part: str, value: str, ids: Iterable[str]
) -> Answer:
    """Return a true answer with this value in place of every one, or of its agents' tasks."""
    true = json.loads(answer.body)["data"]["result"]
    if part == "tasks":
        told = [
            [(at, value)] if "_task_" in one["metric"]["__name__"] else one["values"]
            for one in true
        ]
        return matrix(list(zip([one["metric"] for one in true], told, strict=True)))
    labels = {"container_metric_name": "mem", "value_type": "current", **AGENT}
    metrics = [one["metric"] for one in true] or [{"kernel_id": one, **labels} for one in ids]
    if query.endswith("]"):
        return matrix([(metric, [(at, value)]) for metric in metrics])
    return vector([(metric, value) for metric in metrics], at)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "1e999", "9" * 5000, "-1", "x"])
@pytest.mark.parametrize("part", SIGNS)
async def test_a_bad_number_anywhere_reaches_no_reader(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path, part: str, value: str
) -> None:
    world = World(2)
    struck = []

    def handler(query: str, at: float, params: dict[str, str]) -> Answer:
        if part == "births" and " offset " in query:
            return vector([], at)  # nobody is so old that its birth is not looked for
        answer = world.handler(query, at, params)
        if SIGNS[part] not in query:
            return answer
        struck.append(query)
        return with_value(answer, query, at, part, value, world.ids)

    prometheus.handler = handler
    redis.command("FLUSHALL")
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url), PATIENT) as cycle:
        for _ in range(3):
            outcome = await cycle.poll()
            await asyncio.sleep(0.002)
    assert struck
    if (part, value) == ("rounds", "-1"):
        assert outcome.written == 0  # an agent whose rounds stay at one number measures nothing
    elif part in ("rate", "over"):
        # Where nothing tells the rate the next round does, and the kernels wait for that.
        waiting = dict.fromkeys(world.ids, "waiting")
        assert (outcome.written, outcome.withheld) in ((2, {}), (0, waiting))
    else:
        assert outcome.written == 2
    for key in redis.command("KEYS", "*"):
        read_legacy(redis.command("GET", key))
