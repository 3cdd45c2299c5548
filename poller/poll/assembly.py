"""Settings into parts: the one place where a cycle is put together."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poller.backfill.backfill import Backfiller, Reach
from poller.batch.batch import Limits, Observer
from poller.batch.survey import Given, Surveyor
from poller.clock import Clock
from poller.config import Config
from poller.credentials import prometheus_headers, redis_credentials, sentinel_credentials
from poller.errors import ConfigError, UnreadableFile
from poller.history.history import History
from poller.poll.cycle import Cycle, Rules
from poller.poll.publish import Publisher
from poller.poll.restore import Restorer, Restoring
from poller.prometheus import selectors
from poller.prometheus.client import Client
from poller.prometheus.transport import PrometheusAccess
from poller.rounds.rounds import Rounds
from poller.settings import Prometheus, RedisSection
from poller.store import connections
from poller.store.connections import StoreAccess
from poller.store.keys import Store
from poller.store.lease import Lease, length_s

_FOR_QUERIES = 0.8
"""Share of a deadline in which Prometheus must have answered, all its servers together."""
_FOR_BACKFILL = 0.1
"""Share of a deadline that a cycle waits for what new kernels owe."""
_FOR_KEYS = 0.7
"""Share of a deadline after which a cycle reads no more keys."""
_FOR_WRITES = 0.9
"""Share of a deadline after which a cycle begins to write no more portion."""
_NO_CERTIFICATE = "it holds no certificate in PEM form"


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who is told what happens inside a cycle."""

    on_query: Callable[[str, float], None] = lambda part, seconds: None
    on_warning: Callable[[str], None] = lambda text: None
    on_progress: Callable[[int], None] = lambda left: None


@dataclass(frozen=True, slots=True)
class Choice:
    """What a command asks for beside the settings.

    `kernels`: only these. `wait`: recall everything before writing, however long it takes.
    `keep_missing`: with the metrics that only older keys have. `needs_store`: False for a dry run,
    which goes on without what older keys know.
    """

    kernels: Sequence[str] | None = None
    wait: bool = False
    keep_missing: bool = True
    needs_store: bool = True
    hooks: Hooks = field(default_factory=Hooks)


def _tls_context(settings: Prometheus | RedisSection, section: str) -> ssl.SSLContext | None:
    """Return how to make TLS connections; `UnreadableFile` names the file that does not serve."""
    if not (settings.ca_file or settings.cert_file):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise _unloadable(error, f"{section}.ca_file", settings.ca_file, _NO_CERTIFICATE) from error
    if settings.cert_file:
        _load_certificate(context, settings.cert_file, settings.key_file, section)
    return context


def _load_certificate(
    context: ssl.SSLContext, certificate: Path, key: Path | None, section: str
) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(certificate)
    except OSError as error:
        raise _unloadable(error, f"{section}.cert_file", certificate, _NO_CERTIFICATE) from error
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        why = "it holds no key in PEM form"
        if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
            why = f"it is not the key of {certificate}"
        name = "key_file" if key else "cert_file"
        raise _unloadable(error, f"{section}.{name}", key or certificate, why) from error


def _unloadable(error: OSError, name: str, path: Path | None, why: str) -> UnreadableFile:
    if not isinstance(error, ssl.SSLError):
        why = error.strerror or type(error).__name__
    return UnreadableFile([(name, f"{path and path.absolute()} cannot be loaded: {why}")])


def prometheus_access(settings: Prometheus) -> PrometheusAccess:
    """Return how to reach Prometheus; `ConfigError` if a file of it cannot be read."""
    headers = prometheus_headers(settings)
    headers()
    return PrometheusAccess(
        urls=settings.urls,
        timeout_s=float(settings.timeout_s),
        headers=headers,
        params=settings.params,
        tls=_tls_context(settings, "prometheus"),
        max_response_bytes=settings.max_response_bytes,
        concurrency=settings.concurrency,
        skip_partial=settings.on_partial == "skip",
    )


def store_access(settings: RedisSection, prefix: str | None = None) -> StoreAccess:
    """Return how to reach the store; `ConfigError` if a file of it cannot be read."""
    _tls_context(settings, "redis")  # the library would read the files at every connection only
    files = {
        "ssl_ca_certs": settings.ca_file,
        "ssl_certfile": settings.cert_file,
        "ssl_keyfile": settings.key_file,
    }
    tls: dict[str, Any] = {name: str(path) for name, path in files.items() if path}
    return StoreAccess(
        url=settings.url.get_secret_value(),
        ttl_s=settings.ttl_s,
        key_prefix=settings.key_prefix if prefix is None else prefix,
        batch_size=settings.batch_size,
        timeout_s=float(settings.timeout_s),
        credentials=redis_credentials(settings),
        sentinel_credentials=sentinel_credentials(settings),
        tls=tls,
    )


def check(config: Config) -> None:
    """Raise `ConfigError` if a cycle cannot be put together with these settings."""
    prometheus_access(config.prometheus)
    try:
        connections.check(store_access(config.redis))
    except ValueError:  # its text may repeat a password
        problem = "has an option that there is not, with a value that cannot be, or set elsewhere"
        raise ConfigError([("redis.url", problem)]) from None


def rules(config: Config, wait: bool) -> Rules:
    """Return what a cycle goes by."""
    deadline_s = float(config.poll.deadline_s)
    return Rules(
        query_offset_s=config.poll.query_offset_s,
        still_after_s=config.poll.still_after_s,
        write_within_s=None if wait else deadline_s * _FOR_WRITES,
        capacity_of=config.format.capacity,
        batch_size=config.redis.batch_size,
    )


def restoring(config: Config, choice: Choice) -> Restoring:
    """Return how the past is brought back."""
    deadline_s = float(config.poll.deadline_s)
    return Restoring(
        None if choice.wait else deadline_s * _FOR_BACKFILL,
        None if choice.wait else deadline_s * _FOR_KEYS,
        choice.keep_missing,
        choice.needs_store,
    )


def surveyor(config: Config) -> Surveyor:
    """Return what finds out the metrics and intervals."""
    window = config.prometheus.window
    given = Given(
        window_s=None if window == "auto" else window,
        measure_s=config.prometheus.measure_interval_s or None,
    )
    return Surveyor(given)


def _limits(config: Config, kernels: Sequence[str] | None) -> Limits:
    scope = selectors.shard(config.shard.index, config.shard.count)
    if kernels is not None:
        scope = selectors.Scope(kernels=tuple(dict.fromkeys(kernels)))
    within_s = float(config.poll.deadline_s) * _FOR_QUERIES
    return Limits(scope, config.prometheus.slice_kernels, within_s, config.prometheus.lookback_s)


def _reach(settings: Prometheus) -> Reach:
    return Reach(
        settings.restore_window,
        settings.restore_chunk,
        settings.restore_concurrency,
        settings.restore_timeout_s,
    )


@asynccontextmanager
async def cycle(
    config: Config,
    choice: Choice | None = None,
    history: History | None = None,
    rounds: Rounds | None = None,
) -> AsyncIterator[Cycle]:
    """Open everything a cycle needs, and close it. `history`, `rounds`: go on with these."""
    choice = choice or Choice()
    hooks = choice.hooks
    clock = Clock()
    catalog = config.catalog()
    if history is None:
        history = History(catalog, config.prometheus.lookback_s)
    history.lookback_s = config.prometheus.lookback_s  # it may have been reloaded
    access = prometheus_access(config.prometheus)
    async with (
        Client(access, hooks.on_query, hooks.on_warning, clock.now) as client,
        Store(store_access(config.redis)) as store,
    ):
        limits = _limits(config, choice.kernels)
        observer = Observer(client, catalog, surveyor(config), limits, rounds)
        publisher = Publisher(store, config.redis.yield_to_agents, config.poll.interval_s)
        reach = _reach(config.prometheus)
        backfiller = Backfiller(history, reach, observer.rounds, hooks.on_progress)
        by = restoring(config, choice)
        restorer = Restorer(by, observer, store, history, backfiller, publisher)
        going_by = rules(config, choice.wait)
        made = Cycle(going_by, clock, observer, store, history, restorer, publisher)
        try:
            yield made
        finally:
            await made.close()


def lease(config: Config, store: Store, token: str | None = None) -> Lease | None:
    """Return the lease of these keys, or None where several pollers are not meant to be.

    Another prefix or another shard writes other keys, so it has a lease of its own.
    """
    if not config.leader.enabled:
        return None
    name = config.leader.name
    if config.shard.count > 1:
        name += f":{config.shard.index}/{config.shard.count}"
    if config.redis.key_prefix:
        name += f":{config.redis.key_prefix}"
    return Lease(store, name, length_s(config.poll.interval_s), token)
