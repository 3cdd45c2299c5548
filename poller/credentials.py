"""What goes with each connection: headers, users, passwords; their files are read anew."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import SecretStr

from poller.errors import UnreadableFile
from poller.relations import CONTROL
from poller.settings import Prometheus, RedisSection

HIDDEN = "(hidden)"
_PASSWORDS = (
    (re.compile(r"(?<=://)([^/@:]*):.*@"), rf"\1:{HIDDEN}@"),  # up to the last @, to be safe
    (re.compile(r"(?<=://)[^/@:]+@"), f"{HIDDEN}@"),  # a user alone: often a token or a password
    (re.compile(r"([?&](?!(?:db|username)=)[^=&]*=)[^&]*"), rf"\1{HIDDEN}"),
)


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    for pattern, instead in _PASSWORDS:
        url = pattern.sub(instead, url)
    return url


class SecretFile:
    """A file that holds one line, read again whenever the file has changed."""

    def __init__(self, path: Path, key: str) -> None:
        self._path = path.absolute()
        self._key = key
        self._seen: tuple[int, int] | None = None
        self._text = ""

    def __call__(self) -> str:
        """Return the secret. A file that vanishes or is empty for a moment keeps its last content.

        Raises `UnreadableFile` where it never held a secret.
        """
        try:
            status = self._path.stat()
            if (status.st_mtime_ns, status.st_size) != self._seen:
                self._text = _one_line(self._path.read_text("utf-8-sig"))
                self._seen = (status.st_mtime_ns, status.st_size)
        except (OSError, ValueError) as error:
            if self._seen is None:
                problem = f"{self._path} cannot be read: {_why(error)}"
                raise UnreadableFile([(self._key, problem)]) from error
        return self._text


def _one_line(text: str) -> str:
    line = text.rstrip("\r\n")
    if "\n" in line or "\r" in line:
        raise ValueError("it holds several lines, and a secret is one")
    if not line.strip():  # it would pass for no authentication at all
        raise ValueError("it is empty")
    if CONTROL.search(line):
        raise ValueError("it holds a control character")
    return line


def _why(error: OSError | ValueError) -> str:
    """Return what is wrong with a file, and nothing that is in it."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)


def _secret(given: SecretStr, path: Path | None, key: str) -> Callable[[], str]:
    if path is not None:
        return SecretFile(path, key)
    return given.get_secret_value


def prometheus_headers(settings: Prometheus) -> Callable[[], Mapping[str, str]]:
    """Return what gives the headers of a query: the settings' own, and those that authenticate."""
    files = {
        name: SecretFile(path, f"prometheus.header_files.{name}")
        for name, path in settings.header_files.items()
    }
    password = _secret(settings.password, settings.password_file, "prometheus.password_file")
    token = _secret(
        settings.bearer_token, settings.bearer_token_file, "prometheus.bearer_token_file"
    )
    fixed = {name: value.get_secret_value() for name, value in settings.headers.items()}

    def headers() -> Mapping[str, str]:
        made = {**fixed, **{name: read() for name, read in files.items()}}
        if bearer := token():
            made["Authorization"] = f"Bearer {bearer}"
        elif settings.username:
            pair = f"{settings.username}:{password()}".encode()
            made["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return made

    return headers


def redis_credentials(settings: RedisSection) -> Callable[[], tuple[str | None, str | None]]:
    """Return what gives (user, password) for a new connection; None where not set."""
    password = _secret(settings.password, settings.password_file, "redis.password_file")
    return lambda: (settings.username or None, password() or None)


def sentinel_credentials(settings: RedisSection) -> Callable[[], tuple[str | None, str | None]]:
    """Return what gives (user, password) for a connection to a sentinel."""
    password = _secret(
        settings.sentinel_password, settings.sentinel_password_file, "redis.sentinel_password_file"
    )
    return lambda: (settings.sentinel_username or None, password() or None)
