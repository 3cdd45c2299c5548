"""Whose lease it is, and whether its holder has surely ended: held against real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from poller.store import holders
from poller.store.holders import has_ended, new_token
from tests.support.tokens import altered

TELLS = "from poller.store.holders import new_token; print(new_token(), flush=True); input()"


@pytest.fixture
def other() -> Iterator[subprocess.Popen[str]]:
    """Yield another process that has told its token, and lives."""
    with subprocess.Popen(
        [sys.executable, "-c", TELLS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def token_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_token_names_host_and_process_and_no_two_are_alike():
    assert new_token().split(":")[:2] == [os.uname().nodename, str(os.getpid())]
    assert len({new_token() for _ in range(100)}) == 100


def test_who_lives_has_not_ended():
    assert not has_ended(new_token())


def test_another_process_has_ended_once_it_was_killed(other: subprocess.Popen[str]):
    token = token_of(other)
    assert not has_ended(token)
    other.kill()
    other.wait()
    assert has_ended(token)


def test_who_has_the_number_of_one_that_ended_is_not_taken_for_it(other: subprocess.Popen[str]):
    assert has_ended(altered(token_of(other)))


def test_of_another_host_or_container_nobody_is_known_to_have_ended():
    assert has_ended(altered(new_token()))
    assert not has_ended(altered(new_token(), space="00000000"))
    assert not has_ended(altered(new_token(), space=""))


@pytest.mark.parametrize(
    "token",
    ["", "theirs", "host:12", "host:12:abc", "host:12:a-b", "host:12:a-b-c-d", "\ufffd:1:a-b-c",
     "host:4711:9f3a22c1d5e6f708"],
)  # fmt: skip
def test_what_no_poller_of_now_has_made_tells_of_no_end(token: str):
    assert not has_ended(token)


@pytest.mark.parametrize("number", ["-1", "0", "1.5", "x", ""])
def test_what_is_no_number_of_a_process_tells_of_no_end(number: str):
    assert not has_ended(altered(new_token(), number=number))


def test_a_number_that_no_process_can_have_is_nobodys():
    assert has_ended(altered(new_token(), number="9" * 30))


@pytest.mark.parametrize("there", ["nothing", "another's"])
def test_where_the_system_does_not_tell_nobody_has_ended(
    there: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    ended = altered(new_token())
    if there == "another's":
        (tmp_path / "self").symlink_to("1")
    monkeypatch.setattr(holders, "_PROC", tmp_path)
    holders._space.cache_clear()
    try:
        token = new_token()
        assert token.split(":")[2].startswith("--")
        assert not has_ended(token)
        assert not has_ended(ended)
    finally:
        holders._space.cache_clear()
