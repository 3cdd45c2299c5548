"""Several Prometheus servers in order of preference: failover inside the deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from poller.errors import PartialAnswer, PrometheusError
from poller.poll import assembly
from poller.prometheus.client import Client, PrometheusAccess
from tests.support import answers
from tests.support.live import settings
from tests.support.openmetrics import STAGE_SECONDS
from tests.support.proxy import FaultProxy, blackhole, passing, refusing
from tests.support.scripted import Handler, ScriptedPrometheus
from tests.support.servers import free_port
from tests.support.world import MIB, World

WITHIN_S = 4.0
NOWHERE = f"redis://127.0.0.1:{free_port()}/0"
FIRST, SECOND = World(born=1_700_000_000.0), World(born=1_500_000_000.0)


@dataclass(frozen=True, slots=True)
class Two:
    """Two servers; the first one behind a proxy."""

    first: ScriptedPrometheus
    proxy: FaultProxy
    second: ScriptedPrometheus

    @property
    def urls(self) -> tuple[str, str]:
        return f"http://127.0.0.1:{self.proxy.port}", self.second.url

    def client(self, prefer_again_s: float = 60.0) -> Client:
        headers: Mapping[str, str] = {"X-Scope-OrgID": "tenant-7"}
        return Client(
            PrometheusAccess(self.urls, WITHIN_S, lambda: headers, prefer_again_s=prefer_again_s)
        )


@pytest.fixture
def two() -> Iterator[Two]:
    with ExitStack() as stack:
        first = stack.enter_context(ScriptedPrometheus(FIRST.handler))
        proxy = stack.enter_context(FaultProxy(first.port))
        second = stack.enter_context(ScriptedPrometheus(SECOND.handler))
        yield Two(first, proxy, second)


async def ask(client: Client) -> str:
    """Ask the lightest query; return the URL of who answered."""
    await client.fail_over(lambda: client.vector("vector(1)", time.time()), WITHIN_S)
    return client.url


def answering(answer: answers.Answer) -> Callable[[Two], None]:
    def change(two: Two) -> None:
        two.first.handler = lambda query, time, params: answer

    return change


def refuse(two: Two) -> None:
    two.proxy.fault = refusing()


def swallow(two: Two) -> None:
    two.proxy.fault = blackhole()


FAULTS = {
    "refused": refuse,
    "black-holed": swallow,
    "replaying its log": answering(answers.replaying()),
    "behind a broken gateway": answering(answers.bad_gateway()),
    "hanging": answering(answers.hanging()),
    "incomplete": answering(answers.partial([({}, 1)])),
    "cut in the middle": answering(answers.vector([({}, 1)]).cut(20)),
    "no JSON": answering(answers.truncated()),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_the_second_answers_in_the_same_deadline(
    two: Two, fault: Callable[[Two], None]
) -> None:
    fault(two)
    async with two.client() as client:
        started = time.monotonic()
        assert await ask(client) == two.second.url
        assert time.monotonic() - started < WITHIN_S
        assert two.second.queries == ["vector(1)"]


async def test_the_first_is_preferred_while_it_answers(two: Two) -> None:
    async with two.client() as client:
        for _ in range(3):
            assert await ask(client) == two.urls[0]
    assert two.second.requests == []


async def test_who_failed_is_not_asked_again_at_once(two: Two) -> None:
    two.first.handler = lambda query, time, params: answers.replaying()
    async with two.client() as client:
        for _ in range(4):
            assert await ask(client) == two.second.url
    assert len(two.first.queries) == 1
    assert len(two.second.queries) == 4


async def test_the_preferred_one_is_used_again_when_it_is_well(two: Two) -> None:
    two.proxy.fault = refusing()
    async with two.client(prefer_again_s=0.5) as client:
        assert await ask(client) == two.second.url
        two.proxy.fault = passing()
        assert await ask(client) == two.second.url
        await asyncio.sleep(0.6)
        assert await ask(client) == two.urls[0]
        assert await ask(client) == two.urls[0]


async def test_the_second_one_failing_leads_back_to_the_first_at_once(two: Two) -> None:
    two.proxy.fault = refusing()
    async with two.client() as client:
        assert await ask(client) == two.second.url
        two.proxy.fault = passing()
        two.second.handler = lambda query, time, params: answers.replaying()
        assert await ask(client) == two.urls[0]


async def test_the_last_failure_is_raised_when_all_fail_and_tells_of_every_server(
    two: Two,
) -> None:
    two.proxy.fault = refusing()
    two.second.handler = lambda query, time, params: answers.partial([({}, 1)])
    async with two.client() as client:
        for _ in range(2):
            with pytest.raises(PrometheusError) as raised:
                await ask(client)
    assert isinstance(raised.value, PartialAnswer)
    first, last = raised.value.detail.split("; ")
    assert first.endswith(f"connection refused ({two.urls[0]})")
    assert last.endswith(f"({two.second.url})")


async def test_that_the_first_one_is_passed_over_is_known_until_it_answers_again(two: Two) -> None:
    async with two.client(prefer_again_s=0.2) as client:
        await ask(client)
        assert client.passed_over is None
        two.proxy.cut()
        two.proxy.fault = refusing()
        for _ in range(2):
            await ask(client)
            assert client.passed_over is not None
            assert client.passed_over.reason == "refused"
            assert client.passed_over.address == two.urls[0]
        await asyncio.sleep(0.3)
        two.proxy.fault = passing()
        await ask(client)
        assert client.passed_over is None


async def test_every_server_gets_the_tenants_header(two: Two) -> None:
    async with two.client() as client:
        await ask(client)
        two.proxy.cut()
        two.proxy.fault = refusing()
        await ask(client)
    for server in (two.first, two.second):
        assert [one.headers["X-Scope-OrgID"] for one in server.requests] == ["tenant-7"]


def failing_at(handler: Handler, part: str, answer: answers.Answer) -> Handler:
    """Return a server that answers well until it is asked for `part`."""

    def answered(query: str, time: float, params: dict[str, str]) -> answers.Answer:
        return answer if part in query else handler(query, time, params)

    return answered


@pytest.mark.parametrize(
    "part", ["count by", "io_read", "(rate(", "rounds", "capacity", "rounds again"]
)
@pytest.mark.parametrize("answer", [answers.replaying(), answers.hanging()], ids=["503", "hangs"])
async def test_nothing_of_two_servers_is_put_together(
    two: Two, tmp_path: Path, part: str, answer: answers.Answer
) -> None:
    """The first fails in the middle of a batch: every value then comes from the second."""
    part = {"rounds": STAGE_SECONDS, "rounds again": 'success!="False"'}.get(part, part)
    two.first.handler = failing_at(FIRST.handler, part, answer)
    config = settings(
        tmp_path, two.urls[0], NOWHERE, WITHIN_S, prometheus__fallback_urls=[two.second.url]
    )
    async with assembly.cycle(config, assembly.Choice(wait=True, needs_store=False)) as cycle:
        computed = await cycle.compute()
    stats = computed.live_stats()
    passed_ms = round((computed.time - SECOND.born) * 1000)
    assert set(stats) == set(SECOND.ids)
    for stat in stats.values():
        fields = {name: dict(stat[name])["current"] for name in ("mem", "cpu_used", "io_read")}
        expected = {"mem": MIB + passed_ms, "cpu_used": passed_ms, "io_read": 4 * passed_ms}
        assert fields == {name: str(value) for name, value in expected.items()}
