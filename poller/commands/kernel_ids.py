"""Which kernels are meant: whole ids, or beginnings of them as tables show them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from poller.clock import Clock
from poller.commands.active_kernels import held
from poller.commands.finding import listed
from poller.config import Config
from poller.errors import RefusedRequest, StoreError, UnknownKernel
from poller.poll import assembly
from poller.prometheus.client import Client
from poller.prometheus.selectors import Scope
from poller.store.keys import Store
from poller.store.scan import kernels_with_keys
from poller.values import is_canonical_uuid

_ANY_ID = "00000000-0000-0000-0000-000000000000"


async def meant(
    config: Config,
    texts: Sequence[str],
    at: float | None = None,
    prefixes: Iterable[str] = (),
) -> list[str]:
    """Return the kernels that are meant, each once, in the order in which they were asked for.

    A beginning is looked up among the kernels that Prometheus holds (`at` that Unix time), and
    those that have a key under one of `prefixes`. Raises `RefusedRequest` for what is no id and
    no beginning of exactly one, `UnknownKernel` for the beginning of none.
    """
    asked = list(dict.fromkeys(text.strip().lower() for text in texts))
    refuse_others(asked)
    starts = [text for text in asked if not is_canonical_uuid(text)]
    if not starts:
        return asked
    known = await _in_prometheus(config, starts, at)
    for prefix in prefixes:
        known |= await _in_redis(config, starts, prefix)
    return list(dict.fromkeys(resolved(text, known) for text in asked))


def refuse_others(texts: Iterable[str]) -> None:
    """Raise `RefusedRequest` for what is neither a kernel's id nor the beginning of one."""
    for text in texts:
        if not text or not is_canonical_uuid(text + _ANY_ID[len(text) :]):
            shown = text if text.isprintable() else ascii(text)
            raise RefusedRequest(f"{shown[:64]}: neither a kernel's UUID nor the beginning of one")


def resolved(text: str, known: Collection[str]) -> str:
    """Return the one kernel that begins so."""
    if is_canonical_uuid(text):
        return text
    found = [kernel for kernel in known if kernel.startswith(text)]
    if len(found) > 1:
        raise RefusedRequest(f"{text}: {len(found)} kernels begin so: {listed(found)}")
    if not found:
        raise UnknownKernel("unknown", f"none is known that begins with {text}")
    return found[0]


async def _in_prometheus(config: Config, starts: Sequence[str], at: float | None) -> set[str]:
    clock, scope = Clock(), Scope(prefixes=tuple(starts))
    async with Client(assembly.prometheus_access(config.prometheus), clock=clock.now) as client:
        return await held(client, clock, scope, float(config.poll.deadline_s), at)


async def _in_redis(config: Config, starts: Sequence[str], prefix: str) -> set[str]:
    """Return the kernels with a key that begin so; none where the server forbids to look."""
    found: set[str] = set()
    try:
        async with Store(assembly.store_access(config.redis, prefix)) as store:
            for start in starts:
                async for portion in kernels_with_keys(store, start):
                    found.update(portion)
    except StoreError as error:
        if error.reason != "forbidden":
            raise
    return found
