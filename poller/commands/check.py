"""Does it work here? Both servers, intervals, clocks, rights, and who else writes: one line each.

Writes nothing; the rights to write are asked of the server, not tried.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from poller.commands import prometheus_findings, redis_findings
from poller.commands.finding import Finding
from poller.config import Config
from poller.poll import assembly
from poller.poll.outcome import Outcome


async def findings(config: Config, allow_empty: bool = False) -> AsyncGenerator[Finding, None]:
    """Look at everything, one finding after another; a server that fails ends its own part.

    `allow_empty`: that there is no kernel at all is in order.
    """
    outcome = Outcome()
    async with assembly.cycle(config, assembly.Choice(wait=True, needs_store=False)) as cycle:
        yield Finding("ok", "settings", "valid")
        async for finding in prometheus_findings.findings(cycle, outcome, allow_empty):
            yield finding
        async for finding in redis_findings.findings(config, cycle, outcome):
            yield finding
