"""Figures into tables: medians of the rounds, and ratios of medians."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from tests.bench.worker import Figures

Rounds = list[dict[str, Figures]]
"""The rounds of one size: the figures of each contestant."""


class Size(NamedTuple):
    """How many kernels, and how often their agents measure."""

    kernels: int
    measure_s: float

    def __str__(self) -> str:
        return f"{self.kernels} kernels every {self.measure_s:g} s"


PARTS = ("rounds", "query", "decode", "merge", "history", "encode", "write")
_LIBRARIES = ("aiohttp", "msgspec", "msgpack", "redis", "hiredis")
_SERVERS = (("prometheus", "--version"), ("redis-server", "--version"))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, its columns aligned to the right."""
    lines = [header, ["---:"] * len(header), *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(header))]
    return "\n".join(
        f"| {' | '.join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )


def _middle(rounds: Rounds, who: str, pick: Callable[[Figures], float]) -> float:
    return statistics.median(pick(one[who]) for one in rounds)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f}" if seconds >= 0.01 else f"{seconds * 1000:.1f}"


def median(rounds: Rounds, who: str, name: str) -> float:
    """Return the median of one figure of one contestant."""
    return _middle(rounds, who, lambda figures: float(figures[name]))


def poller_table(sizes: Mapping[Size, Rounds]) -> str:
    """Return the table of the poller's own cycle."""
    header = ["kernels", "every s", "written", "wall ms", "CPU ms", "peak MiB", *PARTS]
    header += ["loop blocked ms", "by own code", "collector ms"]
    return table(header, [_poller_row(size, rounds) for size, rounds in sizes.items()])


def _poller_row(size: Size, rounds: Rounds) -> list[str]:
    row = [f"{size.kernels:,}", f"{size.measure_s:g}"]
    row.append(f"{median(rounds, 'poller', 'kernels'):,.0f}")
    row += [_ms(median(rounds, "poller", name)) for name in ("wall_s", "cpu_s")]
    row.append(f"{max(_all(rounds, 'peak_mib')):.0f}")
    for part in PARTS:
        row.append(_ms(_middle(rounds, "poller", lambda figures: figures["parts"][part])))  # noqa: B023
    # The longest piece of all rounds: a median would hide what happens now and then.
    row += [_ms(max(_all(rounds, name))) for name in ("blocked_s", "blocked_own_s")]
    return [*row, _ms(median(rounds, "poller", "collector_s"))]


def _all(rounds: Rounds, name: str) -> list[float]:
    return [float(one["poller"][name]) for one in rounds]


def beside_table(sizes: Mapping[Size, Rounds]) -> str:
    """Return the table of the poller beside the floor, and beside the peer if it ran."""
    rows = []
    for size, rounds in sizes.items():
        for who in rounds[0]:
            about = [f"{size.kernels:,}", f"{size.measure_s:g}", who]
            rows.append([*about, *_beside_row(rounds, who)])
    header = ["kernels", "every s", "who", "wall ms", "CPU ms", "Prometheus' CPU ms", "peak MiB"]
    return table([*header, "poller's wall to it", "poller's CPU to it"], rows)


def _beside_row(rounds: Rounds, who: str) -> list[str]:
    names = ("wall_s", "cpu_s", "prometheus_s")
    row = [_ms(median(rounds, who, name)) for name in names]
    row.append(f"{max(float(one[who]['peak_mib']) for one in rounds):.0f}")
    if who == "poller":
        return [*row, "", ""]
    return row + [_ratio(rounds, who, name) for name in ("wall_s", "cpu_s")]


def _ratio(rounds: Rounds, who: str, name: str) -> str:
    ratio = median(rounds, "poller", name) / median(rounds, who, name)
    return f"{ratio:.2f}" if ratio >= 0.5 else f"1/{1 / ratio:.1f}"


def machine(load_before: float) -> str:
    """Return on what it was measured, when, and how busy that was by load averages."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    servers = ", ".join(_version_of(*command) for command in _SERVERS)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({_processor()}), "
        f"{pages * size / (1 << 30):.0f} GiB, {platform.system()}; "
        f"Python {platform.python_version()}, {libraries}; {servers}, on the same machine. "
        f"Load average before {load_before:.1f}, at the end {os.getloadavg()[0]:.1f}."
    )


def _processor() -> str:
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else platform.machine()


def _version_of(program: str, flag: str) -> str:
    told = subprocess.run([program, flag], capture_output=True, text=True, check=True)
    found = re.search(r"\d+\.\d+\.\d+", told.stdout + told.stderr)
    return f"{program.removesuffix('-server')} {found[0] if found else 'of unknown version'}"


def publish(
    section: str, command: str, load_before: float, tables: Iterable[str], into: Path | None
) -> None:
    """Print what was measured, and put it into a section of a Markdown file where one is given."""
    text = "\n\n".join([f"`{command}`", machine(load_before), *tables])
    print(text)
    if into is not None:
        put(into, section, text)


def put(path: Path, section: str, text: str) -> None:
    """Replace a section of a Markdown file: what stands between its two comments."""
    start, end = f"<!-- {section} -->", f"<!-- end of {section} -->"
    whole = path.read_text() if path.exists() else ""
    made = f"{start}\n{text}\n{end}"
    if start in whole and end in whole:
        before, _, rest = whole.partition(start)
        whole = before + made + rest.partition(end)[2]
    else:
        whole += f"\n{made}\n"
    path.write_text(whole)
