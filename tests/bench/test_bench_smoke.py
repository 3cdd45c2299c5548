"""The bench runs from end to end: at a small size, for one round, without the peer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.process import require

ROOT = Path(__file__).resolve().parents[2]


def test_the_bench_measures_every_kernel_and_keeps_the_rest_of_the_file(tmp_path: Path) -> None:
    require("prometheus")
    require("redis-server")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--kernels", "20", "--rounds", "1", "--pause", "0"]
        + ["--markdown", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    # Both wrote all of them: the floor has only what the poller left in the store.
    assert re.findall(r"\((\d+) kernels\)", ran.stderr) == ["20", "20"]
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert {"poller", "floor"} <= set(re.findall(r"\| +20 \| +(\w+) \|", text))
