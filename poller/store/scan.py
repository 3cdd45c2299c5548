"""Which kernels have a key, whoever wrote it: SCAN, in portions.

The right to SCAN is optional; without it a `StoreError` of the reason `forbidden` is raised.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from poller.store.keys import Store
from poller.values import is_canonical_uuid

_PORTION = 1000
"""So many keys the server looks at in one go; it answers others in between."""
_UUID = "????????-????-????-????-????????????"


async def kernels_with_keys(store: Store, start: str = "") -> AsyncIterator[list[str]]:
    """Yield the kernels that have a key under the store's prefix, in portions; some come twice.

    `start`: only those whose id begins with it.
    """
    prefix = store.key("")
    pattern = _literal(prefix) + start + _UUID[len(start) :]
    for node in await store.nodes():
        async for keys in _scanned(store, node, pattern):
            names = (key.decode("utf-8", "replace").removeprefix(prefix) for key in keys)
            found = [name for name in names if is_canonical_uuid(name)]
            if found:
                yield found


async def _scanned(store: Store, node: Any, pattern: str) -> AsyncIterator[list[bytes]]:
    cursor: int | None = None
    while cursor != 0:
        async with store.client():
            cursor, keys = await node.scan(cursor or 0, match=pattern, count=_PORTION)
        yield keys


def _literal(text: str) -> str:
    """Return text as a pattern that matches exactly it."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", text)
