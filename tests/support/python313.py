"""Virtual environments of Python 3.13, which Backend.AI's own packages need.

They are kept in the user's cache: only the first run of any checkout has to install them, and test
processes that run side by side share them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from .process import skip

_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
FOLDER = _CACHE / "livestat-poller-tests" / "python-3.13"
_INSTALL_S = 1500.0


def environment(name: str, *requirements: str, folder: Path = FOLDER) -> Path:
    """Return the Python of the environment `name`, with these requirements installed.

    Without a Python 3.13 the test is skipped, or fails where none may be skipped.
    """
    place, wanted = folder / name, "\n".join(requirements)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f"{name}.lock"):
        if not _is_complete(place, wanted):
            _build(place, requirements)
            _marker(place).write_text(wanted)
    return place / "bin" / "python"


def find() -> str:
    """Return a Python 3.13; skip without one, or fail where nothing may be skipped."""
    managed = sorted(Path.home().glob(".pyenv/versions/3.13*/bin/python"))
    candidates = (shutil.which("python3.13"), *map(str, managed))
    found = next((one for one in candidates if one and _is_python313(one)), None)
    if found is None:
        skip("no Python 3.13: Backend.AI's own packages need it")
    return found


def _is_python313(candidate: str) -> bool:
    command = [candidate, "-c", "import sys; print(sys.version_info[:2])"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except OSError:
        return False
    return done.stdout.strip() == "(3, 13)"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _marker(place: Path) -> Path:
    return place / "requirements"


def _is_complete(place: Path, wanted: str) -> bool:
    """Whether it was built to its end: the marker is written last."""
    marker = _marker(place)
    return marker.is_file() and marker.read_text() == wanted


def _build(place: Path, requirements: Sequence[str]) -> None:
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([find(), "-m", "venv", str(place)], check=True, timeout=300)
    install = [str(place / "bin" / "pip"), "install", "-q", *requirements]
    subprocess.run(install, check=True, timeout=_INSTALL_S)
