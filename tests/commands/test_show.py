"""`show`: one kernel from both sides, and how it is known."""

from __future__ import annotations

import json
import re

import msgpack

from tests.commands.cluster import Place

NOBODY = "00000000-0000-4000-8000-000000000000"


def test_a_kernel_that_is_withheld_tells_which_metric_is_missing(mixed: Place):
    kernel = mixed.agent("i-nomem").ids[0]
    done = mixed.run("show", kernel)
    assert done.returncode == 0
    assert "not written now: incomplete: Prometheus has no mem of it" in done.stdout
    (one,) = json.loads(mixed.run("show", kernel, "--json").stdout)
    assert one["missing"] == ["mem"]


def test_a_kernel_that_is_withheld_shows_what_prometheus_has(mixed: Place):
    there = {"cpu_used", "cpu_util", "io_read", "net_rx"}
    kernel = mixed.agent("i-nomem").ids[0]
    key = {"mem": {"current": "77", "capacity": "99", "unit_hint": "bytes"}}
    mixed.put(kernel, value=msgpack.packb(key))
    (one,) = json.loads(mixed.run("show", kernel, "--json").stdout)
    assert one["why"] == "incomplete"
    assert one["prometheus"].keys() >= there
    assert "mem" not in one["prometheus"]  # though the key has it
    assert one["key"] == key
    assert re.search(r"^ mem +current +- +77 *$", mixed.run("show", kernel).stdout, re.MULTILINE)
    for name, why in (("i-stalled", "stalled"), ("i-silent", None)):
        (one,) = json.loads(mixed.run("show", mixed.agent(name).ids[0], "--json").stdout)
        assert (one["why"], one["key"]) == (why, {})
        assert one["prometheus"].keys() >= there | {"mem"}, name


def test_the_exporters_clock_is_told(mixed: Place):
    done = mixed.run("show", mixed.agent("i-writes").ids[0])
    assert "agent i-writes at 10.0.0.0:6003: rounds by gather_measures every 5 s" in done.stdout
    done = mixed.run("show", mixed.agent("i-stalled").ids[0])
    assert "and stands still" in done.stdout


def test_a_kernel_that_nobody_knows_exits_1(healthy: Place):
    done = healthy.run("show", NOBODY)
    assert done.returncode == 1
    assert "unknown: neither Prometheus nor a key tells of it" in done.stdout
    assert healthy.run("show", NOBODY, "--json").returncode == 1
    healthy.put(NOBODY)
    done = healthy.run("show", NOBODY)
    assert done.returncode == 0
    assert "the key holds no live stat" in done.stdout


def test_a_key_of_another_type_is_told(healthy: Place):
    kernel = healthy.cluster.ids[0]
    healthy.redis.command("RPUSH", kernel, "1")
    done = healthy.run("show", kernel)
    assert "the key holds another type than string" in done.stdout
    assert "not written now: foreign" in done.stdout
