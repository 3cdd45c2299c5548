"""Two pollers with the same settings: one writes, and nobody sees the change of hands."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
import pytest

from tests.support.answers import replaying
from tests.support.live import LivePoller, tables
from tests.support.monitor import Executed, Monitor
from tests.support.proxy import FaultProxy, blackhole, passing, reset
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis, wait_until
from tests.support.stalls import Stalls
from tests.support.world import MIB, World

INTERVAL_S = 1.0
SHORT_S = 0.3
"""The interval of the long run: five hundred cycles in three minutes, all in a row."""
CYCLES = 500
PARTS = 4
LEASE = b"livestat-poller:leader"
NAMES = ("one", "two")


@dataclass(frozen=True, slots=True)
class Write:
    """One key written, as the server saw it. `holder` held the lease at that moment."""

    time: float
    writer: str
    holder: str
    kernel: str
    stat: dict[str, dict[str, str]]

    @property
    def evaluated_ms(self) -> int:
        return int(self.stat["mem"]["current"]) - MIB


@dataclass(slots=True)
class Pair:
    """Two daemons, each with a way of its own to the one server."""

    interval_s: float
    prometheus: dict[str, ScriptedPrometheus]
    redis: Redis
    monitor: Monitor
    proxies: dict[str, FaultProxy]
    pollers: dict[str, LivePoller]
    pids: dict[int, str] = field(default_factory=dict)

    @property
    def lease_s(self) -> float:
        return 1.5 * self.interval_s

    def start(self, name: str) -> None:
        poller = self.pollers[name]
        poller.start()
        assert poller.process is not None
        self.pids[poller.process.pid] = name
        self.monitor.seen.pop(name, None)

    def writes(self) -> list[Write]:
        """Return every write so far, with who held the lease, in the server's order."""
        found, holder = [], ""
        for command in list(self.monitor.commands):
            if command.name != "SET":
                continue
            if command.words[1] == LEASE:
                holder = self._holder(command)
            else:
                stat = msgpack.unpackb(command.words[2])
                kernel = command.words[1].decode()
                found.append(Write(command.time, command.client, holder, kernel, stat))
        return found

    def _holder(self, command: Executed) -> str:
        if not command.words[2]:  # given up
            return ""
        return self.pids[int(command.words[2].split(b":")[-2])]

    @property
    def leader(self) -> str:
        """Who took or renewed the lease last."""
        for command in reversed(list(self.monitor.commands)):
            if command.name == "SET" and command.words[1] == LEASE and command.words[2]:
                return self._holder(command)
        return ""

    def is_well(self, name: str) -> bool:
        """Whether a poller has lately asked for the lease, or written."""
        return time.monotonic() - self.monitor.seen.get(name, 0.0) < 1.1 * self.interval_s

    def wait_well(self) -> None:
        wait_until(lambda: all(map(self.is_well, NAMES)), "two pollers that are well")

    def wait_write(self, by: str) -> Write:
        """Wait for the next write of one of them and return it."""
        so_far = len(self.writes())

        def later() -> list[Write]:
            return [write for write in self.writes()[so_far:] if write.writer == by]

        wait_until(lambda: bool(later()), f"a write by {by}")
        return later()[0]


@contextmanager
def running(directory: Path, interval_s: float) -> Iterator[Pair]:
    """Run two pollers until one of them stands by: the first, where it was held up for a lease."""
    world = World(kernels=2)
    with ExitStack() as stack:
        redis = stack.enter_context(Redis())
        monitor = stack.enter_context(Monitor(redis))
        pair = Pair(interval_s, {}, redis, monitor, {}, {})
        for name in NAMES:
            prometheus = stack.enter_context(ScriptedPrometheus(world.handler))
            proxy = stack.enter_context(FaultProxy(redis.port))
            url = f"redis://127.0.0.1:{proxy.port}/0?client_name={name}"
            place = directory / name
            place.mkdir()
            made = tables(prometheus.url, url, interval_s, leader__enabled=True)
            poller = LivePoller(place, made)
            stack.callback(poller.__exit__)
            pair.prometheus[name], pair.proxies[name] = prometheus, proxy
            pair.pollers[name] = poller
        pair.start("one")
        pair.wait_write("one")
        pair.start("two")
        there = pair.pollers.values()
        wait_until(lambda: any("standing by" in poller.log for poller in there), "a standby")
        yield pair
        for poller in pair.pollers.values():
            assert "Traceback" not in poller.log
            assert not poller.lines("rivals:")  # the other's values are not a stranger's


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with running(tmp_path, INTERVAL_S) as made:
        made.pollers["two"].wait_line("standing by")
        yield made


def test_the_one_that_stands_by_asks_nothing_heavy_and_is_ready(pair: Pair) -> None:
    standby, prometheus = pair.pollers["two"], pair.prometheus["two"]
    for _ in range(3):
        pair.wait_write("one")
    assert set(prometheus.queries) == {"vector(1)"}
    assert {write.writer for write in pair.writes()} == {"one"}
    assert standby.page("/-/ready")[0] == 200
    assert standby.metric("leader") == 0
    assert pair.pollers["one"].metric("leader") == 1
    (line,) = standby.lines("standing by")
    assert f":{pair.pollers['one'].process.pid}:" in line  # it names who writes


def test_a_leader_that_is_told_to_stop_hands_over_at_once(pair: Pair) -> None:
    with Stalls() as stalls:
        assert pair.pollers["one"].stop() == 0
        stopped = time.time()
        taken = pair.wait_write("two").time - stopped
        assert taken <= 0.5 * INTERVAL_S + stalls.lost_s  # it asks every quarter


def test_a_killed_leader_is_replaced_within_two_intervals(pair: Pair) -> None:
    pair.wait_write("one")
    with Stalls() as stalls:
        pair.pollers["one"].kill()
        killed = time.time()
        taken = pair.wait_write("two").time - killed
        assert taken <= 2 * INTERVAL_S + stalls.lost_s


def test_a_leader_cut_off_from_the_server_is_replaced_within_two_intervals(pair: Pair) -> None:
    pair.wait_write("one")
    with Stalls() as stalls:
        pair.proxies["one"].fault = blackhole()
        cut_off = time.time()
        taken = pair.wait_write("two").time - cut_off
        assert taken <= 2 * INTERVAL_S + stalls.lost_s
    pair.proxies["one"].fault = passing()
    pair.proxies["one"].cut()
    pair.pollers["one"].wait_line("standing by")


def test_a_leader_stays_the_leader_when_the_server_loses_all_keys(pair: Pair) -> None:
    """It knows what nobody else does; who stands by asks more often, and would begin afresh."""
    for flush in range(5):
        pair.wait_write("one")
        time.sleep(flush / 5 * INTERVAL_S)
        with Stalls() as stalls:
            pair.redis.command("FLUSHALL")
            flushed = time.time()
            assert pair.wait_write("one").time - flushed <= 2 * INTERVAL_S + stalls.lost_s
    assert {write.writer for write in pair.writes()} == {"one"}
    check_times(pair.writes())
    pair.pollers["one"].kill()
    pair.redis.command("FLUSHALL")
    pair.wait_write("two")


def test_a_leader_without_prometheus_is_replaced(pair: Pair) -> None:
    pair.prometheus["one"].handler = lambda query, time, params: replaying()
    pair.wait_write("two")
    assert pair.leader == "two"


def test_a_leader_that_was_stopped_for_longer_than_its_lease_writes_nothing_old(
    pair: Pair,
) -> None:
    leader = pair.pollers["one"]
    leader.send(signal.SIGSTOP)
    pair.wait_write("two")
    leader.send(signal.SIGCONT)
    leader.wait_line("standing by")
    assert pair.pollers["two"].stop() == 0
    pair.wait_write("one")
    check_writers(pair.writes())
    check_times(pair.writes())


def stop_for_a_while(pair: Pair, name: str, dice: random.Random) -> None:
    pair.pollers[name].send(signal.SIGSTOP)
    time.sleep(dice.uniform(0.2, 3.0) * pair.lease_s)
    pair.pollers[name].send(signal.SIGCONT)


def kill(pair: Pair, name: str, dice: random.Random) -> None:
    pair.pollers[name].kill()
    pair.start(name)


def terminate(pair: Pair, name: str, dice: random.Random) -> None:
    assert pair.pollers[name].stop() == 0
    pair.start(name)


def cut(pair: Pair, name: str, dice: random.Random) -> None:
    pair.proxies[name].cut(with_reset=dice.random() < 0.5)


def cut_in_mid_write(pair: Pair, name: str, dice: random.Random) -> None:
    where = {dice.choice(("after_request_bytes", "after_response_bytes")): dice.randint(1, 2000)}
    pair.proxies[name].fault = reset(times=1, **where)


def part(pair: Pair, name: str, dice: random.Random) -> None:
    pair.proxies[name].fault = blackhole()
    time.sleep(dice.uniform(0.5, 3.0) * pair.lease_s)
    pair.proxies[name].fault = passing()
    pair.proxies[name].cut()


ACTS: tuple[Callable[[Pair, str, random.Random], None], ...] = (
    stop_for_a_while,
    kill,
    terminate,
    cut,
    cut_in_mid_write,
    part,
)


@pytest.mark.slow(60)
@pytest.mark.parametrize("part", range(PARTS))
def test_five_hundred_cycles_of_trouble(tmp_path: Path, part: int) -> None:
    dice = random.Random(7 + part)
    with running(tmp_path, SHORT_S) as pair, Stalls() as stalls:
        while len({write.evaluated_ms for write in pair.writes()}) < CYCLES / PARTS:
            pair.wait_well()  # one in trouble at a time
            time.sleep(dice.uniform(0, 3) * SHORT_S)
            leader = pair.leader
            other = NAMES[NAMES[0] == leader]
            dice.choice(ACTS)(pair, leader if dice.random() < 0.7 else other, dice)
        writes = pair.writes()
    check_writers(writes)
    check_times(writes)
    changes = sum(a.writer != b.writer for a, b in zip(writes, writes[1:], strict=False))
    assert changes >= 20 / PARTS
    # A leader may renew the lease an interval after its last write, and hang. The next one asks
    # within a quarter of an interval, and may need one tick more for what it owes of the past.
    slow_s = stalls.longest_s + slowest_s(writes)
    assert longest_gap_s(writes) <= 3 * SHORT_S + pair.lease_s + slow_s


def check_writers(writes: list[Write]) -> None:
    """Every write is one of who holds the lease at that moment, by the server's own account."""
    assert {write.writer for write in writes} == set(NAMES)
    assert [write for write in writes if write.writer != write.holder] == []


def check_times(writes: list[Write]) -> None:
    """Nothing goes back: not the time behind a key, not its maximum; the first value stays."""
    for kernel in {write.kernel for write in writes}:
        own = [write for write in writes if write.kernel == kernel]
        times = [write.evaluated_ms for write in own]
        assert times == sorted(set(times))
        peaks = [float(write.stat["mem"]["stats.max"]) for write in own]
        assert peaks == sorted(peaks)
        assert len({write.stat["cpu_used"]["capacity"] for write in own}) == 1


def slowest_s(writes: list[Write]) -> float:
    """Return how much longer than the quickest the slowest cycle took, from its time to a write."""
    took = [write.time - write.evaluated_ms / 1000 for write in writes]
    return max(took) - min(took)


def longest_gap_s(writes: list[Write]) -> float:
    gaps = []
    for kernel in {write.kernel for write in writes}:
        stamps = [write.time for write in writes if write.kernel == kernel]
        gaps += [later - sooner for sooner, later in zip(stamps, stamps[1:], strict=False)]
    return max(gaps)
