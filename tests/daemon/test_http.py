"""The page, its facts as JSON, and readiness over HTTP."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from poller.daemon import page
from poller.daemon.status import KernelFacts, Status
from poller.errors import ConfigError, StoreError
from tests.support import statuses
from tests.support.daemon import DaemonProcess
from tests.support.endpoints import StatusServer
from tests.support.process import HOST, wait_until
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis
from tests.support.world import World

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def got(url: str, method: str = "GET") -> tuple[int, str, Any]:
    """Return status, text and headers of an answer."""
    try:
        with _opener.open(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


@pytest.fixture(scope="module")
def server() -> Iterator[StatusServer]:
    with StatusServer(statuses.full()) as made:
        yield made


def test_the_page_stands_under_its_policy_and_is_not_kept(server: StatusServer) -> None:
    status, text, headers = got(server.url + "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Security-Policy"] == page.POLICY
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert text == page.render(statuses.full())


def test_the_same_facts_are_json(server: StatusServer) -> None:
    status, text, headers = got(server.url + "/api/status")
    assert (status, headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    told = json.loads(text)
    assert told == json.loads(json.dumps(statuses.full().as_json()))
    assert told["withheld"] == {"stalled": 2, "still": 1}
    assert told["agents"][1]["writes"] is True


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/api/status", "/-/ready"])
def test_nothing_can_be_changed(server: StatusServer, method: str, path: str) -> None:
    assert got(server.url + path, method)[0] == 405


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (statuses.full(), (200, "ready\nleads: yes\n")),
        (statuses.standing_by(), (200, "ready\nleads: no, poller-a:4711:8f3a9c writes\n")),
        (statuses.starting(), (503, "not ready: no good cycle yet\nleads: no\n")),
    ],
)
def test_readiness_says_whether_it_leads(
    server: StatusServer, made: Status, expected: tuple[int, str]
) -> None:
    server.status = made
    try:
        assert got(server.url + "/-/ready")[:2] == expected
    finally:
        server.status = statuses.full()


def asked(url: str, kernel: str) -> str:
    status, text, _ = got(f"{url}/?{urllib.parse.urlencode({'kernel': kernel})}")
    assert status == 200
    return text


def test_a_kernel_can_be_looked_up_only_where_that_was_wired(server: StatusServer) -> None:
    assert "not available" in asked(server.url, statuses.kernel_id(1))
    assert "not available" not in got(server.url + "/?kernel=")[1]


def test_a_kernel_is_looked_up_and_what_fails_is_told() -> None:
    async def look_up(kernel: str) -> KernelFacts:
        if kernel == "down":
            raise StoreError("refused", "connection refused at redis.example", "start it")
        if kernel == "bad":
            raise ConfigError([("kernel", "no such id")])
        return replace(statuses.facts(), kernel=kernel)

    with StatusServer(statuses.full(), look_up) as made:
        assert "<strong>abc</strong>" in asked(made.url, "  abc ")
        assert "redis: connection refused at redis.example. start it." in asked(made.url, "down")
        assert "kernel: no such id" in asked(made.url, "bad")
        assert "x" * 64 in asked(made.url, "x" * 1_000)
        assert "x" * 65 not in asked(made.url, "x" * 1_000)
        assert "<script" not in asked(made.url, statuses.EVIL)


def test_a_daemon_tells_what_it_does() -> None:
    world = World(3)
    with (
        ScriptedPrometheus(world.handler) as prometheus,
        Redis() as redis,
        DaemonProcess(prometheus.url, redis.url, poll__interval_s=0.5) as daemon,
    ):

        def told() -> dict[str, Any]:
            made: dict[str, Any] = json.loads(daemon.page("/api/status")[1])
            return made

        wait_until(lambda: told()["written"] == 3, "three keys are written")
        status = told()
        assert (status["role"], status["kernels"], status["ready"]) == ("leads", 3, True)
        assert status["agents"][0]["name"] == "i-agent0"
        assert status["agents"][0]["kernels"] == 3
        assert "query" in status["cycles"][-1]["parts"]
        assert "Leads and publishes" in daemon.page("/")[1]
        assert daemon.page("/?kernel=" + "x" * 10_000)[0] == 400
        with socket.create_connection((HOST, daemon.port)) as client:
            client.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
            assert client.recv(4096).startswith(b"HTTP/1.0 400 ")
        redis.kill()
        wait_until(lambda: told()["fails_since"] is not None, "it fails")
        (trouble,) = told()["troubles"]
        assert trouble["subject"] == "redis"
        assert trouble["detail"] in daemon.page("/")[1]
        assert daemon.stop() == 0
        assert "Traceback" not in daemon.log
