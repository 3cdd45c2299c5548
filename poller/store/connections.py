"""Clients for the store's URL: standalone, Sentinel, Cluster; made anew by `keys`.

Time limits and retries are ours: with its defaults the library takes almost a minute to give
up on a black-holed server, and sends a wrong password eleven times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import redis.exceptions as gone_wrong
from redis.asyncio import Redis, Sentinel
from redis.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider

from poller.store.cluster_client import Address, Cluster, Members
from poller.store.first_answer import first

AnyRedis = Any  # Redis | Cluster: the library's class and ours share no typed base
_CONNECTIONS = 8
"""At most so many to one server; two writes and a lease need three."""


@dataclass(frozen=True, slots=True)
class StoreAccess:
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

    @property
    def address(self) -> str:
        """The URL without user, password and options."""
        scheme, _, rest = self.url.partition("://")
        place, _, options = rest.partition("?")
        if "@" in options:  # perhaps that was a question mark in a password
            place = "…"
        return f"{scheme}://{place.rpartition('@')[2]}"

    def key(self, kernel: str) -> str:
        """Return the key of a kernel."""
        return self.key_prefix + kernel


class _Sentinels(Sentinel):
    """Sentinels that are asked all at once: one that is silent costs nothing beside another.

    The library asks one after the other, each with the whole time limit.
    """

    async def discover_master(self, service_name: str) -> Address:
        try:
            return await first(map(partial(self._master, service_name), self.sentinels))
        except (gone_wrong.ConnectionError, gone_wrong.TimeoutError) as error:
            raise MasterNotFoundError("No master found") from error

    async def _master(self, service_name: str, sentinel: Redis) -> Address:
        """Ask one sentinel for the healthy master that it knows."""
        masters: Any = await sentinel.sentinel_masters()
        state = masters.get(service_name)
        if not state or not self.check_master_state(state, service_name):
            raise MasterNotFoundError("No master found")
        return state["ip"], state["port"]


class _Secrets(CredentialProvider):
    def __init__(self, ask: Callable[[], tuple[str | None, str | None]]) -> None:
        self._ask = ask

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        username, password = self._ask()
        return (username, password or "") if username else (password or "",)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        # The library's own of this name logs a warning at every connection.
        return self.get_credentials()


def _options(access: StoreAccess) -> dict[str, Any]:
    return {
        "socket_timeout": access.timeout_s,
        "socket_connect_timeout": access.timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # the third says nothing that we need, and old servers lack it
        "decode_responses": False,
    }


def _credentials(access: StoreAccess) -> Callable[[], tuple[str | None, str | None]]:
    """Return what gives user and password: the settings, or the URL where those have none.

    The library reads them in the URL of one server alone.
    """
    parts = urlsplit(access.url)
    if parts.password is None or access.credentials()[1]:
        return access.credentials
    user, password = unquote(parts.username or ""), unquote(parts.password)
    return lambda: (user or None, password or None)


def _secret(ask: Callable[[], tuple[str | None, str | None]]) -> dict[str, Any]:
    return {"credential_provider": _Secrets(ask)} if ask()[1] else {}


def _nodes(netloc: str, default_port: int) -> list[Address]:
    nodes = []
    for node in netloc.rpartition("@")[2].split(","):
        host, _, port = node.strip().rpartition(":") if ":" in node else (node.strip(), "", "")
        nodes.append((host.strip("[]"), int(port) if port else default_port))
    return nodes


def connect(access: StoreAccess, known: Members | None = None) -> tuple[AnyRedis, list[AnyRedis]]:
    """Return the client, and what else is to be closed with it. Nothing is sent yet.

    `known`: who a cluster was found to be earlier; the URL's nodes may be gone by now.
    """
    scheme, _, kind = urlsplit(access.url).scheme.partition("+")
    options = _options(access)
    if kind == "sentinel":
        return _sentinel(access, scheme, options)
    if kind == "cluster":
        return _cluster(access, scheme, options, known), []
    options |= {key: value for key, value in access.tls.items() if scheme == "rediss"}
    given: dict[str, Any] = dict(parse_url(access.url))
    if access.credentials()[1]:
        given = {key: value for key, value in given.items() if key not in ("username", "password")}
    options |= given | _secret(access.credentials)
    pool = ConnectionPool(**options, max_connections=_CONNECTIONS)
    return Redis.from_pool(pool), []  # which it then closes, too


def check(access: StoreAccess) -> None:
    """Raise `ValueError` where the URL has an option that there is not, or that is ours to set."""
    try:
        client, _ = connect(access)
        if type(pool := getattr(client, "connection_pool", None)) is ConnectionPool:
            pool.make_connection()  # type: ignore[no-untyped-call]  # nothing is sent
    except TypeError as error:
        raise ValueError(type(error).__name__) from None


def _tls(access: StoreAccess, scheme: str) -> dict[str, Any]:
    return {"ssl": True, **access.tls} if scheme == "rediss" else {}


def _sentinel(
    access: StoreAccess, scheme: str, options: dict[str, Any]
) -> tuple[AnyRedis, list[AnyRedis]]:
    parts = urlsplit(access.url)
    service, _, database = parts.path.strip("/").partition("/")
    tls = _tls(access, scheme)
    group = _Sentinels(  # type: ignore[no-untyped-call]
        _nodes(parts.netloc, 26379),
        sentinel_kwargs={**options, **tls, **_secret(access.sentinel_credentials)},
        **options,
        **tls,
        **_secret(_credentials(access)),
    )
    master = group.master_for(service, db=int(database or 0))
    return master, list(group.sentinels)


def _cluster(
    access: StoreAccess, scheme: str, options: dict[str, Any], known: Members | None
) -> Cluster:
    options = options | _secret(_credentials(access)) | {"max_connections": _CONNECTIONS}
    if scheme == "rediss":
        options |= {"connection_class": SSLConnection, **access.tls}

    def node(host: str, port: int) -> Redis:
        return Redis.from_pool(ConnectionPool(host=host, port=port, **options))

    return Cluster(_nodes(urlsplit(access.url).netloc, 6379), node, access.timeout_s, known)
