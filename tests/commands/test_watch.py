"""The live table: what it makes of keys, and `watch` over real ones."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
from collections.abc import Iterator
from typing import get_args

import msgpack
import pytest
from rich.console import Console

from poller import cli
from poller.commands import live_table
from poller.commands.key_rows import KeyRow, Order
from poller.commands.live_table import Look
from poller.errors import StoreError
from poller.store.connections import StoreAccess
from poller.store.keys import Store
from tests.support.command import environment, poller
from tests.support.scripted import ScriptedPrometheus
from tests.support.servers import Redis
from tests.support.world import World

KERNEL = "3f9d4d5e-8a1b-4c6e-9d53-0b7f5a7c2e11"
STAT = {
    "cuda_mem": {"current": "1", "capacity": "2", "pct": "50", "unit_hint": "bytes"},
    "cuda_util": {"current": "57", "capacity": "100", "pct": "57", "unit_hint": "percent"},
    "rocm_util": {"current": "0", "capacity": "0", "pct": "0.00", "unit_hint": "percent"},
    "cpu_util": {"current": "1485", "capacity": "1000", "pct": "148.5", "unit_hint": "percent"},
    "mem": {"current": "1500000000", "capacity": "8589934592", "pct": "17.5", "unit_hint": "b"},
    "net_rx": {"current": "2000", "capacity": "1", "pct": "0.00", "unit_hint": "bps"},
    "net_tx": {"current": "0", "capacity": "1", "pct": "0.00", "unit_hint": "bps"},
}


def text_of(
    seen: Look, most: int = 50, stale_after_s: float = 15.0, order: str = "id", width: int = 120
) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(live_table.rendered(seen, most, stale_after_s, order, width))
    return console.file.getvalue()


def ids(text: str) -> list[str]:
    """Return the short ids of a table in their order."""
    return re.findall(r"^ ([0-9a-f]{8}) ", text, re.MULTILINE)


def cells(text: str, short_id: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.split()[:1] == [short_id])
    return line.split()


def test_a_row_shows_the_key_in_sizes_people_read():
    row = cells(text_of(Look([KeyRow(KERNEL, STAT, 1.25)])), "3f9d4d5e")
    assert " ".join(row) == (
        "3f9d4d5e 148.5 1.5 GB 8.6 GB 2.0 kB 0 B cuda 57.0 %, rocm 0.0 % 1.2 s"
    )


def test_a_size_that_is_rubbish_leaves_room_for_the_other_columns():
    mem = {"current": "9" * 300, "capacity": "999999999999999999999"}
    row = cells(
        text_of(Look([KeyRow(KERNEL, {**STAT, "mem": {**STAT["mem"], **mem}}, 1.25)])), "3f9d4d5e"
    )
    assert row[:4] == ["3f9d4d5e", "148.5", "1e+300", "B"]


def test_ages_are_told_in_the_unit_that_fits():
    for age_s, told in ((0.04, "0.0 s"), (59.4, "59.4 s"), (61, "1 min"), (7200, "2.0 h")):
        text = text_of(Look([KeyRow(KERNEL, STAT, age_s)]), stale_after_s=9e9)
        assert cells(text, "3f9d4d5e")[-2:] == told.split()


def test_an_old_key_is_marked():
    def style(age_s: float) -> str:
        made = live_table.rendered(Look([KeyRow(KERNEL, STAT, age_s)]), 9, 15.0)
        (cell,) = made.columns[-1].cells
        return cell.style

    assert (style(14.9), style(15.1)) == ("", "yellow")


def test_anything_may_be_in_a_key():
    """Numbers that are none, markup, missing fields and metrics leave a dash."""
    odd = {
        "cpu_util": {"current": "x", "pct": "NaN", "unit_hint": ""},
        "mem": {"current": None, "capacity": "-5", "unit_hint": ""},
        "[red]_util": {"current": "1", "pct": "12", "unit_hint": ""},
    }
    row = cells(text_of(Look([KeyRow(KERNEL, odd)])), "3f9d4d5e")
    assert " ".join(row) == "3f9d4d5e - - - - - [red] 12.0 % -"


def row_of(number: int, cpu: float = 0, memory: float = 0, **more: object) -> KeyRow:
    stat = {**STAT, "cpu_util": {"pct": str(cpu)}, "mem": {"current": str(memory)}}
    return KeyRow(f"{number:08x}-8a1b-4c6e-9d53-0b7f5a7c2e11", **{"stat": stat, **more})


ROWS = [
    row_of(1, cpu=10, memory=5e9, age_s=3.0),
    row_of(2, cpu=99, memory=1e9, age_s=2.0),
    row_of(3, stat=None, trouble="no key: not written yet"),
    row_of(4, cpu=50, memory=2e9, age_s=3600.0),
    row_of(5, cpu=0, memory=9e9, age_s=1.0),
    row_of(6, stat=None, trouble="no live stat", age_s=5.0),
]


@pytest.mark.parametrize(
    ("order", "places"),
    [
        ("wrong", [3, 6, 4, 2, 1, 5]),
        ("cpu", [2, 4, 1, 5, 3, 6]),
        ("memory", [5, 1, 4, 2, 3, 6]),
        ("id", [1, 2, 3, 4, 5, 6]),
        ("age", [4, 6, 1, 2, 5, 3]),
    ],
)
def test_the_order_is_the_one_that_was_chosen(order: str, places: list[int]):
    assert ids(text_of(Look(ROWS), order=order)) == [f"{place:08x}" for place in places]


def test_every_order_may_be_asked_for():
    (sort,) = [one for one in cli.watch.params if one.name == "order"]
    assert tuple(sort.type.choices) == get_args(Order)


def test_what_is_wrong_is_shown_first_where_not_all_fits():
    text = text_of(Look(ROWS, "redis: gone"), most=3, order="wrong")
    assert ids(text) == ["00000003", "00000006", "00000004"]
    assert "no key: not written yet" in text
    assert "stale" in text
    assert (
        "6 kernels, 4 keys, stale after 15 s, 3 not shown, what is wrong first  redis: gone" in text
    )


@pytest.mark.parametrize("width", [20, 40, 200])
@pytest.mark.parametrize("height", range(2, 20))
def test_the_summary_stays_in_a_low_terminal_and_counts_what_is_not_shown(height: int, width: int):
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True)
    console.print(live_table.fitting(Look(ROWS), console, 15.0, "wrong"))
    text = re.sub(r"\x1b\[[\d;]*m", "", console.file.getvalue())
    words = " ".join(text.split())
    hidden = 6 - len(ids(text))
    assert (f"{hidden} not shown, what is wrong first" in words) == (hidden > 0)
    assert "6 kernels, 4 keys, stale after 15 s" in words
    assert len(text.splitlines()) <= max(height, 6 if width == 20 else 3)
    if width == 200:
        assert 6 - hidden == max(0, min(6, max(height - 8, min(3, height - 5))))


def test_a_table_in_which_all_is_well_has_no_column_of_states():
    assert "state" not in text_of(Look(ROWS[:2]))


@pytest.mark.parametrize("width", range(30, 121))
def test_columns_are_left_out_rather_than_ids_and_numbers_clipped(width: int):
    rows = [KeyRow(KERNEL, STAT, 1.25), KeyRow(KERNEL.replace("3f", "4f", 1), STAT, 3000.0)]
    text = text_of(Look(rows), width=width)
    assert ids(text) == ["3f9d4d5e", "4f9d4d5e"]
    assert "…" not in text
    assert "50 min" in text
    whole = {"148.5", "1.5", "8.6", "2.0", "0", "57.0", "0.0"}
    found = set(re.findall(r"(?<=\s)\d+(?:\.\d)?(?=\s)", text.splitlines()[3]))
    assert found - {"1.2"} <= whole
    assert width < 100 or whole <= found


async def test_a_store_that_fails_leaves_the_last_values(capsys: pytest.CaptureFixture[str]):
    ended = asyncio.Event()
    looks = 0

    async def look() -> list[KeyRow]:
        nonlocal looks
        looks += 1
        if looks == 3:
            ended.set()
        if looks > 1:
            raise StoreError("connection", "nobody listens")
        return [KeyRow(KERNEL, STAT, 1.0)]

    await live_table.live(look, 0.01, 15.0, ended)
    frames = capsys.readouterr().out.split(" kernel ")[1:]
    assert len(frames) == 3
    assert "nobody listens" not in frames[0]
    assert "redis: nobody listens" in frames[-1]
    assert cells(frames[-1], "3f9d4d5e")[1] == "148.5"


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Redis]:
    with Redis() as server:
        yield server


async def test_keys_are_read_as_they_are(redis_server: Redis):
    redis_server.command("FLUSHALL")
    redis_server.command("SET", "good", msgpack.packb(STAT), "EX", 86_390)
    redis_server.command("SET", "rubbish", b"\xc1")
    redis_server.command("RPUSH", "foreign", "1")
    async with Store(StoreAccess(url=redis_server.url)) as store:
        good, rubbish, foreign, none = await live_table.read(
            store, ["good", "rubbish", "foreign", "none"]
        )
    assert good.stat == STAT
    assert 10 <= good.age_s < 20
    assert rubbish == KeyRow("rubbish", None, None, "no live stat")
    assert foreign == KeyRow("foreign", None, None, "a key of another type")
    assert none == KeyRow("none", None, None, "no key: not written yet")
    async with Store(StoreAccess(url=redis_server.url)) as store:
        (unknown,) = await live_table.read(store, ["none"], known=["good"])
    assert unknown.trouble == "no key: unknown to Prometheus"


def watch(redis_server: Redis, *arguments: str) -> subprocess.CompletedProcess[str]:
    with ScriptedPrometheus(World(3).handler) as prometheus:
        env = environment(prometheus.url, redis_server.url, redis__key_prefix="ours:")
        # Even where colours are asked for, a pipe gets none.
        return poller("watch", "--duration", "1.5", *arguments, env={**env, "FORCE_COLOR": "1"})


def test_watch_shows_the_real_keys_of_all_active_kernels(redis_server: Redis):
    redis_server.command("FLUSHALL")
    ids = World(3).ids
    for kernel in ids[:2]:
        redis_server.command("SET", kernel, msgpack.packb(STAT), "EX", 86_400)
    done = watch(redis_server)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1  # which settings
    assert "\x1b" not in done.stdout
    frames = done.stdout.split(" kernel ")[1:]
    assert 2 <= len(frames) <= 4
    assert "3 kernels, 2 keys, stale after 60 s" in frames[-1]
    for kernel in ids[:2]:
        assert cells(frames[-1], kernel[:8])[1] == "148.5"
    assert "no key" in " ".join(cells(frames[-1], ids[2][:8]))
    assert "; kernels that Prometheus does not hold are not shown" in frames[-1]


def test_watch_shows_the_kernels_and_the_prefix_asked_for(redis_server: Redis):
    redis_server.command("FLUSHALL")
    redis_server.command("SET", f"shadow:{KERNEL}", msgpack.packb(STAT), "EX", 86_400)
    done = watch(redis_server, "--kernel", KERNEL, "--prefix", "shadow:")
    assert done.returncode == 0, done.stderr
    last = done.stdout.split(" kernel ")[-1]
    assert "1 kernel, 1 key" in last
    assert "not shown" not in last
    assert cells(last, "3f9d4d5e")[1] == "148.5"


def test_watch_says_which_server_does_not_answer(redis_server: Redis):
    env = environment("http://127.0.0.1:1", redis_server.url)
    done = poller("watch", "--duration", "1", env=env)
    assert done.returncode == 1
    assert "\nprometheus: " in done.stderr
    assert "Traceback" not in done.stderr
