"""How the log looks: text, JSON, and priorities for the journal."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.support.command import ROOT
from tests.support.daemon import DaemonProcess
from tests.support.process import wait_until
from tests.support.servers import Redis

SCRIPT = """
import logging, sys
from poller.daemon import logs
logs.set_up(sys.argv[2], sys.argv[1])
log = logging.getLogger("poller")
log.debug("debug")
log.info("two\\nlines", extra={"subject": "redis", "reason": "timeout"})
log.warning("50 %s", "%")
try:
    {}["absent"]
except KeyError:
    log.exception("unexpected")
logging.getLogger("other.library").info("chatter")
logging.getLogger("apscheduler.scheduler").error("chatter")
"""
SECRET = "s3cret-that-nobody-may-read"


def logged(tmp_path: Path, style: str, level: str = "info", journal: str | None = None) -> str:
    """Return what the script logs. `journal` is JOURNAL_STREAM; "here" names the very file."""
    path = tmp_path / "stderr"
    with path.open("w") as log:
        status = os.fstat(log.fileno())
        env = {name: value for name, value in os.environ.items() if name != "JOURNAL_STREAM"}
        if journal is not None:
            here = f"{status.st_dev}:{status.st_ino}"
            env["JOURNAL_STREAM"] = here if journal == "here" else journal
        command = [sys.executable, "-c", SCRIPT, style, level]
        subprocess.run(command, env=env, cwd=ROOT, stderr=log, check=True, timeout=60)
    return path.read_text()


def test_text_has_the_time_the_level_and_the_message(tmp_path: Path) -> None:
    lines = logged(tmp_path, "text").splitlines()
    stamp = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    assert re.fullmatch(rf"{stamp} INFO    two", lines[0])
    assert re.fullmatch(rf"{stamp} WARNING 50 %", lines[2])
    assert re.fullmatch(rf"{stamp} ERROR   unexpected", lines[3])
    assert lines[-1] == "KeyError: 'absent'"


def test_json_is_one_object_a_line_with_the_fields_and_the_exception(tmp_path: Path) -> None:
    before = datetime.now(UTC).timestamp()
    records = [json.loads(line) for line in logged(tmp_path, "json").splitlines()]
    after = datetime.now(UTC).timestamp()
    for record in records:
        stamp = datetime.fromisoformat(record.pop("time"))
        assert stamp.utcoffset() is not None
        assert before - 0.001 <= stamp.timestamp() <= after
    exception = records[2].pop("exception")
    assert exception.startswith("Traceback (most recent call last):\n")
    assert exception.endswith("KeyError: 'absent'")
    base = {"logger": "poller"}
    assert records == [
        {
            **base,
            "level": "INFO",
            "message": "two\nlines",
            "subject": "redis",
            "reason": "timeout",
        },
        {**base, "level": "WARNING", "message": "50 %"},
        {**base, "level": "ERROR", "message": "unexpected"},
    ]


def test_the_journal_gets_a_priority_before_every_line_and_no_time(tmp_path: Path) -> None:
    lines = logged(tmp_path, "text", "debug", "here").splitlines()
    assert lines[:5] == [
        "<7>DEBUG debug",
        "<6>INFO two",
        "<6>lines",
        "<4>WARNING 50 %",
        "<3>ERROR unexpected",
    ]
    assert lines[5] == "<3>Traceback (most recent call last):"
    assert lines[-1] == "<3>KeyError: 'absent'"
    assert all(re.match(r"<\d>", line) for line in lines)


def test_json_in_the_journal_has_priorities_too(tmp_path: Path) -> None:
    lines = logged(tmp_path, "json", journal="here").splitlines()
    assert [line[:3] for line in lines] == ["<6>", "<4>", "<3>"]
    assert [json.loads(line[3:])["level"] for line in lines] == ["INFO", "WARNING", "ERROR"]


def test_a_terminal_that_inherits_the_variable_is_not_the_journal(tmp_path: Path) -> None:
    assert "<" not in logged(tmp_path, "text", journal="1:1").split("Traceback")[0]


@pytest.mark.parametrize(
    ("level", "expected"),
    [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)],
)
def test_the_level_is_the_lowest_that_is_shown(tmp_path: Path, level: str, expected: int) -> None:
    lines = logged(tmp_path, "json", level).splitlines()
    assert len(lines) == expected
    assert "chatter" not in "".join(lines)


def test_no_secret_is_ever_logged(tmp_path: Path) -> None:
    """As JSON, which has all that text has and more."""
    password_file = tmp_path / "password"
    password_file.write_text(f"{SECRET}-file\n")
    with Redis(password="another") as valkey:
        url = f"redis://user:{SECRET}-url@{valkey.host}:{valkey.port}/0"
        settings = {
            "poll__interval_s": 0.5,
            "log__level": "debug",
            "log__format": "json",
            "prometheus__headers": json.dumps({"X-Token": f"{SECRET}-header"}),
            "prometheus__header_files": json.dumps({"X-Other": str(password_file)}),
        }
        dead = f"http://user:{SECRET}-query@127.0.0.1:9"
        with DaemonProcess(dead, url, **settings) as daemon:
            wait_until(lambda: "prometheus" in daemon.log, "a failure of Prometheus")
            seen = daemon.log + daemon.page("/metrics")[1] + daemon.page("/-/ready")[1]
            seen += "\n".join(daemon.told())
            daemon.stop()
            seen += daemon.log
    assert "refused" in seen
    assert SECRET not in seen
