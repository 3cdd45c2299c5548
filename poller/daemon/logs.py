"""Where the log goes and how it looks: text or JSON; with priorities where the journal reads it."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

from pythonjsonlogger.json import JsonFormatter

_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class _UtcJsonFormatter(JsonFormatter):
    """One JSON object a line; `time` is UTC, so that logs of several hosts can be joined."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the record's time in ISO 8601 with milliseconds."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _JournalFormatter(logging.Formatter):
    """Another formatter's lines, each behind the priority that systemd reads and takes off."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        first = f"<{_PRIORITIES.get(record.levelname, 6)}>"
        return "\n".join(first + line for line in self._inner.format(record).splitlines())


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream goes to the journal.

    The variable alone does not tell: a terminal started from a service inherits it too.
    """
    told = os.environ.get("JOURNAL_STREAM")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return told == f"{status.st_dev}:{status.st_ino}"


def _formatter(style: str, journal: bool) -> logging.Formatter:
    if style == "json":
        return _UtcJsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={
                "asctime": "time",
                "levelname": "level",
                "name": "logger",
                "exc_info": "exception",
            },
        )
    if journal:  # it has the time itself
        return logging.Formatter("%(levelname)s %(message)s")
    return logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")


def set_up(level: str, style: str) -> None:
    """Send the log to standard error. `level` is a name of logging's, `style` text or json."""
    handler = logging.StreamHandler(sys.stderr)
    journal = _is_journal(sys.stderr)
    formatter = _formatter(style, journal)
    handler.setFormatter(_JournalFormatter(formatter) if journal else formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("poller").setLevel(level.upper())
    # Its own lines about jobs say nothing that ours do not.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    logging.getLogger("aiohttp.server").addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether an error of the endpoints is one: what a client sent amiss is the client's."""
    error = record.exc_info[1] if record.exc_info else None
    return not type(error).__module__.startswith("aiohttp.http_exceptions")
