"""The bench runs from end to end: at a small size, for one round, without the peer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.process import require

ROOT = Path(__file__).resolve().parents[2]


def test_the_bench_measures_both_clocks_and_keeps_the_rest_of_the_file(tmp_path: Path) -> None:
    require("prometheus")
    require("redis-server")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results -->\nold\n<!-- end of results -->\nafter\n")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--kernels", "80", "--rounds", "1", "--pause", "0"]
        + ["--measure", "5,30", "--markdown", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    # Both wrote what was measured: the floor has only what the poller left in the store.
    written = re.findall(r"\((\d+) kernels\)", ran.stderr)
    assert written[:2] in (["80", "80"], ["77", "77"])
    assert written[2] == written[3]
    assert 10 <= int(written[2]) <= 20
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    told = set(re.findall(r"\| +80 \| +(\d+) \| +([a-z]+) \|", text))
    assert told == {(every, who) for every in ("5", "30") for who in ("poller", "floor")}
