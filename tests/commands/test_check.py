"""`check`: what would be left behind, who writes, what is withheld and why."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from poller.commands import prometheus_findings
from poller.commands.prometheus_findings import WITHHELD, how_often
from poller.poll.withhold import REASONS
from tests.commands.cluster import LOSES_SOON, Agent, Place, lines, placed
from tests.support.lives import stored_in_parts
from tests.support.servers import HOST, Prometheus, Redis, free_port

STRANGERS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(7)]
LEASE = "livestat-poller:leader"


def test_a_healthy_cluster_is_well(healthy: Place):
    done = healthy.run("check")
    assert done.returncode == 0, done.stdout
    (told,) = lines(done.stdout, "kernels")
    assert told.startswith("ok: 4 active, metrics: ")
    names = told.partition("metrics: ")[2].split(", ")
    assert names == sorted(names)
    assert lines(done.stdout, "rounds") == ["ok: 2 exporters: 2 by gather_measures every 5 s"]
    assert lines(done.stdout, "withheld") == ["ok: no kernel"]


def test_every_prometheus_is_looked_at(healthy: Place):
    first = healthy.prometheus.url
    nobody, same = f"http://{HOST}:{free_port()}", first.replace(HOST, "localhost")
    with Prometheus() as empty:
        done = healthy.run("check", prometheus__fallback_urls=json.dumps([same, empty.url]))
        assert done.returncode == 0, done.stdout
        assert lines(done.stdout, "prometheus")[1:] == [
            f"ok: {same} knows of 4 kernels too",
            f"warn: {empty.url} knows of 0 kernels, {first} of 4",
        ]
    done = healthy.run(
        "check", prometheus__url=nobody, prometheus__fallback_urls=json.dumps([first])
    )
    assert done.returncode == 0, done.stdout
    answers, passed_over = lines(done.stdout, "prometheus")
    assert answers.endswith(f" answers at {first}")
    assert passed_over == f"warn: connection refused ({nobody})"


def test_keys_that_somebody_writes_and_prometheus_does_not_know_fail(healthy: Place):
    healthy.put(*STRANGERS, *healthy.cluster.ids)
    done = healthy.run("check")
    assert done.returncode == 1
    (told,) = [line for line in lines(done.stdout, "keys") if "unknown" in line]
    named = ", ".join(STRANGERS[:5])
    assert told == (f"fail: 7 that somebody writes are unknown to Prometheus: {named} and 2 more")


def test_keys_that_nobody_writes_any_more_and_others_are_no_strangers(healthy: Place):
    healthy.put(STRANGERS[0], age_s=3600)
    healthy.put("i-agent", "computer.metadata", "a" * 64, STRANGERS[1].replace("0000", "000G"))
    with healthy.redis.client() as client:
        client.set(STRANGERS[2], b"somebody else's", ex=7 * 86_400)
        client.set(STRANGERS[3], b"without a TTL")
    assert healthy.run("check").returncode == 0


def test_agents_keys_are_known_by_their_own_ttl(healthy: Place):
    healthy.put(STRANGERS[0])
    assert healthy.run("check", redis__ttl_s=600).returncode == 1


def test_many_keys_are_looked_through_in_portions(healthy: Place):
    many = [f"11111111-1111-4111-8111-{number:012d}" for number in range(4000)]
    with healthy.redis.client() as client:
        pipe = client.pipeline(transaction=False)
        for kernel in many:
            pipe.set(kernel, b"x", ex=86_400)
        pipe.execute()
    assert "4000 that somebody writes" in healthy.run("check").stdout


def test_the_real_keys_are_looked_through_under_a_prefix_too(healthy: Place):
    healthy.put(STRANGERS[0])
    done = healthy.run("check", redis__key_prefix="shadow:")
    assert done.returncode == 1
    assert "none is written under shadow: that" in done.stdout
    assert "1 that somebody writes is unknown" in done.stdout


def test_a_shard_looks_at_its_own_kernels_only(healthy: Place):
    healthy.put(STRANGERS[0])
    done = healthy.run("check", shard__index=0, shard__count=16)
    assert "unknown to Prometheus: " in done.stdout
    done = healthy.run("check", shard__index=1, shard__count=16)
    assert "unknown to Prometheus: " not in done.stdout


def test_a_kernel_of_another_shard_is_not_written_by_hand(healthy: Place):
    kernel = healthy.cluster.ids[0]
    its, other = int(kernel[0], 16), (int(kernel[0], 16) + 1) % 16
    done = healthy.run("once", "--kernel", kernel, shard__index=other, shard__count=16)
    assert done.returncode == 2
    assert f"shard.index: {kernel} is another shard's to write" in done.stderr
    assert healthy.redis.command("EXISTS", kernel) == 0
    dry = healthy.run("once", "--dry-run", "--kernel", kernel, shard__index=other, shard__count=16)
    assert dry.returncode == 0
    done = healthy.run("once", "--kernel", kernel, shard__index=its, shard__count=16)
    assert done.returncode == 0
    assert healthy.redis.command("EXISTS", kernel) == 1


def test_without_the_right_to_scan_it_says_so_and_does_not_fail(healthy: Place):
    rules = (
        "user poller on >secret resetkeys ~????????-????-????-????-???????????? "
        f"~{LEASE} resetchannels -@all +get +set +pttl +time +eval +watch +multi +exec"
    )
    with Redis(acl=f"user default off\n{rules}") as redis:
        url = redis.url.replace("redis://", "redis://poller:secret@")
        done = healthy.run("check", redis__url=url)
        assert done.returncode == 0, done.stdout
        (told,) = lines(done.stdout, "keys")[1:]
        assert told.startswith("warn: those that Prometheus does not know cannot be looked for")
        assert "+scan" in done.stdout
        done = healthy.run("compare", redis__url=url)
        assert "no right to SCAN" in done.stdout


def test_no_kernel_at_all_fails_unless_that_is_in_order(healthy: Place):
    with Prometheus() as empty:
        for command in ("check", "compare"):
            settings = {"prometheus__url": empty.url}
            done = healthy.run(command, **settings)
            assert done.returncode == 1, done.stdout
            assert "--allow-empty" in done.stdout
            assert healthy.run(command, "--allow-empty", **settings).returncode == 0
            healthy.put(STRANGERS[0])
            assert healthy.run(command, "--allow-empty", **settings).returncode == 1
            healthy.redis.command("FLUSHALL")


def test_who_writes_is_told_by_the_agents_own_counters(mixed: Place):
    told = (
        "warn: 1 of 6 agents still tries to write: i-writes; 1 agent does not count writes: i-old; "
        "1 agent stands still or is down: i-stalled"
    )
    assert lines(mixed.run("check").stdout, "writers") == [told]
    # Neither a lease nor its absence tells who writes.
    mixed.put(*mixed.cluster.ids)
    with mixed.redis.client() as client:
        client.set(LEASE, b"host:1:abc", ex=60)
    for settings in ({}, {"leader__enabled": "false"}):
        done = mixed.run("check", **settings)
        assert lines(done.stdout, "writers") == [told]
    assert "12 of 12 kernels were written" in done.stdout


def test_keys_that_once_wrote_are_no_sign_of_agents(healthy: Place):
    assert healthy.run("once").returncode == 0
    done = healthy.run("check")
    assert lines(done.stdout, "writers") == ["ok: 2 of 2 agents write no keys"]
    assert lines(done.stdout, "keys")[0].startswith("ok: 4 of 4 kernels were written")
    assert "still" not in healthy.run("compare").stdout


def test_how_often_an_agent_measures_is_told_in_words_where_it_is_not_known():
    assert [how_often(3.019), how_often(None)] == ["every 3.02 s", "at an interval not known yet"]


@pytest.mark.parametrize(("late_s", "levels"), [(5.0, ["warn"]), (0.0, [])])
async def test_scrapes_that_are_stored_in_parts_are_warned_of(
    late_s: float, levels: list[str], monkeypatch: pytest.MonkeyPatch
):
    lives = stored_in_parts(late_s)
    lives.until(302)

    async def sleep(seconds: float) -> None:
        if seconds:
            lives.until(302 + seconds)

    monkeypatch.setattr(prometheus_findings.asyncio, "sleep", sleep)
    await lives.cycle.compute()
    found = [one async for one in prometheus_findings.parts(lives.cycle)]
    assert [one.level for one in found] == levels
    assert all("set poll.query_offset_s = 6.5" in one.advice for one in found)


def test_check_knows_what_every_reason_to_withhold_a_kernel_means():
    assert WITHHELD.keys() == set(REASONS)


def test_withheld_kernels_are_listed_by_reason_and_missing_metric(mixed: Place):
    done = mixed.run("check")
    assert done.returncode == 1
    nomem, stalled = (", ".join(sorted(mixed.agent(name).ids)) for name in ("i-nomem", "i-stalled"))
    assert lines(done.stdout, "withheld") == [
        f"fail: 2 kernels incomplete, without mem: {nomem}",
        f"fail: 2 kernels stalled: {stalled}",
    ]
    assert lines(done.stdout, "agents") == [
        "fail: stand still while their exporters answer: i-stalled"
    ]


def test_nothing_is_concluded_where_prometheus_is_down(healthy: Place):
    healthy.put(*healthy.cluster.ids)
    done = healthy.run("check", prometheus__url=f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert not lines(done.stdout, "writers")
    assert not lines(done.stdout, "keys")
    assert lines(done.stdout, "redis")


def test_a_redis_that_refuses_every_write_fails_and_is_not_written_to(healthy: Place):
    with Redis() as other:
        other.command("REPLICAOF", HOST, healthy.redis.port)
        done = healthy.run("check", redis__url=other.url)
        assert done.returncode == 1
        assert lines(done.stdout, "rights") == [
            f"fail: the server is a replica and takes no writes ({other.url})"
        ]
        assert "-> point redis.url at the master" in done.stdout
        other.command("REPLICAOF", "NO", "ONE")
        other.command("CONFIG", "SET", "maxmemory", 1)
        done = healthy.run("check", redis__url=other.url)
        assert done.returncode == 1
        assert lines(done.stdout, "rights") == [f"fail: the server is out of memory ({other.url})"]
        assert "-> raise the server's maxmemory" in done.stdout
        assert other.command("DBSIZE") == 0


def test_agents_that_write_elsewhere_fail(mixed: Place):
    told = "fail: agents try to write, and 0 of 2 keys of theirs were written lately: i-writes"
    silent = mixed.agent("i-silent").ids
    mixed.put(*silent)  # whoever wrote those, it was not the agent that tries
    done = mixed.run("check")
    assert told in lines(done.stdout, "keys")
    assert "-> is this the agents' Redis, and the number of their database?" in done.stdout
    mixed.put(*mixed.agent("i-writes").ids, prefix="shadow:")
    assert told in lines(mixed.run("check", redis__key_prefix="shadow:").stdout, "keys")
    mixed.put(mixed.agent("i-writes").ids[0])
    assert told not in lines(mixed.run("check").stdout, "keys")


def test_one_of_a_kind_is_told_in_the_singular(healthy: Place):
    healthy.put(STRANGERS[0], healthy.cluster.ids[0])
    with healthy.redis.client() as client:
        client.set(healthy.cluster.ids[0], b"rubbish", ex=86_400)
    told = healthy.run("check").stdout
    assert "fail keys: 1 that somebody writes is unknown to Prometheus: " in told
    told = healthy.run("compare", "--time", str(healthy.cluster.now)).stdout
    assert "1 key that somebody writes is unknown to Prometheus: " in told
    assert "1 key holds no valid live stat" in told


def test_agents_that_write_nothing_are_no_contradiction(healthy: Place):
    done = healthy.run("check")
    assert done.returncode == 0
    assert lines(done.stdout, "keys")[0].startswith("ok: 0 of 4 kernels were written")


def test_an_agent_that_is_scraped_no_more_is_told_at_once(parted: Place):
    done = parted.run("check")
    assert lines(done.stdout, "agents") == ["warn: not scraped lately: i-gone"]
    assert lines(done.stdout, "writers") == [
        "warn: 1 of 2 agents still tries to write: i-here; 1 agent stands still or is down: i-gone"
    ]


def test_keys_still_written_after_prometheus_has_lost_them_fail(parted: Place):
    gone = sorted(parted.agent("i-gone").ids)
    parted.put(*parted.agent("i-here").ids, *gone)
    done = parted.run("check")
    assert done.returncode == 1
    told = f"2 left Prometheus less than 60 s ago and are still written: {', '.join(gone)}"
    assert f"fail: {told}" in lines(done.stdout, "keys")
    assert "look again in a minute" in done.stdout
    done = parted.run("compare", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["left_prometheus"] == gone
    assert found["unknown_to_prometheus"] == []


def test_kernels_that_have_just_ended_are_no_strangers(parted: Place):
    since_s = int(time.time() - parted.cluster.now) + 15
    parted.put(*parted.agent("i-here").ids)
    parted.put(*parted.agent("i-gone").ids, age_s=since_s - 1)
    done = parted.run("check")
    assert done.returncode == 0, done.stdout
    assert "left Prometheus" not in done.stdout


@pytest.fixture
def bereft(tmp_path: Path) -> Iterator[Place]:
    """An agent that died, one whose kernels have ended, and one whose kernels run on."""
    agents = (Agent("i-dead", down_s=100), Agent("i-idle", ended_s=100), Agent("i-runs"))
    with placed(tmp_path, *agents, arguments=LOSES_SOON) as place:
        yield place


def test_keys_that_a_dead_agent_has_left_are_told_and_those_of_ended_kernels_are_not(
    bereft: Place,
):
    dead = bereft.agent("i-dead").ids
    bereft.put(*bereft.agent("i-runs").ids)
    bereft.put(*bereft.agent("i-idle").ids, age_s=100)
    bereft.put(STRANGERS[0], age_s=3700)
    done = bereft.run("check")
    assert done.returncode == 0, done.stdout
    assert "written within the last hour" not in done.stdout
    bereft.put(*dead, STRANGERS[1], age_s=100)
    done = bereft.run("check")
    assert done.returncode == 0, done.stdout
    told = "3 that were written within the last hour are older than 60 s, and no sample comes"
    named = ", ".join(sorted([*dead, STRANGERS[1]]))
    assert f"warn: {told} of their kernels nor of their agents: {named}" in lines(
        done.stdout, "keys"
    )
    assert "-> is an agent down, or scraped no more?" in done.stdout
    bereft.put(STRANGERS[1], age_s=3700)
    bereft.put(dead[0], age_s=3700)
    done = bereft.run("check")
    assert "1 that was written within the last hour is older than 60 s" in done.stdout
