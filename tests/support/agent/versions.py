"""In what releases of the agent differ."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ai.backend.agent.docker.agent import DockerAgent
from ai.backend.agent.stats import StatContext, StatModes

try:
    from ai.backend.agent.tasks.collect_container_stat import CollectContainerStatTask
    from ai.backend.common.cron import LocalCron
except ImportError:  # up to 26.4.3: a timer that fires every interval, however long a round takes
    LocalCron = None


def make_context(agent: Any) -> StatContext:
    """Return the agent's own collector, over control groups."""
    if "local_config" in inspect.signature(StatContext).parameters:
        return StatContext(agent, agent.local_config, mode=StatModes.CGROUP)
    return StatContext(agent, mode=StatModes.CGROUP)


def cgroup_lookup(root: Path) -> Callable[[str, str], Any]:
    """Return what finds a container's control group: a coroutine function in later releases."""

    def find(controller: str, container_id: str) -> Path:
        return root / container_id

    async def find_later(controller: str, container_id: str) -> Path:
        return find(controller, container_id)

    return find_later if inspect.iscoroutinefunction(DockerAgent.get_cgroup_path) else find


async def start_rounds(agent: Any, interval_s: float) -> Any:
    """Let the agent's own task loop measure from now on; keep what is returned."""
    if LocalCron is not None:
        cron = LocalCron([CollectContainerStatTask(agent, agent.local_config)])
        await cron.start()
        return cron
    import aiotools

    policy = aiotools.TimerDelayPolicy.CANCEL
    return aiotools.create_timer(agent.collect_container_stat, interval_s, delay_policy=policy)
