"""A key of another type over many cycles: left alone, looked at again, written once it is gone."""

from __future__ import annotations

import pytest

from poller import config
from poller.poll import assembly
from poller.poll.publish import AGAIN_INTERVALS
from tests.commands.cluster import Place

INTERVAL_S = 5.0


async def test_a_key_of_another_type_that_was_deleted_is_written_again(
    healthy: Place, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("POLLER_PROMETHEUS__URL", healthy.prometheus.url)
    monkeypatch.setenv("POLLER_REDIS__URL", healthy.redis.url)
    kernel = healthy.cluster.ids[0]
    healthy.redis.command("RPUSH", kernel, "theirs")
    at = healthy.cluster.now
    async with assembly.cycle(config.load(None), assembly.Choice(wait=True)) as cycle:
        for number in range(AGAIN_INTERVALS + 2):
            outcome = await cycle.poll(at=at + number * INTERVAL_S)
            assert outcome.withheld == {kernel: "foreign"}
            assert outcome.foreign_kernels == (kernel,)
        healthy.redis.command("DEL", kernel)
        for number in range(AGAIN_INTERVALS):
            outcome = await cycle.poll(at=at + (AGAIN_INTERVALS + 2 + number) * INTERVAL_S)
            if not outcome.withheld:
                break
        assert (outcome.written, outcome.foreign, outcome.foreign_kernels) == (4, 0, ())
        assert not outcome.failed
