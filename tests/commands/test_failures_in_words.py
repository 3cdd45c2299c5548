"""Failures as people read them: whole words, the address that was tried, and no credentials."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
import redis

from tests.commands.cluster import Place, lines
from tests.support.command import environment, poller
from tests.support.servers import HOST, Redis, RedisCluster, free_port

SECRETS = ("hush", "somebody")
NOWHERE = free_port()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"redis://somebody:hush@{HOST}:{NOWHERE}/0",
         f"fail: connection refused (redis://{HOST}:{NOWHERE}/0)"),
        ("redis://:hush@nohost.invalid:6379/0",
         "fail: the host name does not resolve (redis://nohost.invalid:6379/0)"),
        ("unix:///nowhere/redis.sock?db=0&password=hush",
         "fail: no such file or directory (unix:///nowhere/redis.sock)"),
        (f"redis+sentinel://somebody:hush@{HOST}:{NOWHERE}/mymaster/0",
         "fail: no sentinel that answers knows the master "
         f"(redis+sentinel://{HOST}:{NOWHERE}/mymaster/0)"),
        (f"redis+cluster://:hush@{HOST}:{NOWHERE}",
         f"fail: connection refused (redis+cluster://{HOST}:{NOWHERE})"),
    ],
    ids=["refused", "unknown host", "socket", "sentinel", "cluster"],
)  # fmt: skip
def test_a_redis_that_cannot_be_reached_is_named(healthy: Place, url: str, told: str):
    done = healthy.run("check", redis__url=url)
    assert done.returncode == 1
    assert lines(done.stdout, "redis") == [told]
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)


def test_a_database_that_is_not_there_is_told(healthy: Place):
    url = healthy.redis.url.removesuffix("0") + "99"
    done = healthy.run("check", redis__url=url)
    assert lines(done.stdout, "redis") == [
        f"fail: the server has no database of that number ({url})"
    ]


def test_a_refused_password_and_a_refused_command_are_told(healthy: Place):
    with Redis(acl="user default off\nuser poller on >right ~* -@all +get +set") as server:
        address = server.url.removeprefix("redis://")
        wrong = healthy.run("check", redis__url=f"redis://poller:hush@{address}")
        assert lines(wrong.stdout, "redis") == [
            f"fail: user or password is refused (redis://{address})"
        ]
        narrow = healthy.run("check", redis__url=f"redis://poller:right@{address}")
        assert f"fail: the user may not run EVAL (redis://{address})" in lines(
            narrow.stdout, "rights"
        )
        server.command("ACL", "SETUSER", "poller", "resetkeys")
        keyless = healthy.run("check", redis__url=f"redis://poller:right@{address}")
        assert "fail: keys may not be read" in lines(keyless.stdout, "rights")


def test_a_prometheus_that_cannot_be_reached_is_named(healthy: Place):
    urls = {
        f"http://somebody:hush@{HOST}:{NOWHERE}/prom":
            f"connection refused (http://{HOST}:{NOWHERE}/prom)",
        "http://nohost.invalid:9090":
            "the host name does not resolve (http://nohost.invalid:9090)",
    }  # fmt: skip
    for url, told in urls.items():
        for command in ("check", "once", "compare", "show"):
            arguments = [command, *(["3f9d4d5e"] if command == "show" else [])]
            env = environment(url, healthy.redis.url)
            done = poller(*arguments, env=env)
            assert done.returncode == 1
            assert told in done.stdout + done.stderr, command
            assert not any(secret in done.stdout + done.stderr for secret in SECRETS)


def test_a_cluster_is_asked_for_its_lease_and_its_keys(healthy: Place):
    with RedisCluster() as cluster:
        done = healthy.run("check", redis__url=cluster.url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert lines(done.stdout, "keys")[-1] == "ok: none is written that Prometheus does not know"
        strangers = [f"00000000-0000-4000-8000-{number:012d}" for number in range(30)]
        client = redis.RedisCluster(host=cluster.nodes[0].host, port=cluster.nodes[0].port)
        for kernel in strangers:
            client.set(kernel, b"x", ex=86_400)
        client.close()
        assert "30 that somebody writes" in healthy.run("check", redis__url=cluster.url).stdout


@pytest.mark.parametrize("command", ["check", "compare", "watch --duration 3"])
def test_a_reader_that_goes_away_ends_it_quietly(healthy: Place, command: str):
    done = in_a_shell(healthy, f"{command} | head -1")
    assert done.returncode == 0
    assert said(done) == []
    assert len(done.stdout.splitlines()) == 1


EVERY_COMMAND = [
    "check",
    "check --settings",
    "compare",
    "compare --json",
    "show 3f9d4d5e",
    "once --dry-run",
    "watch --duration 1",
    "demo --duration 1",
    "--help",
    "check --help",
    "--version",
]


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_a_pipe_that_nobody_reads_has_a_status_of_its_own(healthy: Place, command: str):
    reader, writer = os.pipe()
    os.close(reader)
    done = in_a_shell(healthy, f"{of_a_kernel(healthy, command)} >&{writer}", pass_fds=[writer])
    os.close(writer)
    assert (done.returncode, said(done)) == (141, [])


@pytest.mark.parametrize("command", EVERY_COMMAND)
def test_a_closed_output_is_one_that_nobody_wants(healthy: Place, command: str):
    done = in_a_shell(healthy, f"{of_a_kernel(healthy, command)} >&-")
    status = 1 if "compare" in command else 0  # it has nothing to compare
    told = said(done)
    if command.startswith("demo"):  # a cycle of its one second may fail on a busy machine
        told = [line for line in told if not line.startswith("prometheus: ")]
    assert (done.returncode, done.stdout, told) == (status, "", [])


def test_a_command_whose_every_stream_is_closed_has_its_status(healthy: Place):
    url = f"http://{HOST}:{NOWHERE}"
    assert in_a_shell(healthy, "check <&- >&- 2>&-", prometheus__url=url).returncode == 1
    assert in_a_shell(healthy, "check --settings <&- >&- 2>&-").returncode == 0
    assert in_a_shell(healthy, "check >&- 2>&-", redis__url="redis:1").returncode == 2


def of_a_kernel(place: Place, command: str) -> str:
    return command.replace("3f9d4d5e", place.cluster.ids[0])


def in_a_shell(place: Place, command: str, pass_fds: Sequence[int] = (), **settings: object):
    env = environment(place.prometheus.url, **{"redis__url": place.redis.url, **settings})
    return subprocess.run(
        ["/bin/bash", "-c", f"{sys.executable} -m poller {command}"],
        env=env, cwd=os.sep, capture_output=True, text=True, timeout=60, pass_fds=pass_fds,
    )  # fmt: skip


def said(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what a command said on standard error, but for where its settings are."""
    return [line for line in done.stderr.splitlines() if not line.startswith("settings: /")
            and not line.startswith("settings: no file")]  # fmt: skip


@pytest.mark.parametrize("command", ["check", "show 3f9d4d5e", "once --dry-run", "--help"])
def test_a_device_without_room_is_said_in_one_line(healthy: Place, command: str):
    done = in_a_shell(healthy, f"{of_a_kernel(healthy, command)} > /dev/full")
    told = ["the output cannot be written: No space left on device"]
    assert (done.returncode, said(done)) == (1, told)


def test_settings_are_valid_only_if_their_secrets_can_be_read(healthy: Place):
    done = healthy.run("check", redis__password_file="/nowhere/password")
    assert done.returncode == 3
    assert "settings: redis.password_file: /nowhere/password" in done.stderr
    assert "valid" not in done.stdout
