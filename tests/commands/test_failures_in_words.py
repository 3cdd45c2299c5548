"""Failures as people read them: whole words, the address that was tried, and no credentials."""

from __future__ import annotations

import os
import subprocess
import sys

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
        nodes = ",".join(f"{host}:{port}" for host, port in cluster.addresses)
        url = f"redis+cluster://{nodes}"
        done = healthy.run("check", redis__url=url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert lines(done.stdout, "keys")[-1] == "ok: none is written that Prometheus does not know"
        strangers = [f"00000000-0000-4000-8000-{number:012d}" for number in range(30)]
        host, port = cluster.addresses[0]
        client = redis.RedisCluster(host=host, port=port)
        for kernel in strangers:
            client.set(kernel, b"x", ex=86_400)
        client.close()
        assert "30 that somebody writes" in healthy.run("check", redis__url=url).stdout


@pytest.mark.parametrize("command", ["check", "compare", "watch --duration 3"])
def test_a_reader_that_goes_away_ends_it_quietly(healthy: Place, command: str):
    env = environment(healthy.prometheus.url, healthy.redis.url)
    line = f"{sys.executable} -m poller {command} | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", line], env=env, cwd=os.sep, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert [line for line in done.stderr.splitlines() if not line.startswith("settings: ")] == []
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("command", ["check", "show", "once --dry-run", "--help"])
def test_a_device_without_room_is_said_in_one_line(healthy: Place, command: str):
    env = environment(healthy.prometheus.url, healthy.redis.url)
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m poller {command} > /dev/full"],
        env=env, cwd=os.sep, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if not line.startswith("settings: ")]
    assert (done.returncode, said) == (1, ["the output cannot be written: No space left on device"])


def test_settings_are_valid_only_if_their_secrets_can_be_read(healthy: Place):
    done = healthy.run("check", redis__password_file="/nowhere/password")
    assert done.returncode == 3
    assert "settings: redis.password_file: /nowhere/password" in done.stderr
    assert "valid" not in done.stdout
