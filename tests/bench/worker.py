"""A process that is measured: takes a request a line as JSON, gives a line of figures back.

The process is its own so that its processor time and its peak memory are nobody else's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

Figures = dict[str, Any]
"""What a worker says of one round: names to seconds, counts, texts."""

ROOT = Path(__file__).resolve().parents[2]


def peak_mib() -> float:
    """Return the peak memory of this process since it was started, in MiB.

    Not `ru_maxrss`, which begins with what the parent process had.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell a process' peak memory")


def used_s(pid: int) -> float:
    """Return the processor seconds that another process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def measured(figures: Figures) -> Any:
    """Put wall and own processor time of the block into `figures`."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    figures["wall_s"] = time.perf_counter() - wall
    figures["cpu_s"] = time.process_time() - cpu


async def serve(answer: Callable[[Figures], Awaitable[Figures]]) -> None:
    """Answer requests until there are no more."""
    for line in sys.stdin:
        print(json.dumps(await answer(json.loads(line))), flush=True)


class Worker:
    """The other side: starts `python -m module arguments` and asks it."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, **request: Any) -> Figures:
        """Return the figures for one request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a worker ended with status {self._process.wait()}")
        figures: Figures = json.loads(line)
        return figures
