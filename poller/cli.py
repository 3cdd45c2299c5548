"""The command line: every command, its options, what it starts; JSON; its exit status.

Exit status: 0 good, 1 a cycle failed or something differs, 2 settings that cannot work, 3 a file
of the settings that cannot be read, 141 (as shells have it of SIGPIPE) nobody reads the output.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from poller import __version__, options, output
from poller.errors import ConfigError, CycleError, RefusedRequest

if TYPE_CHECKING:
    from poller.commands.key_rows import Order
    from poller.config import Config

T = TypeVar("T")


def _run(command: Coroutine[Any, Any, T]) -> T:
    """Run a command to its end; a failed cycle is told in one line and exits 1, a refusal 2."""
    try:
        return asyncio.run(command)
    except CycleError as error:
        advice = f"; {error.advice}" if error.advice else ""
        click.echo(f"{error.subject}: {error.detail}{advice}", err=True)
        sys.exit(1)
    except RefusedRequest as error:
        click.echo(error, err=True)
        sys.exit(2)
    except ConfigError as error:
        options.refuse(error)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="livestat-poller")
@partial(options.common, variable="POLLER_CONFIG")
def cli() -> None:
    """Write Backend.AI live statistics from Prometheus to Redis in the legacy format."""


@cli.command(epilog="Example: livestat-poller --config config.toml run")
@options.common
def run() -> None:
    """Poll until told to stop (SIGTERM); SIGHUP reads the settings again."""
    from poller.commands import printing, show
    from poller.daemon.daemon import Daemon
    from poller.daemon.status import KernelFacts

    loaded = options.loaded()

    def reload() -> Config:
        # A file that has gone is refused: to go on with the next one would be a surprise.
        return options.read(loaded.path).config

    async def look_up(config: Config, kernel: str) -> KernelFacts:
        (one,) = await show.shown(config, [kernel])
        return KernelFacts(one.kernel, tuple(printing.told(one)), tuple(printing.both_sides(one)))

    _run(Daemon(loaded.config, reload, str(loaded), look_up).run())
    # A thread that hangs in name resolution must not hold up the end.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


@cli.command(
    epilog="Example: livestat-poller once --dry-run --kernel 3f9d4d5e-8a1b-4c6e-9d53-0b7f5a7c2e11"
)
@options.common
@options.KERNELS
@options.AT
@click.option("--dry-run", is_flag=True, help="Print the kernels as JSON and write nothing.")
@options.ALLOW_EMPTY
def once(
    kernels: tuple[str, ...],
    at: float | None,
    dry_run: bool,
    allow_empty: bool,
) -> None:
    """Run one cycle.

    Exits 1 if there is no kernel, or none that could be written though there are some, or not one
    that was asked for.
    """
    from poller.commands import once, printing
    from poller.commands.finding import counted
    from poller.poll import assembly

    settings = options.load()
    asked = kernels or None
    with printing.progress() as bar:
        hooks = assembly.Hooks(on_progress=bar)
        if dry_run:
            stats, outcome = _run(once.stats(settings, asked, at, hooks))
        else:
            outcome = _run(once.write(settings, asked, at, hooks))
    if dry_run:
        click.echo(json.dumps(stats, indent=2))
    else:
        of_all = counted(outcome.kernels, "kernel")
        click.echo(f"{outcome.written} of {of_all} written", err=True)
    for why, count in outcome.withheld_counts.items():
        click.echo(f"{counted(count, 'kernel')} withheld: {why}", err=True)
    for kernel in outcome.absent:
        click.echo(f"{kernel}: Prometheus holds no such kernel", err=True)
    made = sum(map(bool, stats.values())) if dry_run else outcome.written
    trouble = once.trouble(outcome, made, allow_empty)
    if trouble:
        click.echo(trouble, err=True)
    sys.exit(1 if trouble or outcome.absent else 0)


@cli.command(epilog="Example: livestat-poller --config /etc/livestat-poller/config.toml check")
@options.common
@options.ALLOW_EMPTY
@click.option(
    "--settings", "only_settings", is_flag=True, help="Print the settings that count, and end."
)
def check(allow_empty: bool, only_settings: bool) -> None:
    """Check the settings, both servers, who else writes, and keys that nobody would write.

    Exits 1 if something must be mended.
    """
    if only_settings:
        from poller.commands import settings_report

        for line in settings_report.lines(options.loaded()):
            click.echo(line)
        return
    from poller.commands import printing
    from poller.commands.check import findings

    settings = options.load()

    async def report() -> bool:
        failed = False
        async with aclosing(findings(settings, allow_empty)) as found:
            async for finding in found:
                printing.finding(finding, printing.console())
                failed |= finding.level == "fail"
        return failed

    sys.exit(1 if _run(report()) else 0)


@cli.command(epilog="Example: livestat-poller compare --json > differences.json")
@options.common
@options.KERNELS
@click.option(
    "--prefix", help="Compare the keys under this prefix instead of what would be written."
)
@options.AT
@options.JSON
@options.ALLOW_EMPTY
def compare(
    kernels: tuple[str, ...],
    prefix: str | None,
    at: float | None,
    as_json: bool,
    allow_empty: bool,
) -> None:
    """Compare what would be written now with the real keys, and write nothing.

    Exits 1 if something differs, if there is nothing to compare, or if keys are written that
    nobody would write after the agents.
    """
    from poller.commands import printing
    from poller.commands.compare import Asked, compared

    settings = options.load()
    with printing.progress() as bar:
        result = _run(compared(settings, Asked(kernels, prefix, at, allow_empty), bar))
    if as_json:
        click.echo(json.dumps(result.as_json(), indent=2))
    else:
        printing.comparison(result, printing.console())
    sys.exit(1 if result.differs else 0)


@cli.command(epilog="Example: livestat-poller show 3f9d4d5e-8a1b-4c6e-9d53-0b7f5a7c2e11")
@options.common
@click.argument("kernels", nargs=-1, required=True, metavar="KERNEL...")
@options.JSON
def show(kernels: tuple[str, ...], as_json: bool) -> None:
    """Show kernels as Prometheus has them beside what their keys say.

    KERNEL is an id or a beginning that no other has. Exits 1 for one that nobody knows.
    """
    from poller.commands import printing
    from poller.commands.show import shown

    settings = options.load()
    kernels_shown = _run(shown(settings, kernels))
    if as_json:
        click.echo(json.dumps([one.as_json() for one in kernels_shown], indent=2))
    else:
        for one in kernels_shown:
            printing.shown(one, printing.console())
    sys.exit(0 if all(one.known for one in kernels_shown) else 1)


@cli.command(epilog="Example: livestat-poller watch --duration 60")
@options.common
@options.KERNELS
@click.option("--prefix", help="Show the keys under this prefix instead of the real ones.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(["wrong", "cpu", "memory", "id", "age"]),
    default="wrong",
    show_default=True,
    help="What comes first; `wrong`: keys that no reader can use, then stale ones, then the "
    "busiest.",
)
@options.DURATION
def watch(
    kernels: tuple[str, ...],
    prefix: str | None,
    order: Order,
    duration_s: float | None,
) -> None:
    """Show the keys in a live table, as legacy readers see them, and write nothing.

    Without --kernel: all kernels that Prometheus holds. Stale is a key older than three polls
    and 60 s (two measurements of agents that measure every 30 s); the summary says the limit.
    """
    from poller.commands import watch

    _run(watch.watch(options.load(), kernels, prefix, duration_s, order))


@cli.command(epilog="Example: livestat-poller demo --kernels 20 --duration 60")
@click.option(
    "--kernels",
    type=click.IntRange(1, 100),
    default=12,
    show_default=True,
    help="How many kernels the simulated cluster runs.",
)
@options.DURATION
@click.option("--real", is_flag=True, help="Run the real prometheus and redis-server instead.")
def demo(kernels: int, duration_s: float | None, real: bool) -> None:
    """Try the poller between a simulated cluster and a server of its own; needs no settings."""
    from poller.demo import run

    try:
        click.echo(_run(run.demo(kernels, duration_s, real, click.echo)))
    except run.DemoError as error:
        click.echo(error, err=True)
        sys.exit(error.status)


@cli.command("deploy-files", epilog="Example: livestat-poller deploy-files deploy")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--force", is_flag=True, help="Overwrite files that differ, but no settings.")
def deploy_files(directory: Path, force: bool) -> None:
    """Copy settings, systemd unit, alert rules, dashboard and container file into DIRECTORY."""
    from poller.commands import deploy_files

    try:
        written = deploy_files.copy(directory, force)
    except deploy_files.DiffersError as error:
        for name in error.names:
            click.echo(f"{directory / name}: is there and differs", err=True)
        click.echo("nothing was written; --force overwrites", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"{error.filename}: {error.strerror}", err=True)
        sys.exit(2)
    for name, step in deploy_files.steps(directory).items():
        click.echo(f"{directory / name} ({'written' if name in written else 'as it was'})")
        click.echo(f"    {step}")


def main() -> None:
    """Enter from the console script."""
    with output.guarded():
        cli(prog_name="livestat-poller")
