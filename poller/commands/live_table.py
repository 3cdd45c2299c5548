"""The live table: kernels as a legacy reader of the keys sees them."""

from __future__ import annotations

import asyncio
import math
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rich import box, filesize
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from poller.errors import CycleError
from poller.format import encode
from poller.store.keys import Store
from poller.values import Fields, LiveStat

SHORT_ID = 8
_WIDTH = 100
"""How wide a table is that goes to a file."""
_AROUND = 8
"""Lines that the table and the shell need beside the rows."""
_BUSY_PERCENT = 80.0
_IDLE_PERCENT = 1.0
_NOTHING = Text("-", style="dim")

Show = Callable[[Table], None]


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One kernel's key: None for no value that can be read, or no TTL of ours."""

    kernel: str
    stat: LiveStat | None
    age_s: float | None = None
    invalid: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be shown: the kernels' keys, and what went wrong with reading them."""

    rows: Sequence[KeyRow]
    trouble: str = ""


async def read(store: Store, kernels: Sequence[str]) -> list[KeyRow]:
    """Read kernels' keys as any legacy reader does."""
    found = await store.read(kernels)
    ages = await store.ages(kernels)
    return [_row(kernel, found.values.get(kernel), ages.get(kernel)) for kernel in kernels]


def _row(kernel: str, value: bytes | None, age_s: float | None) -> KeyRow:
    stat = encode.unpack(value) if value is not None else None
    return KeyRow(kernel, stat, age_s, value is not None and stat is None)


def rendered(seen: Look, most: int, stale_after_s: float) -> Table:
    """Return the table: the `most` busiest kernels at most, old keys marked."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left")
    for header, justify in _COLUMNS:
        table.add_column(header, justify=justify, no_wrap=True)
    shown = _busiest(seen.rows, most)
    for row in shown:
        table.add_row(*_cells(row, stale_after_s))
    table.caption = _caption(seen, len(shown))
    return table


_COLUMNS: tuple[tuple[str, Literal["left", "right"]], ...] = (
    ("kernel", "left"),
    ("CPU %", "right"),
    ("memory", "right"),
    ("capacity", "right"),
    ("net in/s", "right"),
    ("net out/s", "right"),
    ("accelerators", "left"),
    ("age", "right"),
)


def _caption(seen: Look, shown: int) -> Text:
    total = len(seen.rows)
    keys = sum(row.stat is not None for row in seen.rows)
    counts = f"{_counted(total, 'kernel')}, {_counted(keys, 'key')}"
    text = Text(f"{datetime.now():%H:%M:%S}  {counts}", style="default")
    if shown < total:
        text.append(f", the {shown} busiest shown")
    if seen.trouble:
        text.append(f"  {seen.trouble}", style="red")
    return text


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _busiest(rows: Sequence[KeyRow], most: int) -> list[KeyRow]:
    """Return rows as they are where they fit, or the busiest of them first."""
    if len(rows) <= most:
        return list(rows)
    return sorted(rows, key=lambda row: _cpu_percent(row.stat), reverse=True)[:most]


def _cpu_percent(stat: LiveStat | None) -> float:
    found = _number((stat or {}).get("cpu_util", {}), "pct")
    return -1.0 if found is None else found


def _number(fields: Fields, field: str) -> float | None:
    """Return a field as a number; whoever wrote the key may have written anything."""
    try:
        found = float(fields.get(field, ""))
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _cells(row: KeyRow, stale_after_s: float) -> list[Text]:
    kernel = Text(row.kernel[:SHORT_ID])
    if row.stat is None:
        what = Text("no live stat", style="red") if row.invalid else Text("no key", style="dim")
        return [kernel, *[_NOTHING] * 5, what, _age(row.age_s, stale_after_s)]
    memory = row.stat.get("mem", {})
    return [
        kernel,
        _percent(_number(row.stat.get("cpu_util", {}), "pct")),
        _size(_number(memory, "current")),
        _size(_number(memory, "capacity")),
        _size(_number(row.stat.get("net_rx", {}), "current")),
        _size(_number(row.stat.get("net_tx", {}), "current")),
        _accelerators(row.stat),
        _age(row.age_s, stale_after_s),
    ]


def _percent(value: float | None) -> Text:
    if value is None:
        return _NOTHING
    style = "bold green" if value >= _BUSY_PERCENT else "dim" if value < _IDLE_PERCENT else ""
    return Text(f"{value:.1f}", style=style)


def _size(value: float | None) -> Text:
    if value is None or value < 0:
        return _NOTHING
    return Text(filesize.decimal(int(value)).replace("bytes", "B"))


def _accelerators(stat: LiveStat) -> Text:
    cells = []
    for name, fields in stat.items():
        device = name.removesuffix("_util")
        if device == name or name == "cpu_util":
            continue
        cells.append(Text(f"{device} ") + _percent(_number(fields, "pct")) + Text(" %"))
    return Text(", ").join(cells) if cells else _NOTHING


def _age(age_s: float | None, stale_after_s: float) -> Text:
    if age_s is None:
        return _NOTHING
    style = "yellow" if age_s > stale_after_s else ""
    if age_s < 60:
        return Text(f"{max(0.0, age_s):.1f} s", style=style)
    if age_s < 3600:
        return Text(f"{age_s / 60:.0f} min", style=style)
    return Text(f"{age_s / 3600:.1f} h", style=style)


async def live(
    look: Callable[[], Awaitable[Sequence[KeyRow]]],
    every_s: float,
    stale_after_s: float,
    ended: asyncio.Event,
) -> None:
    """Show what `look` gives every so often until `ended`, and once more at the end.

    On a terminal the table stays in its place; elsewhere each one is printed, in plain text.
    """
    console = Console() if sys.stdout.isatty() else _plain()
    seen = Look(await look())
    with _screen(console) as show:
        while True:
            most = max(3, console.height - _AROUND) if console.is_terminal else len(seen.rows)
            show(rendered(seen, most, stale_after_s))
            if ended.is_set():
                return
            await _wait(ended, every_s)
            seen = await _again(look, seen)


async def _again(look: Callable[[], Awaitable[Sequence[KeyRow]]], before: Look) -> Look:
    try:
        return Look(await look())
    except CycleError as error:  # it may be back at the next look
        return Look(before.rows, f"{error.subject}: {error.detail}")


async def _wait(ended: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ended.wait()
    except TimeoutError:
        return


def _plain() -> Console:
    # Whatever the environment says of colours: a file gets none.
    return Console(width=_WIDTH, force_terminal=False, no_color=True)


def _print_plain(console: Console, table: Table) -> None:
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    print("\n".join(lines), flush=True)


@contextmanager
def _screen(console: Console) -> Iterator[Show]:
    if not console.is_terminal:
        yield lambda table: _print_plain(console, table)
        return
    with Live(console=console, auto_refresh=False) as screen:
        yield lambda table: screen.update(table, refresh=True)
