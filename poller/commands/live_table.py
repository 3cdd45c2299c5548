"""The live table: keys as readers find them, columns, colours, what gives way where it is tight."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from rich import box, filesize
from rich.console import Console
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from poller.commands.finding import counted
from poller.commands.key_rows import FIRST, KeyRow, Order, in_order, is_stale, number
from poller.errors import CycleError
from poller.format import encode
from poller.store.keys import Store

SHORT_ID = 8
_WIDTH = 200
"""How wide a table may be that goes to a file."""
_WIDEST = 1000
_AROUND = 8
"""Lines that the table and the shell need beside the rows."""
_BUSY_PERCENT = 80.0
_IDLE_PERCENT = 1.0
_NOTHING = Text("-", style="dim")
_LARGEST_SIZE = 1e21

Show = Callable[[Table | Text], None]


@dataclass(frozen=True, slots=True)
class Look:
    """What is to be shown: the kernels' keys, what went wrong with reading them, and a note on
    which kernels those are."""

    rows: Sequence[KeyRow]
    trouble: str = ""
    note: str = ""


async def read(
    store: Store, kernels: Sequence[str], known: Collection[str] | None = None
) -> list[KeyRow]:
    """Read kernels' keys as any legacy reader does. `known`: those that Prometheus holds."""
    found = await store.read(kernels)
    ages = await store.ages(kernels)

    def row(kernel: str) -> KeyRow:
        value = found.values.get(kernel)
        stat = encode.unpack(value) if value is not None else None
        if stat is not None:
            return KeyRow(kernel, stat, ages.get(kernel))
        trouble = "no key: unknown to Prometheus"
        if kernel in found.foreign:
            trouble = "a key of another type"
        elif kernel in found.failed:
            trouble = f"a key that cannot be read ({found.failed[kernel]})"
        elif value is not None:
            trouble = "no live stat"
        elif known is None or kernel in known:
            trouble = "no key: not written yet"
        return KeyRow(kernel, None, ages.get(kernel), trouble)

    return [row(kernel) for kernel in kernels]


def rendered(
    look: Look,
    most: int,
    stale_after_s: float,
    order: Order = "id",
    width: int | None = None,
) -> Table:
    """Return the table: the first `most` kernels in order, with as many columns as fit.

    `width` is in characters; None: all columns.
    """
    shown = in_order(look.rows, order, stale_after_s)[:most]
    troubled = any(_state(row, stale_after_s) for row in shown)
    left = [column for column in _COLUMNS if column is not _STATE or troubled]
    while True:
        table = _table(left, shown, stale_after_s)
        spare = [column for column in left if column.rank]
        if width is None or not spare or _natural_width(table) <= width:
            table.caption = _caption(look, len(shown), order, stale_after_s)
            return table
        left.remove(max(spare, key=lambda column: column.rank))


def _table(columns: Sequence[_Column], rows: Sequence[KeyRow], stale_after_s: float) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left")
    for column in columns:
        table.add_column(column.header, justify=column.justify, no_wrap=column is not _STATE)
    for row in rows:
        table.add_row(*(column.cell(row, stale_after_s) for column in columns))
    return table


def _natural_width(table: Table) -> int:
    wide = Console(width=_WIDEST, file=io.StringIO())
    return Measurement.get(wide, wide.options, table).maximum


def _caption(look: Look, shown: int, order: Order, stale_after_s: float) -> Text:
    total = len(look.rows)
    keys = sum(row.stat is not None for row in look.rows)
    counts = f"{counted(total, 'kernel')}, {counted(keys, 'key')}, stale after {stale_after_s:g} s"
    text = Text(f"{datetime.now():%H:%M:%S}  {counts}", style="default")
    if shown < total:
        text.append(f", {total - shown} not shown, {FIRST[order]} first")
    if look.note:
        text.append(f"; {look.note}")
    if look.trouble:
        text.append(f"  {look.trouble}", style="red")
    return text


def fitting(look: Look, console: Console, stale_after_s: float, order: Order) -> Table | Text:
    """Return the table with as many rows as the terminal has room for, else its summary alone."""
    most = max(3, console.height - _AROUND)
    while most >= 0:
        table = rendered(look, most, stale_after_s, order, console.width)
        over = len(console.render_lines(table)) - console.height
        if over <= 0:
            return table
        most -= max(1, min(most, over // 3))  # a row may take several lines
    return _caption(look, 0, order, stale_after_s)


@dataclass(frozen=True, slots=True)
class _Column:
    """One column; the one of the highest `rank` goes first where not all fit, 0 stays."""

    header: str
    justify: Literal["left", "right"]
    rank: int
    cell: Callable[[KeyRow, float], Text]


_Cell = Callable[[KeyRow, float], Text]


def _of(show: Callable[[float | None], Text], metric: str, field: str) -> _Cell:
    """Return the cell of one field of one metric."""
    return lambda row, stale: show(number((row.stat or {}).get(metric, {}), field))


def _state(row: KeyRow, stale_after_s: float) -> Text:
    if row.trouble:
        return Text(row.trouble, style="red")
    return Text("stale", style="yellow") if is_stale(row, stale_after_s) else Text("")


def _percent(value: float | None) -> Text:
    if value is None:
        return _NOTHING
    style = "bold green" if value >= _BUSY_PERCENT else "dim" if value < _IDLE_PERCENT else ""
    return Text(f"{value:.1f}", style=style)


def _size(value: float | None) -> Text:
    if value is None or value < 0:
        return _NOTHING
    if value >= _LARGEST_SIZE:  # its digits would take the place of all other columns
        return Text(f"{value:.0e} B")
    return Text(filesize.decimal(int(value)).replace("bytes", "B"))


def _accelerators(row: KeyRow, stale_after_s: float) -> Text:
    cells = []
    for name, fields in (row.stat or {}).items():
        device = name.removesuffix("_util")
        if device == name or name == "cpu_util":
            continue
        cells.append(Text(f"{device} ") + _percent(number(fields, "pct")) + Text(" %"))
    return Text(", ").join(cells) if cells else _NOTHING


def _age(row: KeyRow, stale_after_s: float) -> Text:
    age_s = row.age_s
    if age_s is None:
        return _NOTHING
    style = "yellow" if is_stale(row, stale_after_s) else ""
    if age_s < 60:
        return Text(f"{max(0.0, age_s):.1f} s", style=style)
    if age_s < 3600:
        return Text(f"{age_s / 60:.0f} min", style=style)
    return Text(f"{age_s / 3600:.1f} h", style=style)


_STATE = _Column("state", "left", 0, _state)
_COLUMNS = (
    _Column("kernel", "left", 0, lambda row, stale: Text(row.kernel[:SHORT_ID])),
    _Column("CPU %", "right", 1, _of(_percent, "cpu_util", "pct")),
    _Column("memory", "right", 2, _of(_size, "mem", "current")),
    _Column("capacity", "right", 4, _of(_size, "mem", "capacity")),
    _Column("net in/s", "right", 5, _of(_size, "net_rx", "current")),
    _Column("net out/s", "right", 6, _of(_size, "net_tx", "current")),
    _Column("accelerators", "left", 3, _accelerators),
    _Column("age", "right", 0, _age),
    _STATE,
)


async def live(
    look: Callable[[], Awaitable[Sequence[KeyRow]]],
    every_s: float,
    stale_after_s: float,
    ended: asyncio.Event,
    order: Order = "id",
    note: str = "",
) -> None:
    """Show what `look` gives every so often until `ended`, and once more at the end.

    On a terminal the table stays in its place; elsewhere each one is printed, in plain text.
    `note` says which kernels those are.
    """
    console = Console() if sys.stdout.isatty() else _plain()
    seen = Look(await look(), note=note)
    with _screen(console) as show:
        while True:
            if console.is_terminal:
                show(fitting(seen, console, stale_after_s, order))
            else:
                show(rendered(seen, len(seen.rows), stale_after_s, order))
            if ended.is_set():
                return
            await _wait(ended, every_s)
            seen = await _again(look, seen)


async def _again(look: Callable[[], Awaitable[Sequence[KeyRow]]], before: Look) -> Look:
    try:
        return Look(await look(), note=before.note)
    except CycleError as error:  # it may be back at the next look
        return Look(before.rows, f"{error.subject}: {error.detail}", before.note)


async def _wait(ended: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ended.wait()


def _plain() -> Console:
    # Whatever the environment says of colours: a file gets none.
    return Console(width=_WIDTH, force_terminal=False, no_color=True)


def _print_plain(console: Console, table: Table | Text) -> None:
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
