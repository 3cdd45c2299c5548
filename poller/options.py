"""Options that several commands share; reads the settings and sets the log up for a command."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from poller import config
from poller.config import Config, Loaded
from poller.daemon import logs
from poller.errors import ConfigError

_MINE = "poller."
_MILLISECONDS = 1e11
"""No instant in Unix seconds that anybody asks for; one of today in milliseconds is larger."""


class Seconds(click.FloatRange):
    """A number of seconds, finite and not negative."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; what is none is a usage error."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no finite number.", param, ctx)
        return found


class UnixSeconds(Seconds):
    """An instant in Unix seconds."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the instant; what cannot be one is a usage error."""
        found = super().convert(value, param, ctx)
        if found > _MILLISECONDS:
            self.fail(f"{value} is too late; is it in milliseconds? take seconds.", param, ctx)
        return found


def _keep(context: click.Context, option: click.Parameter, value: object) -> None:
    """Keep what an option says; a command's own goes before the one in front of it."""
    if value is not None:
        context.meta[f"{_MINE}{option.name}"] = value


def _kept(name: str) -> Any:
    return click.get_current_context().meta.get(_MINE + name)


def common(command: Callable[..., Any], variable: str | None = None) -> Callable[..., Any]:
    """Accept --config and --log-level, before and behind the command's name.

    `variable` of the environment holds the file where no option names one.
    """
    configured = click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar=variable,
        callback=_keep,
        expose_value=False,
        help=f"The settings, a TOML file. Without it: {', then '.join(map(str, config.PLACES))}.",
    )
    levelled = click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        callback=_keep,
        expose_value=False,
        help="Goes before log.level of the settings.",
    )
    return configured(levelled(command))


KERNELS = click.option(
    "--kernel",
    "kernels",
    multiple=True,
    metavar="UUID",
    help="Only this kernel, by its id or a beginning that no other has; repeatable.",
)
ALLOW_EMPTY = click.option(
    "--allow-empty", is_flag=True, help="That there is no kernel at all is in order."
)
DURATION = click.option(
    "--duration",
    "duration_s",
    type=Seconds(),
    metavar="SECONDS",
    help="End after so long; without it: Ctrl-C.",
)
AT = click.option(
    "--time",
    "at",
    type=UnixSeconds(),
    metavar="UNIX_SECONDS",
    help="Evaluate at that instant.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def read(path: Path | None) -> Loaded:
    """Return the settings of that file or the usual places, tried for what they need of files.

    Sets the log up with them. Raises `ConfigError`.
    """
    from poller.poll import assembly

    loaded = config.read(config.locate(path))
    assembly.check(loaded.config)
    logs.set_up(_kept("log_level") or loaded.config.log.level, loaded.config.log.format)
    return loaded


def loaded() -> Loaded:
    """Return the settings that were asked for; bad ones are told, and end the command."""
    try:
        return read(_kept("config"))
    except ConfigError as error:
        refuse(error)


def load() -> Config:
    """Return the settings for a command that a person runs, and say where they come from."""
    found = loaded()
    click.echo(f"settings: {found}", err=True)
    return found.config


def refuse(error: ConfigError) -> NoReturn:
    """Tell what is wrong with the settings, and exit with the status of its kind."""
    for key, text in error.problems:
        click.echo(f"settings: {key}: {text}", err=True)
    sys.exit(error.status)
