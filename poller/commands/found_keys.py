"""Keys as readers find them, valid or not."""

from __future__ import annotations

from collections.abc import Sequence

from poller.format import encode
from poller.store.keys import Store
from poller.values import LiveStat

REAL = ""
"""The prefix of the keys that legacy readers read."""


async def read_stats(store: Store, kernels: Sequence[str]) -> tuple[dict[str, LiveStat], int]:
    """Return the valid live stats under these kernels' keys, and how many were rubbish."""
    found = await store.read(kernels)
    stats = {kernel: encode.unpack(value) for kernel, value in found.values.items()}
    valid = {kernel: stat for kernel, stat in stats.items() if stat is not None}
    return valid, len(stats) - len(valid)
