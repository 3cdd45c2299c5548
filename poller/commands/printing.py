"""Reports for people: tables on a terminal, plain text elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from poller.commands.check import Finding
from poller.commands.compare import Comparison
from poller.commands.differences import VERDICTS, Difference, totals
from poller.commands.show import Shown

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_LISTED = 50


def console() -> Console:
    """Return where reports go: as wide as the terminal, never folded where it is a file."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


class ProgressBar:
    """How many kernels are yet to be recalled; drawn on a terminal only."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("recalling the kernels' past", total=None)
        self._most = 0

    def __call__(self, left: int) -> None:
        """Take how many kernels are left."""
        self._most = max(self._most, left)
        self._progress.update(self._task, total=self._most, completed=self._most - left)


@contextmanager
def progress() -> Iterator[ProgressBar]:
    """Show a progress bar on standard error while something long goes on."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    terminal = Console(stderr=True)
    with Progress(
        *columns, console=terminal, transient=True, disable=not terminal.is_terminal
    ) as bar:
        yield ProgressBar(bar)


def finding(one: Finding, to: Console) -> None:
    """Print one line of `check`, and what to do under it."""
    line = Text(f"{one.level:<5}", style=_COLOURS[one.level])
    line.append(f"{one.subject}: {one.text}", style="default")
    to.print(line, soft_wrap=True)
    if one.advice and one.level != "ok":
        to.print(Text(f"      -> {one.advice}", style="dim"), soft_wrap=True)


def comparison(one: Comparison, to: Console) -> None:
    """Print the summary of `compare`, and the fields that differ."""
    table = _table("metric", "field", *VERDICTS)
    for (metric, field), verdicts in totals(one.differences).items():
        counts = [str(verdicts[verdict] or "") for verdict in VERDICTS]
        table.add_row(metric, field, *counts)
    to.print(table)
    _differences([d for d in one.differences if d.verdict not in ("equal", "within")], to)
    to.print(_summary(one), soft_wrap=True)


def _differences(differing: list[Difference], to: Console) -> None:
    if not differing:
        return
    table = _table("kernel", "metric", "field", "verdict", "would be", "is")
    for one in differing[:_LISTED]:
        table.add_row(
            one.kernel, one.metric, one.field, one.verdict, one.ours or "-", one.theirs or "-"
        )
    to.print(table)
    if len(differing) > _LISTED:
        to.print(f"and {len(differing) - _LISTED} more; --json lists all")


def _summary(one: Comparison) -> str:
    lines = [f"{one.kernels} kernels: {'something differs' if one.differs else 'nothing differs'}"]
    if one.fresh:
        who = f"by the poller {one.lease}" if one.lease else "by no poller: agents still write"
        lines.append(f"{one.fresh} keys were written lately, {who}")
    for why, count in sorted(one.withheld.items()):
        lines.append(f"{count} kernels would be left as they are now: {why}")
    if one.invalid:
        lines.append(f"{one.invalid} keys hold no valid live stat")
    return "\n".join(lines)


def shown(one: Shown, to: Console) -> None:
    """Print one kernel from both sides."""
    to.print(f"{one.kernel}", style="bold")
    if one.age_s is None:
        to.print("  no key, or one without a TTL")
    else:
        to.print(f"  key written {one.age_s:.1f} s ago, TTL {one.ttl_s:.0f} s")
    if one.why is not None:
        to.print(f"  not written now: {one.why}")
    table = _table("metric", "field", "prometheus", "key")
    for metric in dict.fromkeys((*one.prometheus, *one.key)):
        ours, theirs = one.prometheus.get(metric, {}), one.key.get(metric, {})
        for place, field in enumerate(dict.fromkeys((*ours, *theirs))):
            left, right = ours.get(field, "-"), theirs.get(field, "-")
            style = None if left == right else "yellow"
            table.add_row("" if place else metric, field, left, right, style=style)
    to.print(table)
