"""Read keys with the real legacy readers; print as JSON what each makes of them.

A line of standard input, `HOST:PORT KERNEL_ID …`, is answered by a line of standard output.
Needs backend.ai-manager and backend.ai-client.

Runs in a virtual environment of its own and imports nothing of ours. A reader that raises
fails the whole run, as it would fail its caller.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from ai.backend.client.output.formatters import format_stats
from ai.backend.common import msgpack
from ai.backend.common.clients.valkey_client.valkey_stat.client import ValkeyStatClient
from ai.backend.common.types import KernelId, ResourceSlot, ValkeyTarget
from ai.backend.common.utils import nmget
from ai.backend.manager.idle import UtilizationIdleChecker
from ai.backend.manager.models.resource_usage import parse_resource_usage

MEMORY = 1 << 34
BILLED = ("cpu_used", "mem_used", "disk_used", "io_read", "io_write")


def billing(stat: dict[str, Any]) -> dict[str, Any]:
    """Return what the usage report per project and period bills."""
    slots = ResourceSlot({"cpu": Decimal(1), "mem": Decimal(MEMORY)})
    kernel = SimpleNamespace(
        agent="i-reader",
        occupied_slots=slots,
        vfolder_mounts=None,
        mounts=None,
        attached_devices=None,
        resource_opts=None,
    )
    takes_slots = len(inspect.signature(parse_resource_usage).parameters) == 3
    usage = parse_resource_usage(*((kernel, slots, stat) if takes_slots else (kernel, stat)))
    return {name: getattr(usage, name) for name in BILLED}


async def idle_checker(client: ValkeyStatClient, kernel: str, stat: dict[str, Any]) -> Any:
    """Return the utilization by which the idle checker decides to end a session."""
    checker = UtilizationIdleChecker.__new__(UtilizationIdleChecker)
    checker._valkey_stat_client = client
    checker.resource_names_to_check = {"cpu_util", "mem"} | {
        name for name in stat if name.endswith(("_util", "_mem"))
    }
    found = await checker.get_current_utilization([KernelId(UUID(kernel))], {"mem": str(MEMORY)})
    return None if found is None else dict(found)


def legacy_fields(stat: dict[str, Any]) -> dict[str, Any]:
    """Return the GraphQL fields of old, with their conversions."""
    return {
        "cpu_used": float(nmget(stat, "cpu_used.current", 0)),
        "cpu_using": float(nmget(stat, "cpu_util.pct", 0)),
        "mem_max_bytes": int(
            nmget(stat, "mem.stats.max", 0, "/") or nmget(stat, "mem/stats.max", 0, "/")
        ),
        "mem_cur_bytes": int(nmget(stat, "mem.current", 0)),
        "io_read_bytes": int(nmget(stat, "io_read.current", 0)),
        "io_write_bytes": int(nmget(stat, "io_write.current", 0)),
        "io_max_scratch_size": int(nmget(stat, "io_scratch_size/stats.max", 0, "/")),
    }


def auto_scaler(stat: dict[str, Any]) -> dict[str, str]:
    """Return what a scaling rule on each metric would read."""
    return {name: str(Decimal(str(fields["pct"]))) for name, fields in stat.items()}


async def read(address: str, kernels: list[str]) -> dict[str, Any]:
    """Return what every reader makes of each kernel's key; None where there is no key."""
    client = await ValkeyStatClient.create(
        ValkeyTarget(addr=address), db_id=0, human_readable_name="readers"
    )
    sessions = await client.get_session_statistics_batch(kernels)
    raw = await client.get_user_kernel_statistics_batch(kernels)
    made: dict[str, Any] = {}
    for kernel, stat, value in zip(kernels, sessions, raw, strict=True):
        if stat is None:
            made[kernel] = None
            continue
        last = msgpack.unpackb(value)
        made[kernel] = {
            "alone": await client.get_kernel_statistics(kernel) == stat,
            "fields": stat,
            "billing": billing(stat),
            "idle": await idle_checker(client, kernel, stat),
            "month": [int(nmget(last, f"{name}.current", 0)) for name in ("io_read", "io_write")],
            "graphql": legacy_fields(stat),
            "scaling": auto_scaler(stat),
            "lines": len(format_stats(json.dumps(stat)).splitlines()),
        }
    return made


async def main() -> None:
    for line in sys.stdin:
        address, *kernels = line.split()
        print(json.dumps(await read(address, kernels), default=str), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
