"""The README's own steps: its user, its least settings and its unit fit together and work."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from poller import environment
from tests.support.command import ROOT, poller
from tests.support.command import environment as clean
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis
from tests.support.world import World

README = (ROOT / "README.md").read_text("utf-8")
UNIT = (ROOT / "poller" / "deploy" / "livestat-poller.service").read_text("utf-8")
SECRET = "tr0ub4dor"


def acl(text: str) -> str:
    """Return what a text says after `ACL SETUSER`."""
    found = re.search(r"^    ACL SETUSER (.+)$", text, re.MULTILINE)
    assert found
    return found[1]


def least_settings() -> str:
    """Return the README's example of settings."""
    block = README.partition("The least that a real installation sets:\n\n")[2]
    lines = block.splitlines()
    end = next(place for place, line in enumerate(lines) if line and not line.startswith("    "))
    return "\n".join(line.removeprefix("    ") for line in lines[:end])


@pytest.fixture
def guarded() -> Iterator[Redis]:
    with Redis(acl=f"user default off\nuser {acl(README).replace('PASSWORD', SECRET)}") as server:
        yield server


def test_the_readmes_user_and_settings_reach_a_guarded_redis(
    guarded: Redis, tmp_path: Path
) -> None:
    world = World(2)
    password = tmp_path / "redis-password"
    password.write_text(SECRET + "\n")
    with ScriptedPrometheus(world.handler) as prometheus:
        text = least_settings()
        text = text.replace("http://prometheus.example:9090", prometheus.url)
        text = text.replace("redis.example:6379", f"127.0.0.1:{guarded.port}")
        text = text.replace("/etc/livestat-poller/redis-password", str(password))
        (tmp_path / "config.toml").write_text(text)
        assert poller("once", env=clean(), cwd=tmp_path).returncode == 0
        done = poller("check", env=clean(), cwd=tmp_path)
        assert "ok   rights: keys may be read and written" in done.stdout, done.stdout
        assert "fail" not in done.stdout
    assert guarded.command("EXISTS", *world.ids) == 2


def test_another_database_takes_the_right_that_the_readme_names(guarded: Redis) -> None:
    (right,) = re.findall(r"database other than 0 takes `(\+\w+)`", README)
    world, user = World(2), acl(README).split()[0]
    with ScriptedPrometheus(world.handler) as prometheus:
        url = f"redis://{user}:{SECRET}@127.0.0.1:{guarded.port}/3"
        env = clean(prometheus.url, url)
        refused = poller("once", env=env)
        assert refused.returncode == 1
        assert "may not run SELECT" in refused.stderr
        guarded.command("ACL", "SETUSER", user, right)
        assert poller("once", env=env).returncode == 0


def test_the_user_has_one_name_everywhere() -> None:
    name = tomllib.loads(least_settings())["redis"]["username"]
    tests = (ROOT / "tests" / "README.md").read_text("utf-8")
    assert acl(README).split()[0] == acl(tests).split()[0] == name
    assert acl(README) == acl(tests)


def test_the_unit_hands_over_the_secret_that_the_readme_names() -> None:
    path = tomllib.loads(least_settings())["redis"]["password_file"]
    assert f"\nLoadCredential=redis-password:{path}\n" in UNIT
    (variable, value), *_ = re.findall(r"^Environment=(\w+)=(\S+)$", UNIT, re.MULTILINE)
    assert variable == environment.variable("redis", "password_file")
    assert value == "%d/redis-password"


def test_the_unit_names_a_document_that_deploy_files_puts_there() -> None:
    (path,) = re.findall(r"^Documentation=file:(\S+)$", UNIT, re.MULTILINE)
    assert path == "/etc/livestat-poller/README.md"


def test_the_readme_shows_the_demo_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    shown = re.findall(
        r"^    poller +real, livestat-poller (\S+), a cycle every 1 s$", README, re.M
    )
    assert shown == [project["version"]]


def test_the_readme_knows_the_demos_greatest_size() -> None:
    (most,) = re.findall(r"`--kernels N` makes the cluster larger \(at most (\d+)\)", README)
    assert poller("demo", "--kernels", str(int(most) + 1), env=clean()).returncode == 2
    done = poller("demo", "--help", env=clean())
    assert f"1<=x<={most}" in done.stdout
