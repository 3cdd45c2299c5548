"""Whether the server takes writes at all, asked without one: a replica, or out of memory.

From version 7 on a server looks at that before it runs a script which might write, also one that
then does not. An older one tells of itself what there is to know (INFO), where that is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from poller.errors import StoreError
from poller.store.errors import refusal
from poller.store.keys import Store

_MIGHT_WRITE = "#!lua\nreturn 1"


async def prove_willing(store: Store) -> None:
    """Raise the `StoreError` that a write would meet at any node. For version 7 or later."""
    for node in await store.nodes():
        async with store.client():
            await node.eval(_MIGHT_WRITE, 0)


async def prove_willing_by_info(store: Store) -> None:
    """Raise the `StoreError` that a write would meet, as far as the server tells of itself."""
    try:
        for node in await store.nodes():
            async with store.client():
                told = {**await node.info("replication"), **await node.info("memory")}
            if reason := unwilling(told):
                raise refusal(reason).at(store.address)
    except StoreError as error:
        if error.reason != "forbidden":
            raise


def unwilling(told: Mapping[str, Any]) -> str:
    """Return the reason for which a server that tells so of itself takes no writes, or nothing."""
    if told.get("role") == "slave" and str(told.get("slave_read_only")) != "0":
        return "readonly"
    most, used = int(told.get("maxmemory", 0)), int(told.get("used_memory", 0))
    if 0 < most <= used and told.get("maxmemory_policy") == "noeviction":
        return "out_of_memory"
    return ""
