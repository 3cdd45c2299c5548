"""What holds for every test: nothing leaks in, and where nothing may be skipped nothing is."""

from __future__ import annotations

import os

import pytest


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run for a skipped test where POLLER_TEST_NO_SKIP is set: it has proved nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter else 0
    if skipped and os.environ.get("POLLER_TEST_NO_SKIP") == "1" and session.exitstatus == 0:
        reporter.write_line(f"{skipped} tests were skipped; none may be here", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("POLLER_") and "__" in name:
            monkeypatch.delenv(name)
