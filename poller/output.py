"""Whether a command's output can go on: a closed pipe, a full disk, a stream never opened."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why a file that the output goes to takes no more of it."""
_NOBODY_READS = 128 + signal.SIGPIPE


@contextmanager
def guarded() -> Iterator[None]:
    """Run a command; where its output fails, say so in a line and exit, without a traceback."""
    _open_what_is_closed()
    out = sys.stdout
    try:
        try:
            yield
        except SystemExit:
            if sys.stdout is not out:  # click has put another in its place: nobody reads
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
            raise
        finally:
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in (*_NO_ROOM, errno.EPIPE):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes nowhere
        if error.errno == errno.EPIPE:
            sys.exit(_NOBODY_READS)
        click.echo(f"the output cannot be written: {error.strerror}", err=True)
        sys.exit(1)


def _open_what_is_closed() -> None:
    """Let what is said go nowhere where the caller has closed a stream, as `>&-` does."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
            setattr(sys, name, os.fdopen(number, "w", encoding="utf-8"))
