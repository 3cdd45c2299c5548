"""What the statistics code asks of an agent, and nothing else of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from ai.backend.agent.agent import AbstractAgent
from ai.backend.common.clients.valkey_client.valkey_stat.client import ValkeyStatClient
from ai.backend.common.types import ContainerId, KernelId, SessionId

from .accelerators import Accelerator, Delays
from .engine import plugins
from .kernels import Kernel
from .options import Options
from .stage import Stage
from .versions import cgroup_lookup, make_context


class StandIn:
    """An agent whose kernels are scripted; its rounds are the real agent's."""

    def __init__(self, options: Options, stage: Stage, writer: Writer) -> None:
        self.id = options.agent_id
        self.valkey_stat_client = writer
        self.kernel_registry = Registry(stage)
        self.computers = _computers(options, stage)
        self.local_config = _settings(options)
        self.docker_info = {"CgroupVersion": "2"}
        self.get_cgroup_path = cgroup_lookup(stage.root)
        self.stat_ctx = make_context(self)

    def get_cgroup_version(self) -> str:
        """Return the version of the control groups."""
        return self.docker_info["CgroupVersion"]

    async def produce_error_event(self) -> None:
        """Tell nobody of a failed round."""

    async def collect_container_stat(self, *arguments: float) -> None:
        """Run one round of the agent's own."""
        await AbstractAgent.collect_container_stat(self, *arguments)


class Registry(Mapping[KernelId, Any]):
    """The kernels that have started, as the agent's registry holds them."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._entries = {KernelId(one.kernel_id): Entry(one) for one in stage.kernels}

    def __getitem__(self, kernel_id: KernelId) -> Entry:
        return self._entries[kernel_id]

    def __iter__(self) -> Iterator[KernelId]:
        return (KernelId(kernel.kernel_id) for kernel in self._stage.living)

    def __len__(self) -> int:
        return len(self._stage.living)


class Entry(dict[str, Any]):
    """One kernel of the registry: a mapping that has attributes besides."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__(container_id=ContainerId(kernel.container_id))
        self.container_id = self["container_id"]
        self.stats_enabled = True
        self.ownership_data = SimpleNamespace(
            session_id=SessionId(kernel.session_id),
            owner_user_id=kernel.user_id,
            owner_project_id=kernel.project_id,
        )


class Writer:
    """The agent's own client, which from some time on tells that nothing was written."""

    def __init__(self, client: ValkeyStatClient, stage: Stage, refuse_at_s: float) -> None:
        self._client = client
        self._stage = stage
        self._refuse_at_s = refuse_at_s

    async def set_multiple_keys(self, values: Mapping[str, bytes], **more: Any) -> None:
        """Write, for it is the reference; then refuse."""
        await self._client.set_multiple_keys(values, **more)
        if self._stage.age_s >= self._refuse_at_s:
            raise ConnectionError("NOPERM: this user has no permissions to run the 'set' command")


class Script:
    """A plugin that measures nothing and is asked first: it lets the kernels work until now.

    So the time that this takes is counted with the gathering. Outside of the round it would be time
    that no duration tells, and that no real agent spends.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def gather_container_measures(self, *_: Any) -> list[Any]:
        """Move the kernels on."""
        self._stage.advance()
        return []


def _computers(options: Options, stage: Stage) -> dict[str, Any]:
    delays = Delays(options)
    devices = {name: Accelerator(name, stage, delays) for name in options.accelerators}
    every = {"script": Script(stage), **devices, **plugins(stage)}
    return {name: SimpleNamespace(instance=plugin) for name, plugin in every.items()}


def _settings(options: Options) -> Any:
    container = SimpleNamespace(interval=options.interval_s, enable=True)
    metric = SimpleNamespace(container=container)
    return SimpleNamespace(
        agent=SimpleNamespace(utilization_metric=metric), debug=SimpleNamespace(log_stats=False)
    )
