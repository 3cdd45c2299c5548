"""`compare` beside agents not scraped, kernels withheld, and keys that are not there."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.cluster import Agent, Place, placed

STRANGER = "00000000-0000-4000-8000-000000000000"
AHEAD_S = 7.0
"""More than a measurement, which is every 5 s."""


@pytest.fixture
def leaping(tmp_path: Path) -> Iterator[Place]:
    """An agent whose kernels are much larger after each measurement."""
    with placed(tmp_path, Agent("i-one", leaps=True)) as place:
        yield place


def test_keys_unknown_to_prometheus_are_named_and_fail(healthy: Place):
    assert healthy.run("once").returncode == 0
    assert healthy.run("compare").returncode == 0
    healthy.put(STRANGER)
    done = healthy.run("compare")
    assert done.returncode == 1
    assert f"1 key that somebody writes is unknown to Prometheus: {STRANGER}" in done.stdout
    found = json.loads(healthy.run("compare", "--json").stdout)
    assert found["differs"]
    assert found["unknown_to_prometheus"] == [STRANGER]


def test_asked_for_some_kernels_it_looks_at_no_others(healthy: Place):
    assert healthy.run("once").returncode == 0
    healthy.put(STRANGER)
    done = healthy.run("compare", "--kernel", healthy.cluster.ids[0][:8])
    assert done.returncode == 0, done.stdout
    assert "1 kernel: nothing differs" in done.stdout


def test_kernels_whose_keys_nobody_would_write_differ(mixed: Place):
    assert mixed.run("once").returncode == 0
    done = mixed.run("compare")
    assert done.returncode == 1
    names = ", ".join(sorted(mixed.agent("i-nomem").ids))
    assert f"would be left as they are now: incomplete, without mem: {names}" in done.stdout
    assert "1 of 6 agents still tries to write: i-writes" in done.stdout
    found = json.loads(mixed.run("compare", "--json").stdout)
    assert found["withheld"] == {"incomplete": 2, "stalled": 2}
    assert found["missing"] == {kernel: ["mem"] for kernel in mixed.agent("i-nomem").ids}
    assert found["agents_writing"] == ["i-writes"]
    assert found["agents_untold"] == ["i-old", "i-stalled"]


def test_a_missing_key_takes_one_line(healthy: Place):
    first, *others = sorted(healthy.cluster.ids)
    assert healthy.run("once").returncode == 0
    healthy.redis.command("DEL", first)
    done = healthy.run("compare")
    assert done.returncode == 1
    assert done.stdout.count(first) == 1
    found = json.loads(healthy.run("compare", "--json").stdout)
    (one,) = [field for field in found["fields"] if field["verdict"] == "extra"]
    assert (one["kernel"], one["metric"]) == (first, "(whole key)")


def test_a_kernel_that_nobody_knows_is_named(healthy: Place):
    told = f"unknown: neither Prometheus nor a key tells of {STRANGER}"
    for more in ((), ("--allow-empty",), ("--prefix", "shadow:")):
        done = healthy.run("compare", "--kernel", STRANGER, *more)
        assert done.returncode == 1
        assert "0 kernels: there is nothing to compare\n" in done.stdout
        assert told in done.stdout
        assert "--allow-empty" not in done.stdout
    assert healthy.run("once").returncode == 0
    known = healthy.cluster.ids[0]
    done = healthy.run("compare", "--kernel", known, "--kernel", STRANGER)
    assert done.returncode == 1
    assert told in done.stdout
    assert "1 kernel: " in done.stdout
    found = healthy.run("compare", "--json", "--kernel", known, "--kernel", STRANGER)
    assert json.loads(found.stdout)["unknown"] == [STRANGER]


def test_keys_newer_than_what_was_scraped_are_looked_at_again(leaping: Place):
    ahead = ("once", "--time", repr(time.time() + AHEAD_S))
    assert leaping.run(*ahead).returncode == 0
    first = leaping.run("compare", "--time", repr(time.time()))
    assert first.returncode == 1
    assert first.stderr.count("\n") == 1  # at an instant there is one look
    done = leaping.run("compare", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert not found["differs"]
    assert found["looks"] > 1
    told = "2 kernels differ; keys may be newer than what Prometheus has scraped: looking again for"
    assert f"{told} at most 14 s\n" in done.stderr


def test_what_is_really_different_differs_in_every_look(leaping: Place):
    ahead = ("once", "--time", repr(time.time() + AHEAD_S))
    assert leaping.run(*ahead, format__profile="26.9").returncode == 0
    done = leaping.run("compare", "--json", format__profile="classic")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert found["looks"] > 5
    assert {
        (one["metric"], one["kernel"])
        for one in found["fields"]
        if one["verdict"] not in ("equal", "within")
    } == {("cpu_util", kernel) for kernel in leaping.cluster.ids}
