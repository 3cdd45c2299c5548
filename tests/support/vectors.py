"""The recorded runs of a real agent that the tests ship."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from .timeline import Timeline

FOLDER = Path(__file__).parent.parent / "vectors"
NAMES = tuple(sorted(path.name for path in FOLDER.iterdir() if path.is_dir()))
FOLLOWED = tuple(name for name in NAMES if (FOLDER / name / "timeline.json.gz").is_file())
"""Recordings with every value that the agent wrote, and with the rounds that it counted."""


class Vector:
    """One run: `snapshots` as recorded, and where its samples are unpacked."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.profile = "26.9" if "26.9" in name else "classic"
        self.samples = folder / f"{name}.om"
        with gzip.open(FOLDER / name / "samples.om.gz") as packed, self.samples.open("wb") as file:
            shutil.copyfileobj(packed, file)
        self.expected: dict[str, Any] = json.loads((FOLDER / name / "expected.json").read_text())

    def timeline(self) -> Timeline:
        """Return everything that the agent wrote, of a recording of `FOLLOWED`."""
        packed = (FOLDER / self.name / "timeline.json.gz").read_bytes()
        return Timeline(json.loads(gzip.decompress(packed)))

    def snapshot(self, name: str) -> dict[str, Any]:
        """Return the snapshot of that name: its time, and what the agent had written."""
        return next(one for one in self.expected["snapshots"] if one["name"] == name)
