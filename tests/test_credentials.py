"""Secrets in files: what is one, what is refused, and what a rotation leaves standing."""

from __future__ import annotations

from pathlib import Path

import pytest

from poller.credentials import SecretFile, prometheus_headers, redis_credentials
from poller.errors import UnreadableFile
from poller.settings import Prometheus, RedisSection


@pytest.mark.parametrize(
    ("held", "why"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"  \r\n", "it is empty"),
        (b"one\ntwo\n", "it holds several lines, and a secret is one"),
        (b"to\x00ken", "it holds a control character"),
        (b"\x1b[0mtoken\n", "it holds a control character"),
        (b"token\x7f", "it holds a control character"),
        (b"\xff\xfe", "is not UTF-8"),
    ],
)
def test_what_is_no_secret_is_refused_with_its_key_and_path(tmp_path: Path, held: bytes, why: str):
    path = tmp_path / "secret"
    path.write_bytes(held)
    with pytest.raises(UnreadableFile) as caught:
        SecretFile(path, "redis.password_file")()
    assert caught.value.status == 3
    assert caught.value.problems == [("redis.password_file", f"{path} cannot be read: {why}")]


def test_a_byte_order_mark_is_no_part_of_a_secret(tmp_path: Path):
    path = tmp_path / "secret"
    path.write_bytes(b"\xef\xbb\xbfhush\r\n")
    assert SecretFile(path, "redis.password_file")() == "hush"


@pytest.mark.parametrize("meanwhile", [b"", b"\n", b"sec\x00ond"])
def test_a_file_that_is_truncated_for_a_moment_keeps_its_last_content(
    tmp_path: Path, meanwhile: bytes
):
    path = tmp_path / "secret"
    path.write_text("first\n")
    secret = SecretFile(path, "redis.password_file")
    assert secret() == "first"
    path.write_bytes(meanwhile)
    assert [secret(), secret()] == ["first", "first"]
    path.write_text("second\n")
    assert secret() == "second"


def test_a_file_of_a_relative_path_is_named_with_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableFile, match=f": {tmp_path / 'secret'} cannot be read"):
        SecretFile(Path("secret"), "redis.password_file")()


def test_an_empty_file_is_not_no_authentication(tmp_path: Path):
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(UnreadableFile, match=r"redis\.password_file"):
        redis_credentials(RedisSection(username="livestat-poller", password_file=empty))()
    with pytest.raises(UnreadableFile, match=r"prometheus\.bearer_token_file"):
        prometheus_headers(Prometheus(bearer_token_file=empty))()
    with pytest.raises(UnreadableFile, match=r"prometheus\.header_files\.X-Token"):
        prometheus_headers(Prometheus(header_files={"X-Token": empty}))()
