"""`deploy-files`: unit, alert rules, dashboard, container (from `deploy/`), and where each goes."""

from __future__ import annotations

import contextlib
from importlib import resources
from pathlib import Path

from poller.errors import PollerError

PLACE = Path("/etc/livestat-poller")
"""Where the unit looks for its settings."""
NEXT = {
    "config.toml": "set what differs from the defaults{move}, then livestat-poller check",
    "livestat-poller.service": (
        "adapt the lines marked ADAPT, copy it to /etc/systemd/system/, then "
        "systemctl daemon-reload && systemctl enable --now livestat-poller"
    ),
    "environment": "set what config.toml does not, or leave it as it is{move}",
    "Containerfile": "podman build --format docker -f Containerfile -t livestat-poller SOURCE_TREE",
    "prometheus-scrape.yml": "merge it into prometheus.yml, then reload Prometheus",
    "alerts.yml": "put it beside prometheus.yml, then promtool check rules alerts.yml",
    "alerts_test.yml": "after a change of alerts.yml: promtool test rules alerts_test.yml",
    "dashboard.json": "in Grafana: Dashboards, New, Import; choose the data source on top",
    "README.md": "read it: settings, cut-over, what to do when something fails{move}",
}
"""What is shipped, in the order of use: {file name: what to do with it}."""
YOURS = frozenset({"config.toml", "environment"})
"""Files that are there to be changed: never overwritten."""
_TOP = Path(__file__).parents[2]
"""A source tree has some of the files at its top; an installed package has all in `deploy`."""


class DiffersError(PollerError):
    """Files of these names are there with other content: nothing was written."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(", ".join(names))


def steps(directory: Path) -> dict[str, str]:
    """Return what to do next with each file of a directory; a file in its place needs no copy."""
    move = "" if directory.resolve() == PLACE else f", copy it to {PLACE}/"
    return {name: step.format(move=move) for name, step in NEXT.items()}


def shipped(name: str) -> bytes:
    """Return the content of one shipped file."""
    packed = resources.files("poller") / "deploy" / name
    return packed.read_bytes() if packed.is_file() else (_TOP / name).read_bytes()


def copy(directory: Path, force: bool = False) -> list[str]:
    """Copy every shipped file into a directory, made if need be; return the names written.

    A file that is there as it is shipped is left, and so is one of `YOURS`. Raises
    `DiffersError` before anything is written if another one differs, unless `force`; `OSError`
    with the name of the file where the system refuses.
    """
    contents = {name: shipped(name) for name in NEXT}
    there = {name for name in NEXT if _is_there(directory / name)}
    differing = [
        name
        for name in NEXT
        if name in there - YOURS and not _holds(directory / name, contents[name])
    ]
    if differing and not force:
        raise DiffersError(differing)
    if not directory.is_dir():
        directory.mkdir(parents=True)
        directory.chmod(0o755)
    written = [name for name in NEXT if name not in there or name in differing]
    for name in written:
        _put((directory / name).resolve(), contents[name])
    return written


def _put(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: one cut short would pass for the operator's own.

    Everybody may read it, whatever the umask: the unit's user must, and it holds no secret.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        beside.write_bytes(content)
        beside.chmod(0o644)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from error


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
