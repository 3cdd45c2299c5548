"""How this poller asks for the lease, takes over, hands it over, stands by; who may: `lease`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from poller.daemon.metrics import Telemetry
from poller.daemon.report import Report
from poller.daemon.status import Role
from poller.errors import PollerError
from poller.poll.cycle import Cycle
from poller.store.holders import new_token
from poller.store.lease import Lease

log = logging.getLogger("poller")

_STAND_BY_SHARE = 0.25
"""A poller that stands by asks for the lease every quarter of an interval."""
_GRACE_S = 1.0
"""So long the lease is worth waiting for beside a cycle or at the end."""


class Leadership:
    """Whether this poller writes; outlives a reload of the settings.

    `lease` None: several pollers are not meant to be.
    """

    def __init__(self, telemetry: Telemetry, report: Report) -> None:
        self.token = new_token()
        self.stands_by = False
        self.holder: str | None = None
        self._telemetry = telemetry
        self._report = report
        self._leads = False
        self._told = False

    @property
    def role(self) -> Role:
        """What this poller is now."""
        if self.stands_by:
            return "stands by"
        return "leads" if self._leads else "does not lead"

    async def leads(self, cycle: Cycle, lease: Lease | None) -> bool:
        """Whether the lease is ours or can be had now; if not, we stand by."""
        try:
            leads = lease is None or await self._may_lead(cycle, lease)
            self._set(leads)
        finally:
            if not self._leads:  # also who cannot ask for it: another one tells of kernels now
                self._telemetry.sees_nothing()
        if not leads:
            return False
        if lease is None and self.stands_by:  # no lease is asked for any more
            self.stands_by = self._told = False
            cycle.start_afresh()
        if not self._told:
            log.info("leader: this poller writes%s", "" if lease else "; no lease is asked for")
        self._told, self.holder = True, None
        return True

    async def _may_lead(self, cycle: Cycle, lease: Lease) -> bool:
        if lease.held and (self._report.failing or await lease.renew()):
            return True  # only finished cycles renew it: who hangs or fails lets it go
        self._set(False)
        await cycle.evaluation.probe()  # who cannot ask Prometheus should not lead
        if not await lease.take():
            self._stand_by(await lease.holder())
            await cycle.stand_by()
            return False
        if self.stands_by:
            self.stands_by = False
            cycle.start_afresh()
            log.warning("leader: this poller writes from now on")
        else:
            cycle.read_keys_again()  # another may have written since ours ran out
        return True

    def _set(self, leads: bool) -> None:
        self._leads = leads
        self._telemetry.leading.set(leads)

    def _stand_by(self, holder: str | None) -> None:
        self._report.stood_by()
        self.holder = holder
        if self.stands_by:
            return
        level = logging.WARNING if self._told else logging.INFO  # it led before, or just started
        self.stands_by = self._told = True
        log.log(level, "leader: standing by, %s writes", holder or "another poller")

    async def ask_again(self, interval_s: float, ask: Callable[[], None]) -> None:
        """Call `ask` several times an interval, for as long as this poller stands by then.

        While its neighbours fail each tick asks, and no more: failures are counted by intervals.
        """
        while True:
            await asyncio.sleep(interval_s * _STAND_BY_SHARE)
            if self.stands_by and not self._report.failing:
                ask()

    async def keep(self, lease: Lease) -> None:
        """Renew the lease beside a cycle that failed; what fails here is told by the next one."""
        await self._within_grace(lease.renew())

    async def hand_over(self, lease: Lease) -> None:
        """Give the lease up at once, so that another poller need not wait."""
        await self._within_grace(lease.release())

    async def _within_grace(self, call: Awaitable[object]) -> None:
        with contextlib.suppress(PollerError, TimeoutError):
            async with asyncio.timeout(_GRACE_S):
                await call
