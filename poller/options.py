"""What commands take: their settings and log, or a refusal; options that several of them have."""

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

_LEVEL = "poller.log_level"
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


CONFIG = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar="POLLER_CONFIG",
    help=f"The settings, a TOML file. Without it: {', then '.join(map(str, config.PLACES))}.",
)


def _keep_level(context: click.Context, option: click.Parameter, level: str | None) -> None:
    if level is not None:
        context.meta[_LEVEL] = level


LOG_LEVEL = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    callback=_keep_level,
    expose_value=False,
    help="Goes before log.level of the settings.",
)


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


def common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Accept --config and --log-level behind the command's name too."""
    return CONFIG(LOG_LEVEL(command))


def read(path: Path | None) -> Loaded:
    """Return the settings of that file or the usual places, tried for what they need of files.

    Sets the log up with them. Raises `ConfigError`.
    """
    from poller.poll import assembly

    loaded = config.read(config.locate(path))
    assembly.check(loaded.config)
    level = click.get_current_context().meta.get(_LEVEL, loaded.config.log.level)
    logs.set_up(level, loaded.config.log.format)
    return loaded


def loaded(path: Path | None) -> Loaded:
    """Return the settings as `read` does; bad ones are told, and end the command."""
    try:
        return read(path)
    except ConfigError as error:
        refuse(error)


def load(path: Path | None) -> Config:
    """Return the settings for a command that a person runs, and say where they come from."""
    found = loaded(path)
    click.echo(f"settings: {found}", err=True)
    return found.config


def refuse(error: ConfigError) -> NoReturn:
    """Tell what is wrong with the settings, and exit with the status of its kind."""
    for key, text in error.problems:
        click.echo(f"settings: {key}: {text}", err=True)
    sys.exit(error.status)
