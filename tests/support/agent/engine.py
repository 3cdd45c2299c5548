"""The agent's own CPU and memory plugins, and the container engine that they ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ai.backend.agent.docker import intrinsic

from .stage import Stage


class Engine:
    """A container engine that knows of each container its process, and nothing else."""

    def __init__(self, stage: Stage) -> None:
        self._pids = {kernel.container_id: kernel.pid for kernel in stage.kernels}

    async def _query_json(self, path: str, **_: Any) -> Mapping[str, Any]:
        _, container_id, _ = path.split("/")
        return {"State": {"Pid": self._pids[container_id]}}


def plugins(stage: Stage) -> dict[str, Any]:
    """Return the plugins by name; the network is read from a file, by the agent's own parser."""
    folders = {one.pid: stage.root / one.container_id for one in stage.kernels}

    def read_network(pid: int) -> intrinsic.ContainerNetStat:
        return intrinsic._parse_proc_net_dev((folders[pid] / "net.dev").read_text())

    intrinsic.read_proc_net_dev = read_network
    made: dict[str, Any] = {
        "cpu": intrinsic.CPUPlugin({}, {}),
        "mem": intrinsic.MemoryPlugin({}, {}),
    }
    for plugin in made.values():
        plugin._docker = Engine(stage)
    return made
