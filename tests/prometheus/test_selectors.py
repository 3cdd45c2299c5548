"""Query text: escaping, scopes, shards, slices."""

from __future__ import annotations

import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.prometheus import selectors
from poller.prometheus.selectors import Scope
from tests.support.examples import examples


def unquoted(literal: str) -> str:
    """Read a PromQL string literal back, by the rules of Go's double quotes."""
    assert literal[0] == literal[-1] == '"'
    return re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), literal[1:-1])


@examples(100)
@given(st.text())
def test_any_id_reaches_the_server_as_itself(text: str):
    pattern = unquoted(selectors.quoted(selectors.escaped(text)))
    assert re.fullmatch(pattern, text, re.DOTALL)
    assert not re.fullmatch(pattern, text + "x", re.DOTALL)


def test_ids_are_escaped_in_the_selector():
    text = selectors.selector("mem", "current", Scope(kernels=('a"} or vector(1) #', "b.c")))
    assert text == (
        'backendai_container_utilization{container_metric_name="mem",value_type="current",'
        'kernel_id=~"a\\"\\\\} or vector\\\\(1\\\\) #|b\\\\.c"}'
    )


def test_no_list_of_ids_is_needed_for_all_kernels():
    assert "kernel_id=" not in selectors.selector("mem", "current")


def test_exporters_narrow_a_scope_and_none_of_them_is_no_kernel():
    narrowed = selectors.shard(0, 16).on(["b:1", 'a"'])
    assert narrowed.matcher() == ',kernel_id=~"(?:[0]).*",instance=~"a\\"|b:1"'
    assert selectors.EVERYTHING.on(None).matcher() == ""
    assert selectors.EVERYTHING.on([]).matcher() == ',instance=~""'


def test_samples_are_the_raw_ones_of_some_metrics_of_some_exporters():
    scope = Scope(instances=("10.0.0.1:6003",))
    assert selectors.samples(["mem", "x.y"], 6.0, scope) == (
        'backendai_container_utilization{container_metric_name=~"mem|x\\\\.y",'
        'value_type="current",instance=~"10\\\\.0\\\\.0\\\\.1:6003"}[6000ms]'
    )


def test_durations_are_whole_milliseconds_and_never_nothing():
    assert [selectors.duration(seconds) for seconds in (25.0, 0.7, 0.00001)] == [
        "25000ms",
        "700ms",
        "1ms",
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 16, 17, 100, 256])
def test_shards_are_disjoint_and_add_up_to_the_whole(count: int):
    ids = [str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))
           for number in range(2000)]  # fmt: skip
    patterns = []
    for index in range(count):
        matcher = selectors.shard(index, count).matcher()
        patterns.append(re.compile(unquoted(matcher.partition("=~")[2]) if matcher else ".*"))
    for kernel in ids:
        assert sum(pattern.fullmatch(kernel) is not None for pattern in patterns) == 1


@pytest.mark.parametrize("slices", [2, 3, 16, 20])
@pytest.mark.parametrize(
    "scope", [selectors.EVERYTHING, selectors.shard(1, 4), selectors.shard(2, 100)]
)
def test_slices_of_a_scope_are_disjoint_and_add_up_to_it(scope: Scope, slices: int):
    whole = re.compile(unquoted(scope.matcher().partition("=~")[2]) if scope.matcher() else ".*")
    parts = [re.compile(unquoted(part.matcher().partition("=~")[2]))
             for part in selectors.sliced(scope, slices)]  # fmt: skip
    assert len(parts) >= min(slices, 3)
    for number in range(2000):
        kernel = str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128))
        hits = sum(part.fullmatch(kernel) is not None for part in parts)
        assert hits == (1 if whole.fullmatch(kernel) else 0)
