"""The files that put the poller to work elsewhere, and where each goes next."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from poller.errors import PollerError

NEXT = {
    "livestat-poller.service": (
        "adapt the lines marked ADAPT, copy it to /etc/systemd/system/, then "
        "systemctl daemon-reload && systemctl enable --now livestat-poller"
    ),
    "environment": "set what the settings file does not, copy it to /etc/livestat-poller/",
    "Containerfile": "podman build -f Containerfile -t livestat-poller SOURCE_TREE",
    "prometheus-scrape.yml": "merge it into prometheus.yml, then reload Prometheus",
    "alerts.yml": "put it beside prometheus.yml, then promtool check rules alerts.yml",
    "alerts_test.yml": "after a change of alerts.yml: promtool test rules alerts_test.yml",
    "dashboard.json": "in Grafana: Dashboards, New, Import; choose the data source on top",
}
"""What is shipped, in the order of use: {file name: what to do with it}."""


class DiffersError(PollerError):
    """Files of these names are there with other content: nothing was written."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(", ".join(names))


def shipped(name: str) -> bytes:
    """Return the content of one shipped file."""
    return (resources.files("poller") / "deploy" / name).read_bytes()


def copy(directory: Path, force: bool = False) -> list[str]:
    """Copy every shipped file into a directory, made if need be; return the names written.

    A file that is there as it is shipped is left. Raises `DiffersError` before anything is
    written if one differs, unless `force`; `OSError` where the system refuses.
    """
    contents = {name: shipped(name) for name in NEXT}
    there = {name for name in NEXT if _is_there(directory / name)}
    differing = [
        name for name in NEXT if name in there and not _holds(directory / name, contents[name])
    ]
    if differing and not force:
        raise DiffersError(differing)
    directory.mkdir(parents=True, exist_ok=True)
    written = [name for name in NEXT if name not in there or name in differing]
    for name in written:
        (directory / name).write_bytes(contents[name])
    return written


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content
