"""Recorded runs of a real agent: the poller's bytes are the agent's bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgpack
import pytest

from poller import config
from poller.commands import once
from tests.support.command import environment, poller
from tests.support.openmetrics import Series, samples_of
from tests.support.servers import Prometheus, Redis, VictoriaMetrics
from tests.support.timeline import COUNTERS
from tests.support.vectors import FOLDER, FOLLOWED, NAMES, Vector

RECORDED = [  # all four kernels move together, each at a constant rate
    name for name in NAMES if "lives" not in name and name not in FOLLOWED
]
UNSEEN = ("agent-26.4-sparse",)
"""Recordings of which two of three rounds were seen by no scrape: a gauge's extremes with them."""
RATES = {"cpu_util": "current", "net_rx": "current", "net_tx": "current",
         "io_read": "stats.rate", "io_write": "stats.rate"}  # fmt: skip


@dataclass
class Stage:
    """A run in a real Prometheus or VictoriaMetrics, and an empty Redis."""

    vector: Vector
    prometheus: Prometheus | VictoriaMetrics
    redis: Redis

    def env(self, **settings: object) -> dict[str, str]:
        """Return the environment of a poller between the two."""
        settings = {"format__profile": self.vector.profile, **settings}
        return environment(self.prometheus.url, self.redis.url, **settings)

    def once(self, at: float, **settings: object) -> dict[str, bytes]:
        """Run one cycle at that time beside no keys; return every key there is then."""
        self.redis.command("FLUSHALL")
        done = poller("once", "--time", repr(at), env=self.env(**settings))
        assert done.returncode == 0, done.stderr
        with self.redis.client() as client:
            return {key.decode(): client.get(key) for key in client.keys("*-*-*-*-*")}


BACKENDS = {"prometheus": Prometheus, "victoria": VictoriaMetrics}


def runs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return every run of these on every kind of server."""
    return [(backend, name) for name in names for backend in BACKENDS]


@pytest.fixture(scope="module", params=runs(NAMES), ids="-".join)
def stage(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Stage]:
    backend, name = request.param
    vector = Vector(name, tmp_path_factory.mktemp("vectors"))
    with BACKENDS[backend](samples=vector.samples) as prometheus, Redis() as redis:
        yield Stage(vector, prometheus, redis)


def near(ours: str, theirs: str, share: float) -> bool:
    return abs(float(ours) - float(theirs)) <= share * abs(float(theirs))


def test_frozen_gives_the_agents_bytes_but_for_the_average(stage: Stage):
    snapshot = stage.vector.snapshot("frozen")
    by_samples = "repeats" in stage.vector.name or stage.vector.name in FOLLOWED
    share = 0.05 if by_samples else 0.01
    written = stage.once(snapshot["time"])
    assert written.keys() == snapshot["kernels"].keys()
    for kernel, theirs in snapshot["kernels"].items():
        ours = msgpack.unpackb(written[kernel], raw=False)
        for metric, fields in theirs["fields"].items():
            if "stats.avg" in fields:
                assert near(ours[metric]["stats.avg"], fields["stats.avg"], share)
                ours[metric]["stats.avg"] = fields["stats.avg"]
            if stage.vector.name in UNSEEN and "stats.max" in fields and metric not in COUNTERS:
                assert float(ours[metric]["stats.max"]) <= float(fields["stats.max"])
                ours[metric]["stats.max"] = fields["stats.max"]
        assert msgpack.packb(ours).hex() == theirs["value_hex"]
        assert stage.redis.command("TTL", kernel) in range(86_390, 86_401)


@pytest.mark.parametrize(
    "stage", runs(name for name in NAMES if name not in FOLLOWED), indirect=True, ids="-".join
)
def test_moving_gives_the_agents_fields_and_rates(stage: Stage):
    snapshot = stage.vector.snapshot("moving")
    share = 0.25 if "repeats" in stage.vector.name else 0.03
    written = stage.once(snapshot["time"])
    assert written.keys() == snapshot["kernels"].keys()
    for kernel, theirs in snapshot["kernels"].items():
        ours = msgpack.unpackb(written[kernel], raw=False)
        assert list(ours) == list(theirs["fields"])
        for metric, fields in theirs["fields"].items():
            assert list(ours[metric]) == list(fields)
            assert ours[metric]["capacity"] == fields["capacity"]
            assert ours[metric]["unit_hint"] == fields["unit_hint"]
            if metric in RATES:
                field = RATES[metric]
                assert near(ours[metric][field], fields[field], share), (metric, ours[metric])


def samples_in(series: list[Series], kernel: str, metric: str) -> list[tuple[float, float]]:
    return next(
        list(one.samples)
        for one in series
        if one.labels.get("kernel_id") == kernel
        and one.labels.get("container_metric_name") == metric
        and one.labels.get("value_type") == "current"
    )


def true_rate(samples: list[tuple[float, float]]) -> float:
    """Return the constant rate while the kernel moved, from its first change to its last."""
    changes = [b for a, b in zip(samples, samples[1:], strict=False) if b[1] != a[1]]
    return (changes[-2][1] - changes[1][1]) / (changes[-2][0] - changes[1][0])


@pytest.mark.parametrize("stage", runs(RECORDED), indirect=True, ids="-".join)
async def test_a_busy_kernel_is_never_told_zero_at_any_second(stage: Stage, monkeypatch):
    """Where scrapes repeat a measurement, and where they do not: 22 s to 85 s after the start."""
    for name, value in stage.env().items():
        if name.startswith("POLLER_"):
            monkeypatch.setenv(name, value)
    settings = config.load(None)
    stage.redis.command("FLUSHALL")
    series = samples_of(stage.vector.samples)
    first = min(one.samples[0][0] for one in series)
    for offset_s in range(22, 86):
        stats, _ = await once.stats(settings, None, first + offset_s)
        assert len(stats) == 4
        for kernel, stat in stats.items():
            current = float(stat["cpu_util"]["current"])
            truth = true_rate(samples_in(series, kernel, "cpu_util"))
            assert current != 0, (kernel, offset_s)
            assert abs(current / truth - 1) <= 0.25, (kernel, offset_s, current, truth)


@pytest.mark.parametrize("stage", runs(RECORDED), indirect=True, ids="-".join)
def test_a_first_look_at_one_sample_gives_zero_and_never_the_raw_counter(stage: Stage):
    first = min(one.samples[0][0] for one in samples_of(stage.vector.samples))
    written = stage.once(first + 0.2)
    assert len(written) == 4
    for value in written.values():
        fields = msgpack.unpackb(value, raw=False)
        for metric, field in RATES.items():
            assert fields[metric][field] == "0"
        assert float(fields["cpu_util"]["stats.max"]) > 0


def test_the_sentinel_replaces_the_stand_in_and_only_it(stage: Stage):
    snapshot = stage.vector.snapshot("frozen")
    with_capacity = {
        (one.labels.get("kernel_id"), one.labels.get("container_metric_name"))
        for one in samples_of(stage.vector.samples)
        if one.labels.get("value_type") == "capacity"
    }
    written = stage.once(snapshot["time"], format__capacity="sentinel")
    for kernel, theirs in snapshot["kernels"].items():
        fields = msgpack.unpackb(written[kernel], raw=False)
        for metric in fields:
            real = (kernel, metric) in with_capacity
            expected = theirs["fields"][metric]["capacity"] if real else "9223372036854775807"
            assert fields[metric]["capacity"] == expected


def test_a_second_run_beside_its_own_keys_changes_nothing(stage: Stage):
    snapshot = stage.vector.snapshot("frozen")
    before = stage.once(snapshot["time"])
    done = poller("once", "--time", repr(snapshot["time"]), env=stage.env())
    assert done.returncode == 0, done.stderr
    with stage.redis.client() as client:
        assert {key: client.get(key) for key in before} == before


def test_a_prefix_writes_beside_and_leaves_every_real_key_alone(stage: Stage):
    snapshot = stage.vector.snapshot("moving")
    written = stage.once(snapshot["time"], redis__key_prefix="shadow:")
    assert written.keys() == {f"shadow:{kernel}" for kernel in snapshot["kernels"]}


def test_the_folder_of_vectors_is_whole():
    assert len(NAMES) == 9
    assert len(FOLLOWED) == 4
    assert all((FOLDER / name / "expected.json").is_file() for name in NAMES)
