"""Recorded runs of a real agent, followed from the start: every value is one that it wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from poller.format import encode
from poller.poll import assembly
from poller.poll.cycle import Cycle
from poller.values import LiveStat
from tests.support.live import read_legacy, settings
from tests.support.openmetrics import samples_of
from tests.support.servers import Prometheus, Redis
from tests.support.timeline import COUNTERS, Fields, Measure, Tally, Timeline, Written
from tests.support.vectors import FOLLOWED, Vector

STEP_S = 0.5
SLACK_S = 1.0
LEAST = 0.99


def measure(scrape_s: float, unseen_s: float = 0.0, **more: object) -> Measure:
    """Return what holds where scrapes are so far apart and polls `STEP_S`."""
    return Measure(scrape_s + STEP_S + SLACK_S, unseen_s, **more)  # type: ignore[arg-type]


MEASURES = {
    "agent-26.9-rounds": measure(2.0),
    "agent-26.4-rounds": measure(1.0),
    "agent-26.9-refused": measure(1.0),
    # Two of three rounds are seen by no scrape: what a gauge was in them cannot be known, and a
    # counter lay between two ends, which matters the less the more measurements there were.
    "agent-26.4-sparse": measure(3.0, unseen_s=3.0, mean=0.05, counters_only=True, settling_s=20.0),
}


LEARNING = 4
"""So many rounds must have been seen for scrapes to tell how far apart they are."""
ROUNDS_S = {
    "agent-26.9-rounds": 3.4,
    "agent-26.4-rounds": 2.2,
    "agent-26.9-refused": 2.0,
    "agent-26.4-sparse": 3.0,  # so often a scrape tells of a new one
}


@dataclass
class Run:
    """A recording in a real Prometheus, from its first sample to its last, and a real Redis."""

    vector: Vector
    prometheus: Prometheus
    redis: Redis
    directory: Path

    def __post_init__(self) -> None:
        samples = [one.samples for one in samples_of(self.vector.samples)]
        self.start = min(own[0][0] for own in samples)
        self.end = max(own[-1][0] for own in samples)
        self.timeline: Timeline = self.vector.timeline()
        learnt = self.start + LEARNING * ROUNDS_S[self.vector.name]
        self.measure = replace(MEASURES[self.vector.name], learnt=learnt)

    @asynccontextmanager
    async def cycle(self) -> AsyncIterator[Cycle]:
        """Open a poller that knows nothing but what is in the keys."""
        more = {"format__profile": self.vector.profile}
        patient_s = 30.0  # it is recorded time that passes
        urls = self.prometheus.url, self.redis.url
        config = settings(self.directory, *urls, patient_s, **more)
        async with assembly.cycle(config, assembly.Choice(wait=True)) as cycle:
            yield cycle

    def times(self, start: float, end: float) -> Iterator[float]:
        """Return every moment of polling from one time to another, in recorded time."""
        for place in range(int((end - start) / STEP_S) + 1):
            yield round(start + place * STEP_S, 3)


@pytest.fixture(scope="module", params=FOLLOWED)
def run(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("followed")
    vector = Vector(request.param, directory)
    with Prometheus(samples=vector.samples) as prometheus, Redis() as redis:
        yield Run(vector, prometheus, redis, directory)


def told(tally: Tally) -> str:
    shares = ", ".join(f"{kind} {share:.2%}" for kind, share in sorted(tally.shares.items()))
    return "\n".join([shares, *map(str, tally.misses[:12])])


def check(tally: Tally) -> None:
    """Fail where too many instants of some kind of field were not the agent's."""
    assert [kind for kind, share in tally.shares.items() if share < LEAST] == [], told(tally)


async def test_every_value_is_one_that_the_agent_wrote(run: Run, capsys) -> None:
    run.redis.command("FLUSHALL")
    latest: dict[str, LiveStat] = {}
    tally = Tally()
    frozen = run.vector.snapshot("frozen")
    async with run.cycle() as cycle:
        for at in run.times(run.start, run.end):
            computed = await cycle.compute(at=at)
            latest |= computed.live_stats()
            for kernel in run.timeline.kernels:
                run.measure.hold(tally, run.timeline, kernel, at, latest.get(kernel))
        computed = await cycle.compute(at=frozen["time"])
        latest |= computed.live_stats()
    with capsys.disabled():
        print(f"\n{run.vector.name}: {told(tally).splitlines()[0]}")
    check(tally)
    assert latest.keys() == frozen["kernels"].keys()
    for kernel, theirs in frozen["kernels"].items():
        stat = {metric: dict(fields) for metric, fields in latest[kernel].items()}
        lately = run.timeline.between(kernel, frozen["time"] - run.measure.late_s, frozen["time"])
        take_over(stat, theirs["fields"], lately, run.measure)
        assert encode.pack(stat).hex() == theirs["value_hex"]


def take_over(ours: LiveStat, theirs: Fields, lately: list[Written], measure: Measure) -> None:
    """Take over the means that the agent wrote a round before, which no scrape saw, to the digit.

    Where rounds were seen by no scrape, a counter's is within 1 %, and a gauge's statistics are
    what was seen of it.
    """
    for metric, fields in theirs.items():
        for name in ("stats.avg", "stats.max"):
            text = fields.get(name)
            counter = metric in COUNTERS
            if text is None or (name == "stats.max" and (counter or not measure.unseen_s)):
                continue
            if not measure.unseen_s:
                assert ours[metric][name] in [one.fields[metric][name] for one in lately]
            elif counter:
                assert float(ours[metric][name]) == pytest.approx(float(text), rel=0.01)
            ours[metric][name] = text


KILLED_S, DOWN_S = 45.0, 3.0
"""So long after the start a poller dies, in the middle of the movement, and the next one starts."""


async def test_a_poller_that_died_is_followed_by_one_that_nobody_notices(run: Run, capsys) -> None:
    run.redis.command("FLUSHALL")
    killed, started = run.start + KILLED_S, run.start + KILLED_S + DOWN_S
    two_rounds_s = 2 * ROUNDS_S[run.vector.name] + run.measure.late_s
    async with run.cycle() as cycle:
        for at in run.times(run.start, killed):
            await cycle.poll(at=at)
    meanwhile, afterwards = Tally(), Tally()
    async with run.cycle() as cycle:
        for at in run.times(started, run.end):
            await cycle.poll(at=at)
            soon = at - started < two_rounds_s
            # What the key held when the first one died may stand until the next round is known.
            since_s = at - killed + run.measure.late_s
            late_s = since_s if soon else run.measure.late_s
            # The past can only be weighed by samples: as by `once`, a mean is within 5 %.
            measure = replace(run.measure, late_s=late_s, mean=0.05, mean_between=True)
            for kernel in run.timeline.kernels:
                value = run.redis.command("GET", kernel)
                stat = read_legacy(value) if value is not None else None
                tally = meanwhile if soon else afterwards
                measure.hold(tally, run.timeline, kernel, at, stat)
    with capsys.disabled():
        for name, tally in (("soon", meanwhile), ("then", afterwards)):
            print(f"\n{run.vector.name} restarted, {name}: {told(tally).splitlines()[0]}")
    check(meanwhile)
    check(afterwards)
