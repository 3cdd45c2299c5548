"""Keys in and out of Redis or Valkey: standalone, Sentinel, Cluster.

Time limits and retries are ours: with its defaults the library takes almost a minute to give
up on a black-holed server, and sends a wrong password eleven times.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import redis.exceptions as gone_wrong
from redis.asyncio import Redis, Sentinel
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import ConnectionPool, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from poller.errors import LeaseLost, StoreError

AnyRedis = Any  # Redis | RedisCluster: the library's two classes share no typed base


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the store. `credentials` is asked at every new connection.

    `url` is `redis://`, `rediss://`, `unix://`, `redis+sentinel://h:p,h:p/service/db` or
    `redis+cluster://h:p,h:p`; `rediss+…` for TLS. `tls` holds the library's `ssl_…` options.
    """

    url: str
    ttl_s: int = 86_400
    key_prefix: str = ""
    batch_size: int = 500
    timeout_s: float = 2.0
    credentials: Callable[[], tuple[str | None, str | None]] = lambda: (None, None)
    sentinel_credentials: Callable[[], tuple[str | None, str | None]] = lambda: (None, None)
    tls: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """What reading some keys gave: values by kernel, and kernels whose key has another type."""

    values: Mapping[str, bytes]
    foreign: frozenset[str]


@dataclass(frozen=True, slots=True)
class Written:
    """What writing some keys gave, by kernel.

    `before`: what the key held, None for nothing. `failed`: why it was not written.
    """

    before: Mapping[str, bytes | None]
    failed: Mapping[str, str]

    def failures(self) -> Counter[str]:
        """Return how many keys failed, by reason."""
        return Counter(self.failed.values())


class _Secrets(CredentialProvider):
    def __init__(self, ask: Callable[[], tuple[str | None, str | None]]) -> None:
        self._ask = ask

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        username, password = self._ask()
        return (username, password or "") if username else (password or "",)


def _options(access: Access) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": access.timeout_s,
        "socket_connect_timeout": access.timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # the third says nothing that we need, and old servers lack it
        "decode_responses": False,
    }
    return options


def _secret(ask: Callable[[], tuple[str | None, str | None]]) -> dict[str, Any]:
    return {"credential_provider": _Secrets(ask)} if ask()[1] else {}


def _nodes(netloc: str, default_port: int) -> list[tuple[str, int]]:
    nodes = []
    for node in netloc.rpartition("@")[2].split(","):
        host, _, port = node.strip().rpartition(":") if ":" in node else (node.strip(), "", "")
        nodes.append((host.strip("[]"), int(port) if port else default_port))
    return nodes


def connect(access: Access) -> tuple[AnyRedis, list[AnyRedis]]:
    """Return the client, and what else is to be closed with it. Nothing is sent yet."""
    scheme, _, kind = urlsplit(access.url).scheme.partition("+")
    options = _options(access)
    if kind == "sentinel":
        return _sentinel(access, scheme, options)
    if kind == "cluster":
        return _cluster(access, scheme, options), []
    options |= {key: value for key, value in access.tls.items() if scheme == "rediss"}
    given: dict[str, Any] = dict(parse_url(access.url))
    if access.credentials()[1]:
        given = {key: value for key, value in given.items() if key not in ("username", "password")}
    options |= given | _secret(access.credentials)
    pool = ConnectionPool(**options, max_connections=8)
    return Redis(connection_pool=pool), []


def _tls(access: Access, scheme: str) -> dict[str, Any]:
    return {"ssl": True, **access.tls} if scheme == "rediss" else {}


def _sentinel(
    access: Access, scheme: str, options: dict[str, Any]
) -> tuple[AnyRedis, list[AnyRedis]]:
    parts = urlsplit(access.url)
    service, _, database = parts.path.strip("/").partition("/")
    tls = _tls(access, scheme)
    group = Sentinel(  # type: ignore[no-untyped-call]
        _nodes(parts.netloc, 26379),
        sentinel_kwargs={**options, **tls, **_secret(access.sentinel_credentials)},
        **options,
        **tls,
        **_secret(access.credentials),
    )
    master = group.master_for(service or "mymaster", db=int(database or 0))
    return master, list(group.sentinels)


def _cluster(access: Access, scheme: str, options: dict[str, Any]) -> AnyRedis:
    nodes = [ClusterNode(host, port) for host, port in _nodes(urlsplit(access.url).netloc, 6379)]
    return RedisCluster(
        startup_nodes=nodes,
        require_full_coverage=False,  # a dead node costs its own slots only
        cluster_error_retry_attempts=1,
        **options,
        **_tls(access, scheme),
        **_secret(access.credentials),
    )


class Store:
    """The keys of kernels. Every failure is a `StoreError`, or per key in what it returns."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._client: AnyRedis = None
        self._beside: list[AnyRedis] = []
        self.is_cluster = "+cluster" in access.url

    async def __aenter__(self) -> Store:
        self._client, self._beside = connect(self._access)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection; waits for nothing that is under way."""
        for client in (self._client, *self._beside):
            if client is not None:
                try:
                    await client.aclose()
                except (gone_wrong.RedisError, OSError):  # a broken connection is closed too
                    continue
        self._client, self._beside = None, []

    async def renew(self) -> None:
        """Make the client anew: what it believed of the servers may no longer hold."""
        await self.close()
        self._client, self._beside = connect(self._access)

    def key(self, kernel: str) -> str:
        """Return the key of a kernel."""
        return self._access.key_prefix + kernel

    @asynccontextmanager
    async def client(self) -> AsyncIterator[AnyRedis]:
        """Lend the client; translate what it raises, and start afresh where it may be confused."""
        try:
            yield self._client
        except asyncio.CancelledError:
            # A reply may still be on its way: it must not be read as another command's.
            await asyncio.shield(self.renew())
            raise
        except (gone_wrong.RedisError, OSError, TimeoutError) as error:
            await self.renew()
            raise translate(error) from error

    async def read(self, kernels: Sequence[str]) -> Found:
        """Read kernels' keys. A key of another type than string is foreign, not an error."""
        values: dict[str, bytes] = {}
        foreign = set()
        for chunk in _chunks(kernels, self._access.batch_size):
            async with self.client() as client:
                pipe = client.pipeline(transaction=False)
                for kernel in chunk:
                    pipe.get(self.key(kernel))
                for kernel, reply in zip(
                    chunk, await pipe.execute(raise_on_error=False), strict=True
                ):
                    if isinstance(reply, bytes):
                        values[kernel] = reply
                    elif isinstance(reply, Exception):
                        if not str(reply).startswith("WRONGTYPE"):
                            raise reply
                        foreign.add(kernel)
        return Found(values, frozenset(foreign))

    async def ages(self, kernels: Sequence[str]) -> dict[str, float]:
        """Return the seconds since each key was written, for keys with our TTL."""
        ages: dict[str, float] = {}
        for chunk in _chunks(kernels, self._access.batch_size):
            async with self.client() as client:
                pipe = client.pipeline(transaction=False)
                for kernel in chunk:
                    pipe.pttl(self.key(kernel))
                for kernel, left in zip(
                    chunk, await pipe.execute(raise_on_error=False), strict=True
                ):
                    if isinstance(left, int) and left >= 0:
                        ages[kernel] = self._access.ttl_s - left / 1000
        return ages

    async def write(
        self, values: Mapping[str, bytes], fence: tuple[str, str] | None = None
    ) -> Written:
        """Write kernels' keys with their TTL: `SET key value EX ttl GET`.

        `GET` (Redis 6.2 or later) makes the server refuse a key of another type, and tells
        what was there. `fence` is (lease key, our token): on one server the write happens
        only while the token stands, however long this process was stopped in between; else
        `LeaseLost`.
        """
        async with self.client() as client:
            if fence is not None and not self.is_cluster:
                replies = await self._fenced(client, values, fence)
            else:
                replies = await self._plain(client, values)
        before: dict[str, bytes | None] = {}
        failed: dict[str, str] = {}
        for kernel, reply in zip(values, replies, strict=True):
            if isinstance(reply, Exception):
                failed[kernel] = translate(reply).reason
            else:
                before[kernel] = reply
        return Written(before, failed)

    def _queue(self, pipe: AnyRedis, values: Mapping[str, bytes]) -> None:
        ttl = self._access.ttl_s
        for kernel, value in values.items():
            pipe.set(self.key(kernel), value, ex=ttl, get=True)

    async def _plain(self, client: AnyRedis, values: Mapping[str, bytes]) -> list[Any]:
        pipe = client.pipeline(transaction=False)
        self._queue(pipe, values)
        replies: list[Any] = await pipe.execute(raise_on_error=False)
        return replies

    async def _fenced(
        self, client: AnyRedis, values: Mapping[str, bytes], fence: tuple[str, str]
    ) -> list[Any]:
        name, token = fence
        async with client.pipeline(transaction=True) as pipe:
            await pipe.watch(name)
            holder = await pipe.get(name)
            if holder != token.encode():
                raise LeaseLost("lease", "another poller holds the lease, or it ran out")
            pipe.multi()
            self._queue(pipe, values)
            try:
                replies: list[Any] = await pipe.execute(raise_on_error=False)
            except gone_wrong.WatchError as error:
                raise LeaseLost("lease", "the lease went to another poller") from error
            except gone_wrong.NoPermissionError:
                # One key that may not be written refuses the whole transaction: one by one then.
                return await self._plain(client, values)
        return replies

    async def command(self, *words: Any) -> Any:
        """Run one command on the server (of a cluster: on one of its nodes)."""
        async with self.client() as client:
            if self.is_cluster:
                return await client.execute_command(*words, target_nodes=RedisCluster.RANDOM)
            return await client.execute_command(*words)

    async def script(self, text: str, key: str, *arguments: str | int) -> Any:
        """Run a small script on the server that holds key."""
        async with self.client() as client:
            return await client.eval(text, 1, key, *arguments)

    async def server(self) -> str:
        """Return what the server says it is, such as `Redis 7.0.15`."""
        reply = await self.command("INFO", "server")
        info = reply if isinstance(reply, dict) else _info(reply)
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info.get('redis_version', 'of unknown version')}"


def _info(reply: Any) -> dict[str, str]:
    text = reply.decode() if isinstance(reply, bytes) else str(reply)
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


def _chunks(items: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


_BY_CLASS: tuple[tuple[type[Exception], str, str], ...] = (
    (gone_wrong.AuthenticationError, "unauthorized", "check redis.username and password_file"),
    (gone_wrong.AuthenticationWrongNumberOfArgsError, "unauthorized", "check redis.username"),
    (gone_wrong.NoPermissionError, "forbidden", "compare the ACL user with the README's"),
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
_BY_TEXT = (
    ("WRONGTYPE", "wrong_type", "the key belongs to somebody else; it is left alone"),
    ("NOAUTH", "unauthorized", "set redis.password_file"),
    ("WRONGPASS", "unauthorized", "check redis.username and password_file"),
    ("MISCONF", "misconfigured", "the server refuses writes since it cannot save"),
    ("MASTERDOWN", "readonly", "the master is gone; wait for the failover"),
    ("MOVED", "moved", "slots are moving; the key is written again next cycle"),
    ("ASK", "moved", "slots are moving; the key is written again next cycle"),
    ("TRYAGAIN", "moved", "slots are moving; the key is written again next cycle"),
)


def translate(error: Exception) -> StoreError:
    """Return the library's error as ours. No address, command or credential is carried over."""
    if isinstance(error, StoreError):
        return error
    text = str(error)
    for start, reason, advice in _BY_TEXT:
        if text.startswith(start):
            return StoreError(reason, start, advice)
    for kind, reason, advice in _BY_CLASS:
        if isinstance(error, kind):
            return StoreError(reason, type(error).__name__, advice)
    return StoreError("error_reply", text.split(" ", 1)[0][:40], "see the server's log")
