"""How old a key may be that somebody still writes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from poller.commands.freshness import AGENTS_TTL_S, lately_s, written_lately
from poller.config import Config
from poller.rounds.exporter import ExporterState

EXPORTER = ExporterState("a:1", "i-a", None, None, None, None, None, False, False, None)


def config(interval_s: float) -> Config:
    return Config(poll={"interval_s": interval_s})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("poll_s", "measured_s", "within_s"),
    [
        (5.0, (), 60.0),  # nobody knows the agents' interval: the default is 30 s, twice
        (5.0, (10.0, 45.0), 90.0),  # the slowest agent's rounds
        (5.0, (None, 10.0), 60.0),
        (40.0, (10.0,), 120.0),  # three polls
    ],
)
def test_a_key_is_fresh_for_three_polls_or_two_rounds(
    poll_s: float, measured_s: Any, within_s: float
):
    exporters = [replace(EXPORTER, interval_s=one) for one in measured_s]
    assert lately_s(config(poll_s), exporters) == within_s


def test_keys_have_the_ttl_of_the_poller_or_that_of_agents():
    ttl_s = 3600
    theirs_s = ttl_s - AGENTS_TTL_S  # what is reckoned of a key that an agent wrote just now
    ages = {"ours": 5.0, "old": 61.0, "theirs": theirs_s + 7.0, "theirs, old": theirs_s + 61.0}
    assert written_lately(ages, ttl_s, 60.0) == {"ours": 5.0, "theirs": pytest.approx(7.0)}


def test_where_both_ttls_are_the_same_an_age_is_what_it_is():
    assert written_lately({"a": 0.0, "b": 59.9, "c": 60.0}, AGENTS_TTL_S, 60.0) == {
        "a": 0.0,
        "b": 59.9,
    }
