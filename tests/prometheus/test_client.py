"""Prometheus fails in every way: what is raised, that nothing is written, and who retries."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest

from poller.errors import DroppedConnection, PartialAnswer, PrometheusError
from poller.poll import assembly
from poller.prometheus import answers as decoding
from poller.prometheus import client as client_module
from poller.prometheus import errors
from poller.prometheus.client import Client
from poller.prometheus.transport import PrometheusAccess, Reply
from poller.values import Query
from tests.support import answers
from tests.support.answers import Answer
from tests.support.live import PATIENT, settings
from tests.support.process import free_port
from tests.support.proxy import FaultProxy, blackhole, passing, refusing, reset, truncate
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Prometheus, Redis
from tests.support.tls import tls_files
from tests.support.world import World

T = TypeVar("T")
ONE = [({"kernel_id": "k"}, 1)]
DEEP = Answer(body=b'{"status":"success","data":' + b'{"a":' * 5000)
NO_DATA = Answer(body=b'{"status":"success"}')
NULL_RESULT = Answer(body=b'{"status":"success","data":{"resultType":"vector","result":null}}')
ROW_OF_NUMBERS = answers.data("vector", [{"metric": {}, "value": [1, 2]}])
ROW_OF_THREE = answers.data("vector", [{"metric": {}, "value": [1, "2", "3"]}])


def access(url: str, **more: object) -> PrometheusAccess:
    return dataclasses.replace(PrometheusAccess((url,), 5.0, dict), **more)  # type: ignore[arg-type]


async def ask(url: str, **more: object) -> list[str]:
    async with Client(access(url, **more)) as client:
        return [row.value.text for row in await client.vector("up", 1.0) if row.value]


async def fault(url: str, **more: object) -> PrometheusError:
    """Return what is raised for a question that has no answer."""
    with pytest.raises(PrometheusError) as raised:
        await ask(url, **more)
    return raised.value


MESSAGE = (
    "rpc error: code = ResourceExhausted desc = grpc: received message larger than max "
    "(125829121 vs. 104857600)"
)
"""Mimir's, where an answer is larger than its parts may send each other."""
STATUSES = [
    (answers.replaying(), "unavailable", "HTTP 503: Service Unavailable"),
    (answers.timed_out(), "timeout", "HTTP 503: query timed out in expression evaluation"),
    (answers.bad_gateway(), "bad_gateway", "HTTP 502: an HTML page"),
    (Answer(504, b"<html>", "text/html"), "bad_gateway", "HTTP 504: an HTML page"),
    (answers.bad_query("no such function"), "rejected", "HTTP 400: no such function"),
    (answers.not_executed("too many samples"), "rejected", "HTTP 422: too many samples"),
    (answers.too_many_requests(), "rate_limited", "HTTP 429: slow down"),
    (answers.unauthorized(), "unauthorized", "HTTP 401: Unauthorized"),
    (Answer(403, b""), "unauthorized", "HTTP 403"),
    (Answer(404, b"404 page not found"), "not_found", "HTTP 404: 404 page not found"),
    (
        Answer(302, b"", headers={"Location": "/login"}),
        "http_status",
        "HTTP 302: it leads to /login",
    ),
    (Answer(413, b"<html>413"), "oversized", "HTTP 413: an HTML page"),
    (answers.failure(500, "internal", MESSAGE), "oversized", f"HTTP 500: {MESSAGE}"),
    (Answer(500, b"[" * 5000), "http_status", f"HTTP 500: {'[' * 200}"),
    (Answer(500, b"\xff"), "http_status", "HTTP 500: \N{REPLACEMENT CHARACTER}"),
]
BODIES = [
    (answers.failure(200, "execution", "out of memory"), "api_error", "execution: out of memory"),
    (answers.truncated(ONE), "not_json", "the answer is no complete JSON document"),
    (Answer(body=b"<html>", content_type="text/html"), "not_json", "the answer is no complete"),
    (Answer(body=b""), "not_json", "the answer is no complete JSON document"),
    (answers.scalar(1), "wrong_type", "a vector was asked for, scalar came"),
    (answers.matrix([({}, [(1.0, 2.0)])]), "wrong_type", "a vector was asked for, matrix came"),
    (NO_DATA, "wrong_type", "a vector was asked for, no data came"),
    (NULL_RESULT, "malformed", "the vector has elements of another form"),
    (ROW_OF_NUMBERS, "malformed", "the vector has elements of another form"),
    (ROW_OF_THREE, "malformed", "the vector has elements of another form"),
    (Answer(body=b"[]"), "malformed", "the answer is not of the HTTP API's form"),
    (DEEP, "malformed", "the answer is not of the HTTP API's form"),
]


@pytest.mark.parametrize(("answer", "reason", "detail"), STATUSES + BODIES)
async def test_every_unusable_answer_has_its_reason(
    prometheus: ScriptedPrometheus, answer: Answer, reason: str, detail: str
) -> None:
    prometheus.next_answers(answer)
    error = await fault(prometheus.url)
    assert type(error) is PrometheusError
    assert error.reason == reason
    assert error.detail.startswith(detail)
    assert error.advice
    assert len(prometheus.requests) == 1


async def test_mimir_without_a_tenant_says_which_setting_names_one(
    prometheus: ScriptedPrometheus,
) -> None:
    prometheus.next_answers(Answer(401, b"no org id\n"))
    error = await fault(prometheus.url)
    assert "prometheus.headers = { X-Scope-OrgID" in error.advice


@pytest.mark.parametrize(
    ("location", "told"),
    [
        (
            "https://me:secret@prom.example:9443/api?token=secret#secret",
            "https://prom.example:9443/api",
        ),
        ("//me:secret@[::1]:9090/", "//[::1]:9090/"),
        ("http://[secret", "no valid address"),
    ],
)
async def test_where_a_redirect_leads_is_told_without_secrets_and_not_followed(
    prometheus: ScriptedPrometheus, location: str, told: str
) -> None:
    prometheus.next_answers(Answer(301, b"<a>Moved</a>", headers={"Location": location}))
    error = await fault(prometheus.url)
    assert error.detail == f"HTTP 301: it leads to {told} ({prometheus.url})"
    assert "prometheus.url" in error.advice
    assert len(prometheus.requests) == 1


async def test_a_large_answer_is_handed_on_in_portions_and_nothing_of_it_is_lost(
    prometheus: ScriptedPrometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_PORTION", 2)
    rows = [({"kernel_id": f"k{number}"}, number) for number in range(5)]
    prometheus.next_answers(answers.vector(rows))
    taken: list[list[str | None]] = []
    async with Client(access(prometheus.url)) as client:
        await client.rows(
            [Query("current", "mem", "up")],
            1.0,
            lambda query, some: taken.append([row.metric.kernel_id for row in some]),
        )
    assert taken == [["k0", "k1"], ["k2", "k3"], ["k4"]]


async def test_large_answers_are_read_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several that come together would all be in memory half read."""
    monkeypatch.setattr(decoding, "_LARGE_BYTES", 0)
    monkeypatch.setattr(decoding, "_PORTION_BYTES", 50)
    turns: list[bytes] = []
    in_portions = decoding.in_portions

    def watched(form: decoding.Form[T], body: bytes) -> Iterator[decoding.Answer[T]]:
        for answer in in_portions(form, body):
            turns.append(body)
            yield answer

    async def ask(place: int, path: str, timeout_s: float, form: dict[str, str]) -> Reply:
        rows = [({"kernel_id": form["query"]}, number) for number in range(9)]
        return Reply((), answers.vector(rows).body)

    monkeypatch.setattr(decoding, "in_portions", watched)
    async with Client(access("http://prometheus")) as client:
        monkeypatch.setattr(client._transport, "ask", ask)
        found = await asyncio.gather(client.vector("x", 1.0), client.vector("y", 1.0))
    assert [len(rows) for rows in found] == [9, 9]
    assert len(turns) > 4
    assert turns == sorted(turns)


async def test_a_status_is_classified_before_its_body_is_parsed(
    prometheus: ScriptedPrometheus,
) -> None:
    good = answers.vector(ONE)
    prometheus.next_answers(dataclasses.replace(good, status=503))
    assert (await fault(prometheus.url)).reason == "unavailable"


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_body_over_the_limit_is_refused_and_one_at_the_limit_is_not(
    prometheus: ScriptedPrometheus, compressed: bool
) -> None:
    def sized(size: int) -> Answer:
        return answers.oversized(size).gzip() if compressed else answers.oversized(size)

    prometheus.next_answers(sized(5000), sized(5001))
    assert await ask(prometheus.url, max_response_bytes=5000) == []
    assert (await fault(prometheus.url, max_response_bytes=5000)).reason == "oversized"


@pytest.mark.parametrize("path", ["/mimir", "/mimir/"])
async def test_a_path_in_the_url_goes_before_that_of_the_api(
    prometheus: ScriptedPrometheus, path: str
) -> None:
    assert await ask(prometheus.url + path) == []
    assert [one.path for one in prometheus.requests] == ["/mimir/api/v1/query"]


async def test_no_answer_in_time_is_a_timeout_and_asked_once(
    prometheus: ScriptedPrometheus,
) -> None:
    prometheus.next_answers(answers.hanging())
    assert (await fault(prometheus.url, timeout_s=0.2)).reason == "timeout"
    assert len(prometheus.requests) == 1


async def test_a_dropped_connection_is_retried_once(prometheus: ScriptedPrometheus) -> None:
    cut = answers.vector(ONE).cut(10)
    prometheus.next_answers(cut, answers.vector(ONE))
    assert await ask(prometheus.url) == ["1"]
    assert len(prometheus.requests) == 2


async def test_two_dropped_connections_are_a_failure(prometheus: ScriptedPrometheus) -> None:
    cut = answers.vector(ONE).cut(10)
    prometheus.next_answers(cut, cut, answers.vector(ONE))
    with pytest.raises(DroppedConnection) as raised:
        await ask(prometheus.url)
    assert raised.value.reason == "reset"
    assert len(prometheus.requests) == 2
    assert await ask(prometheus.url) == ["1"]  # the third answer was left


async def test_a_retry_ends_by_the_deadline(prometheus: ScriptedPrometheus) -> None:
    prometheus.next_answers(answers.vector(ONE).cut(10), answers.hanging())
    async with Client(access(prometheus.url)) as client:
        before = asyncio.get_running_loop().time()
        with pytest.raises(PrometheusError):
            await client.fail_over(lambda: client.vector("up", 1.0), 0.3)
    assert asyncio.get_running_loop().time() - before < 3


# --- partial data and harmless notes ------------------------------------------------------------


@pytest.mark.parametrize("partial", [answers.partial(ONE), answers.partial_victoria(ONE)])
async def test_partial_data_is_skipped_or_published_and_counted(
    prometheus: ScriptedPrometheus, partial: Answer
) -> None:
    for skip in (True, False):
        told: list[str] = []
        prometheus.next_answers(partial)
        async with Client(access(prometheus.url, skip_partial=skip), on_warning=told.append) as one:
            if skip:
                with pytest.raises(PartialAnswer) as raised:
                    await one.vector("up", 1.0)
                assert raised.value.reason == "partial"
                assert one.take_warning() == ""  # the failure tells it
            else:
                assert len(await one.vector("up", 1.0)) == 1
                assert [one.take_warning(), one.take_warning()] == [told[0], ""]
        assert len(told) == 1


@pytest.mark.parametrize("as_infos", [False, True])
async def test_notes_on_metric_names_are_no_fault(
    prometheus: ScriptedPrometheus, as_infos: bool
) -> None:
    told: list[str] = []
    prometheus.next_answers(answers.noted(ONE, as_infos=as_infos))
    async with Client(access(prometheus.url), on_warning=told.append) as client:
        assert len(await client.vector("up", 1.0)) == 1
    assert told == []


async def test_a_note_on_a_query_is_not_missing_data(prometheus: ScriptedPrometheus) -> None:
    note = "PromQL warning: encountered a mix of histograms and floats for aggregation (1:6)"
    prometheus.next_answers(answers.vector(ONE, warnings=[note]))
    assert len(await ask(prometheus.url)) == 1


async def test_a_note_does_not_hide_a_warning_beside_it(prometheus: ScriptedPrometheus) -> None:
    note = json.loads(answers.noted(ONE).body)["warnings"][0]
    prometheus.next_answers(answers.vector(ONE, warnings=[note, "store is down"]))
    assert (await fault(prometheus.url)).detail == f"store is down ({prometheus.url})"


# --- the real Prometheus behind a proxy ---------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Iterator[Prometheus]:
    with Prometheus() as server:
        yield server


@pytest.fixture
def proxy(real: Prometheus) -> Iterator[FaultProxy]:
    with FaultProxy(real.port) as made:
        yield made


async def ask_one(proxy: FaultProxy, **more: object) -> int:
    async with Client(access(f"http://127.0.0.1:{proxy.port}", **more)) as client:
        return len(await client.vector("vector(1)", 1.0))


async def test_nothing_listens() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    error = await fault(url)
    assert (error.reason, error.address) == ("refused", url)
    assert error.detail == f"connection refused ({url})"
    assert str(error) == f"refused: connection refused ({url})"


@pytest.mark.parametrize(
    ("fault", "reason", "connections"),
    [
        (refusing(), "refused", 0),
        (blackhole(), "timeout", 1),
        (reset(), "reset", 2),
        (reset(after_response_bytes=60), "reset", 2),
        (truncate(60), "reset", 2),
    ],
    ids=["refused", "black hole", "reset at once", "reset in mid-answer", "cut in mid-answer"],
)
async def test_a_network_that_fails_has_its_reason(
    proxy: FaultProxy, fault: object, reason: str, connections: int
) -> None:
    proxy.fault = fault  # type: ignore[assignment]
    with pytest.raises(PrometheusError) as raised:
        await ask_one(proxy, timeout_s=2.0)
    assert raised.value.reason == reason
    assert proxy.connections == connections


async def test_a_kept_connection_that_was_reset_costs_no_query(proxy: FaultProxy) -> None:
    async with Client(access(f"http://127.0.0.1:{proxy.port}")) as client:
        assert len(await client.vector("vector(1)", 1.0)) == 1
        proxy.fault = reset(after_request_bytes=1, times=1)
        assert len(await client.vector("vector(1)", 1.0)) == 1
    assert proxy.connections == 2


async def test_a_name_that_does_not_resolve() -> None:
    assert (await fault("http://no-such-host.invalid:9090")).reason == "dns"


async def test_a_certificate_nobody_vouches_for(tmp_path: Path) -> None:
    context = tls_files(tmp_path).server_context()
    with ScriptedPrometheus(tls=context) as server, pytest.raises(PrometheusError) as raised:
        await ask(server.url)
    assert raised.value.reason == "tls"


def test_an_alert_on_our_certificate_is_no_broken_connection() -> None:
    """In TLS 1.3 it comes after the handshake, and the library takes it for an error of reading."""
    alert = ssl.SSLError(1, "tlsv13 alert certificate required")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    read = aiohttp.ClientOSError(1, "tlsv13 alert certificate required")
    read.__cause__ = alert
    fault = errors.broken(read)
    assert (fault.reason, fault.advice) == ("tls", "check prometheus.cert_file and key_file")


# --- a whole cycle ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answers.replaying(), "unavailable"),
        (answers.truncated(ONE), "not_json"),
        (answers.partial(ONE), "partial"),
    ],
)
async def test_one_failed_query_of_a_batch_fails_the_cycle_and_nothing_is_written(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path, answer: Answer, reason: str
) -> None:
    world = World(2)
    redis.command("FLUSHALL")

    def handler(query: str, time: float, params: dict[str, str]) -> Answer:
        bad = '="io_read",value_type="current"' in query
        return answer if bad else world.handler(query, time, params)

    prometheus.handler = handler
    async with assembly.cycle(settings(tmp_path, prometheus.url, redis.url), PATIENT) as cycle:
        with pytest.raises(PrometheusError) as raised:
            await cycle.poll()
        assert raised.value.reason == reason
        assert redis.command("DBSIZE") == 0
        prometheus.handler = world.handler
        assert (await cycle.poll()).written == 2
    assert redis.command("DBSIZE") == 2


async def test_partial_data_is_written_where_the_settings_say_so(
    prometheus: ScriptedPrometheus, redis: Redis, tmp_path: Path
) -> None:
    world = World(2)
    redis.command("FLUSHALL")

    def handler(query: str, time: float, params: dict[str, str]) -> Answer:
        answer = world.handler(query, time, params)
        document = json.loads(answer.body) | {"warnings": ["a store is down"]}
        return dataclasses.replace(answer, body=json.dumps(document).encode())

    prometheus.handler = handler
    made = settings(tmp_path, prometheus.url, redis.url, prometheus__on_partial="publish")
    async with assembly.cycle(made, PATIENT) as cycle:
        outcome = await cycle.poll()
        assert (outcome.written, outcome.warned) == (2, "a store is down")


async def test_the_cycle_after_an_outage_of_the_real_server_is_good(
    real: Prometheus, proxy: FaultProxy, redis: Redis, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{proxy.port}"
    async with assembly.cycle(settings(tmp_path, url, redis.url), PATIENT) as cycle:
        for fault, reason in (
            (refusing(), "refused"),
            (reset(), "reset"),
            (blackhole(), "timeout"),
        ):
            proxy.fault = fault
            proxy.cut()
            with pytest.raises(PrometheusError) as raised:
                await cycle.poll()
            assert raised.value.reason == reason
            proxy.fault = passing()
            assert (await cycle.poll()).kernels == 0
