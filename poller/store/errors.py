"""What goes wrong with Redis, told apart. No address, command or credential is carried over."""

from __future__ import annotations

import redis.exceptions as gone_wrong

from poller.errors import StoreError

_RIGHTS = "compare the ACL user with the README's"
_BY_CLASS: tuple[tuple[type[Exception], str, str], ...] = (
    (gone_wrong.AuthenticationError, "unauthorized", "check redis.username and password_file"),
    (gone_wrong.AuthenticationWrongNumberOfArgsError, "unauthorized", "check redis.username"),
    (gone_wrong.NoPermissionError, "forbidden", _RIGHTS),
    (gone_wrong.BusyLoadingError, "loading", "the server reads its data set; it is asked again"),
    (gone_wrong.ReadOnlyError, "readonly", "this is a replica: point redis.url at the master"),
    (gone_wrong.OutOfMemoryError, "out_of_memory", "raise the server's maxmemory"),
    (gone_wrong.ClusterDownError, "cluster_down", "slots are without a master"),
    (gone_wrong.RedisClusterException, "cluster_down", "no node of the cluster answers"),
    (gone_wrong.TimeoutError, "timeout", "the server does not answer in redis.timeout_s"),
    (TimeoutError, "timeout", "the server does not answer in redis.timeout_s"),
    (gone_wrong.ConnectionError, "connection", "start the server, or check redis.url"),
    (OSError, "connection", "start the server, or check redis.url"),
)
_MOVING = "slots are moving; the key is written again next cycle"
_BY_TEXT = (
    ("WRONGTYPE", "wrong_type", "the key belongs to somebody else; it is left alone"),
    ("NOAUTH", "unauthorized", "set redis.password_file"),
    ("WRONGPASS", "unauthorized", "check redis.username and password_file"),
    ("NOPERM", "forbidden", _RIGHTS),
    ("The user executing the script", "forbidden", _RIGHTS),  # Redis 7.0
    ("ACL failure in script", "forbidden", _RIGHTS),  # Redis 7.2, Valkey
    ("MISCONF", "misconfigured", "the server refuses writes since it cannot save"),
    ("MASTERDOWN", "readonly", "the master is gone; wait for the failover"),
    ("LATE", "late", "the write came after the lease; synchronise the clocks of the nodes"),
    ("TRYAGAIN", "moved", _MOVING),
)


def translate(error: Exception) -> StoreError:
    """Return the library's error as ours."""
    if isinstance(error, StoreError):
        return error
    # In a transaction the library puts the command, and so the key, before the server's words.
    text = str(error).rpartition("of pipeline caused error: ")[2]
    for start, reason, advice in _BY_TEXT:
        if text.startswith(start):
            return StoreError(reason, start, advice)
    if isinstance(error, gone_wrong.MovedError | gone_wrong.AskError):
        return StoreError("moved", type(error).__name__, _MOVING)
    for kind, reason, advice in _BY_CLASS:
        if isinstance(error, kind):
            return StoreError(reason, type(error).__name__, advice)
    return StoreError("error_reply", text.split(" ", 1)[0][:40], "see the server's log")
