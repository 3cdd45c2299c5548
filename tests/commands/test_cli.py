"""Commands for people, run as processes: output, exit status, and what is in the keys after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import msgpack
import pytest

from tests.support.command import environment, poller
from tests.support.servers import Prometheus, Redis, free_port
from tests.support.vectors import Vector


@dataclass
class Place:
    """A recorded run in a real Prometheus, and a real Redis."""

    vector: Vector
    prometheus: Prometheus
    redis: Redis

    @property
    def at(self) -> str:
        return repr(self.vector.snapshot("moving")["time"])

    @property
    def agents_values(self) -> dict[str, bytes]:
        kernels = self.vector.snapshot("moving")["kernels"]
        return {name: bytes.fromhex(one["value_hex"]) for name, one in kernels.items()}

    def env(self, **settings: object) -> dict[str, str]:
        return environment(
            self.prometheus.url, self.redis.url, format__profile=self.vector.profile, **settings
        )

    def run(self, *arguments: str, **settings: object):
        return poller(*arguments, env=self.env(**settings))

    def keys(self) -> dict[str, bytes]:
        """Return what is there, but for a lease that was given up."""
        with self.redis.client() as client:
            found = {key.decode(): client.get(key) for key in client.keys("*")}
        return {key: value for key, value in found.items() if value}

    def put(self, values: dict[str, bytes], ttl_s: int = 86_400) -> None:
        with self.redis.client() as client:
            for key, value in values.items():
                client.set(key, value, ex=ttl_s)


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[Place]:
    vector = Vector("agent-26.9", tmp_path_factory.mktemp("vectors"))
    with Prometheus(samples=vector.samples) as prometheus, Redis() as redis:
        yield Place(vector, prometheus, redis)


@pytest.fixture
def place(world: Place) -> Place:
    world.redis.command("FLUSHALL")
    return world


def test_a_dry_run_prints_the_kernels_and_writes_nothing(place: Place):
    done = place.run("once", "--time", place.at, "--dry-run")
    assert done.returncode == 0
    printed = json.loads(done.stdout)
    for kernel, value in place.agents_values.items():
        assert list(printed[kernel]) == list(msgpack.unpackb(value))
    assert not place.keys()


def test_a_dry_run_needs_no_store(place: Place):
    env = environment(place.prometheus.url, f"redis://127.0.0.1:{free_port()}/0")
    done = poller("once", "--time", place.at, "--dry-run", env=env)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)) == 4
    assert "what older keys know is left out" in done.stderr


def test_only_the_kernels_asked_for_are_written_and_one_without_samples_is_empty(place: Place):
    one = min(place.agents_values)
    none = "00000000-0000-4000-8000-000000000000"
    asked = ["--kernel", one, "--kernel", none, "--kernel", one.upper()]
    done = place.run("once", "--time", place.at, "--dry-run", *asked)
    printed = json.loads(done.stdout)
    assert list(printed) == [one, none]
    assert [kernel for kernel, stat in printed.items() if stat] == [one]
    assert done.returncode == 1
    done = place.run("once", "--time", place.at, *asked)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1, f"{none}: Prometheus holds no such kernel"
    )  # fmt: skip
    assert "\n1 of 1 kernel written\n" in done.stderr
    assert place.keys().keys() == {one}


def test_once_fails_where_there_is_no_kernel_unless_that_is_in_order(place: Place):
    with Prometheus() as empty:
        for more in ([], ["--dry-run"]):
            done = place.run("once", *more, prometheus__url=empty.url)
            assert done.returncode == 1
            assert "no kernel at all; if the cluster is empty, say --allow-empty" in done.stderr
            allowed = place.run("once", *more, "--allow-empty", prometheus__url=empty.url)
            assert allowed.returncode == 0
            assert "no kernel at all" not in allowed.stderr
    assert not place.keys()


def test_once_fails_where_nothing_was_written_and_kernels_are_withheld(place: Place):
    kernels = list(place.agents_values)
    with place.redis.client() as client:
        for kernel in kernels:
            client.rpush(kernel, "another's")
    done = place.run("once", "--time", place.at, "--dry-run")
    assert (done.returncode, json.loads(done.stdout)) == (1, {})
    done = place.run("once", "--time", place.at)
    assert done.returncode == 1
    assert f"{len(kernels)} kernels withheld: foreign" in done.stderr
    place.redis.command("DEL", kernels[0])
    assert place.run("once", "--time", place.at).returncode == 0


@pytest.mark.parametrize("command", ["once", "compare"])
@pytest.mark.parametrize(
    ("at", "told"),
    [
        ("nan", "is no finite number"),
        ("inf", "is no finite number"),
        ("-1", "not in the range"),
        ("1732600000000", "milliseconds"),
        ("x", "is not a valid float"),
    ],
)
def test_a_time_that_cannot_be_is_refused(command: str, at: str, told: str):
    done = poller(command, "--time", at, env=environment())
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["watch", "demo"])
@pytest.mark.parametrize("duration", ["nan", "inf", "-1"])
def test_a_duration_that_cannot_be_is_refused(command: str, duration: str):
    done = poller(command, "--duration", duration, env=environment())
    assert done.returncode == 2
    assert "--duration" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_cycle_exits_1_and_leaves_every_key_as_it_was(place: Place):
    before = dict.fromkeys(place.agents_values, b"as it was")
    place.put(before)
    done = place.run("once", prometheus__url=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "\nprometheus: connection refused" in done.stderr
    assert place.keys() == before


def test_bad_settings_exit_2_before_anything_is_written(place: Place, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[poll]\ninterval = 5\n")
    for command in ("once", "check", "run", "compare"):
        done = place.run("--config", str(path), command)
        assert done.returncode == 2, command
        assert "poll.interval: no such setting" in done.stderr
        assert "Traceback" not in done.stderr
    assert not place.keys()


def test_the_settings_may_stand_behind_the_command_too(place: Place, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text('[redis]\nkey_prefix = "a:"\n')
    assert place.run("once", "--config", str(path), "--time", place.at).returncode == 0
    assert {key[:2] for key in list(place.keys())} == {"a:"}


def test_a_poller_that_writes_keeps_once_from_writing(place: Place):
    place.put({"livestat-poller:leader": b"another-host:1:abc"})
    done = place.run("once", "--time", place.at)
    assert done.returncode == 1
    assert "another-host:1:abc writes these keys" in done.stderr
    assert place.keys().keys() == {"livestat-poller:leader"}


def test_check_tells_what_it_found_and_writes_nothing(place: Place):
    assert place.run("check").returncode == 1
    done = place.run("check", "--allow-empty")
    assert done.returncode == 0, done.stdout
    levels = {line.split(":")[0].split()[1]: line.split()[0] for line in done.stdout.splitlines()
              if line[:4] in ("ok  ", "warn", "fail")}  # fmt: skip
    assert levels["settings"] == levels["prometheus"] == levels["redis"] == levels["rights"] == "ok"
    assert levels["kernels"] == "ok"  # the recording ended long ago
    assert "Prometheus 2." in done.stdout
    assert "Redis " in done.stdout or "Valkey " in done.stdout
    assert not place.keys()


def test_check_fails_where_a_server_is_down_and_still_looks_at_the_other(place: Place):
    done = place.run("check", prometheus__url=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert "fail prometheus: connection refused" in done.stdout
    assert "ok   redis:" in done.stdout
    done = place.run("check", redis__url=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 1
    assert "fail redis:" in done.stdout
    assert "ok   prometheus:" in done.stdout


def test_compare_finds_nothing_beside_the_agents_own_keys(place: Place):
    """While kernels move, the agent is up to one measurement ahead of the latest scrape."""
    place.put(place.agents_values)
    done = place.run("compare", "--time", place.at)
    assert done.returncode == 0, done.stdout
    assert "4 kernels: nothing differs" in done.stdout
    assert "4 keys were written lately" in done.stdout
    assert "1 agent does not count writes: i-rig01" in done.stdout
    assert place.keys() == place.agents_values


def test_compare_finds_what_differs_is_missing_or_extra(place: Place):
    values = place.agents_values
    kernel = min(values)
    stat = msgpack.unpackb(values[kernel])
    stat["mem"]["capacity"] = "1"
    stat["acme_heat"] = {"current": "7", "capacity": "7", "pct": "100", "unit_hint": "count"}
    del stat["net_rx"]
    values[kernel] = msgpack.packb(stat)
    place.put(values)
    done = place.run("compare", "--time", place.at, "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    told = {(one["metric"], one["field"]): one for one in found["fields"]
            if one["verdict"] in ("different", "missing", "extra")}  # fmt: skip
    assert {one["kernel"] for one in told.values()} == {kernel}
    assert told["mem", "capacity"]["verdict"] == "different"
    assert told["mem", "capacity"]["theirs"] == "1"
    assert told["acme_heat", "current"]["verdict"] == "missing"
    assert told["net_rx", "current"]["verdict"] == "extra"
    assert {metric for metric, _ in told} == {"mem", "acme_heat", "net_rx"}


def test_compare_counts_keys_that_hold_no_live_stat_and_executes_nothing(place: Place):
    values = place.agents_values
    values[min(values)] = msgpack.packb({"mem": msgpack.ExtType(0x50, b"cos\nsystem\n(S'x'\ntR.")})
    place.put(values)
    done = place.run("compare", "--time", place.at, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["invalid"] == 1
    assert "\n1 key holds no valid live stat\n" in place.run("compare", "--time", place.at).stdout


def test_shadow_keys_are_written_beside_and_compared_with_the_real_ones(place: Place):
    place.put(place.agents_values)
    assert place.run("once", "--time", place.at, redis__key_prefix="shadow:").returncode == 0
    assert len(place.keys()) == 8
    done = place.run("compare", "--prefix", "shadow:", "--time", place.at)
    assert done.returncode == 0, done.stdout
    assert "4 kernels: nothing differs" in done.stdout
    done = place.run("compare", "--prefix", "other:", "--time", place.at)
    assert done.returncode == 1


def test_show_puts_both_sides_beside_each_other(place: Place):
    kernel = min(place.agents_values)
    place.put(place.agents_values, ttl_s=86_000)
    done = place.run("show", kernel, "--json")
    (shown,) = json.loads(done.stdout)
    assert shown["kernel"] == kernel
    assert shown["key"] == msgpack.unpackb(place.agents_values[kernel])
    assert shown["prometheus"] == {}
    assert shown["why"] == "no samples"
    assert 399 <= shown["age_s"] <= 410
    text = place.run("show", kernel).stdout
    assert kernel in text
    assert "not written now: no samples" in text


@pytest.mark.parametrize(
    "command", ["run", "once", "check", "compare", "show", "watch", "demo", "deploy-files"]
)
def test_every_command_has_help_with_an_example(command: str):
    done = poller(command, "--help", env=environment())
    assert done.returncode == 0
    assert "Example: livestat-poller" in " ".join(done.stdout.split())


def test_the_version_is_told():
    done = poller("--version", env=environment())
    assert done.returncode == 0
    assert done.stdout.startswith("livestat-poller, version ")


def test_completion_comes_from_click():
    env = environment() | {"_LIVESTAT_POLLER_COMPLETE": "bash_source"}
    done = poller(env=env)
    assert "complete" in done.stdout
