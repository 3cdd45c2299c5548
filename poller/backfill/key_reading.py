"""Keys there already: read, judged by validity and age (limit: `restore`), told to the history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from poller.format import encode
from poller.history.history import History
from poller.store.keys import Store


@dataclass(frozen=True, slots=True)
class Keys:
    """What reading keys gave: values by kernel, how many were rubbish, keys of another type.

    `failed`: why a kernel's key could not be read; it is read again in the next cycle.
    """

    values: Mapping[str, bytes]
    invalid: int
    foreign: frozenset[str]
    failed: Mapping[str, str]


async def read_keys(
    store: Store,
    history: History,
    kernels: Sequence[str],
    keep_missing: bool,
    fresh_s: Callable[[str], float],
) -> Keys:
    """Read the keys of kernels and let the history learn what only they know.

    `fresh_s`: how old a kernel's key may be for its rates to be those of the last rounds.
    """
    invalid = 0
    found = await store.read(kernels)
    ages = await store.ages(list(found.values))
    readable = [kernel for kernel in kernels if kernel not in found.failed]
    for place, kernel in enumerate(readable):
        value = found.values.get(kernel)
        stat = encode.unpack(value) if value is not None else None
        invalid += value is not None and stat is None
        told = encode.remembered(history.catalog, stat) if stat else {}
        fresh = kernel in ages and ages[kernel] <= fresh_s(kernel)
        history.recall_key(kernel, told, keep_missing, fresh)
        if place % 500 == 499:
            await asyncio.sleep(0)  # thousands of keys must not block the loop
    return Keys(found.values, invalid, found.foreign, found.failed)
