"""What goes wrong with Redis, told apart and in whole words.

No command's arguments and no credential is carried over; the store adds the address.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
from collections.abc import Iterator

import redis.exceptions as gone_wrong

from poller.errors import StoreError

_RIGHTS = "compare the ACL user with the README's"
_SECRET = "check redis.username and password_file, or those in redis.url"
_REACH = "start the server, or check redis.url"
_MOVING = "slots are moving; the key is written again next cycle"
_BROKE = "start the server, or look whether its maxclients are reached"
_BY_CLASS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str, str], ...] = (
    (gone_wrong.AuthenticationError, "unauthorized", "user or password is refused", _SECRET),
    (gone_wrong.AuthenticationWrongNumberOfArgsError, "unauthorized",
     "the server knows no users", "leave redis.username empty"),
    (gone_wrong.NoPermissionError, "forbidden", "the user may not do this", _RIGHTS),
    (gone_wrong.BusyLoadingError, "loading",
     "the server reads its data set", "it is asked again"),
    (gone_wrong.ReadOnlyError, "readonly",
     "the server is a replica and takes no writes", "point redis.url at the master"),
    (gone_wrong.OutOfMemoryError, "out_of_memory",
     "the server is out of memory", "raise the server's maxmemory"),
    (gone_wrong.MasterDownError, "readonly",
     "the replica has lost its master", "the master is gone; wait for the failover"),
    (gone_wrong.TryAgainError, "moved", "slots are moving", _MOVING),
    (gone_wrong.ClusterDownError, "cluster_down",
     "the cluster is down", "slots are without a master"),
    (gone_wrong.RedisClusterException, "cluster_down", "no node of the cluster answers", _REACH),
    ((gone_wrong.TimeoutError, TimeoutError), "timeout",
     "no answer in time", "the server does not answer in redis.timeout_s"),
    (gone_wrong.ConnectionError, "connection", "the connection broke", _BROKE),
    (OSError, "connection", "no connection can be made", _REACH),
)  # fmt: skip
"""(class, reason, what it says, advice), the first that fits."""
_NOPERM = ("The user executing the script", "ACL failure in script")
"""How a script's refusal begins in Redis 7.0, and from 7.2 or Valkey on."""
_BY_TEXT: tuple[tuple[str | tuple[str, ...], str, str, str], ...] = (
    ("WRONGTYPE", "wrong_type",
     "the key holds another type than string",
     "the key belongs to somebody else; it is left alone"),
    ("Authentication required", "unauthorized", "a password is asked for", _SECRET),
    (_NOPERM, "forbidden", "the user may not do this", _RIGHTS),
    ("MISCONF", "misconfigured",
     "the server takes no writes", "the server refuses writes since it cannot save"),
    ("No master found", "connection",
     "no sentinel that answers knows the master", "start the sentinels, or check redis.url"),
    ("max number of clients reached", "connection",
     "the server takes no more connections", "raise its maxclients, or find who holds so many"),
    ("another cluster answers", "cluster_down",
     "what answers is of another cluster",
     "it is a node that left this one; start those of redis.url"),
    ("LATE", "late",
     "the write came after the lease",
     "the write came after the lease; synchronise the clocks of the nodes"),
    ("DB index", "error_reply",
     "the server has no database of that number", "check the number at the end of redis.url"),
    ("invalid DB index", "error_reply", "that is no database", "check redis.url"),
    ("This instance has cluster support disabled", "error_reply",
     "the server is no part of a cluster", "write redis:// instead of redis+cluster://"),
)  # fmt: skip
"""(how the server's text begins, reason, what it says, advice).

For what the library has no class, or one that says less; it cuts the code off a text for which it
has a class.
"""
_COMMAND = re.compile(r"(?:run the|command) ['`]([A-Za-z|]+)['`]", re.ASCII)
_SAID = re.compile(r""".* of pipeline caused error: (?:\(['"])?""", re.DOTALL)
"""What the library puts before the server's words in a pipeline: the command, and so the key."""
_OF_A_KEY = re.compile("access (a key|one of the keys)")
_TOLD = 80


REASONS = tuple(sorted({row[1] for row in (*_BY_CLASS, *_BY_TEXT)} | {"moved", "error_reply"}))
"""Every reason of a failure, also of a key's that could not be written."""


def translate(error: Exception) -> StoreError:
    """Return the library's error as ours."""
    if isinstance(error, StoreError):
        return error
    text = _SAID.sub("", str(error), count=1)
    for start, reason, words, advice in _BY_TEXT:
        if text.startswith(start):
            return StoreError(reason, _with_command(words, reason, text), advice)
    if isinstance(error, gone_wrong.MovedError | gone_wrong.AskError):
        words = "the key is on another node"
        return StoreError("moved", words, f"a cluster wants redis+cluster://; or {_MOVING}")
    for kind, reason, words, advice in _BY_CLASS:
        if isinstance(error, kind):
            if reason == "connection" and (why := _reach_words(error)):
                words, advice = why, advice if _hung_up(error) else _REACH
            return StoreError(reason, _with_command(words, reason, text), advice)
    return StoreError("error_reply", f"the server says: {_shortened(text)}", "see its log")


def is_of_key(error: Exception) -> bool:
    """Whether an error is about the key of a command alone: its type, or the right to it."""
    if isinstance(error, gone_wrong.NoPermissionError):
        return bool(_OF_A_KEY.search(str(error)))
    return translate(error).reason == "wrong_type"


def refusal(reason: str) -> StoreError:
    """Return the error of a server that refuses for a reason, where it did not say so itself."""
    words, advice = next((said, does) for _, name, said, does in _BY_CLASS if name == reason)
    return StoreError(reason, words, advice)


def _with_command(words: str, reason: str, text: str) -> str:
    """Name the command that a user may not run, in place of what it says in general."""
    found = _COMMAND.search(text) if reason == "forbidden" else None
    return f"the user may not run {found[1].upper()}" if found else words


def _reach_words(error: BaseException) -> str:
    """Return why no connection came about, by what the library's error came of."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted: {cause.verify_message}".rstrip(": ")
        if isinstance(cause, ssl.SSLError):
            return "no TLS connection can be made"
        if isinstance(cause, socket.gaierror):
            return "the host name does not resolve"
        if isinstance(cause, OSError) and cause.errno:
            return os.strerror(cause.errno).lower()  # the error's own text would name addresses
    return ""


def _hung_up(error: BaseException) -> bool:
    """Whether a server was there and ended the connection."""
    return any(isinstance(one, ConnectionResetError | BrokenPipeError) for one in _causes(error))


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(5):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__


def _shortened(text: str) -> str:
    """Return a server's words as far as they tell nothing of what was sent."""
    own = re.split(r"[,:'`\"]", text, maxsplit=1)[0]
    return "".join(mark if mark.isprintable() else " " for mark in own)[:_TOLD].strip()
