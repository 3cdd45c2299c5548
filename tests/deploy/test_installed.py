"""The poller as people get it: a wheel that an index would take, installed without this tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import ROOT, environment

pytestmark = [pytest.mark.servers, pytest.mark.slow(60)]  # it builds, installs and runs


def ran(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program to its end; its output, or a failed test that shows it."""
    env = {name: value for name, value in environment().items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, env=env, cwd=cwd or Path(os.sep), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("dist")
    # Through the source distribution, so that this too is known to be whole.
    ran(sys.executable, "-m", "build", "--outdir", target, ROOT)
    (made,) = target.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("installed")
    ran(sys.executable, "-m", "venv", place)
    pip = place / "bin" / "pip"
    # What is not imported need not be compiled.
    ran(pip, "install", "-q", "--no-compile", f"livestat-poller[demo] @ {wheel.as_uri()}")
    return place / "bin" / "livestat-poller"


def test_an_index_would_take_what_is_built(wheel: Path) -> None:
    built = sorted(wheel.parent.iterdir())
    assert [path.name.endswith((".whl", ".tar.gz")) for path in built] == [True, True]
    ran(sys.executable, "-m", "twine", "check", "--strict", *built)


def test_what_is_installed_brings_its_files_and_takes_its_own_settings(
    program: Path, tmp_path: Path
) -> None:
    ran(program, "deploy-files", tmp_path)
    assert (tmp_path / "config.toml").read_bytes() == (ROOT / "config.toml").read_bytes()
    told = ran(program, "check", "--settings", cwd=tmp_path)
    assert told.startswith(f"# settings: {tmp_path / 'config.toml'}")
    assert "\nttl_s = 86400" in told


def test_what_is_installed_polls(program: Path) -> None:
    said = ran(program, "demo", "--kernels", "3", "--duration", "6")
    assert "real, livestat-poller " in said
    assert "and wrote 0 keys" not in said
    assert " keys." in said


def test_what_is_installed_has_its_page(program: Path) -> None:
    code = "from poller.daemon import page; print(page.POLICY)"
    assert ran(program.parent / "python", "-c", code).startswith("default-src 'none'; style-src")
