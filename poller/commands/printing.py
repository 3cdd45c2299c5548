"""What `check`, `compare` and `show` print for people: tables, columns, lines; JSON: `cli`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from poller.commands.compare import Comparison
from poller.commands.differences import VERDICTS, Difference, agrees, totals
from poller.commands.finding import Finding, agreed, counted, left_alone, listed
from poller.commands.prometheus_findings import how_often
from poller.commands.show import Shown
from poller.rounds.exporter import ExporterState

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}
_LISTED = 50


class Output(Console):
    """A console that leaves it to its caller that nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Let the error pass, which is being handled: the library would end the process."""
        raise


def console() -> Console:
    """Return where reports go: as wide as the terminal, never folded where it is a file."""
    return Output() if sys.stdout.isatty() else Output(width=200)


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

    def note(self, text: str) -> None:
        """Print what is to be known meanwhile."""
        self._progress.console.print(Text(text), soft_wrap=True)


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
    _differences([field for field in one.differences if not agrees(field)], to)
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
    lines = [f"{counted(one.kernels, 'kernel')}: {_verdict(one)}"]
    if one.unknown:
        named = ", ".join(one.unknown)
        lines.append(f"unknown: neither Prometheus nor a key tells of {named}")
    if one.strangers.kernels:
        count, named = len(one.strangers.kernels), listed(one.strangers.kernels)
        lines.append(
            f"{counted(count, 'key')} that somebody writes {agreed(count, 'is', 'are')} unknown to "
            f"Prometheus: {named}; does it scrape every agent?"
        )
    if one.strangers.left:
        count, named = len(one.strangers.left), listed(one.strangers.left)
        lines.append(
            f"{counted(count, 'key')} left Prometheus just now and {agreed(count, 'is', 'are')} "
            f"still written: {named}; look again in a minute"
        )
    if not one.strangers.allowed:
        lines.append("keys that Prometheus does not know cannot be looked for: no right to SCAN")
    for (_, words), kernels in left_alone(one.withheld, one.missing):
        would = f"{counted(len(kernels), 'kernel')} would be left as they are now"
        lines.append(f"{would}: {words}: {listed(kernels)}")
    if one.invalid:
        holds = agreed(one.invalid, "holds", "hold")
        lines.append(f"{counted(one.invalid, 'key')} {holds} no valid live stat")
    return "\n".join(lines + _who_writes(one))


def _verdict(one: Comparison) -> str:
    if not one.kernels and not one.allow_empty and not one.unknown:
        return "there is nothing to compare; if the cluster is empty, say --allow-empty"
    if one.unknown and not one.kernels:
        return "there is nothing to compare"
    return "something differs" if one.differs else "nothing differs"


def _who_writes(one: Comparison) -> list[str]:
    """Tell who writes: the lease's holder, and agents by their own counters."""
    lines = []
    if one.fresh:
        were = agreed(one.fresh, "was", "were")
        lines.append(f"{counted(one.fresh, 'key')} {were} written lately")
    if one.lease:
        lines.append(f"the poller {one.lease} holds the lease")
    return lines + one.agents.told()


_KEY_IS = {"none": "no key", "invalid": "the key holds no live stat",
           "foreign": "the key holds another type than string"}  # fmt: skip


def shown(one: Shown, to: Console) -> None:
    """Print one kernel from both sides."""
    to.print(f"{one.kernel}", style="bold")
    for line in told(one):
        to.print(Text(f"  {line}"), soft_wrap=True)
    table = _table("metric", "field", "prometheus", "key")
    for metric, field, left, right in both_sides(one):
        table.add_row(metric, field, left, right, style=None if left == right else "yellow")
    if table.rows:
        to.print(table)


def both_sides(one: Shown) -> list[tuple[str, str, str, str]]:
    """Return (metric, field, what Prometheus says, what the key says); a metric is named once."""
    rows = []
    for metric in dict.fromkeys((*one.prometheus, *one.key)):
        ours, theirs = one.prometheus.get(metric, {}), one.key.get(metric, {})
        for place, field in enumerate(dict.fromkeys((*ours, *theirs))):
            name = "" if place else metric
            rows.append((name, field, ours.get(field, "-"), theirs.get(field, "-")))
    return rows


def told(one: Shown) -> list[str]:
    """Return what there is to say of a kernel beside its values."""
    lines = []
    if not one.known:
        lines.append("unknown: neither Prometheus nor a key tells of it")
    elif one.key_is != "there":
        lines.append(_KEY_IS[one.key_is])
    elif one.age_s is None:
        lines.append("a key without a TTL")
    else:
        lines.append(f"key written {one.age_s:.1f} s ago, TTL {one.ttl_s:.0f} s")
    if one.why is not None and one.known:
        lacks = f": Prometheus has no {' and no '.join(one.missing)} of it" if one.missing else ""
        lines.append(f"not written now: {one.why}{lacks}")
    if one.exporter is not None:
        lines.append(_exporter(one.exporter))
    return lines


def _exporter(one: ExporterState) -> str:
    measured = f"{datetime.fromtimestamp(one.measured):%H:%M:%S}" if one.measured else "never seen"
    who = f"agent {one.agent}" if one.agent else "agent"
    stalled = ", and stands still" if one.stalled else ""
    return (
        f"{who} at {one.instance}: rounds by {one.counter or 'no counter'} "
        f"{how_often(one.interval_s)}, last measured {measured}{stalled}"
    )
