"""The real command line in a process of its own, set up by environment variables alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from .forked import Forked

ROOT = Path(__file__).parent.parent.parent
DEPLOY = Path(str(resources.files("poller"))) / "deploy"
_TIMEOUT_S = 120.0


def environment(
    prometheus_url: str | None = None, redis_url: str | None = None, **settings: object
) -> dict[str, str]:
    """Return the environment of a poller. `settings` are named `section__key`.

    No variable of ours leaks in from outside, and nothing listens.
    """
    made = {name: value for name, value in os.environ.items() if not name.startswith("POLLER_")}
    made |= {"POLLER_HTTP__ENABLED": "false", "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    if prometheus_url is not None:
        made["POLLER_PROMETHEUS__URL"] = prometheus_url
    if redis_url is not None:
        made["POLLER_REDIS__URL"] = redis_url
    made |= {f"POLLER_{name.upper()}": str(value) for name, value in settings.items()}
    return made


def poller(
    *arguments: str, env: Mapping[str, str], cwd: Path | None = None, timeout_s: float = _TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end; the caller looks at the exit status."""
    where = cwd or Path(os.sep)  # a config.toml that lies about must not count
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = Forked(arguments, env, where, out, err)
        try:
            status = process.wait(timeout_s)
        finally:
            process.kill()
        return subprocess.CompletedProcess(arguments, status, out.read_text(), err.read_text())


def checked(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a checker; its output, or a failed test that shows it."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=_TIMEOUT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def start_poller(*arguments: str, env: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start a command; its log is on `stderr`. The caller ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "poller", *arguments],
        env=dict(env),
        cwd=Path(os.sep),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
