"""Tests of the test infrastructure that fails on demand: proxy and scripted Prometheus."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest
import redis

from tests.support import answers
from tests.support.proxy import FaultProxy, blackhole, passing, refusing, reset, truncate
from tests.support.redis_server import connect
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import HOST, Redis, wait_until
from tests.support.tls import tls_files

Proxied = tuple[FaultProxy, redis.Redis]


@pytest.fixture
def proxied(redis: Redis) -> Iterator[Proxied]:
    with FaultProxy(redis.port) as proxy, connect(proxy.port, protocol=2) as client:
        yield proxy, client


# --- proxy ----------------------------------------------------------------------------------


def test_proxy_passes_delays_and_counts(proxied: Proxied) -> None:
    proxy, client = proxied
    assert client.ping()
    assert (proxy.connections, proxy.open_connections) == (1, 1)
    assert proxy.request_bytes > 0
    assert proxy.response_bytes > 0
    proxy.fault = passing(delay_s=0.2)
    started = time.monotonic()
    assert client.ping()
    assert 0.2 <= time.monotonic() - started < 2
    assert proxy.cut() == 1
    wait_until(lambda: proxy.open_connections == 0, "no connection")


def test_proxy_refuses_and_recovers(proxied: Proxied) -> None:
    proxy, client = proxied
    proxy.fault = refusing()
    with pytest.raises(redis.ConnectionError, match="refused"):
        client.ping()
    proxy.fault = passing()
    assert client.ping()


def test_black_holed_connection_stays_lost_and_a_new_one_works(proxied: Proxied) -> None:
    proxy, client = proxied
    client.connection_pool.connection_kwargs["socket_timeout"] = 0.2
    assert client.ping()
    for _ in range(2):
        proxy.fault = blackhole()
        with pytest.raises(redis.TimeoutError):
            client.ping()
    proxy.fault = passing()
    assert client.ping()


def _raw(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=5)


def test_proxy_resets_after_so_many_bytes_of_a_response_once(proxied: Proxied) -> None:
    proxy, _ = proxied
    with _raw(proxy) as raw:
        raw.sendall(b"PING\r\n")
        assert raw.recv(100) == b"+PONG\r\n"
        proxy.fault = reset(after_response_bytes=3, times=1)
        raw.sendall(b"PING\r\n")
        assert raw.recv(100) == b"+PO"
        with pytest.raises(ConnectionResetError):
            raw.recv(100)
    with _raw(proxy) as raw:
        raw.sendall(b"PING\r\n")
        assert raw.recv(100) == b"+PONG\r\n"


def test_proxy_resets_after_a_request_that_the_server_still_gets(
    proxied: Proxied, redis: Redis
) -> None:
    proxy, _ = proxied
    proxy.fault = reset(after_response_bytes=0)
    with _raw(proxy) as raw:
        raw.sendall(b"SET reset done\r\n")
        with pytest.raises(ConnectionResetError):
            raw.recv(100)
    assert redis.command("GET", "reset") == b"done"
    proxy.fault = reset(after_request_bytes=0)
    with _raw(proxy) as raw:
        raw.sendall(b"SET reset again\r\n")
        with pytest.raises(ConnectionResetError):
            raw.recv(100)
    assert redis.command("GET", "reset") == b"done"


def test_proxy_truncates_cleanly_and_resets_at_once(proxied: Proxied) -> None:
    proxy, client = proxied
    proxy.fault = truncate(3)
    with _raw(proxy) as raw:
        raw.sendall(b"PING\r\n")
        assert raw.recv(100) == b"+PO"
        assert raw.recv(100) == b""
    proxy.fault = reset()
    with pytest.raises(redis.ConnectionError):
        client.ping()


# --- scripted Prometheus --------------------------------------------------------------------


async def _ask(
    session: aiohttp.ClientSession, url: str, **form: str
) -> tuple[int, bytes, Mapping[str, str]]:
    async with session.post(f"{url}/api/v1/query", data=form) as answer:
        return answer.status, await answer.read(), answer.headers


async def test_scripted_answers_are_what_they_say() -> None:
    rows: list[answers.Row] = [({"kernel_id": "k"}, "1.5")]
    with ScriptedPrometheus(lambda query, at, params: answers.vector(rows, at)) as server:
        async with aiohttp.ClientSession() as session:
            _, body, _ = await _ask(session, server.url, query="up", time="12.5")
            result = json.loads(body)["data"]["result"]
            assert result == [{"metric": {"kernel_id": "k"}, "value": [12.5, "1.5"]}]
            assert (server.requests[0].query, server.requests[0].time) == ("up", 12.5)
            server.next_answers(
                answers.replaying(),
                answers.bad_gateway(),
                answers.not_executed(),
                answers.too_many_requests(),
                answers.failure(200, "execution", "no"),
            )
            statuses = [(await _ask(session, server.url, query="up"))[0] for _ in range(5)]
            assert statuses == [503, 502, 422, 429, 200]
            server.next_answers(answers.truncated(), answers.oversized(1_000_000).gzip())
            with pytest.raises(json.JSONDecodeError):
                json.loads((await _ask(session, server.url, query="up"))[1])
            assert len((await _ask(session, server.url, query="up"))[1]) == 1_000_000
            server.next_answers(answers.vector(rows).cut(20))
            with pytest.raises(aiohttp.ClientPayloadError):
                await _ask(session, server.url, query="up")


async def test_scripted_server_answers_a_range_query_and_records_its_headers() -> None:
    track: answers.Track = ({"kernel_id": "k"}, [(1.0, "2"), (2.0, "NaN")])
    with ScriptedPrometheus(lambda query, at, params: answers.matrix([track])) as server:
        url = f"{server.url}/api/v1/query_range?query=up&start=1&end=2&step=1"
        async with (
            aiohttp.ClientSession(headers={"X-Scope-OrgID": "tenant"}) as session,
            session.get(url) as answer,
        ):
            found = await answer.json()
        assert found["data"]["resultType"] == "matrix"
        assert found["data"]["result"][0]["values"] == [[1.0, "2"], [2.0, "NaN"]]
        assert server.requests[0].params["step"] == "1"
        assert server.requests[0].headers["x-scope-orgid"] == "tenant"


def test_answers_with_histograms_and_notes() -> None:
    histogram = json.loads(answers.histograms([{}]).body)["data"]["result"][0]
    assert "value" not in histogram
    assert json.loads(answers.noted([]).body)["warnings"][0].startswith("PromQL info:")
    assert "warnings" not in json.loads(answers.noted([], as_infos=True).body)


async def test_scripted_server_hangs_is_slow_and_has_its_own_clock() -> None:
    with ScriptedPrometheus() as server:
        server.date_offset_s = 3600
        server.next_answers(answers.hanging(), answers.vector(()).slow(0.2))
        async with aiohttp.ClientSession() as session:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await _ask(session, server.url, query="up")
            _, _, headers = await _ask(session, server.url, query="up")
            ahead_s = parsedate_to_datetime(headers["Date"]).timestamp() - time.time()
            assert 3590 < ahead_s < 3601
        assert server.queries == ["up", "up"]


def test_scripted_server_serves_sync_code_over_tls_too(tmp_path: Path) -> None:
    files = tls_files(tmp_path)
    context = files.client_context()
    with ScriptedPrometheus(tls=files.server_context()) as server:
        with urllib.request.urlopen(f"{server.url}/-/ready", context=context) as answer:
            assert answer.status == 200
        server.ready, server.build_info = False, None
        for path in ("/-/ready", "/api/v1/status/buildinfo"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"{server.url}{path}", context=context)
            caught.value.close()
