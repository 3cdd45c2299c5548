"""Tests of the test infrastructure that fails on demand: the proxy."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
import redis

from tests.support.proxy import FaultProxy, blackhole, passing, refusing, reset, truncate
from tests.support.redis_server import connect
from tests.support.servers import HOST, Redis, wait_until

Proxied = tuple[FaultProxy, redis.Redis]


@pytest.fixture
def proxied(redis: Redis) -> Iterator[Proxied]:
    with FaultProxy(redis.port) as proxy, connect(proxy.port, protocol=2) as client:
        yield proxy, client


def test_proxy_passes_delays_and_counts(proxied: Proxied) -> None:
    proxy, client = proxied
    assert client.ping()
    assert (proxy.connections, proxy.open_connections) == (1, 1)
    assert proxy.request_bytes > 0
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
    late, soon = reset(after_response_bytes=0), reset(after_request_bytes=0)
    for fault, sent in ((late, b"done"), (soon, b"again")):
        proxy.fault = fault
        with _raw(proxy) as raw:
            raw.sendall(b"SET reset " + sent + b"\r\n")
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
