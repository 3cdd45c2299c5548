"""Where the log goes and how it looks: text, JSON, or text with priorities for the journal."""

from __future__ import annotations

import logging
import os
import sys

from pythonjsonlogger.json import JsonFormatter

_PRIORITIES = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class _JournalFormatter(logging.Formatter):
    """Text behind the priority that systemd reads; the journal has the time itself."""

    def format(self, record: logging.LogRecord) -> str:
        first = f"<{_PRIORITIES.get(record.levelname, 6)}>"
        return "\n".join(first + line for line in super().format(record).splitlines())


def _formatter(style: str) -> logging.Formatter:
    if style == "json":
        return JsonFormatter(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    if os.environ.get("JOURNAL_STREAM"):
        return _JournalFormatter("%(levelname)s %(message)s")
    return logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")


def set_up(level: str, style: str) -> None:
    """Send the log to standard error. `level` is a name of logging's, `style` text or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(style))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("poller").setLevel(level.upper())
    # Its own lines about jobs say nothing that ours do not.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
