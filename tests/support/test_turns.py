"""How tests are run: those of real processes are heard again alone, and skips are counted."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from tests.conftest import starts_processes
from tests.support import process, scripted
from tests.support.command import environment
from tests.support.turns import Turns

pytestmark = pytest.mark.servers  # it starts pytest
RULES = "from tests.conftest import *\n"
FAILING = """
import pathlib

def judged(name, anew):
    seen = pathlib.Path(name)
    met = seen.exists() and anew
    seen.touch()
    return met

def test_once(): assert judged("once" + __name__, True)
def test_always(): assert judged("always" + __name__, False)
"""
STARTS = "from tests.support.process import require\n"
SKIPPED = 'import pytest\ndef test_it(): pytest.skip("no")\n'


def run(folder: Path, *arguments: str, **texts: str) -> tuple[int, str]:
    """Run modules of tests under our rules; return the exit status and what was told."""
    (folder / "conftest.py").write_text(RULES)
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *arguments],
        cwd=folder,
        env=_outside() | {"POLLER_TEST_NO_SKIP": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


def _outside() -> dict[str, str]:
    """Return the environment of a run of its own: as part of this one it would wait for us."""
    return {
        name: value for name, value in environment().items() if not name.startswith("PYTEST_XDIST")
    }


def outcomes(told: str) -> dict[str, str]:
    """Return {test: outcome} of the summary."""
    return {test: outcome for outcome, test in re.findall(r"(?m)^(PASSED|FAILED) (\S+)", told)}


def test_a_test_of_real_processes_that_fails_beside_others_is_judged_alone(tmp_path: Path) -> None:
    status, told = run(tmp_path, "-n", "2", test_a=STARTS + FAILING, test_b=FAILING)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert outcomes(told) == {
        "test_a.py::test_once": "PASSED",
        "test_a.py::test_always": "FAILED",
        "test_b.py::test_once": "FAILED",
        "test_b.py::test_always": "FAILED",
    }
    assert told.count("failed beside others, and passed alone") == 1
    assert "test_a.py::test_once failed beside others" in told


def test_where_there_are_no_others_a_failure_is_one(tmp_path: Path) -> None:
    status, told = run(tmp_path, "-n", "0", test_a=STARTS + FAILING)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert set(outcomes(told).values()) == {"FAILED"}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_skipped_test_fails_the_run_where_none_may_be(tmp_path: Path, workers: str) -> None:
    status, told = run(tmp_path, "-n", workers, test_it=SKIPPED)
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "1 tests were skipped; none may be here" in told


def test_what_starts_processes_is_known_by_what_it_has_at_hand() -> None:
    assert starts_processes(sys.modules[__name__]) is False
    assert starts_processes(process) is True
    assert starts_processes(scripted) is False


def test_one_alone_waits_for_those_beside_each_other_and_holds_up_new_ones() -> None:
    turns = Turns(uuid.uuid4().hex)
    order: list[str] = []

    def alone() -> None:
        with turns.alone():
            order.append("alone")

    def beside() -> None:
        with turns.beside():
            order.append("later")

    with turns.beside(), turns.beside():
        threads = [threading.Thread(target=work) for work in (alone, beside)]
        for thread in threads:
            thread.start()
            thread.join(0.3)
        order.append("beside")
    for thread in threads:
        thread.join()
    assert order == ["beside", "alone", "later"]
