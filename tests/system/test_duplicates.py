"""The same kernel in several series, on a real Prometheus: never added up, never a ghost's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgpack
import pytest

from tests.support.command import environment, poller
from tests.support.openmetrics import openmetrics_file
from tests.support.servers import Prometheus, Redis

KERNEL = "0b4f6a3e-7a0f-4c5e-9d53-0b7f5a7c2e11"
OWNED = {"session_id": "s-1", "user_id": "u-1", "project_id": "p-1"}
GHOST = {"session_id": "undefined", "user_id": "undefined", "project_id": "undefined"}
END = float(int(time.time()) - 600)
GIB = 1 << 30

Samples = list[tuple[float, float]]


def stamps(start_s: float, end_s: float, step_s: float = 5.0) -> list[float]:
    """Return sample times from start to end, in seconds before END."""
    count = int((start_s - end_s) / step_s) + 1
    return [END - start_s + place * step_s for place in range(count)]


def series(
    owner: Mapping[str, str],
    times: Iterable[float],
    mem: float,
    base: float,
    rate: float,
    **labels: str,
) -> list[tuple[dict[str, str], Samples]]:
    """Return one exporter's view of the kernel: constant memory, a counting processor."""
    times = list(times)
    common = {"agent_id": "i-a", "instance": "10.0.0.1:6003", "job": "agents",
              "kernel_id": KERNEL, **owner, **labels}  # fmt: skip
    counted = [(at, base + rate * (at - times[0])) for at in times]
    values = {
        ("mem", "current"): [(at, mem) for at in times],
        ("mem", "capacity"): [(at, 16.0 * GIB) for at in times],
        ("cpu_util", "current"): counted,
        ("cpu_util", "capacity"): [(at, 1000.0) for at in times],
        ("cpu_used", "current"): counted,
    }
    return [
        ({**common, "container_metric_name": name, "value_type": kind}, samples)
        for (name, kind), samples in values.items()
    ]


def rounds(times: Iterable[float]) -> tuple[dict[str, str], Samples]:
    labels = {"__name__": "backendai_stat_task_success_count_total", "agent_id": "i-a",
              "instance": "10.0.0.1:6003", "job": "agents", "stat_scope": "container"}  # fmt: skip
    return labels, [(at, 10.0 + place) for place, at in enumerate(times)]


def read(tmp_path: Path, *views: list[tuple[dict[str, str], Samples]]) -> dict:
    """Write what the poller makes of these series at END; return the kernel's fields."""
    every = [one for view in views for one in view] + [rounds(stamps(200, 0))]
    path = openmetrics_file(tmp_path / "samples.om", every)
    with Prometheus(samples=path) as prometheus, Redis() as redis:
        done = poller("once", "--time", str(END), env=environment(prometheus.url, redis.url))
        assert done.returncode == 0, done.stderr
        with redis.client() as client:
            (key,) = client.keys("*-*-*-*-*")
            assert key.decode() == KERNEL
            return msgpack.unpackb(client.get(key), raw=False)


def near(text: str, value: float) -> bool:
    return abs(float(text) - value) <= 0.03 * value


@pytest.mark.parametrize("ghost_mem", [1 * GIB, 9 * GIB])
def test_a_ghost_of_undefined_owners_beside_the_owned_series_does_not_count(tmp_path, ghost_mem):
    fields = read(
        tmp_path,
        series(OWNED, stamps(200, 0), mem=4 * GIB, base=50_000, rate=700),
        series(GHOST, stamps(100, 0), mem=ghost_mem, base=400_000, rate=0),
    )
    assert fields["mem"]["current"] == str(4 * GIB)
    assert near(fields["cpu_util"]["current"], 700)
    assert fields["cpu_used"]["current"] == "190000"


def test_a_kernel_whose_owner_flipped_goes_on_under_the_series_that_moves(tmp_path):
    flipped = series(GHOST, stamps(60, 0), mem=2 * GIB, base=148_000, rate=700)
    left = series(OWNED, stamps(200, 60), mem=4 * GIB, base=50_000, rate=700)
    standing = [(labels, samples + [(at, samples[-1][1]) for at in stamps(55, 0)])
                for labels, samples in left]  # fmt: skip
    fields = read(tmp_path, standing, flipped)
    assert fields["mem"]["current"] == str(2 * GIB)
    assert near(fields["cpu_util"]["current"], 700)


def test_a_restarted_agents_lingering_series_do_not_count(tmp_path):
    fields = read(
        tmp_path,
        series(
            OWNED, stamps(200, 60), mem=9 * GIB, base=50_000, rate=700, instance="10.0.0.1:6003"
        ),
        series(OWNED, stamps(50, 0), mem=4 * GIB, base=155_000, rate=700, instance="10.0.0.1:6999"),
    )
    assert fields["mem"]["current"] == str(4 * GIB)
    assert fields["mem"]["stats.max"] == str(9 * GIB)
    assert near(fields["cpu_util"]["current"], 700)
    assert fields["cpu_used"]["capacity"] == "50000"


@pytest.mark.parametrize("label", ["service_id", "job"])
def test_a_new_start_of_the_agent_is_told_by_any_label(tmp_path, label):
    """One that nobody listed, or a job's name: who stops to rename it puts no end to old series."""
    old, new = {label: "1"}, {label: "2"}
    fields = read(
        tmp_path,
        series(OWNED, stamps(200, 30), mem=9 * GIB, base=50_000, rate=700, **old),
        series(OWNED, stamps(20, 0), mem=4 * GIB, base=175_000, rate=700, **new),
    )
    assert fields["mem"]["current"] == str(4 * GIB)


def test_a_pair_of_replicas_is_one_kernel(tmp_path):
    fields = read(
        tmp_path,
        series(OWNED, stamps(200, 0), mem=4 * GIB, base=50_000, rate=700, replica="a"),
        series(
            OWNED,
            [at - 2 for at in stamps(200, 0)],
            mem=4 * GIB,
            base=48_600,
            rate=700,
            replica="b",
        ),
    )
    assert fields["mem"]["current"] == str(4 * GIB)
    assert fields["cpu_used"]["current"] == "190000"
    assert near(fields["cpu_util"]["current"], 700)
